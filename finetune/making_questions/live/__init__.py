"""Tables of a live database: what is in them, and what else can be asked about them."""
