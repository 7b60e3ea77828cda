"""A schema from CREATE TABLE statements, read by SQLite itself, and rows for it."""

import re
import sqlite3
import time
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter

from .dates import DATE, TIME
from .ddl import SQLITE, fold, tables

NUMERIC_TYPE = re.compile(r"INT|REAL|FLOA|DOUB|NUM|DEC|BOOL|YEAR", re.IGNORECASE)
DATE_TYPE = re.compile(r"\s*(?:DATE(TIME)?|(TIMESTAMP))", re.IGNORECASE)
MAX_CHARACTERS = 200_000
MAX_SECONDS, MAX_TICKS = 0.5, 1_000  # of a schema's statements: of this thread's time, thousands of instructions
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
        foreign: the same keys whole: (columns, table, its columns).
        required: columns without NULL: of the primary key, or NOT NULL.
        whole: columns of integers, by their declared type.
        dates: column -> how its declared type is written, of strftime.
    """

    name: str
    columns: dict[str, bool]
    unique: list[tuple[str, ...]] = field(default_factory=list)
    references: dict[str, tuple[str, str]] = field(default_factory=dict)
    foreign: list[tuple[tuple[str, ...], str, tuple[str, ...]]] = field(default_factory=list)
    required: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    dates: dict[str, str] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def read_schema(context: str, dialect: str = SQLITE) -> dict[str, Table]:
    """Return the tables of CREATE TABLE statements by name.

    Statements may stand apart by a semicolon or by a new line. A view is a table of its columns.

    Args:
        dialect: that they are written in, as sqlglot names it; SQLite reads what is left of them.

    Raises:
        ValueError: when SQLite refuses the statements, or they create no table; with SQLite's reason.
    """
    check_text(context)
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


def check_text(context: str) -> None:
    """Raise ValueError for what is no text, or too long a one to be a schema."""
    if not isinstance(context, str) or "\0" in context or any("\ud800" <= c <= "\udfff" for c in context):
        raise ValueError("the schema holds a character that is no text")
    if len(context) > MAX_CHARACTERS:
        raise ValueError(f"the schema is longer than {MAX_CHARACTERS:,} characters")


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
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CHARACTERS)
    connection.execute("PRAGMA max_page_count = 5000")  # 20 MB
    deadline, ticks = time.thread_time() + MAX_SECONDS, iter(range(MAX_TICKS))
    connection.set_progress_handler(lambda: next(ticks, None) is None or time.thread_time() > deadline, 1_000)
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in CREATE_TABLE_ACTIONS else sqlite3.SQLITE_DENY
    )
    try:
        connection.executescript(script)
        connection.set_authorizer(None)
        connection.set_progress_handler(None, 0)
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {fold(name): _read_table(connection, name) for name in names if not name.startswith("sqlite_")}
    except (MemoryError, OverflowError) as error:
        raise ValueError(f"SQLite: {type(error).__name__}") from error
    finally:
        connection.close()
    if not found:
        raise ValueError("the schema creates no table")
    _complete_keys(found)
    return found


def _read_table(connection: sqlite3.Connection, name: str) -> Table:
    quoted = quote(name)
    info = connection.execute(f"PRAGMA table_xinfo({quoted})").fetchall()  # generated columns too
    table = Table(fold(name), {fold(row[1]): bool(NUMERIC_TYPE.search(row[2])) for row in info})
    key = tuple(fold(row[1]) for row in info if row[5])
    if key:
        table.unique.append(key)
    for row in connection.execute(f"PRAGMA index_list({quoted})").fetchall():
        columns = tuple(fold(c[2]) for c in connection.execute(f"PRAGMA index_info({quote(row[1])})") if c[2])
        if row[2] and columns and columns not in table.unique:
            table.unique.append(columns)
    keys: dict[int, list[tuple]] = {}
    for row in connection.execute(f"PRAGMA foreign_key_list({quoted})").fetchall():
        keys.setdefault(row[0], []).append(row)
    for rows in keys.values():
        here, there = (tuple(fold(row[i] or "") for row in sorted(rows, key=itemgetter(1))) for i in (3, 4))
        table.foreign.append((here, fold(rows[0][2]), there))
    table.required = {fold(row[1]) for row in info if row[3] or row[5]}
    table.whole = {fold(row[1]) for row in info if "INT" in row[2].upper()}
    kinds = ((fold(row[1]), DATE_TYPE.match(row[2])) for row in info)
    table.dates = {column: TIME if kind[1] or kind[2] else DATE for column, kind in kinds if kind}
    return table


def _complete_keys(tables: dict[str, Table]) -> None:
    """Find the columns that foreign keys refer to, where they are not named: the primary key."""
    for table in tables.values():
        found = []
        for here, name, there in table.foreign:
            other = tables.get(name)
            there = there if all(there) else (other.unique[0] if other and other.unique else ())
            if len(here) != len(there):
                continue
            table.references |= {one: (name, two) for one, two in zip(here, there, strict=True)}
            if other and set(here) <= set(table.columns) and set(there) <= set(other.columns):
                found.append((here, name, there))
        table.foreign = found


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
