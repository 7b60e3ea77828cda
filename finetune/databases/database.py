"""A user's own database: its schema as CREATE TABLE statements, and queries on it that cannot harm it."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from finetune import InputError
from finetune.databases.running.processes import MEMORY_MEGABYTES, QueryServer, in_process
from finetune.databases.running.processes import QueryFailed as QueryFailed
from finetune.databases.running.runner import readable_sqlite
from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.scopes import find_table
from finetune.databases.schema.choosing import Choice, Chooser
from finetune.databases.schema.reading import Key, read_schema
from finetune.databases.schema.samples import comment, sample_values
from finetune.databases.schema.words import written
from finetune.databases.urls import connect_arguments, first_line, parse_reference
from finetune.redaction import redact

from sqlalchemy.engine import URL

AUTO = "auto"
MAX_TABLES = 40  # A prompt of more is longer than what models here are trained on.
# What the engines say of their time limit; DuckDB has none, and is killed.
STOPPED = {
    "sqlite": ("OperationalError: interrupted",),
    "postgresql": ("canceling statement due to statement timeout",),
    "mysql": ("max_statement_time exceeded", "maximum statement execution time exceeded"),
}  # fmt: skip


@dataclass
class Result:
    """Rows of a query; `truncated` where there were more than asked for."""

    columns: list[str]
    rows: list[list]
    truncated: bool


Outcome = Result | Refused | QueryFailed
Answer = TypeVar("Answer", dict, list[dict | QueryFailed])


@dataclass
class Database:
    """A database by its URL.

    Attributes:
        columns: table -> column -> type, in the database's own spelling.
        keys: foreign keys between these tables.
        schema: what stands before the name of a table, such as `("public",)`.
        dialect: of the SQL that `run` takes: what the model was trained to write.
        chooses: the model is told of the tables that a question is about (--tables auto), not of all; `run` reads any.
        values: of each column that stand in the text, those that `samples` has.
    """

    url: URL
    engine: str
    columns: dict[str, dict[str, str]]
    schema: tuple[str, ...]
    keys: list[Key] = field(default_factory=list)
    dialect: str = "sqlite"
    chooses: bool = False
    values: int = 0
    samples: dict[str, dict[str, list[str]]] = field(default_factory=dict, repr=False)

    @property
    def statements(self) -> str:
        """The schema of all tables as the prompt has it, see `text`."""
        return self.text(self.columns)

    def text(self, tables: Iterable[str]) -> str:
        """Return CREATE TABLE statements of tables, in the database's order, without keys and lengths.

        With `values`, so many values of each column stand behind it in a comment.
        """
        wanted = set(tables)
        names = [name for name in self.columns if name in wanted]
        self._sample(names)
        return "; ".join(
            f"CREATE TABLE {written(name)} ({', '.join(self._column(name, column) for column in self.columns[name])})"
            for name in names
        )

    def _column(self, table: str, column: str) -> str:
        values = self.samples.get(table, {}).get(column, [])[: self.values]
        return f"{written(column)} {self.columns[table][column]}{comment(values)}"

    def _sample(self, tables: list[str]) -> None:
        """Look up values of the tables that were not looked up yet."""
        missing = {name: self.columns[name] for name in tables if name not in self.samples}
        if self.values and missing:
            self.samples |= sample_values(self.url, self.engine, self.schema, missing, self.values)

    @property
    def tables(self) -> dict[str, list[str]]:
        """The columns of each table."""
        return {table: list(columns) for table, columns in self.columns.items()}

    @property
    def digest(self) -> str:
        """The SHA-256 of the schema's text without values: of names and types."""
        return hashlib.sha256(replace(self, values=0).statements.encode()).hexdigest()

    @property
    def facts(self) -> dict[str, str | int]:
        """What a run says of the schema: its digest, and how many tables it has."""
        return {"schema_sha256": self.digest, "schema_tables": len(self.columns)}

    @cached_property
    def _chooser(self) -> Chooser:
        return Chooser(self.columns, self.keys)

    def choose(self, question: str) -> Choice:
        """Return the tables that a question is about; all of them without `chooses`."""
        return self._chooser.choose(question) if self.chooses else Choice(tuple(self.columns), True)

    def context_of(self, question: str) -> str:
        """Return the schema that the model reads with a question."""
        return self.text(self.choose(question).tables)

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

    def run_batch(
        self, server: QueryServer, queries: list[str], max_rows: int, timeout: float, max_bytes: int
    ) -> list[Outcome]:
        """Do what `run_all` does for queries of our own: one process for all, and another behind one that is stopped.

        Args:
            max_bytes: of the texts of one result, which is truncated there.
        """
        ours = {"queries": queries, "floats": True, "max_bytes": max_bytes}
        try:
            answers = self._ask(lambda job: server.ask_all(job, len(queries)), self._job("", max_rows, timeout) | ours)
        except QueryFailed as error:
            answers = [error] * len(queries)
        found: list[Outcome] = []
        for answer in answers:
            try:
                found.append(self._outcome(answer, timeout))
            except (Refused, QueryFailed) as error:
                found.append(error)
        return found

    def _job(self, sql: str, max_rows: int, timeout: float) -> dict:
        return {
            "engine": self.engine, "sql": sql, "dialect": self.dialect, "tables": self.tables, "schema": self.schema,
            "max_rows": max_rows, "timeout": timeout, "memory_megabytes": MEMORY_MEGABYTES,
            "connection": connect_arguments(self.url),
        }  # fmt: skip

    def _answer(self, ask: Callable[[dict], dict], job: dict) -> Result:
        """Return what a process answers to a job; raise what `run` raises."""
        return self._outcome(self._ask(ask, job), job["timeout"])

    def _ask(self, ask: Callable[[dict], Answer], job: dict) -> Answer:
        try:
            with readable_sqlite(Path(self.url.database)) if self.engine == "sqlite" else nullcontext() as uri:
                return ask(job | {"database": uri or self.url.database})
        except (OSError, sqlite3.Error) as error:  # The file has gone, or there is no room to copy it.
            raise QueryFailed(f"{type(error).__name__}: {error}") from error

    def _outcome(self, found: dict | QueryFailed, timeout: float) -> Result:
        if isinstance(found, QueryFailed):
            raise found
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


def open_database(reference: str, only: list[str] | None = None, values: int = 0) -> Database:
    """Read the schema of a database.

    Args:
        reference: SQLAlchemy URL, or the path of an SQLite or DuckDB file.
        only: names of the tables and views to read; all by default. ["auto"]: all, of which each question has some.
        values: of each column that stand in the schema's text.

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
    chooses = only == [AUTO]
    wanted = [_table(name, found) for name in only] if only and not chooses else list(found)
    if len(wanted) > MAX_TABLES and not chooses:
        raise InputError(
            f"--database {shown} has {len(wanted)} tables, more than fit into a prompt ({MAX_TABLES}); name those the"
            f" questions are about, for example --tables {' '.join(wanted[:3])}, or have them chosen for each question:"
            " --tables auto."
        )
    keys = [key for key in schema.keys if {key.table, key.other} <= set(wanted)]
    columns = {name: found[name] for name in wanted}
    return Database(url, engine, columns, schema.name, keys, chooses=chooses, values=values)


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
