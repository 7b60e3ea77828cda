"""A user's own database: its schema as CREATE TABLE statements, and queries on it that cannot harm it."""

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from finetune import InputError
from finetune.databases.reading import Key, read_schema
from finetune.databases.runner import readable_sqlite
from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.scopes import find_table
from finetune.databases.urls import connect_arguments, first_line, parse_reference
from finetune.redaction import redact
from metrics.sql_execution.ddl import is_bare_name
from metrics.sql_execution.schemas import quote

from sqlalchemy.engine import URL

RUNNER = Path(__file__).parent / "runner.py"
MEMORY_MEGABYTES = 1024
MAX_TABLES = 40  # A prompt of more is longer than what models here are trained on.
# What the engines say of their time limit; DuckDB has none, and is killed.
STOPPED = {
    "sqlite": ("OperationalError: interrupted",),
    "postgresql": ("canceling statement due to statement timeout",),
    "mysql": ("max_statement_time exceeded", "maximum statement execution time exceeded"),
}  # fmt: skip


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
        keys: foreign keys between these tables.
        schema: what stands before the name of a table, such as `("public",)`.
        dialect: of the SQL that `run` takes: what the model was trained to write.
    """

    url: URL
    engine: str
    columns: dict[str, dict[str, str]]
    schema: tuple[str, ...]
    keys: list[Key] = field(default_factory=list)
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
        job = {
            "engine": self.engine, "sql": sql, "dialect": self.dialect, "tables": self.tables, "schema": self.schema,
            "max_rows": max_rows, "timeout": timeout, "memory_megabytes": MEMORY_MEGABYTES,
            "connection": connect_arguments(self.url),
        }  # fmt: skip
        try:
            with readable_sqlite(Path(self.url.database)) if self.engine == "sqlite" else nullcontext() as uri:
                found = _in_process(job | {"database": uri or self.url.database})
        except (OSError, sqlite3.Error) as error:  # The file has gone, or there is no room to copy it.
            raise QueryFailed(f"{type(error).__name__}: {error}") from error
        if "refused" in found:
            raise Refused(found["refused"])
        if "error" in found:
            if any(sign in found["error"] for sign in STOPPED.get(self.engine, ())):
                raise QueryFailed(f"stopped after {timeout:g} seconds (--timeout)")
            if found["error"].startswith("NoReadOnlyMode"):
                raise InputError(
                    f"not executed: this database would not take its read-only settings ({found['error']})."
                )
            raise QueryFailed(found["error"])
        return Result(**found)


def _in_process(job: dict) -> dict:
    """Return what runner.py answers to a job.

    Raises:
        QueryFailed: the process was stopped at a limit.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-B", str(RUNNER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    is_late = threading.Event()

    def stop() -> None:
        is_late.set()
        process.kill()

    clock = threading.Timer(job["timeout"] + 3, stop)
    clock.start()
    try:
        with process:
            # The job goes by stdin: a password among the arguments could be read by every user. Stdin stays open
            # until the answer is there: its end tells the process that this one is gone.
            assert process.stdin is not None  # PIPE
            assert process.stdout is not None  # PIPE
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.read()
    except BrokenPipeError:
        answer = ""
    finally:
        clock.cancel()
        process.kill()
    if is_late.is_set():
        raise QueryFailed(f"stopped after {job['timeout']:g} seconds (--timeout)")
    try:
        return json.loads(answer)
    except json.JSONDecodeError as error:
        reason = f"status {process.returncode}" if process.returncode >= 0 else f"signal {-process.returncode}"
        raise QueryFailed(f"stopped at a limit of memory or time ({reason})") from error


def _written(name: str) -> str:
    return name if is_bare_name(name) else quote(name)


def open_database(reference: str, only: list[str] | None = None) -> Database:
    """Read the schema of a database.

    Args:
        reference: SQLAlchemy URL, or the path of an SQLite or DuckDB file.
        only: names of the tables and views to read; all by default.

    Raises:
        InputError: no such database, not readable, unknown engine, no tables, an unknown name, too many tables.
    """
    url, engine, shown = parse_reference(reference)
    try:
        schema = read_schema(url, engine)
    except Exception as error:  # SQLAlchemy wraps its own; DuckDB and the drivers raise others.
        reason = redact(first_line(getattr(error, "orig", None) or error), reference)
        raise InputError(f"--database {shown} cannot be read: {reason}.") from error
    found = schema.tables
    if not found:
        raise InputError(f"--database {shown} has no tables.")
    wanted = [_table(name, found) for name in only] if only else list(found)
    if len(wanted) > MAX_TABLES:
        raise InputError(
            f"--database {shown} has {len(wanted)} tables, more than fit into a prompt ({MAX_TABLES}); name those the"
            f" questions are about, for example --tables {' '.join(wanted[:3])}, or have them chosen for each question:"
            " --tables auto."
        )
    keys = [key for key in schema.keys if {key.table, key.other} <= set(wanted)]
    return Database(url, engine, {name: found[name] for name in wanted}, schema.name, keys)


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
