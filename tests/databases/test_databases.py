"""A user's own database: what the model is told of it, what is refused, and the retry after an error."""

import contextlib
import csv
import io
import json
import math
import os
import pty
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import predict
from finetune import InputError
from finetune.databases.database import QueryFailed, Result, open_database
from finetune.databases.safe_sql import Refused
from finetune.predicting.dialogue import Dialogue

import duckdb
import psycopg
import pytest
from conftest import LONGEST_WAIT, ROOT, call

URI = "runs:/0123abc/model"  # never loaded: the database is looked at first


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "my shop.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            'CREATE TABLE Product (id INTEGER PRIMARY KEY, name VARCHAR(30), "unit price" NUMERIC(8, 2));'
            "CREATE TABLE sale (product_id INTEGER REFERENCES Product, day DATE);"
            'CREATE VIEW dear AS SELECT name FROM Product WHERE "unit price" > 5;'
            "INSERT INTO Product VALUES (1, 'kettle', 20), (2, 'pan', 5), (3, NULL, 7)"
        )
    connection.close()
    return path


def refused(*arguments) -> str:
    error = call(predict.main, URI, "--question", "q", *arguments)
    assert error is not None
    assert "\n" not in error
    return error


def test_the_schema_is_told_as_training_data_has_it(shop):
    product = 'CREATE TABLE Product (id INTEGER, name VARCHAR, "unit price" NUMERIC)'
    sale = "CREATE TABLE sale (product_id INTEGER, day DATE)"
    for reference in (str(shop), f"sqlite:///{shop}"):
        assert open_database(reference, ["product", "SALE"]).statements == f"{product}; {sale}"
    assert "CREATE TABLE dear (name VARCHAR)" in open_database(str(shop)).statements


def test_names_and_views_are_found_in_the_databases_spelling(shop):
    database = open_database(str(shop))
    assert database.run('select PRODUCT."unit price" from product', 9, 5).rows == [[20], [5], [7]]
    assert database.run("SELECT name FROM dear ORDER BY name", 9, 5).rows == [[None], ["kettle"]]
    assert open_database(str(shop), ["dear"]).run("SELECT COUNT(*) FROM dear", 9, 5).rows == [[2]]


def test_databases_that_cannot_be_used(shop, tmp_path):
    assert "there is no such file" in refused("--database", tmp_path / "absent.db")
    assert "there is no file" in refused("--database", f"sqlite:///{tmp_path}/absent.db")
    assert not (tmp_path / "absent.db").exists()
    (tmp_path / "text.db").write_text("this is no database, only text\n" * 40)
    assert "cannot be read: file is not a database" in refused("--database", tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").execute("PRAGMA user_version = 1")
    assert "has no tables" in refused("--database", tmp_path / "empty.db")
    assert "there is no customer; the database has Product, dear, sale" in refused(
        "--database", shop, "--tables", "customer"
    )
    assert "oracle is not supported" in refused("--database", "oracle://u:topsecret@host/x", "--execute")
    assert "mssql is not supported" in refused("--database", "mssql://host/x", "--execute")
    assert "cannot be read" in refused("--database", "postgresql://u:topsecret@127.0.0.1:9/x")
    assert "topsecret" not in refused("--database", "postgresql://u:topsecret@127.0.0.1:9/x")
    assert "pip install" in refused("--database", "mysql://host/x") or "cannot be read" in refused(
        "--database", "mysql://127.0.0.1:9/x"
    )


def test_a_column_without_a_type_is_text_in_the_prompt(tmp_path):
    with closing(sqlite3.connect(tmp_path / "untyped.db")) as connection:
        connection.execute("CREATE TABLE t (a, b INTEGER, c)")
    assert open_database(str(tmp_path / "untyped.db")).statements == "CREATE TABLE t (a TEXT, b INTEGER, c TEXT)"


def test_names_that_differ_in_case_or_hold_a_dot_are_not_mistaken_for_each_other(tmp_path, postgresql_database):
    statements = [
        'CREATE TABLE "users.tokens" (id INTEGER)', "CREATE TABLE users (tokens INTEGER)",
        'INSERT INTO "users.tokens" VALUES (1)', "INSERT INTO users VALUES (2)",
    ]  # fmt: skip
    with duckdb.connect(str(tmp_path / "main.duckdb")) as connection:  # Its catalogue has the name of its schema.
        for statement in statements:
            connection.execute(statement)
    only = open_database(str(tmp_path / "main.duckdb"), ["users"])
    assert only.run("SELECT tokens FROM users", 9, 5).rows == [[2]]
    assert only.run("SELECT users.tokens FROM users", 9, 5).rows == [[2]]
    with pytest.raises(Refused, match=r"the table users\.tokens is not one of users"):
        only.run('SELECT * FROM "users.tokens"', 9, 5)
    both = open_database(str(tmp_path / "main.duckdb"))
    assert both.run('SELECT * FROM "users.tokens"', 9, 5).rows == [[1]]
    host = postgresql_database.partition("host=")[2]
    with psycopg.connect(host=host, user="postgres", dbname="postgres") as connection:
        for statement in (
            "CREATE TABLE accounts (secret TEXT)", 'CREATE TABLE "Accounts" (name TEXT, "Name" TEXT)',
            "INSERT INTO accounts VALUES ('pa55word')", "INSERT INTO \"Accounts\" VALUES ('small', 'capital')",
        ):  # fmt: skip
            connection.execute(statement)
    database = open_database(postgresql_database, ["Accounts"])
    assert list(database.columns) == ["Accounts"]
    assert database.run("SELECT * FROM accounts", 9, 5).rows == [["small", "capital"]]
    assert database.run('SELECT "Name", name FROM accounts', 9, 5).rows == [["capital", "small"]]
    with pytest.raises(Refused, match="NAME is ambiguous"):
        database.run("SELECT NAME FROM accounts", 9, 5)
    with pytest.raises(Refused, match="the table ACCOUNTS may be"):
        open_database(postgresql_database).run("SELECT * FROM ACCOUNTS", 9, 5)
    assert "the table aCCounts may be" in refused("--database", postgresql_database, "--tables", "aCCounts")


def test_a_literal_stays_a_literal_whatever_the_session_says(postgresql_database):
    host = postgresql_database.partition("host=")[2]
    with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE ROLE lax LOGIN")
        connection.execute("ALTER ROLE lax SET standard_conforming_strings = off")
        connection.execute("GRANT SELECT ON users, secrets TO lax")
    database = open_database(postgresql_database.replace("postgres@", "lax@"), ["users"])
    sql = "SELECT name FROM users WHERE name = '\\' OR name = ' UNION SELECT password FROM secrets -- '"
    assert database.run(sql, 9, 5).rows == []


def test_options_of_the_url_are_the_drivers(postgresql_database, mysql_database):
    for url, options in (
        (postgresql_database, "&options=-c%20search_path%3Dother&connect_timeout=3&application_name=x"),
        (mysql_database, "&connect_timeout=3&charset=utf8mb4&local_infile=1"),
    ):
        database = open_database(url + options, ["users"])
        assert len(database.run("SELECT COUNT(*) FROM users", 9, 5).rows) == 1
    # The user's options hold beside ours: this is the other schema's table.
    other = open_database(postgresql_database + "&options=-csearch_path%3Dother", ["users"])
    assert other.run("SELECT COUNT(*) FROM users", 9, 5).rows == [[1]]
    assert "cannot be read" in refused("--database", mysql_database + "&no_such_option=1")


def leave_a_log(folder, with_index: bool):
    """Make an SQLite file whose writer died: a row is in the log alone."""
    with closing(sqlite3.connect(folder / "live.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a INTEGER)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("INSERT INTO t VALUES (2)")
        connection.commit()
        for suffix in ("", "-wal", "-shm") if with_index else ("", "-wal"):
            (folder / f"left.db{suffix}").write_bytes((folder / f"live.db{suffix}").read_bytes())
    return folder / "left.db"


def contents(folder) -> dict:
    """Return the bytes of every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("with_index", [True, False])
def test_the_log_of_a_writer_that_died_is_read_and_left_as_it_is(tmp_path, with_index):
    path = leave_a_log(tmp_path, with_index)
    before = contents(tmp_path)
    for _ in range(2):
        assert open_database(str(path)).run("SELECT COUNT(*), MAX(a) FROM t", 1, 5).rows == [[2, 2]]
    assert contents(tmp_path) == before


def test_a_database_in_wal_mode_is_read_beside_its_writer_and_left_as_it_is(tmp_path):
    path = tmp_path / "wal.db"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE t (a INTEGER)")
        writer.execute("INSERT INTO t VALUES (1)")
        writer.commit()
        assert open_database(str(path)).run("SELECT COUNT(*) FROM t", 1, 5).rows == [[1]]
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()
        assert open_database(str(path)).run("SELECT COUNT(*) FROM t", 1, 5).rows == [[2]]
    before = contents(tmp_path)
    assert open_database(str(path)).run("SELECT COUNT(*) FROM t", 1, 5).rows == [[2]]
    assert contents(tmp_path) == before


def test_the_process_of_a_query_ends_with_the_one_that_asked(sqlite_database):
    code = (
        "import sys; from finetune.databases.database import open_database; print('up', flush=True);"
        f"open_database({sqlite_database!r}, ['users']).run(sys.argv[1], 1, 3600)"
    )
    endless = "SELECT COUNT(*) FROM " + ", ".join(f"users AS u{i}" for i in range(8))
    asking = subprocess.Popen([sys.executable, "-c", code, endless], cwd=ROOT, stdout=subprocess.PIPE)
    asking.stdout.readline()

    def children() -> list[str]:
        return Path(f"/proc/{asking.pid}/task/{asking.pid}/children").read_text().split()

    def is_running(pid: str) -> bool:
        try:
            return b"databases/running/runner.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False

    deadline = time.monotonic() + LONGEST_WAIT
    while not (running := [pid for pid in children() if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running
    asking.kill()
    asking.wait()
    while is_running(running[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(running[0])


@pytest.mark.parametrize(
    "sql",
    [
        "WITH a0 AS (SELECT 1 AS x)"
        + "".join(f", a{n} AS (SELECT * FROM a{n - 1}, a{n - 1})" for n in range(1, 22))
        + " SELECT * FROM a21",
        "WITH a AS (SELECT * FROM a) SELECT * FROM a",
        "SELECT COUNT(*) FROM sale" + " STRAIGHT_JOIN sale" * 40,
        "SELECT " + "(" * 400 + "1" + ")" * 400,
        "SELECT " + "NOT " * 1500 + "1",
        "SELECT 1" + "::int" * 1500,
        "SELECT " + "CASE WHEN 1 THEN " * 300 + "1" + " END" * 300,
        "SELECT '\ud800' FROM sale",
        "SELECT " * 2000,
    ],
)
def test_a_dialogue_goes_on_after_whatever_the_model_writes(shop, sql):
    """The check has a clock, and its process can die: that is an error of the query, never of the script."""
    with pytest.raises((Refused, QueryFailed)):
        open_database(str(shop)).run(sql, 9, 5)


def test_a_database_of_many_tables_says_how_to_narrow(tmp_path):
    with sqlite3.connect(tmp_path / "big.db") as connection:
        for number in range(500):
            connection.execute(f"CREATE TABLE t{number:03} (a INTEGER)")
    error = refused("--database", tmp_path / "big.db")
    assert "has 500 tables" in error
    assert "--tables t000 t001 t002" in error
    assert open_database(str(tmp_path / "big.db"), ["t499"]).statements == "CREATE TABLE t499 (a INTEGER)"


def test_flags_that_do_not_go_together(shop):
    assert "--execute needs --database" in refused("--context", "c", "--execute")
    assert "--context or --database" in refused("--context", "c", "--database", shop)
    assert "not --input or --output" in refused("--database", shop, "--execute", "--output", "x.csv")
    assert "it needs --execute" in refused("--database", shop, "--csv")
    assert "--candidates needs --database" in refused("--context", "c", "--candidates", 3)
    assert "that needs --execute" in refused("--database", shop, "--candidates", 3)
    assert "--candidates 0 must" in refused("--database", shop, "--execute", "--candidates", 0)
    assert "--timeout 0 must" in refused("--database", shop, "--timeout", 0)
    assert "--max-rows 0 must" in refused("--database", shop, "--max-rows", 0)


def test_a_failed_query_is_tried_again_with_the_error_in_mind(shop, capsys):
    asked = []

    def write_sql(question: str) -> str:
        asked.append(question)
        return "SELECT nmae FROM Product" if len(asked) == 1 else "SELECT name FROM Product WHERE id = 1"

    database = open_database(str(shop))
    answer = Dialogue(database, execute=True, retries=1).answer("Which product?", write_sql)
    assert (answer.error, answer.retries, answer.result.rows) == ("", 1, [["kettle"]])
    assert asked[1].startswith(
        "Which product? (Not SELECT nmae FROM Product, which fails: not executed: no such column"
    )
    assert capsys.readouterr().out.splitlines() == ["SELECT nmae FROM Product", "SELECT name FROM Product WHERE id = 1"]
    asked.clear()
    once = Dialogue(database, execute=True).answer("Which product?", write_sql)
    assert (once.retries, once.result) == (0, None)
    same = Dialogue(database, execute=True, retries=3).answer("Which?", lambda question: "SELECT nmae FROM Product")
    assert (same.retries, same.record["error"]) == (1, "not executed: no such column: nmae; did you mean name?")


def test_a_refused_query_ends_with_a_sentence_and_a_dialogue_goes_on(shop, capsys):
    rows = [{"question": "drop", "context": ""}, {"question": "count", "context": ""}]
    queries = {"drop": "DROP TABLE Product", "count": "SELECT COUNT(*) FROM Product"}
    database = open_database(str(shop))
    with pytest.raises(InputError, match="not executed: not one readable query: not a query"):
        Dialogue(database, execute=True).hold(rows, lambda context, question: queries[question])
    assert capsys.readouterr().out == "DROP TABLE Product\n"
    Dialogue(database, execute=True, interactive=True).hold(rows, lambda context, question: queries[question])
    assert capsys.readouterr().out.splitlines()[-1].strip() == "3"


def test_results_as_table_csv_and_json(shop, capsys):
    database, rows = open_database(str(shop)), [{"question": "q", "context": ""}]
    shown = {}
    for layout in ("table", "csv", "json"):
        dialogue = Dialogue(database, execute=True, layout=layout, max_rows=2)
        dialogue.hold(rows, lambda context, question: "SELECT id, name FROM Product ORDER BY id DESC")
        shown[layout] = capsys.readouterr().out
    assert [line.split() for line in shown["table"].splitlines()[1:]] == [["id", "name"], ["3", "NULL"], ["2", "pan"]]
    assert shown["csv"] == "id,name\n3,\n2,pan\n"
    assert '"rows": [[3, null], [2, "pan"]], "truncated": true' in shown["json"]


def answered(rows: list[list], layout: str, capsys) -> str:
    """Return what is printed of a result."""

    class Answering:
        def run(self, sql, max_rows, timeout):
            return Result(["=2+3", "b"], rows, False)

    Dialogue(Answering(), execute=True, layout=layout).hold([{"question": "q", "context": ""}], lambda *_: "SELECT 1")
    return capsys.readouterr().out


def test_csv_leaves_cells_as_they_are_and_csv_safe_defuses_formulas(capsys):
    rows = [["=cmd|' /C calc'!A0", "+1-2"], ["@SUM(A1)", "-5.50"], ["-2+3", -7], ["＝1", None], ["\tx", "a=b"]]
    plain = list(csv.reader(io.StringIO(answered(rows, "csv", capsys))))
    assert plain[:3] == [["=2+3", "b"], ["=cmd|' /C calc'!A0", "+1-2"], ["@SUM(A1)", "-5.50"]]
    safe = list(csv.reader(io.StringIO(answered(rows, "csv-safe", capsys))))
    assert safe == [
        ["'=2+3", "b"], ["'=cmd|' /C calc'!A0", "'+1-2"], ["'@SUM(A1)", "-5.50"], ["'-2+3", "-7"], ["'＝1", ""],
        ["'\tx", "a=b"],
    ]  # fmt: skip


def test_json_has_no_nan_and_no_infinity(capsys):
    rows = [[math.nan, math.inf], [-math.inf, 0.5]]

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(answered(rows, "json", capsys), parse_constant=refuse)["rows"] == [
        ["NaN", "Infinity"], ["-Infinity", 0.5],
    ]  # fmt: skip


HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\x9d0;t\x9c \u202egnp.exe\u2066\u200f\u061c\x7f\r"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_gets_no_control_characters_of_a_result(is_terminal, shop):
    """SQL, heading, cell and error: shown on a terminal, and untouched in a file."""
    code = (
        "import logging\nfrom finetune import console\nfrom finetune.predicting.dialogue import Dialogue\n"
        "from finetune.databases.database import Result\n"
        f"HOSTILE = {HOSTILE!r}\n"
        "class Database:\n    def run(self, *_): return Result([HOSTILE], [[HOSTILE]], False)\n"
        "def main():\n    for layout in ('table', 'csv', 'json'):\n"
        "        rows = [{'question': 'q', 'context': ''}]\n"
        "        Dialogue(Database(), True, layout=layout).hold(rows, lambda *_: HOSTILE)\n"
        "    raise InputError(HOSTILE)\n"
        "console.run(main)\n"
    )
    ours, theirs = pty.openpty() if is_terminal else os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # A terminal whose other end is closed.
        while piece := os.read(ours, 65536):
            shown += piece
    process.wait()
    os.close(ours)
    text = shown.decode().replace("\r\n", "\n")
    controls = [c for c in HOSTILE if not c.isprintable()]
    assert len(set(controls)) == 11
    assert any(c in text for c in controls) != is_terminal, text
    assert (r"\u009d0;t\u009c" in text) == is_terminal
    assert text.count("gnp.exe") >= 7  # SQL and cell of three layouts, the error


@pytest.mark.parametrize(
    ("dialect", "sql", "rows"),
    [
        (
            "postgres",
            "SELECT name FROM public.product WHERE name ILIKE 'KET%' AND \"unit price\"::int > 5",
            [["kettle"]],
        ),
        ("mysql", "SELECT `name` FROM `Product` ORDER BY `unit price` DESC LIMIT 1, 1", [[None]]),
        ("tsql", "SELECT TOP 1 [name] FROM [dbo].[Product] ORDER BY [unit price]", [["pan"]]),
        ("bigquery", "SELECT MAX(`unit price`) FROM `p.d.Product`", [[20]]),
    ],
)
def test_a_model_of_another_dialect_is_read_in_it(shop, dialect, sql, rows):
    database = open_database(str(shop), ["Product"])
    database.dialect = dialect
    assert database.run(sql, 10, 5).rows == rows
    for bad in ("SELECT * FROM sale", "SELECT pg_sleep(9) FROM Product", "DROP TABLE Product", "SELECT 1; SELECT 2"):
        with pytest.raises(Refused):
            database.run(bad, 10, 5)
