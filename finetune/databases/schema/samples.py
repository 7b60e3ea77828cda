"""Sample values of columns, short and the same each time, as a comment behind a column of the schema's text."""

import logging
import math
import re
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from finetune import InputError
from finetune.databases.running.processes import MEMORY_MEGABYTES, QueryFailed, QueryServer
from finetune.databases.running.runner import readable_sqlite
from finetune.databases.safety import backticks
from finetune.databases.urls import connect_arguments
from finetune.redaction import redact
from metrics.sql_execution.schemas import NUMERIC_TYPE, quote

from sqlalchemy.engine import URL

logger = logging.getLogger(__name__)
MOST = 20  # values of a column
ROWS, SECONDS = 200, 5.0  # of each table that are looked at, and the time that a view may take for them
LONGEST = 30  # characters of a value
BYTES = re.compile(r"BLOB|BYTEA|BINARY|IMAGE", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def sample_values(
    url: URL, engine: str, schema: tuple[str, ...], tables: dict[str, dict[str, str]], count: int
) -> dict[str, dict[str, list[str]]]:
    """Return up to `count` values a column, as SQL has them: the commonest of a table's first rows, then by their text.

    Columns of numbers have none: keys, years and prices say little, and would make the text twice as long.

    Args:
        tables: table -> column -> type, as `reading.read_schema` gives them.
    """
    connection = connect_arguments(url)
    if engine == "postgresql":  # The first rows are the first ones, whoever else reads the table.
        connection["options"] = f"{connection.get('options') or ''} -c synchronize_seqscans=off".strip()
    queries = [_query(engine, (*schema, table), list(columns)) for table, columns in tables.items()]
    with readable_sqlite(Path(url.database or "")) if engine == "sqlite" else nullcontext() as uri:
        job = {
            "engine": engine, "dialect": "", "database": uri or url.database, "tables": list(tables), "parameters": [],
            "connection": connection, "timeout": SECONDS, "memory_megabytes": MEMORY_MEGABYTES, "max_rows": ROWS,
            "queries": queries, "ours": True,
        }  # fmt: skip
        with QueryServer() as server:
            answers = server.ask_all(job, len(queries))
    return {
        table: _values(table, columns, answer, count, url)
        for (table, columns), answer in zip(tables.items(), answers, strict=True)
    }


def check_values(count: int | None) -> None:
    """Raise InputError for a number of sample values that no column gets."""
    if count is not None and not 0 <= count <= MOST:
        raise InputError(f"--values {count} must lie between 0 and {MOST}.")


def comment(values: list[str]) -> str:
    """Return values as a comment that nothing in them can end."""
    return f" /* {', '.join(values)} */" if values else ""


def _query(engine: str, table: tuple[str, ...], columns: list[str]) -> str:
    written = backticks if engine == "mysql" else quote
    kind, cut = {"mysql": ("CHAR", "LEFT({}, {})"), "sqlite": ("TEXT", "SUBSTR({}, 1, {})")}.get(
        engine, ("VARCHAR", "LEFT({}, {})")
    )
    texts = [cut.format(f"CAST({written(column)} AS {kind})", 2 * LONGEST) for column in columns]
    return f"SELECT {', '.join(texts)} FROM {'.'.join(map(written, table))} LIMIT {ROWS}"


def _values(
    table: str, columns: dict[str, str], answer: dict | QueryFailed, count: int, url: URL
) -> dict[str, list[str]]:
    # A view that takes long, bytes that are no text.
    if isinstance(answer, QueryFailed) or "error" in answer:
        error = str(answer) if isinstance(answer, QueryFailed) else answer["error"]
        reason = redact(error.removesuffix(" (--timeout)"), url.render_as_string(hide_password=False))
        logger.warning(f"--values: {table} is shown without values: {reason}.")
        return {}
    rows = answer["rows"]
    found = {}
    for place, (column, kind) in enumerate(columns.items()):
        texts = Counter(row[place] for row in rows if row[place] is not None and row[place].strip())
        if not BYTES.search(kind) and not NUMERIC_TYPE.search(kind):
            commonest = sorted(texts, key=lambda text: (-texts[text], _place(text)))[:count]
            found[column] = [_as_sql(text) for text in commonest]
    return found


def _place(text: str) -> tuple[float, str]:
    """Return by what values are sorted: numbers by their size, before all texts."""
    return (float(text), "") if NUMBER.fullmatch(text) else (math.inf, text)


def _as_sql(text: str) -> str:
    """Return a value in one short line, in quotes; no comment begins or ends in it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    short = line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
    # Two letters change places with a blank between them: /* and */ in a value are neither.
    return "'" + re.sub(r"(?<=\*)(?=/)|(?<=/)(?=\*)", " ", short).replace("'", "''") + "'"
