"""Two minutes of statements that nobody wrote: no planted secret comes back, and nothing takes longer than it may."""

import signal
from pathlib import Path
from random import Random

from finetune.databases.database import Database, open_database
from finetune.databases.running.runner import readable_sqlite, run_job
from finetune.databases.safe_sql import Refused
from finetune.databases.safety import make_safe
from finetune.databases.urls import connect_arguments

import pytest
import sqlglot
from conftest import demo_rows
from database_servers import SECRET, TABLES
from random_sql import HOSTILE_NAMES, HOSTILE_PARTS, HOSTILE_TYPES, Queries
from sql_attacks import FINE, REFUSED, attacks
from sqlglot.errors import SqlglotError

STATEMENTS = 1500
CHECK_SECONDS = 20  # The check of one statement takes milliseconds; the process it runs in is killed after more.


def pieces(sql: str) -> list[str]:
    """Return the tokens of a statement as they stand in it, or its words where it has none."""
    try:
        return [sql[token.start : token.end + 1] for token in sqlglot.tokenize(sql, read="sqlite")]
    except SqlglotError:
        return sql.split()


def mutated(random: Random, pool: list[list[str]]) -> str:
    """Return a statement made of others: cut, crossed, doubled, exchanged, with hostile parts in it."""
    tokens = list(random.choice(pool))
    for _ in range(random.randint(1, 4)):
        other, place = random.choice(pool), random.randrange(len(tokens) + 1)
        start = random.randrange(len(other) + 1)
        kind = random.randrange(6)
        if kind == 0:  # A part of another statement.
            tokens[place:place] = other[start : start + random.randint(1, 12)]
        elif kind == 1:
            del tokens[place : place + random.randint(1, 3)]
        elif kind == 2:  # A part again, and again.
            tokens[place:place] = tokens[place : place + random.randint(1, 6)] * random.randint(1, 3)
        elif kind == 3 and tokens:
            tokens[place % len(tokens)] = random.choice([*HOSTILE_NAMES, *HOSTILE_TYPES, "secrets", "tokens", "users"])
        elif kind == 4:
            tokens.insert(place, random.choice(HOSTILE_PARTS))
        else:  # Wrapped as a subquery, a WITH entry, or both sides of a set operation.
            inner = " ".join(tokens)
            wrappers = [
                "SELECT * FROM ({}) AS z", "WITH z AS ({}) SELECT * FROM z", "{} UNION SELECT 1",
                "SELECT ({}) FROM users", "SELECT name FROM users WHERE id IN ({})",
            ]  # fmt: skip
            tokens = [random.choice(wrappers).format(inner.replace("{", "").replace("}", ""))]
    return random.choice([" ", " ", " ", "\n", "/**/", "\u200b"]).join(tokens)


def answer(database: Database, sql: str) -> dict:
    """Check a statement and run it in this process, which takes a tenth of the time of a process of its own."""
    statement = make_safe(sql, database.tables, database.schema, database.engine)
    job = {
        "engine": database.engine, "sql": statement.sql, "parameters": statement.parameters, "tables": database.tables,
        "max_rows": 50, "timeout": 2, "database": database.url.database, "connection": connect_arguments(database.url),
    }  # fmt: skip
    if database.engine != "sqlite":
        return run_job(job)
    with readable_sqlite(Path(database.url.database)) as uri:
        return run_job(job | {"database": uri})


@pytest.mark.slow
def test_nothing_that_is_made_up_gets_a_secret_or_hangs(
    sqlite_database, duckdb_database, postgresql_database, mysql_database
):
    urls = (sqlite_database, duckdb_database, postgresql_database, mysql_database)
    databases = [open_database(url, TABLES) for url in urls]
    random = Random(20261126)
    pool = [pieces(row["sql"]) for row in attacks()] + [pieces(sql) for sql in REFUSED + [sql for sql, _ in FINE]]
    pool += [pieces(row["answer"]) for row in demo_rows("train")[:300]]
    pool = [tokens for tokens in pool if 0 < len(tokens) < 300]
    count = {"refused": 0, "error": 0, "rows": 0}

    def too_long(*_):
        raise AssertionError(f"still checking after {CHECK_SECONDS} seconds: {sql}")

    before = signal.signal(signal.SIGALRM, too_long)
    for number in range(STATEMENTS):
        sql = Queries(random, hostile=0.03).query() if number % 2 else mutated(random, pool)
        database = databases[number // 2 % 4]
        signal.alarm(CHECK_SECONDS)
        try:
            found = answer(database, sql)
        except Refused:
            count["refused"] += 1
            continue
        finally:
            signal.alarm(0)
        count["error" if "error" in found else "rows"] += 1
        # A text that stands in the statement itself may come back.
        assert SECRET not in str(found.get("rows")) or SECRET in sql, (database.engine, sql)
    signal.signal(signal.SIGALRM, before)
    for database in databases:
        assert database.run("SELECT COUNT(*), MAX(age) FROM users", 1, 30).rows == [[300, 89]]
    assert count["rows"] > 200, count  # The test says nothing where all is refused.
