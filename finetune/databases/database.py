"""A user's own database: its schema as CREATE TABLE statements, and queries on it that cannot harm it."""

import importlib.util
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from finetune import InputError
from finetune.databases.processes import QueryFailed as QueryFailed
from finetune.databases.processes import QueryServer, in_process
from finetune.databases.runner import readable_sqlite
from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.scopes import find_table
from finetune.redaction import redact, shorten
from metrics.sql_execution.schemas import quote

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

MEMORY_MEGABYTES = 1024
MAX_TABLES = 40  # A prompt of more is longer than what models here are trained on.
DRIVERS = {"sqlite": "sqlite3", "postgresql": "psycopg", "mysql": "pymysql", "duckdb": "duckdb"}
DRIVER_OF = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
# What the engines say of their time limit; DuckDB has none, and is killed.
STOPPED = {
    "sqlite": ("OperationalError: interrupted",),
    "postgresql": ("canceling statement due to statement timeout",),
    "mysql": ("max_statement_time exceeded", "maximum statement execution time exceeded"),
}  # fmt: skip
PACKAGES = {"psycopg": '"psycopg[binary]"', "pymysql": "pymysql", "duckdb": "duckdb"}


@dataclass
class Result:
    """Rows of a query; `truncated` where there were more than asked for."""

    columns: list[str]
    rows: list[list]
    truncated: bool


Outcome = Result | Refused | QueryFailed


@dataclass
class Database:
    """A database by its URL.

    Attributes:
        columns: table -> column -> type, in the database's own spelling.
        schema: what stands before the name of a table, such as `("public",)`.
        dialect: of the SQL that `run` takes: what the model was trained to write.
    """

    url: URL
    engine: str
    columns: dict[str, dict[str, str]]
    schema: tuple[str, ...]
    dialect: str = "sqlite"

    @property
    def statements(self) -> str:
        """The schema as the prompt has it: CREATE TABLE statements without keys and lengths."""
        return "; ".join(
            f"CREATE TABLE {_written(table)} ({', '.join(f'{_written(c)} {kind}' for c, kind in columns.items())})"
            for table, columns in self.columns.items()
        )

    @property
    def tables(self) -> dict[str, list[str]]:
        """The columns of each table."""
        return {table: list(columns) for table, columns in self.columns.items()}

    def run(self, sql: str, max_rows: int, timeout: float) -> Result:
        """Check a query and run it, in a process of its own, and return at most `max_rows` rows.

        Raises:
            Refused: the query is not sent, see `safety.make_safe`.
            QueryFailed: the database's error, or a limit of time or memory.
        """
        return self._answer(in_process, self._job(sql, max_rows, timeout))

    def run_all(self, queries: Iterable[str], max_rows: int, timeout: float) -> Iterator[Outcome]:
        """Do what `run` does for each query, every one with its own limits: processes of many queries start faster.

        Numbers of any precision come as floats, to be compared. Yield results in the order of the queries; in the place
        of one that is refused or fails, why.
        """
        with QueryServer() as server:
            for sql in queries:
                try:
                    yield self._answer(server.ask, self._job(sql, max_rows, timeout) | {"floats": True})
                except (Refused, QueryFailed) as error:
                    yield error

    def _job(self, sql: str, max_rows: int, timeout: float) -> dict:
        return {
            "engine": self.engine, "sql": sql, "dialect": self.dialect, "tables": self.tables, "schema": self.schema,
            "max_rows": max_rows, "timeout": timeout, "memory_megabytes": MEMORY_MEGABYTES,
            "connection": connect_arguments(self.url),
        }  # fmt: skip

    def _answer(self, ask: Callable[[dict], dict], job: dict) -> Result:
        """Return what a process answers to a job; raise what `run` raises."""
        try:
            with readable_sqlite(Path(self.url.database)) if self.engine == "sqlite" else nullcontext() as uri:
                found = ask(job | {"database": uri or self.url.database})
        except (OSError, sqlite3.Error) as error:  # The file has gone, or there is no room to copy it.
            raise QueryFailed(f"{type(error).__name__}: {error}") from error
        if "refused" in found:
            raise Refused(found["refused"])
        if "error" in found:
            if any(sign in found["error"] for sign in STOPPED.get(self.engine, ())):
                raise QueryFailed(f"stopped after {job['timeout']:g} seconds (--timeout)")
            if found["error"].startswith("NoReadOnlyMode"):
                raise InputError(
                    f"not executed: this database would not take its read-only settings ({found['error']})."
                )
            raise QueryFailed(found["error"])
        return Result(**found)


def connect_arguments(url: URL) -> dict:
    """Return what a driver is connected with, the options of the URL as it wants them: numbers are numbers."""
    if url.get_backend_name() not in DRIVER_OF:
        return {}
    return url.set(drivername=DRIVER_OF[url.get_backend_name()]).get_dialect()().create_connect_args(url)[1]


def driver_engine(url: URL) -> sqlalchemy.Engine:
    """Return SQLAlchemy's engine for a server, with our driver and no endless wait for an answer."""
    url = url.set(drivername=DRIVER_OF[url.get_backend_name()])
    return sqlalchemy.create_engine(url, connect_args={} if "connect_timeout" in url.query else {"connect_timeout": 10})


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _written(name: str) -> str:
    return name if name.isidentifier() else quote(name)


def open_database(reference: str, only: list[str] | None = None) -> Database:
    """Read the schema of a database.

    Args:
        reference: SQLAlchemy URL, or the path of an SQLite or DuckDB file.
        only: names of the tables and views to read; all by default.

    Raises:
        InputError: no such database, not readable, unknown engine, no tables, an unknown name, too many tables.
    """
    url = _url(reference)
    engine = {"mariadb": "mysql"}.get(url.get_backend_name(), url.get_backend_name())
    shown = redact(url.render_as_string(hide_password=True), reference)
    if engine not in DRIVERS:
        raise InputError(f"--database {shown}: {engine} is not supported; expected {', '.join(DRIVERS)}.")
    if importlib.util.find_spec(DRIVERS[engine]) is None:
        package = PACKAGES[DRIVERS[engine]]
        raise InputError(
            f"--database {shown} needs a driver: pip install -r requirements-databases.txt, or {package} alone."
        )
    if engine in ("sqlite", "duckdb") and not Path(url.database or "").is_file():
        raise InputError(f"--database {shorten(reference)}: there is no file {url.database or 'in this URL'}.")
    try:
        found, schema = _read_duckdb(url.database) if engine == "duckdb" else _inspect(url, engine, only)
    except Exception as error:  # SQLAlchemy wraps its own; DuckDB and the drivers raise others.
        reason = redact(first_line(getattr(error, "orig", None) or error), reference)
        raise InputError(f"--database {shown} cannot be read: {reason}.") from error
    if not found:
        raise InputError(f"--database {shown} has no tables.")
    wanted = [_table(name, found) for name in only] if only else list(found)
    if len(wanted) > MAX_TABLES:
        raise InputError(
            f"--database {shown} has {len(wanted)} tables, more than fit into a prompt ({MAX_TABLES}); name those the"
            f" question is about, for example --tables {' '.join(wanted[:3])}."
        )
    return Database(url, engine, {name: found[name] for name in wanted}, schema)


def _table(name: str, found: dict[str, dict[str, str]]) -> str:
    """Return a table of --tables in the database's spelling.

    Raises:
        InputError: there is none, or several differ from the name in letter case only.
    """
    try:
        table = find_table(found, name)
    except Refused as error:
        raise InputError(f"--tables: {error}; give its exact spelling.") from error
    if table is None:
        raise InputError(f"--tables: there is no {name}; the database has {_some(list(found))}.")
    return table


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _url(reference: str) -> URL:
    if "://" in reference:
        try:
            url = make_url(reference)
        except (ArgumentError, ValueError):  # A port that is no number.
            url = None
        if url is None or "@" in (url.host or ""):
            raise InputError(
                f"--database {shorten(reference)} is no URL that can be read; expected for example sqlite:///shop.db or"
                " postgresql://USER@HOST/NAME, where an @ within a password is written %40."
            )
        return url
    path = Path(reference)
    if not os.path.isfile(path):
        raise InputError(
            f"--database {shorten(reference)}: there is no such file, and it is no URL such as sqlite:///shop.db."
        )
    try:
        with path.open("rb") as file:
            is_duckdb = file.read(12)[8:] == b"DUCK"
    except OSError as error:
        raise InputError(f"--database {reference} cannot be read: {error.strerror}.") from error
    return URL.create("duckdb" if is_duckdb else "sqlite", database=str(path))


def _inspect(url: URL, engine: str, only: list[str] | None) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    if engine != "sqlite":
        connection = driver_engine(url)
        return _read_mysql(connection) if engine == "mysql" else _tables(connection, only)
    with readable_sqlite(Path(url.database)) as uri:  # Looking at a database must not change it.
        return _tables(
            sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True)), only, "main"
        )


def _tables(connection: sqlalchemy.Engine, only: list[str] | None, schema: str | None = None):
    """Return the tables and views with their columns and types, and the schema they are in."""
    inspector = sqlalchemy.inspect(connection)
    # One schema: without its name PostgreSQL lists those of the whole search_path.
    schema = schema or inspector.default_schema_name
    names = sorted([*inspector.get_table_names(schema), *inspector.get_view_names(schema)])
    wanted = {name.lower() for name in only or names}
    # With too many tables their columns are not asked for: there would be one query for each.
    few = len(wanted) <= MAX_TABLES
    found = {
        name: {column["name"]: _type_name(column["type"]) for column in inspector.get_columns(name, schema)}
        if few and name.lower() in wanted
        else {}
        for name in names
    }
    connection.dispose()
    return found, (schema,)


def _type_name(kind: sqlalchemy.types.TypeEngine) -> str:
    """Return a type as training data has it: without length, collation and precision; TEXT where there is none."""
    try:
        name = str(kind).partition("(")[0].split(" COLLATE")[0].strip()
    except SQLAlchemyError:
        return "TEXT"
    return "TEXT" if name in ("", "NULL") else name


def _read_mysql(connection: sqlalchemy.Engine) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Return tables and columns; SQLAlchemy's inspector may not look at views with the right to SELECT alone."""
    with connection.connect() as session:
        schema = session.exec_driver_sql("SELECT DATABASE()").scalar()
        rows = session.exec_driver_sql(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
        ).fetchall()
    connection.dispose()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = {"int": "INTEGER"}.get(kind, kind.upper())
    return found, (schema,)


def _read_duckdb(path: str) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Return tables and columns; duckdb-engine's inspector does not work with SQLAlchemy 2.1."""
    import duckdb

    with duckdb.connect(path, read_only=True) as connection:
        schema = connection.execute("SELECT current_database(), current_schema()").fetchone()
        rows = connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_catalog = ? AND table_schema = ? ORDER BY table_name, ordinal_position", schema
        ).fetchall()  # fmt: skip
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind.partition("(")[0].strip('"').replace("NULL", "TEXT") or "TEXT"
    return found, schema
