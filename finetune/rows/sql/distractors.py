"""Schemas that do not give the answer away: foreign columns, another order, no types.

In sql-create-context 98.9 % of the schemas list only the columns that gold uses, most of them in the order
of the query, with INTEGER where it aggregates. A model learns that and fails on a real database.
"""

import re
from random import Random

from finetune.databases.contexts import JUDGED_ON
from finetune.databases.schema.words import written
from finetune.rows.sql.spelling import Spelling, canonical
from metrics.sql_execution.ddl import Statement, fold, is_bare_name, statements
from metrics.sql_execution.schemas import Table, read_schema

from sqlglot import exp


def distract(rows: list[dict], columns: int, seed: int, share: float = 1.0, dialect: str = "sqlite") -> list[dict]:
    """Return the rows with `columns` foreign columns in each table, columns and tables shuffled, types scrubbed.

    Foreign columns come from the other rows given, so give rows of one split only; they are spelled as the
    table spells its own. Types become VARCHAR throughout. A row is left as it is where its schema cannot be read.

    Args:
        share: of the rows that are changed, drawn by `seed`; the others keep their schemas.
        dialect: of the schemas, as sqlglot names it.
    """
    if columns < 1:
        return rows
    random = Random(seed)
    schemas: dict[str, tuple[dict[str, Table], dict[str, dict[str, str]]]] = {}
    for context in {_whole(row): None for row in rows}:
        try:
            schemas[context] = read_schema(context, dialect), _spelled(context, dialect)
        except ValueError:
            continue
    pool: dict[str, str] = {}
    for schema, spelled in schemas.values():
        for table in schema.values():
            for column in table.columns:
                pool.setdefault(column, _unquoted(spelled.get(table.name, {}).get(column, column)))
    names = [pool[name] for name in sorted(pool)]
    # SQLite's own rows have always had VARCHAR, which it reads as TEXT.
    kind = "VARCHAR" if dialect == "sqlite" else exp.DataType.build("VARCHAR").sql(dialect=dialect)
    return [
        _distract_row(row, *schemas[_whole(row)], names, columns, random, kind, dialect)
        if _whole(row) in schemas and random.random() < share
        else row
        for row in rows
    ]


def _whole(row: dict) -> str:
    """Return the schema of a row, with the tables that its context lacks and its gold needs."""
    return str(row.get(JUDGED_ON) or row.get("context") or "")


def _distract_row(
    row: dict, schema: dict, spelled: dict, pool: list[str], columns: int, random: Random, kind: str, dialect: str
) -> dict:
    # A foreign column that a join or the answer names would change what the query means.
    taken = {canonical(column) for table in schema.values() for column in table.columns}
    taken |= set(map(canonical, schema)) | set(map(canonical, re.findall(r"\w+", str(row.get("answer")))))
    # A name in quotes may have blanks: what stands between the quotes, too.
    taken |= set(map(canonical, re.findall(r"[`\"\[]([^`\"\]]+)[`\"\]]", str(row.get("answer")))))
    told = read_schema(row["context"], dialect) if JUDGED_ON in row else schema
    parts: list[str] = []
    others: list[str] = []
    for table in random.sample(list(schema.values()), len(schema)):
        own = spelled.get(table.name, {})
        raw = {name: own.get(name) or written(name) for name in table.columns}
        spelling = Spelling(list(raw.values()))
        foreign: list[str] = []
        for name in random.sample(pool, min(len(pool), 3 * columns)):
            other = spelling.write(name)
            if len(foreign) < columns and canonical(other) not in taken and _is_name(other):
                foreign.append(other)
                taken.add(canonical(other))
        names = random.sample([*raw.values(), *foreign], len(raw) + len(foreign))
        listed = ", ".join(f"{name} {kind}" for name in names)
        (parts if table.name in told else others).append(
            f"CREATE TABLE {own.get('') or written(table.name)} ({listed})"
        )
    judged = {JUDGED_ON: "; ".join([*parts, *others])} if others else {}
    return row | {"context": "; ".join(parts)} | judged


def _spelled(context: str, dialect: str) -> dict[str, dict[str, str]]:
    """Return, by table, its columns as they are written, quotes included, by their names; "" is its own name."""
    found: dict[str, dict[str, str]] = {}
    for statement in statements(context, dialect):
        if statement.kind == "TABLE":
            first, last = statement.name
            names = _columns(statement) | {"": statement.raw(first, last)}
            name = fold(statement.tokens[last].text)
            found[name.rpartition(".")[2] if dialect == "bigquery" else name] = names
    return found


def _columns(statement: Statement) -> dict[str, str]:
    starts = [part[0] for part in statement.definitions if statement.is_column(part)]
    return {fold(statement.tokens[start].text): statement.raw(start, start) for start in starts}


def _unquoted(name: str) -> str:
    return name[1:-1] if name[0] in "\"`['" and len(name) > 2 else name


def _is_name(written: str) -> bool:
    return written[:1] in ('"', "`", "[") or is_bare_name(written)
