"""--values: sample values in the schema's text, which everything that reads it still reads."""

import re
import sqlite3
import time
from contextlib import closing

from finetune import InputError
from finetune.databases.database import open_database
from finetune.databases.schema import samples
from finetune.databases.schema.samples import check_values
from finetune.rows.splits.schema_split import schema_signature
from finetune.rows.sql.cleaning import clean_gold
from finetune.rows.sql.distractors import distract
from metrics.sql_execution.schemas import read_schema
from metrics.sql_execution.sql_execution import judge

import duckdb
import pytest
from conftest import ROOT

NASTY = [
    "*/ DROP",
    "/* open",
    "o'neill",
    "a\nb\x00c"[:3],
    "x); CREATE TABLE y (z",
    "/*/ */*",
    "$context",
    "é" * 90,
    "{}",
]


@pytest.fixture
def nasty(tmp_path):
    with closing(sqlite3.connect(tmp_path / "nasty.db")) as connection, connection:
        connection.execute('CREATE TABLE t (id INTEGER, "the text" VARCHAR(90), raw BLOB, empty TEXT)')
        connection.executemany("INSERT INTO t VALUES (?, ?, x'00ff', NULL)", list(enumerate(NASTY, start=10)))
    return str(tmp_path / "nasty.db")


def test_values_are_the_commonest_and_then_in_order(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute("CREATE TABLE t (id INTEGER, name TEXT, price REAL, day DATE)")
        rows = [(10, "b", 2.5, "2024-01-02"), (9, "b", None, "2024-01-02"), (100, "a", 10.0, "2023-01-01")]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
    database = open_database(str(tmp_path / "a.db"), values=2)
    assert database.statements == (
        "CREATE TABLE t (id INTEGER, name TEXT /* 'b', 'a' */, price REAL, day DATE /* '2024-01-02', '2023-01-01' */)"
    )
    plain = open_database(str(tmp_path / "a.db"))
    assert "/*" not in plain.statements
    assert plain.digest == database.digest


def test_no_value_breaks_out_of_its_comment(nasty):
    text = open_database(nasty, values=20).statements
    assert "\n" not in text
    assert text.count("/*") == text.count("*/") == 1
    assert max(len(part) for part in text.split("', '")) < 120
    for dialect in ("sqlite", "postgres", "duckdb"):
        table = read_schema(text, dialect)["t"]
        assert list(table.columns) == ["id", "the text", "raw", "empty"]


def test_what_reads_schemas_reads_those_with_values(nasty):
    plain, text = (open_database(nasty, values=count).statements for count in (0, 20))
    assert schema_signature(text) == schema_signature(plain)
    row = {"question": "ids?", "context": text, "answer": 'SELECT "the text" FROM t WHERE id = 10'}
    assert clean_gold(row)[0] == row["answer"]
    assert judge(row["answer"], row["answer"], text).right
    (distracted,) = distract([row], 2, seed=0)
    assert list(read_schema(distracted["context"])["t"].columns).count("the text") == 1


def test_values_are_read_on_every_engine_and_the_same_each_time(tmp_path, postgresql_database, mysql_database):
    with duckdb.connect(str(tmp_path / "v.duckdb")) as connection:
        connection.execute("CREATE TABLE users (id INTEGER, name VARCHAR(40), age INTEGER, joined DATE)")
        connection.execute("INSERT INTO users SELECT i, 'name ' || i, i % 90, DATE '2024-01-02' FROM range(300) t(i)")
    for reference in (postgresql_database, mysql_database, str(tmp_path / "v.duckdb")):
        found = [open_database(reference, ["users"], values=2).statements for _ in range(2)]
        assert found[0] == found[1]
        assert "name VARCHAR /* 'name 0', 'name 1' */" in found[0], reference
        assert "joined DATE /* '2024-01-02' */" in found[0]


def test_a_view_that_cannot_be_read_has_no_values(tmp_path, caplog):
    with closing(sqlite3.connect(tmp_path / "bytes.db")) as connection, connection:
        connection.execute("CREATE TABLE t (a TEXT)")
        connection.execute("INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")
    assert open_database(str(tmp_path / "bytes.db"), values=3).statements == "CREATE TABLE t (a TEXT)"
    assert "t is shown without values" in caplog.text


ENDLESS = {
    "duckdb": "SELECT CAST(SUM(HASH(range)) AS VARCHAR) AS n FROM range(1000000000000000)",
    "sqlite": f"SELECT COUNT(*) AS n FROM {', '.join(f't AS t{number}' for number in range(9))}",
}


@pytest.mark.parametrize("engine", ["duckdb", "sqlite"])
def test_a_view_without_end_is_stopped_and_the_others_have_values(engine, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(samples, "SECONDS", 1.0)
    path = str(tmp_path / f"view.{engine}")
    with closing(duckdb.connect(path) if engine == "duckdb" else sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (name VARCHAR)")
        connection.execute("INSERT INTO t VALUES " + ", ".join(f"('n{number:02}')" for number in range(90)))
        connection.execute(f"CREATE VIEW slow AS {ENDLESS[engine]}")
        connection.execute("CREATE TABLE u (name VARCHAR)")
        connection.execute("INSERT INTO u VALUES ('x')")
        connection.commit()
    start = time.monotonic()
    text = open_database(path, values=1).statements
    assert time.monotonic() - start < 60
    assert "/* 'n00' */" in text
    assert "/* 'x' */" in text
    assert re.search(
        "slow is shown without values: .*(stopped after 1|stopped at a limit of time|interrupted)", caplog.text
    )


@pytest.mark.parametrize("count", [-1, 21, 10**9])
def test_a_number_of_values_that_no_column_gets(count):
    with pytest.raises(InputError, match="must lie between 0 and 20"):
        check_values(count)


def test_the_shop_has_values_that_fit_into_a_prompt():
    assert len(open_database(str(ROOT / "demo/shop.db"), values=3).statements) < 1200
