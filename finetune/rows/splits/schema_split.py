"""Rows of text-to-SQL held out by their schemas, and groups of rows by their sizes."""

import math
import re
from collections.abc import Callable
from random import Random

from finetune import InputError
from metrics.sql_execution.ddl import statements


def split_by_schema(
    rows: list[dict],
    fraction: float,
    seed: int,
    schema_of: Callable[[dict], str] | None = None,
    any_size: bool = False,
) -> tuple[list[dict], list[dict]]:
    """Hold out about `fraction` of the rows, whole schemas at a time.

    Rows whose `context` names the same columns stay together: a split by row would put the tables of
    the validation rows into training and flatter every score.

    Args:
        schema_of: what tells the schemas of rows apart; their column names by default.
        any_size: none is passed over as too large.

    Raises:
        InputError: the rows have one schema only.
    """
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault((schema_of or schema_of_row)(row), []).append(row)
    if len(groups) < 2:
        raise InputError(
            "all rows have the same schema, so none can be held out by schema; give --split-by query, which holds rows"
            " out by the shape of their queries, or mark rows in a column `split` as train and validation."
        )
    return hold_out_groups([groups[signature] for signature in sorted(groups)], fraction, seed, any_size)


def hold_out_groups(
    groups: list[list[dict]], fraction: float, seed: int, any_size: bool = False
) -> tuple[list[dict], list[dict]]:
    """Return training and validation rows: of at least two groups whole ones, about `fraction` of all rows.

    In an order drawn by `seed`; a group that would make it half as many again as wanted is passed over, unless
    `any_size`.
    """
    order = list(range(len(groups)))
    Random(seed).shuffle(order)
    wanted = max(1, round(sum(map(len, groups)) * fraction))
    most = math.inf if any_size else max(wanted + 1, 1.5 * wanted)
    held: list[int] = []
    count = 0
    for place in order[:-1]:  # The last group always trains: neither part may be empty.
        if count < wanted and count + len(groups[place]) <= most:
            held.append(place)
            count += len(groups[place])
    held = held or [min(order, key=lambda place: len(groups[place]))]
    validation, is_held = [row for place in held for row in groups[place]], set(held)
    train = [row for place in order if place not in is_held for row in groups[place]]
    Random(seed).shuffle(train)
    return train, validation


def schema_of_row(row: dict) -> str:
    """Return what tells the schema of a row from others: see `schema_signature`."""
    return schema_signature(str(row.get("context", row)))


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
