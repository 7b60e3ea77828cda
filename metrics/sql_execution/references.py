"""Declared foreign keys: rows that refer to nothing get what they refer to, or go."""

from collections.abc import Callable

from .conditions import sort_key
from .schemas import Table

Rows = dict[str, list[dict]]
PASSES = 4  # of adding rows, which may refer to others in turn


def keep_references(rows: Rows, tables: dict[str, Table], add_parent: Callable[[str, dict], None]) -> None:
    """Make all declared foreign keys between the tables hold, in place.

    Args:
        add_parent: adds a row with the given key to a table, if it can.
    """
    for _ in range(PASSES):
        missing = {(other, *key.items()): (other, key) for _, _, other, key in _orphans(rows, tables)}
        if not missing:
            return
        for other, key in missing.values():
            add_parent(other, key)
    while orphans := _orphans(rows, tables):
        lost = {id(row) for _, row, _, _ in orphans}
        for name in {name for name, _, _, _ in orphans}:
            rows[name] = [row for row in rows[name] if id(row) not in lost]


def _orphans(rows: Rows, tables: dict[str, Table]) -> list[tuple[str, dict, str, dict]]:
    """Return (table, row, other table, missing key) of each row that refers to nothing."""
    found = []
    for name, table in tables.items():
        for here, other, there in table.foreign:
            if other not in tables or not rows[name]:
                continue
            known = {_key(row, there) for row in rows[other]}
            for row in rows[name]:
                values = [row[column] for column in here]
                if None not in values and _key(row, here) not in known:
                    found.append((name, row, other, dict(zip(there, values, strict=True))))
    return found


def _key(row: dict, columns: tuple[str, ...]) -> object:
    if len(columns) > 1:
        return tuple(sort_key(row[column]) for column in columns)
    value = row[columns[0]]
    return value.lower() if isinstance(value, str) else value
