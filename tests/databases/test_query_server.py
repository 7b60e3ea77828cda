"""Many queries in processes forked from one: the same answers, limits and refusals as in a process of its own each."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from finetune.databases.database import Database, QueryFailed, Result, open_database
from finetune.databases.running.processes import QueryServer
from finetune.databases.safe_sql import Refused

import pytest
from conftest import LONGEST_WAIT, ROOT
from database_servers import SECRET, TABLES
from sql_attacks import FINE, REFUSED, RUNAWAY, attacks

COUNT = "SELECT COUNT(*) FROM users"


@pytest.fixture(scope="module", params=["sqlite", "duckdb", "postgresql reader", "mysql reader"])
def database(request) -> Database:
    engine, _, reader = request.param.partition(" ")
    url = request.getfixturevalue(f"{engine}_database")
    return open_database(re.sub("(postgres|root)@", "reader@", url) if reader else url, TABLES)


def test_each_query_gets_its_own_answer_in_order(database):
    found = list(database.run_all([sql for sql, _ in FINE], 10, 10))
    assert [sorted(map(str, result.rows)) for result in found] == [sorted(map(str, rows)) for _, rows in FINE]
    cut = list(database.run_all(["SELECT name FROM users", COUNT], 7, 10))
    assert [(len(result.rows), result.truncated) for result in cut] == [(7, True), (1, False)]


def test_every_attack_is_refused_and_the_ordinary_query_behind_it_answered(database):
    found = list(database.run_all([*REFUSED, COUNT], 10, 10))
    assert [sql for sql, result in zip(REFUSED, found, strict=False) if not isinstance(result, Refused)] == []
    assert found[-1].rows == [[300]]
    statements = [row["sql"] for row in attacks() if row.get("bad", SECRET) == SECRET]
    shown = [result for result in database.run_all(statements, 100, 5) if isinstance(result, Result)]
    assert not any(SECRET in str(value) for result in shown for row in result.rows for value in row)


def test_a_query_without_end_is_stopped_and_loses_only_itself(database):
    folder = Path(database.url.database).parent if database.engine in ("sqlite", "duckdb") else None
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()} if folder else {}
    started = time.monotonic()
    found = list(database.run_all([COUNT, RUNAWAY[0], COUNT, RUNAWAY[-1], "SELECT nope FROM users", COUNT], 10, 1))
    assert time.monotonic() - started < 60
    assert [result.rows for result in found[::2][:2] + found[-1:]] == [[[300]]] * 3
    assert all(isinstance(found[place], QueryFailed) for place in (1, 3))
    assert re.search(r"stopped|cancel|[Mm]emory", str(found[1]))
    assert isinstance(found[4], Refused)
    if folder:
        assert {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()} == before


def test_queries_of_one_batch_share_a_process_until_one_is_stopped(database):
    queries = [COUNT, RUNAWAY[0], COUNT, "SELECT nope FROM users", "SELECT name FROM users", COUNT]
    with QueryServer() as server:
        found = database.run_batch(server, queries, 1000, 1, 1_000)
        assert [found[place].rows for place in (0, 2, 5)] == [[[300]]] * 3
        assert isinstance(found[1], QueryFailed)
        assert isinstance(found[3], Refused)
        assert found[4].truncated
        assert 0 < sum(len(name) for (name,) in found[4].rows) <= 1_000
        assert database.run_batch(server, [COUNT], 1, 10, 10)[0].rows == [[300]]


def test_a_batch_has_the_limits_of_a_process(sqlite_database):
    database = open_database(sqlite_database, TABLES)
    with QueryServer() as server:
        arguments = (server, [COUNT, RUNAWAY[0], COUNT], 1, 3, 1_000)
        asking = threading.Thread(target=database.run_batch, args=arguments)
        asking.start()
        found: list[str] = []
        while not found and asking.is_alive():
            time.sleep(0.05)
            # A fork's limits are those of the server until it has set its own.
            found = [limits for limits in limits_of_children(server) if re.search(r"Max file size +0 +0", limits)]
        asking.join()
    assert re.search(rf"Max address space +{1024 * 2**20} ", found[0])
    assert re.search(r"Max cpu time +\d+ ", found[0])


def limits_of_children(server: QueryServer) -> list[str]:
    """Return what /proc says of the limits of a server's forks."""
    if server.process is None:
        return []
    try:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        return [Path(f"/proc/{child}/limits").read_text() for child in children]
    except OSError:
        return []


def test_an_error_of_the_engine_stands_in_its_place(database):
    bad = "SELECT COUNT(*) FROM users GROUP BY COUNT(*)"
    failed, fine = list(database.run_all([bad, COUNT], 10, 5))
    assert isinstance(failed, QueryFailed)
    with pytest.raises(QueryFailed, match=re.escape(str(failed))):
        database.run(bad, 10, 5)
    assert fine.rows == [[300]]


def test_numbers_of_any_precision_are_numbers(postgresql_database):
    database = open_database(postgresql_database, TABLES)
    assert next(database.run_all(["SELECT SUM(total) FROM orders"], 1, 5)).rows == [[179700.0]]


def test_a_server_that_dies_is_replaced(sqlite_database):
    database = open_database(sqlite_database, TABLES)
    with QueryServer() as server:
        job = database._job(COUNT, 1, 5)
        assert database._answer(server.ask, job).rows == [[300]]
        first = server.process
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with pytest.raises(QueryFailed, match="signal 9"):
            database._answer(server.ask, job)
        assert database._answer(server.ask, job).rows == [[300]]
        last = server.process
    assert last is not first
    assert last.returncode is not None  # Its end was waited for.


def processes(folder: str) -> list[str]:
    """Return the processes of the server that a test has named by an argument of their parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"QUERY_TEST={folder}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except (OSError, PermissionError):
            continue
    return found


def test_server_and_query_end_with_the_process_that_asked(sqlite_database, tmp_path):
    code = (
        "import sys; from finetune.databases.database import open_database; print('up', flush=True);"
        f"open_database({sqlite_database!r}, ['users']).run_all([sys.argv[1]], 1, 3600).__next__()"
    )
    endless = "SELECT COUNT(*) FROM " + ", ".join(f"users AS u{i}" for i in range(8))
    environment = os.environ | {"QUERY_TEST": str(tmp_path)}
    asking = subprocess.Popen([sys.executable, "-c", code, endless], cwd=ROOT, stdout=subprocess.PIPE, env=environment)
    asking.stdout.readline()
    deadline = time.monotonic() + LONGEST_WAIT
    while len(processes(str(tmp_path))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)  # The asking one, the server, the query.
    assert len(processes(str(tmp_path))) == 3
    asking.kill()
    asking.wait()
    while processes(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes(str(tmp_path))
