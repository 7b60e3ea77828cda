"""Checks a model's query, writes it anew and runs it, in a process of its own that can only read and can be killed.

As a script it reads a job as one line of JSON on stdin and writes the result as JSON on stdout; it ends with the
process that holds the other end of stdin. Of the package it imports what the check needs alone, so that it starts in
a moment and its memory limit is the query's.
"""

import json
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

MAX_VALUE_BYTES = 1_000_000  # of one value: replace(hex(zeroblob(...))) ends here
MAX_RESULT_BYTES = 20_000_000
FUNCTIONS = set(
    "count sum total avg min max abs round ceil ceiling floor length lower upper trim ltrim rtrim substr substring"
    " instr coalesce ifnull nullif iif concat group_concat string_agg row_number rank dense_rank date time datetime"
    " julianday strftime current_date like".split()
)


class NoReadOnlyMode(Exception):
    """The engine would not take its read-only settings: nothing was run."""


@contextmanager
def readable_sqlite(path: Path) -> Iterator[str]:
    """Yield the URI of an SQLite file for reading alone, so that no file beside it is made or changed."""
    uri = f"file:{quote(str(path.resolve()))}?mode=ro"
    with path.open("rb") as file:
        header = file.read(20)
    log, index = Path(f"{path.resolve()}-wal"), Path(f"{path.resolve()}-shm")
    if header[18:19] != b"\x02":
        yield uri
    elif not log.exists() or not log.stat().st_size:
        yield uri + "&immutable=1"  # A WAL database that nobody has open: otherwise -wal and -shm files are made.
    elif index.exists():
        # With its index for reading alone, SQLite reads what a process left behind from an index in its own memory.
        yield uri + "&readonly_shm=1"
    else:  # A log without index, and SQLite would make one beside it.
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "database"
            shutil.copyfile(path, copy)
            shutil.copyfile(log, f"{copy}-wal")
            with closing(sqlite3.connect(copy)) as connection:
                connection.execute("PRAGMA wal_checkpoint")
            yield f"file:{quote(str(copy))}?mode=ro&immutable=1"


def run_sqlite(job: dict):
    """Return (columns, rows) from SQLite: read-only file, default-deny authorizer, limits, deadline."""
    connection = sqlite3.connect(job["database"], uri=True, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # no functions with side effects from views
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA mmap_size = 0")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000)
    connection.setlimit(sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0)
    readable = _readable(connection, job["tables"])

    def authorize(action, first, second, *_):
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FUNCTIONS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and (first or "").lower() in readable:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    deadline = time.monotonic() + job["timeout"]
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 1000)
    cursor = connection.execute(job["sql"], job["parameters"])
    return [column[0] for column in cursor.description or ()], cursor.fetchmany(job["max_rows"] + 1)


def _readable(connection: sqlite3.Connection, tables: list[str]) -> set[str]:
    """Return the given tables and views in lower case, with the tables that the views read."""
    readable = {name.lower() for name in tables}

    def record(action, first, *_):
        if action == sqlite3.SQLITE_READ:
            readable.add((first or "").lower())
        return sqlite3.SQLITE_OK

    views = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()
    connection.set_authorizer(record)
    for (view,) in views:
        if view.lower() in readable:
            name = view.replace('"', '""')
            connection.execute(f'EXPLAIN SELECT * FROM "{name}"')
    return {name for name in readable if not name.startswith("sqlite_")}


def run_postgresql(job: dict):
    """Return (columns, rows) from PostgreSQL: read-only transaction, statement timeout, server-side cursor, rollback.

    psycopg declares a server-side cursor by the extended protocol, which takes one statement only and its texts apart.
    """
    import psycopg

    milliseconds = int(job["timeout"] * 1000)
    ours = {
        "default_transaction_read_only": "on", "statement_timeout": milliseconds, "lock_timeout": milliseconds,
        "standard_conforming_strings": "on",
    }  # fmt: skip
    given = {"connect_timeout": 10} | job["connection"]
    # Of two settings of the same name the last one holds.
    given["options"] = " ".join([given.get("options") or "", *(f"-c {name}={value}" for name, value in ours.items())])
    with psycopg.connect(**given) as connection:
        connection.read_only = True
        for setting in ("transaction_read_only", "statement_timeout", "standard_conforming_strings"):
            value = connection.execute(f"SHOW {setting}").fetchone()[0]
            if value in ("off", "0"):
                raise NoReadOnlyMode(f"{setting} is {value}")
        cursor = psycopg.RawServerCursor(connection, "answer")
        cursor.execute(job["sql"], job["parameters"])
        found = [column.name for column in cursor.description], cursor.fetchmany(job["max_rows"] + 1)
        connection.rollback()
        return found


def run_mysql(job: dict):
    """Return (columns, rows) from MySQL or MariaDB: read-only session and transaction, time limit, rollback.

    The query is prepared on the server, and its texts are variables: all of them are sent as hexadecimal digits.
    """
    import pymysql
    from pymysql.cursors import SSCursor

    ours = {"local_infile": False, "read_timeout": job["timeout"] + 5, "autocommit": False}
    connection = pymysql.connect(**({"connect_timeout": 10} | job["connection"] | ours))
    with connection.cursor(SSCursor) as cursor:
        try:
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
            cursor.execute("SELECT VERSION()")
            maria = "mariadb" in cursor.fetchall()[0][0].lower()
            seconds, milliseconds = job["timeout"], int(job["timeout"] * 1000)
            limit = f"max_statement_time = {seconds}" if maria else f"max_execution_time = {milliseconds}"
            cursor.execute(f"SET SESSION {limit}")
            # No limit of time holds while the order of joins is sought; all orders of twelve tables take minutes.
            cursor.execute("SET SESSION optimizer_search_depth = 5")
            # Closing the cursor reads what is left of the result.
            cursor.execute(f"SET SESSION sql_select_limit = {job['max_rows'] + 1}")
            cursor.execute("START TRANSACTION READ ONLY")
        except pymysql.MySQLError as error:
            raise NoReadOnlyMode(str(error)) from error
        names = [f"@p{number}" for number in range(len(job["parameters"]))]
        for variable, text in zip(["@query", *names], [job["sql"], *job["parameters"]], strict=True):
            cursor.execute(f"SET {variable} = CONVERT(X'{text.encode().hex()}' USING utf8mb4)")
        cursor.execute("PREPARE answer FROM @query")
        cursor.execute("EXECUTE answer" + (" USING " if names else "") + ", ".join(names))
        found = [column[0] for column in cursor.description], cursor.fetchmany(job["max_rows"] + 1)
    connection.close()  # With a part of the result unread; nothing is ever committed.
    return found


def run_duckdb(job: dict):
    """Return (columns, rows) from DuckDB: read-only file, no access to anything outside it, settings locked."""
    import duckdb

    settings = {
        "enable_external_access": "false", "autoload_known_extensions": "false", "allow_community_extensions": "false",
        "autoinstall_known_extensions": "false", "memory_limit": "512MB", "threads": "1", "lock_configuration": "true",
        "temp_directory": "", "max_temp_directory_size": "0KB",  # Nothing is spilled beside the database.
    }  # fmt: skip
    connection = duckdb.connect(job["database"], read_only=True, config=settings)
    if len(duckdb.extract_statements(job["sql"])) != 1:
        raise NoReadOnlyMode("DuckDB would run several statements")
    cursor = connection.execute(job["sql"], job["parameters"])
    return [column[0] for column in cursor.description], cursor.fetchmany(job["max_rows"] + 1)


ENGINES = {"sqlite": run_sqlite, "postgresql": run_postgresql, "mysql": run_mysql, "duckdb": run_duckdb}


def answer(job: dict) -> dict:
    """Return what `run_job` does for a model's SQL, or `{"refused"}` with the reason why it is not sent.

    Args:
        job: with `sql` of the model, `dialect`, `tables` with their columns, and `schema`: see `safety.make_safe`;
            with `ours` where the SQL is written by this package for the engine, and is sent as it is.
    """
    if job.get("ours"):
        return run_job(job)
    from finetune.databases.safe_sql import Refused
    from finetune.databases.safety import make_safe

    deadline = time.monotonic() + job["timeout"]
    try:
        statement = make_safe(job["sql"], job["tables"], tuple(job["schema"]), job["engine"], job["dialect"])
    except Refused as refused:
        return {"refused": str(refused)}
    left = max(deadline - time.monotonic(), 0.1)
    found = run_job(job | {"sql": statement.sql, "parameters": statement.parameters, "timeout": left})
    return found if "error" in found else found | {"columns": statement.headings}


def run_job(job: dict) -> dict:
    """Return `{"columns", "rows", "truncated"}` of SQL that is sent as it is, or `{"error"}` of the engine.

    Args:
        job: with `floats` where numbers of any precision are wanted as such, and not as texts, and `max_bytes` where
            a smaller result than MAX_RESULT_BYTES is enough.
    """
    try:
        columns, rows = ENGINES[job["engine"]](job)
    except Exception as error:  # Every driver has errors of its own; the parent shows the text.
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    truncated = len(rows) > job["max_rows"]
    kept, size = [], 0
    for row in rows[: job["max_rows"]]:
        values = [_plain(value, job.get("floats", False)) for value in row]
        size += sum(len(value) for value in values if isinstance(value, str))
        if size > job.get("max_bytes", MAX_RESULT_BYTES):
            truncated = True
            break
        kept.append(values)
    return {"columns": columns, "rows": kept, "truncated": truncated}


def _plain(value, as_floats: bool) -> int | float | str | None:
    """Return a value as JSON has it; a number of any precision as a text, or as a float."""
    if as_floats and isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, int | float | str | None) else str(value)


def limit_process(megabytes: int, seconds: float) -> None:
    """Take from this process all it does not need: memory, processor time, and the writing of files."""
    import resource

    limits = {
        resource.RLIMIT_AS: megabytes * 2**20, resource.RLIMIT_CPU: int(seconds) + 2,
        resource.RLIMIT_FSIZE: 0,  # No file can grow by a byte, whatever was let through.
        resource.RLIMIT_CORE: 0,
    }  # fmt: skip
    for kind, limit in limits.items():
        highest = resource.getrlimit(kind)[1]
        limit = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(kind, (limit, limit))


def limit_processor(seconds: float) -> None:
    """Give this process so many seconds more of the processor, within those of `limit_process`."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    highest = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (min(limit, highest) if highest >= 0 else limit, highest))


def end_with_parent() -> None:
    """Wait for the end of stdin, which comes when the parent is gone, and end."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Read a job, answer it and end."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        # DuckDB maps far more than it uses and dies where it may not; its own memory_limit holds.
        limit_process(job["memory_megabytes"] * (8 if job["engine"] == "duckdb" else 1), job["timeout"])
        found = answer(job)
    except Exception as error:  # Nobody would see a traceback.
        found = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found), flush=True)
    os._exit(0)  # No driver's clean-up may take longer than the query.


if __name__ == "__main__":
    main()
