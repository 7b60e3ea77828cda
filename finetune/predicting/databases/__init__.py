"""A user's own database: its schema, queries on it, questions to it."""
