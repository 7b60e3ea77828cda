"""A user's own database: its schema as CREATE TABLE statements, and queries on it that cannot harm it."""

import importlib.util
import json
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from finetune.console import InputError
from finetune.sql_runner import read_only_uri
from finetune.sql_safety import make_safe
from metrics.sql_execution.schemas import NUMERIC_TYPE, Table, quote

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

RUNNER = Path(__file__).parent / "sql_runner.py"
MEMORY_MEGABYTES = 1024
MAX_TABLES = 40  # A prompt of more is longer than what models here are trained on.
DRIVERS = {"sqlite": "sqlite3", "postgresql": "psycopg", "mysql": "pymysql", "duckdb": "duckdb"}
DRIVER_OF = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
DIALECTS = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql", "duckdb": "duckdb"}
PACKAGES = {"psycopg": '"psycopg[binary]"', "pymysql": "pymysql", "duckdb": "duckdb"}


class QueryFailed(Exception):
    """The database refused the query, or it was stopped at a limit."""


@dataclass
class Result:
    """Rows of a query; `truncated` where there were more than asked for."""

    columns: list[str]
    rows: list[list]
    truncated: bool


@dataclass
class Database:
    """A database by its URL.

    Attributes:
        columns: table -> column -> type, in the database's own spelling.
    """

    url: URL
    engine: str
    columns: dict[str, dict[str, str]]

    @property
    def statements(self) -> str:
        """The schema as the prompt has it: CREATE TABLE statements without keys and lengths."""
        return "; ".join(
            f"CREATE TABLE {_written(table)} ({', '.join(f'{_written(c)} {kind}' for c, kind in columns.items())})"
            for table, columns in self.columns.items()
        )

    def safe(self, sql: str) -> str:
        """Return the query as it would be sent.

        Raises:
            Refused: see `sql_safety.make_safe`.
        """
        tables = {
            name.lower(): Table(
                name.lower(), {c.lower(): bool(NUMERIC_TYPE.search(kind)) for c, kind in columns.items()}
            )
            for name, columns in self.columns.items()
        }
        spelling = {name.lower(): name for name in self.columns}
        spelling |= {f"{t.lower()}.{c.lower()}": c for t, columns in self.columns.items() for c in columns}
        return make_safe(sql, tables, spelling, DIALECTS[self.engine])

    def run(self, sql: str, max_rows: int, timeout: float) -> Result:
        """Run a query in a process of its own and return at most `max_rows` rows.

        Raises:
            Refused: the query is not sent.
            QueryFailed: the database's error, or a limit of time or memory.
        """
        job = {
            "engine": self.engine, "sql": self.safe(sql), "tables": list(self.columns), "max_rows": max_rows,
            "timeout": timeout, "memory_megabytes": MEMORY_MEGABYTES, "database": self.url.database,
            "connection": self._connection(),
        }  # fmt: skip
        try:
            # The job goes by stdin: a password among the arguments could be read by every user.
            done = subprocess.run(
                [sys.executable, "-P", "-B", str(RUNNER)], input=json.dumps(job), capture_output=True, text=True,
                timeout=timeout + 3, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise QueryFailed(f"stopped after {timeout:g} seconds (--timeout)") from error
        try:
            found = json.loads(done.stdout)
        except json.JSONDecodeError as error:
            reason = f"status {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
            raise QueryFailed(f"stopped at a limit of memory or time ({reason})") from error
        if "error" in found:
            if "interrupted" in found["error"]:
                raise QueryFailed(f"stopped after {timeout:g} seconds (--timeout)")
            if found["error"].startswith("NoReadOnlyMode"):
                raise InputError(
                    f"not executed: this database would not take its read-only settings ({found['error']})."
                )
            raise QueryFailed(found["error"])
        return Result(**found)

    def _connection(self) -> dict:
        names = {"host": self.url.host, "port": self.url.port, "user": self.url.username, "password": self.url.password}
        names["dbname" if self.engine == "postgresql" else "database"] = self.url.database
        return {name: value for name, value in (names | dict(self.url.query)).items() if value is not None}


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
    shown = url.render_as_string(hide_password=True)
    if engine not in DRIVERS:
        raise InputError(f"--database {shown}: {engine} is not supported; expected {', '.join(DRIVERS)}.")
    if importlib.util.find_spec(DRIVERS[engine]) is None:
        raise InputError(f"--database {shown} needs a driver: pip install {PACKAGES[DRIVERS[engine]]}.")
    if engine in ("sqlite", "duckdb") and not Path(url.database or "").is_file():
        raise InputError(f"--database {reference}: there is no file {url.database or 'in this URL'}.")
    try:
        found = _read_duckdb(url.database) if engine == "duckdb" else _inspect(url, engine, only)
    except Exception as error:  # SQLAlchemy wraps its own; DuckDB and the drivers raise others.
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise InputError(f"--database {shown} cannot be read: {reason}.") from error
    if not found:
        raise InputError(f"--database {shown} has no tables.")
    names = {name.lower(): name for name in found}
    unknown = [name for name in only or () if name.lower() not in names]
    if unknown:
        raise InputError(f"--tables: there is no {', '.join(unknown)}; the database has {_some(list(found))}.")
    wanted = [names[name.lower()] for name in only] if only else list(found)
    if len(wanted) > MAX_TABLES:
        raise InputError(
            f"--database {shown} has {len(wanted)} tables, more than fit into a prompt ({MAX_TABLES}); name those the"
            f" question is about, for example --tables {' '.join(wanted[:3])}."
        )
    return Database(url, engine, {name: found[name] for name in wanted})


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _url(reference: str) -> URL:
    if "://" in reference:
        try:
            return make_url(reference)
        except ArgumentError as error:
            raise InputError(f"--database: {error}; expected for example sqlite:///shop.db.") from error
    path = Path(reference)
    if not path.is_file():
        raise InputError(f"--database {reference}: there is no such file, and it is no URL such as sqlite:///shop.db.")
    try:
        with path.open("rb") as file:
            is_duckdb = file.read(12)[8:] == b"DUCK"
    except OSError as error:
        raise InputError(f"--database {reference} cannot be read: {error.strerror}.") from error
    return URL.create("duckdb" if is_duckdb else "sqlite", database=str(path))


def _inspect(url: URL, engine: str, only: list[str] | None) -> dict[str, dict[str, str]]:
    if engine == "sqlite":  # Read-only here too: looking at a database must not change it.
        uri = read_only_uri(Path(url.database))
        connection = sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True))
    else:
        connection = sqlalchemy.create_engine(url.set(drivername=DRIVER_OF[engine]))
    inspector = sqlalchemy.inspect(connection)
    names = sorted([*inspector.get_table_names(), *inspector.get_view_names()])
    wanted = {name.lower() for name in only or names}
    # With too many tables their columns are not asked for: there would be one query for each.
    few = len(wanted) <= MAX_TABLES
    found = {
        name: {column["name"]: _type_name(column["type"]) for column in inspector.get_columns(name)}
        if few and name.lower() in wanted
        else {}
        for name in names
    }
    connection.dispose()
    return found


def _type_name(kind: sqlalchemy.types.TypeEngine) -> str:
    """Return a type as training data has it: without length, collation and precision."""
    try:
        return str(kind).partition("(")[0].split(" COLLATE")[0].strip() or "TEXT"
    except SQLAlchemyError:
        return "TEXT"


def _read_duckdb(path: str) -> dict[str, dict[str, str]]:
    """Return tables and columns; duckdb-engine's inspector does not work with SQLAlchemy 2.1."""
    import duckdb

    with duckdb.connect(path, read_only=True) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position"
        ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind.partition("(")[0]
    return found
