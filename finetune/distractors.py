"""Schemas that do not give the answer away: foreign columns, another order, no types.

In sql-create-context 98.9 % of the schemas list only the columns that gold uses, most of them in the order
of the query, with INTEGER where it aggregates. A model learns that and fails on a real database.
"""

import re
from random import Random

from metrics.sql_execution.schemas import quote, read_schema

PLAIN_NAME = re.compile(r"[^\W\d]\w*")


def distract(rows: list[dict], columns: int, seed: int, share: float = 1.0) -> list[dict]:
    """Return the rows with `columns` foreign columns in each table, columns and tables shuffled, types scrubbed.

    Foreign columns come from the other rows given, so give rows of one split only. Types become VARCHAR
    throughout. A row is left as it is where its schema cannot be read.

    Args:
        share: of the rows that are changed, drawn by `seed`; the others keep their schemas.
    """
    if columns < 1:
        return rows
    random = Random(seed)
    schemas = {}
    for context in {str(row.get("context") or ""): None for row in rows}:
        try:
            schemas[context] = read_schema(context)
        except ValueError:
            continue
    pool = sorted({column for schema in schemas.values() for table in schema.values() for column in table.columns})
    return [
        _distract_row(row, schemas[row["context"]], pool, columns, random)
        if row.get("context") in schemas and random.random() < share
        else row
        for row in rows
    ]


def _distract_row(row: dict, schema: dict, pool: list[str], columns: int, random: Random) -> dict:
    # A foreign column that a join or the answer names would change what the query means.
    taken = {column for table in schema.values() for column in table.columns} | set(schema)
    taken |= set(re.findall(r"\w+", str(row.get("answer")).lower()))
    spelling = {name.lower(): name for name in re.findall(r"\w+", row["context"])}
    statements = []
    for table in random.sample(list(schema.values()), len(schema)):
        foreign = [name for name in random.sample(pool, min(len(pool), 3 * columns)) if name not in taken][:columns]
        taken |= set(foreign)
        names = random.sample([*table.columns, *foreign], len(table.columns) + len(foreign))
        listed = ", ".join(f"{_written(spelling.get(name, name))} VARCHAR" for name in names)
        statements.append(f"CREATE TABLE {_written(spelling.get(table.name, table.name))} ({listed})")
    return row | {"context": "; ".join(statements)}


def _written(name: str) -> str:
    return name if PLAIN_NAME.fullmatch(name) else quote(name)
