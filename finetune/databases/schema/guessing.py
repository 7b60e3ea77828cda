"""Types of columns that declare none, as SQLite's tables and views may: those that their values have."""

import re
import sqlite3

from metrics.sql_execution.schemas import quote

ROWS = 100  # of each table; a type is what all their values have
TICKS = 2_000  # thousands of instructions of a view: counted, not timed, so that the answer is always the same
DATE = re.compile(r"\d{4}-\d\d-\d\d")


def guess_types(connection: sqlite3.Connection, tables: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return types of the columns without one, table by table: INTEGER, REAL, DATE (all are ISO dates), BLOB or TEXT.

    Args:
        connection: for reading alone.
        tables: table -> column -> type, empty where none is declared.
    """
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    untyped = {name: [c for c, kind in columns.items() if not kind] for name, columns in tables.items()}
    found = {name: _guess(connection, name, columns) for name, columns in untyped.items() if columns}
    connection.set_progress_handler(None, 0)
    return found


def _guess(connection: sqlite3.Connection, table: str, columns: list[str]) -> dict[str, str]:
    ticks = iter(range(TICKS))
    connection.set_progress_handler(lambda: next(ticks, None) is None, 1_000)
    wanted = ", ".join(f"typeof({quote(c)}), substr(CAST({quote(c)} AS TEXT), 1, 12)" for c in columns)
    try:
        rows = connection.execute(f"SELECT {wanted} FROM {quote(table)} LIMIT {ROWS}").fetchall()
    except sqlite3.Error:  # A view that takes long, or does not run; more columns than a result may have.
        rows = []
    return {
        column: _type_of([(row[2 * place], row[2 * place + 1]) for row in rows]) for place, column in enumerate(columns)
    }


def _type_of(values: list[tuple[str, str]]) -> str:
    kinds = {kind for kind, _ in values} - {"null"}
    if kinds == {"integer"}:
        return "INTEGER"
    if kinds and kinds <= {"integer", "real"}:
        return "REAL"
    if kinds == {"text"} and all(DATE.fullmatch(text) for kind, text in values if kind == "text"):
        return "DATE"
    return "BLOB" if kinds == {"blob"} else "TEXT"
