"""Attacks on --execute: each is refused by the filter or stopped by the engine, and nothing is written."""

import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

from finetune.databases.database import Database, QueryFailed, open_database
from finetune.databases.running.runner import readable_sqlite, run_job
from finetune.databases.safe_sql import Refused
from finetune.databases.safety import Statement, make_safe
from finetune.databases.urls import connect_arguments

import pytest
from conftest import ROOT
from database_servers import SECRET, TABLES
from sql_attacks import FINE, REFUSED, RUNAWAY, WRITES, attacks

ENGINES = ["sqlite", "duckdb", "postgresql", "postgresql reader", "mysql", "mysql reader"]


@pytest.fixture(scope="module", params=ENGINES)
def database(request) -> Database:
    """Each engine, its secrets left out of --tables; the servers as superuser and as a reader."""
    engine, _, reader = request.param.partition(" ")
    url = request.getfixturevalue(f"{engine}_database")
    return open_database(re.sub("(postgres|root)@", "reader@", url) if reader else url, TABLES)


def safe(database: Database, sql: str) -> Statement:
    """Return a query as it would be sent."""
    return make_safe(sql, database.tables, database.schema, database.engine)


def is_refused(database: Database, sql: str) -> bool:
    """Say whether a statement is never sent."""
    try:
        safe(database, sql)
    except Refused:
        return True
    return False


def test_every_attack_is_refused_before_anything_is_sent(database):
    assert len(set(REFUSED)) >= 100
    assert [attack for attack in REFUSED if not is_refused(database, attack)] == []


def is_broken(bad: str, rows: list[list]) -> bool:
    """Say whether rows hold what they must not, see `sql_attacks.attacks`."""
    values = [str(value) for row in rows for value in row]
    if bad == "@DIFF":
        return any(str(row[1]) not in ("~", "1") for row in rows)
    if bad.startswith("@"):
        return bad != "@ROWS" or bool(rows)
    return any(re.search(bad, value) or SECRET in value for value in values)


def test_every_statement_that_got_through_elsewhere_returns_nothing_it_must_not(database):
    statements = attacks()
    assert len(statements) == 291
    sent = [row for row in statements if not is_refused(database, row["sql"])]
    assert len(sent) <= 30  # ordinary ones among them, such as those with a comment
    broken = []
    for row in sent:
        started = time.monotonic()
        try:
            rows = database.run(row["sql"], 100, 5).rows
        except QueryFailed:
            rows = []
        if is_broken(row.get("bad", SECRET), rows) or time.monotonic() - started > 60:
            broken.append((row["sql"], rows[:3]))
    assert broken == []
    assert database.run("SELECT COUNT(*) FROM users", 1, 10).rows == [[300]]


@pytest.mark.parametrize(("sql", "rows"), FINE)
def test_ordinary_queries_are_answered(database, sql, rows):
    assert sorted(map(str, database.run(sql, 10, 10).rows)) == sorted(map(str, rows))


def test_more_rows_than_asked_for_are_not_fetched(database):
    result = database.run("SELECT name FROM users", 7, 10)
    assert (len(result.rows), result.truncated) == (7, True)


@pytest.mark.parametrize("attack", RUNAWAY)
def test_a_query_without_end_is_stopped(database, attack):
    with pytest.raises(QueryFailed, match=r"stopped|cancel|[Mm]emory"):
        database.run(attack, 10, 1)
    if database.engine in ("sqlite", "duckdb"):  # Not a temporary file is left, or was made, beside the database.
        assert len(list(Path(database.url.database).parent.iterdir())) == 1


def test_an_error_of_the_engine_is_told(database):
    with pytest.raises(QueryFailed):
        database.run("SELECT COUNT(*) FROM users GROUP BY COUNT(*)", 10, 5)


def engine_alone(database: Database, sql: str) -> dict:
    """Run SQL as it stands, past the filter."""
    job = {
        "engine": database.engine, "sql": sql, "parameters": [], "tables": database.tables, "max_rows": 10,
        "timeout": 1, "database": database.url.database, "connection": connect_arguments(database.url),
    }  # fmt: skip
    if database.engine != "sqlite":
        return run_job(job)
    with readable_sqlite(Path(database.url.database)) as uri:
        return run_job(job | {"database": uri})


@pytest.mark.parametrize("attack", WRITES)
def test_the_engine_alone_writes_nothing(database, attack):
    engine_alone(database, attack)
    assert engine_alone(database, "SELECT COUNT(*), MAX(age) FROM users")["rows"] == [[300, 89]]
    assert "error" in engine_alone(database, "SELECT COUNT(*) FROM copied")


def fingerprint(folder: Path) -> dict[str, str]:
    """Return every file below a folder with a digest of its bytes."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def test_sqlite_alone_stops_every_attack(sqlite_database, monkeypatch):
    """The read-only file, the authorizer and the limits hold without the filter; no file is touched."""
    folder = Path(sqlite_database).parent
    monkeypatch.chdir(folder)
    database = open_database(sqlite_database, ["users", "adults"])
    before = fingerprint(folder)
    harmless = []
    for attack in [*REFUSED, *RUNAWAY]:
        found = engine_alone(database, attack)
        if "error" not in found:
            harmless.append(attack)
            assert SECRET not in str(found)
    assert fingerprint(folder) == before
    assert not Path("/tmp/stolen").exists()
    # What SQLite itself runs reads the allowed tables or nothing at all; there is no index to REINDEX.
    assert {attack.strip(" ;").partition(" ")[0] for attack in harmless} <= {"", "SELECT", "VALUES", "REINDEX"}


def test_the_process_of_a_query_can_write_no_file_and_not_all_memory(tmp_path):
    code = (
        "import os, sys; from finetune.databases.running.runner import limit_process; limit_process(300, 5)\n"
        "try: os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), b'x')\n"
        "except OSError as error: print(error.errno)\n"
        "try: bytearray(10**9)\n"
        "except MemoryError: print('memory')"
    )
    command = [sys.executable, "-B", "-c", code, str(tmp_path / "stolen")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["27", "memory"], done.stderr  # 27: EFBIG
