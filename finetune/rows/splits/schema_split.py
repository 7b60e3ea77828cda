"""Rows of text-to-SQL held out by their schemas."""

import re
from random import Random

from finetune import InputError
from metrics.sql_execution.ddl import statements


def split_by_schema(rows: list[dict], fraction: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Hold out about `fraction` of the rows, whole schemas at a time.

    Rows whose `context` names the same columns stay together: a split by row would put the tables of
    the validation rows into training and flatter every score.

    Raises:
        InputError: the rows have one schema only.
    """
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(schema_signature(str(row.get("context", row))), []).append(row)
    if len(groups) < 2:
        raise InputError(
            "all rows have the same schema, so none can be held out by schema; give a folder with train.* and"
            " validation.*, or a column `split`, and --allow-leaks, since both parts will share it."
        )
    signatures = sorted(groups)
    Random(seed).shuffle(signatures)
    wanted = max(1, round(len(rows) * fraction))
    train: list[dict] = []
    validation: list[dict] = []
    for position, signature in enumerate(signatures):
        # The last group always trains: neither part may be empty.
        held_out = len(validation) < wanted and position < len(signatures) - 1
        (validation if held_out else train).extend(groups[signature])
    Random(seed).shuffle(train)
    return train, validation


def schema_signature(context: str) -> str:
    """Return the column names of a schema in one order, without the table's name, types, comments or layout."""
    context = re.sub(r"/\*.*?\*/", " ", context, flags=re.DOTALL)
    found = re.findall(r"\((.*?)\)\s*(?:;|$)", context, flags=re.DOTALL)
    if len(found) != len(re.findall(r"\bCREATE\b", context, flags=re.IGNORECASE)):
        found = _definitions(context)
    return " ".join(sorted(set(re.findall(r"\w+", (" ".join(found) or context).lower()))))


def _definitions(context: str) -> list[str]:
    """Return the columns of statements that stand apart by no semicolon, or have something behind them."""
    try:
        parts = [(statement, part) for statement in statements(context) for part in statement.definitions]
    except ValueError:  # No SQL: its words are its signature.
        return []
    return [statement.raw(part[0], part[-1]) for statement, part in parts]
