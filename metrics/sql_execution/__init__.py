"""Execution accuracy of SQL over databases generated from the schema; see sql_execution.py.

from metrics.sql_execution import judge, summarize
"""

import importlib

EXPORTED = ("SqlExecution", "Verdict", "judge", "judge_all", "summarize", "wilson")


def __getattr__(name: str):
    """Return what sql_execution.py defines; on demand, because it imports evaluate and the other files need not."""
    if name not in EXPORTED:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.sql_execution"), name)
