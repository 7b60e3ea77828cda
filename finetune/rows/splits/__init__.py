"""Rows held out, and what they share with the rows that train."""
