"""A schema from CREATE TABLE statements, read by SQLite itself, and rows for it."""

import re
import sqlite3
from dataclasses import dataclass, field
from functools import lru_cache

from .ddl import SQLITE, tables

NUMERIC_TYPE = re.compile(r"INT|REAL|FLOA|DOUB|NUM|DEC|BOOL|YEAR", re.IGNORECASE)
# All that a CREATE TABLE does to the catalogue; ATTACH, triggers and the like are denied.
CREATE_TABLE_ACTIONS = {
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_SELECT,
}


@dataclass
class Table:
    """One table; all names in lower case, as SQLite compares them.

    Attributes:
        columns: column name -> whether its declared type is numeric, in order.
        unique: sets of columns whose values may not repeat (primary key, UNIQUE).
        references: column -> (table, column) of a declared foreign key.
    """

    name: str
    columns: dict[str, bool]
    unique: list[tuple[str, ...]] = field(default_factory=list)
    references: dict[str, tuple[str, str]] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def read_schema(context: str, dialect: str = SQLITE) -> dict[str, Table]:
    """Return the tables of CREATE TABLE statements by name.

    Statements may stand apart by a semicolon or by a new line. A view is a table of its columns.

    Args:
        dialect: that they are written in, as sqlglot names it; SQLite reads what is left of them.

    Raises:
        ValueError: when SQLite refuses the statements, or they create no table; with SQLite's reason.
    """
    if dialect != SQLITE:
        try:
            return _run(";\n".join(written for _, written in tables(context, dialect)))
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise ValueError(f"SQLite: {error}") from error
    try:
        return _run(context)
    except (sqlite3.Error, sqlite3.Warning) as error:
        first, apart = error, _set_apart(context)
    if apart:
        try:
            return _run(apart)
        except (sqlite3.Error, sqlite3.Warning) as error:
            first = error
    raise ValueError(f"SQLite: {first}") from first


def _set_apart(context: str) -> str | None:
    """Return statements with semicolons between them, views as tables, what creates no table left out; or None."""
    try:
        found = tables(context, SQLITE)
    except ValueError:
        return None
    # Temporary tables are a catalogue of their own.
    is_plain = [s.kind == "TABLE" and not {"TEMP", "TEMPORARY"} & set(s.words[:2]) for s, _ in found]
    return ";\n".join(s.text if plain else written for plain, (s, written) in zip(is_plain, found, strict=True))


def _run(script: str) -> dict[str, Table]:
    connection = sqlite3.connect(":memory:")
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in CREATE_TABLE_ACTIONS else sqlite3.SQLITE_DENY
    )
    try:
        connection.executescript(script)
        connection.set_authorizer(None)
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name.lower(): _read_table(connection, name) for name in names if not name.startswith("sqlite_")}
    finally:
        connection.close()
    if not found:
        raise ValueError("the schema creates no table")
    return found


def _read_table(connection: sqlite3.Connection, name: str) -> Table:
    quoted = quote(name)
    info = connection.execute(f"PRAGMA table_info({quoted})").fetchall()
    table = Table(name.lower(), {row[1].lower(): bool(NUMERIC_TYPE.search(row[2])) for row in info})
    key = tuple(row[1].lower() for row in info if row[5])
    if key:
        table.unique.append(key)
    for row in connection.execute(f"PRAGMA index_list({quoted})").fetchall():
        columns = tuple(c[2].lower() for c in connection.execute(f"PRAGMA index_info({quote(row[1])})") if c[2])
        if row[2] and columns and columns not in table.unique:
            table.unique.append(columns)
    for row in connection.execute(f"PRAGMA foreign_key_list({quoted})").fetchall():
        if row[4]:
            table.references[row[3].lower()] = (row[2].lower(), row[4].lower())
    return table


def quote(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def create_table(table: Table, collation: str = "NOCASE") -> str:
    """Return a CREATE TABLE with NUMERIC affinity, so that 2007 and '2007' are one value."""
    columns = ", ".join(f"{quote(name)} NUMERIC COLLATE {collation}" for name in table.columns)
    return f"CREATE TABLE {quote(table.name)} ({columns})"


@dataclass
class Database:
    """Rows by table. `statements` writes it as SQL."""

    schema: dict[str, Table]
    rows: dict[str, list[dict]]

    def statements(self, collation: str = "NOCASE") -> str:
        """Return CREATE TABLE and INSERT statements."""
        lines = [create_table(table, collation) + ";" for table in self.schema.values()]
        for name, rows in self.rows.items():
            for row in rows:
                values = ", ".join(_as_sql(value) for value in row.values())
                lines.append(f"INSERT INTO {quote(name)} VALUES ({values});")
        return "\n".join(lines)


def _as_sql(value: int | float | str | None) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
