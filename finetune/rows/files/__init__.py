"""Files and columns as people have them."""
