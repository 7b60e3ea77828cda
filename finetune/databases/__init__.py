"""A user's own database: its schema, and queries on it that cannot harm it."""
