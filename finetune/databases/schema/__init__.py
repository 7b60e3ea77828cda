"""What a database is made of: tables, columns, types, keys, values, and which of them a question is about."""
