"""Rows of text-to-SQL: cleaned, given foreign columns, as token ids."""
