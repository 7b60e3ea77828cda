"""Queries run in processes of their own, which can only read and can be killed."""
