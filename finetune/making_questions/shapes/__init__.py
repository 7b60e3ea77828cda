"""Shapes of queries, each with the wordings that people have for it."""
