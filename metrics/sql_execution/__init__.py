"""Execution accuracy of SQL over databases generated from the schema; see sql_execution.py."""
