"""Questions with their SQL, written by rule from the tables of a database."""
