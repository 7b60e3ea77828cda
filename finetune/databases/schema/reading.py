"""What a database says of its tables: columns with their types, and the keys between them; in a few queries."""

import logging
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from finetune.databases.running.runner import readable_sqlite
from finetune.databases.schema.guessing import guess_types
from finetune.databases.urls import driver_engine, first_line

import sqlalchemy
from sqlalchemy.engine import URL
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """A foreign key: columns of a table that refer to as many of another, all in the database's own spelling."""

    table: str
    columns: tuple[str, ...]
    other: str
    other_columns: tuple[str, ...]


@dataclass
class Schema:
    """What a database says of itself.

    Attributes:
        tables: table or view -> column -> type, sorted by name.
        name: what stands before the name of a table, such as `("public",)`.
        keys: between these tables.
    """

    tables: dict[str, dict[str, str]]
    name: tuple[str, ...]
    keys: list[Key] = field(default_factory=list)


def read_schema(url: URL, engine: str) -> Schema:
    """Return tables, views and keys of a database; errors are the driver's or SQLAlchemy's own."""
    if engine == "sqlite":
        with readable_sqlite(Path(url.database or "")) as uri:  # Looking at a database must not change it.
            return _read_sqlite(uri)
    if engine == "duckdb":
        return _read_duckdb(url.database or "")
    connection = driver_engine(url)
    try:
        return _read_mysql(connection) if engine == "mysql" else _read_postgresql(connection)
    finally:
        connection.dispose()


def _read_sqlite(uri: str) -> Schema:
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True))
    inspector = sqlalchemy.inspect(engine)
    found: dict[str, dict[str, str]] = {}
    for name in sorted([*inspector.get_table_names("main"), *inspector.get_view_names("main")]):
        try:
            columns = inspector.get_columns(name, "main")
        except SQLAlchemyError as error:
            reason = first_line(getattr(error, "orig", None) or error)
            logger.warning(f"--database: {name} is left out, since it cannot be read: {reason}.")
            continue
        found[name] = {column["name"]: _type_name(column["type"]) for column in columns}
    engine.dispose()
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        for name, kinds in guess_types(connection, found).items():
            found[name] |= kinds
        rows = connection.execute(
            'SELECT m.name, k.id, k."from", k."table", k."to" FROM sqlite_master AS m'
            " JOIN pragma_foreign_key_list(m.name) AS k WHERE m.type = 'table' ORDER BY m.name, k.id, k.seq"
        ).fetchall()
        primary: dict[str, list[str]] = {}
        for name, column in connection.execute(
            "SELECT m.name, x.name FROM sqlite_master AS m JOIN pragma_table_xinfo(m.name) AS x"
            " WHERE m.type = 'table' AND x.pk > 0 ORDER BY m.name, x.pk"
        ):
            primary.setdefault(name.lower(), []).append(column)
    complete = [  # A key that names no columns means the primary one.
        (table, number, here, other, there or next(iter(primary.get(other.lower(), [])[place:]), None))
        for (table, number, here, other, there), place in zip(rows, _places(rows), strict=True)
    ]
    return Schema(found, ("main",), _keys(complete, found))


def _places(rows: list[tuple]) -> list[int]:
    """Return for each column of a key the how-many-th it is in it; a key is told by the first two values of a row."""
    places: list[int] = []
    for number, row in enumerate(rows):
        places.append(places[-1] + 1 if number and rows[number - 1][:2] == row[:2] else 0)
    return places


def _read_postgresql(engine: sqlalchemy.Engine) -> Schema:
    inspector = sqlalchemy.inspect(engine)
    # One schema: without its name PostgreSQL lists those of the whole search_path.
    schema = inspector.default_schema_name
    names = sorted([*inspector.get_table_names(schema), *inspector.get_view_names(schema)])
    if not names:
        return Schema({}, (schema,))
    columns = inspector.get_multi_columns(schema, filter_names=names, kind=ObjectKind.ANY)
    found = {
        name: {c["name"]: _type_name(c["type"]) or "TEXT" for c in columns.get((schema, name), [])} for name in names
    }
    rows = [
        (table, key["name"], here, key["referred_table"], there)
        for (_, table), keys in inspector.get_multi_foreign_keys(schema, filter_names=names).items()
        for key in keys
        if key["referred_schema"] in (None, schema)
        for here, there in zip(key["constrained_columns"], key["referred_columns"], strict=True)
    ]
    return Schema(found, (schema,), _keys(rows, found))


def _type_name(kind: sqlalchemy.types.TypeEngine) -> str:
    """Return a type as training data has it: without length, collation and precision; empty where there is none."""
    try:
        name = str(kind).partition("(")[0].split(" COLLATE")[0].strip()
    except SQLAlchemyError:
        return ""
    return "" if name == "NULL" else name


def _read_mysql(engine: sqlalchemy.Engine) -> Schema:
    """Return what is there; SQLAlchemy's inspector may not look at views with the right to SELECT alone."""
    with engine.connect() as session:
        schema = session.exec_driver_sql("SELECT DATABASE()").scalar()
        rows = session.exec_driver_sql(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
        ).fetchall()
        keys = session.exec_driver_sql(
            "SELECT table_name, constraint_name, column_name, referenced_table_name, referenced_column_name"
            " FROM information_schema.key_column_usage WHERE table_schema = DATABASE()"
            " AND referenced_table_schema = DATABASE() ORDER BY table_name, constraint_name, ordinal_position"
        ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = {"int": "INTEGER"}.get(kind, kind.upper())
    return Schema(found, (schema,), _keys(keys, found))


def _read_duckdb(path: str) -> Schema:
    """Return what is there; duckdb-engine's inspector does not work with SQLAlchemy 2.1."""
    import duckdb

    with duckdb.connect(path, read_only=True) as connection:
        schema = connection.execute("SELECT current_database(), current_schema()").fetchone() or ()
        rows = connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_catalog = ? AND table_schema = ? ORDER BY table_name, ordinal_position", schema
        ).fetchall()  # fmt: skip
        keys = connection.execute(
            "SELECT table_name, constraint_index, constraint_column_names, referenced_table, referenced_column_names"
            " FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY' AND database_name = ?"
            " AND schema_name = ? ORDER BY table_name, constraint_index", schema
        ).fetchall()  # fmt: skip
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind.partition("(")[0].strip('"').replace("NULL", "TEXT") or "TEXT"
    columns = [
        (table, number, one, other, two)
        for table, number, here, other, there in keys
        for one, two in zip(here, there, strict=True)
    ]
    return Schema(found, schema, _keys(columns, found))


def _keys(rows: Iterable, tables: dict[str, dict[str, str]]) -> list[Key]:
    """Return keys from (table, which key of it, column, other table, its column), those between known columns only."""
    names = {name.lower(): name for name in tables}  # SQLite's keys name tables in any letter case.
    together: dict[tuple, list] = {}
    for table, number, here, other, there in rows:
        other = other if other in tables else names.get((other or "").lower(), "")
        together.setdefault((table, number, other), []).append(
            (_column(tables, table, here), _column(tables, other, there))
        )
    found = []
    for (table, _, other), pairs in together.items():
        if all(here and there for here, there in pairs):
            here, there = zip(*pairs, strict=True)
            found.append(Key(table, here, other, there))
    return found


def _column(tables: dict[str, dict[str, str]], table: str, name: str | None) -> str | None:
    """Return a column in its table's spelling, None where it has none of the name."""
    columns = tables.get(table, {})
    return name if name in columns else next((own for own in columns if own.lower() == (name or "").lower()), None)
