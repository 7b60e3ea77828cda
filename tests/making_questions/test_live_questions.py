"""Pairs from live databases: what kinds their columns are of, what is asked about them, and what is left out."""

import re
import sqlite3
from collections import Counter
from contextlib import closing
from random import Random

from finetune.databases.database import open_database
from finetune.making_questions.live import answers, dates
from finetune.making_questions.live.answers import MAX_ROWS, NoAnswer, answering
from finetune.making_questions.live.checking import EMPTY, FAILED, GIVEN, IDLE, LONG, MISSING, TIED, Candidate, verdicts
from finetune.making_questions.live.kinds import kind_of
from finetune.making_questions.live.making import Made, Maker, balanced, polished
from finetune.making_questions.live.reading import read_tables
from finetune.making_questions.schemas import Column, FullName, Table
from finetune.making_questions.words import spaced

import build_large
import build_library
import duckdb
import psycopg
import pytest
import sqlglot
from conftest import ROOT
from database_servers import servers_library

LIBRARY = str(build_library.FILE)
ODD = """
CREATE TABLE "Order" ("Order Id" INTEGER PRIMARY KEY, "Customer No" INTEGER REFERENCES "Key Customers" ("Customer No"),
  "Group" TEXT, "unit price" NUMERIC(8,2), placed_at TIMESTAMP, paid BOOLEAN, note);
CREATE TABLE "Key Customers" ("Customer No" INTEGER PRIMARY KEY, FirstName TEXT, "Family Name" TEXT, "e-mail" TEXT);
CREATE TABLE untyped (a, b, code, day, "weird ""name" TEXT, "%" TEXT);
CREATE TABLE numbers (x INTEGER, y REAL);
CREATE TABLE empty_one (name TEXT, n INTEGER);
CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB, json JSON);
CREATE TABLE Employee (id INTEGER PRIMARY KEY, name TEXT, boss INTEGER REFERENCES Employee (id),
  home INTEGER REFERENCES numbers (x), work INTEGER REFERENCES numbers (x));
CREATE VIEW dear AS SELECT "Order Id", "Group", "unit price" FROM "Order" WHERE "unit price" > 20;
"""


def fill_odd(connection: sqlite3.Connection) -> None:
    """Fill the tables of ODD, with texts that SQL, CSV and format() take for their own."""
    random = Random(1)
    connection.executescript(ODD)
    names = [(first, last) for first in ("Sean", "Mary", "Lee") for last in ("O'Neill", "{x}", 'Li"u', "D'Arcy")]
    for i, (first, last) in enumerate(names, start=1):
        connection.execute(
            'INSERT INTO "Key Customers" VALUES (?, ?, ?, ?)', (i, first, last, f"{i}@x" if i % 3 else None)
        )
        connection.execute("INSERT INTO Employee VALUES (?, ?, 1, 1, 2)", (i, f"{first} {last}"))
        connection.execute("INSERT INTO blobs VALUES (?, x'00ff', '{}')", (i,))
    for i in range(40):
        day = f"202{random.randint(0, 4)}-0{random.randint(1, 9)}-1{random.randint(0, 9)}"
        kind, price = random.choice(["it's", "50% off", "a_b", "{c}"]), random.randint(100, 9999) / 100
        order = (i, random.randint(1, 10), kind, price, f"{day} 10:00:00", i % 2, "long " * 30 if i % 2 else None)
        connection.execute('INSERT INTO "Order" VALUES (?, ?, ?, ?, ?, ?, ?)', order)
        row = (
            random.randint(1, 9),
            random.random() * 10,
            random.choice("ABC"),
            day,
            random.choice(['a"b', "c'd"]),
            "!",
        )
        connection.execute("INSERT INTO untyped VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO numbers VALUES (?, ?)", (i - 20, random.random()))


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("odd") / "odd.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        fill_odd(connection)
    return str(path)


def made(reference: str, rows: int, seed: int = 0, only: list[str] | None = None) -> Made:
    database = open_database(reference, only)
    with answering(database) as ask:
        return Maker(read_tables(database, ask)[0], ask, seed).make(rows)


@pytest.fixture(scope="module")
def library_pairs() -> Made:
    return made(LIBRARY, 240)


def tables_of(reference: str) -> tuple[dict[str, Table], dict[str, str]]:
    database = open_database(reference)
    with answering(database) as ask:
        tables, empty = read_tables(database, ask)
    return {table.name: table for table in tables}, empty


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BookCopy", "book copy"), ("Birth_Date", "birth date"), ("FirstName", "first name"),
        ("order_line", "order line"), ("HTTPServer", "http server"), ("unit price", "unit price"),
        ("e-mail", "e mail"), ("ISBN", "isbn"),
        ("Line2Text", "line2 text"), ("Größe", "größe"), ("%", "item"), (" ", "item"), ("__x__", "x"),
    ],
)  # fmt: skip
def test_names_are_read_as_words(name, words):
    assert spaced(name) == words


@pytest.mark.parametrize(
    ("name", "declared", "values", "kind"),
    [
        ("price", "NUMERIC", ["12.50", "3.00"], "number"), ("price", "", [1, 2.5], "number"),
        ("price", "TEXT", ["12.50"], "text"),
        ("Year", "INTEGER", [1999, 2004], "year"), ("year", "INTEGER", [1, 2], "number"),
        ("built", "INTEGER", [1911], "year"),
        ("day", "", ["2024-01-31"], "date"), ("day", "TEXT", ["2024-01-31", "soon"], "text"),
        ("day", "DATE", ["2024-01-31", "0000-00-00"], "other"), ("day", "", ["2023-02-30"], "other"),
        ("day", "DATETIME", ["0000-00-00 00:00:00", "2024-01-31 00:00:00"], "other"),
        ("day", "DATETIME", ["2023-02-29 10:00:00"], "other"), ("day", "DATE", ["2024-02-29"], "date"),
        ("at", "TIMESTAMP", ["2024-01-31 10:00:00"], "time"), ("at", "DATETIME", ["2024-01-31 00:00:00"], "date"),
        ("phone", "INTEGER", [5550101], "other"), ("RoomNumber", "INTEGER", [12], "other"),
        ("loan_id", "INTEGER", [7], "key"),
        ("paid", "INTEGER", [0, 1], "other"), ("paid", "BOOLEAN", [True], "other"),
        ("note", "TEXT", ["x" * 99], "other"),
        ("two lines", "TEXT", ["a\nb"], "other"), ("none", "TEXT", [], "other"), ("data", "BLOB", ["b'00'"], "other"),
    ],
)  # fmt: skip
def test_the_kind_of_a_column_is_that_of_its_values(name, declared, values, kind):
    assert kind_of(name, declared, values) == kind


def test_tables_of_the_library_are_read_with_keys_names_and_gaps():
    tables, empty = tables_of(LIBRARY)
    assert empty == {}
    assert dict(tables["Loan"].points) == {"BookCopyId": "BookCopy", "MemberId": "Member"}
    assert isinstance(tables["Member"].label, FullName)
    assert tables["Member"].label.equals("Sean O'Neill", "T2.") == "T2.FirstName = 'Sean' AND T2.LastName = 'O''Neill'"
    assert tables["Book"].label.name == "Title"
    assert tables["BookCopy"].label is None
    columns = {column.name: column for column in tables["Loan"].columns}
    assert columns["ReturnDate"].gaps
    assert not columns["LoanDate"].gaps
    assert {c.name: c.words for c in tables["Branch"].columns}["OpenedOn"] == "opened date"


def test_odd_tables_are_read_or_left_out(odd):
    tables, empty = tables_of(odd)
    assert empty == {"empty_one": ""}
    kinds = {name: {column.name: column.kind for column in table.columns} for name, table in tables.items()}
    assert kinds["untyped"] == {
        "a": "number", "b": "number", "code": "text", "day": "date", 'weird "name': "text", "%": "text"
    }  # fmt: skip
    assert kinds["Order"]["placed_at"] == "time"
    assert kinds["Order"]["paid"] == kinds["Order"]["note"] == "other"
    assert tables["Order"].points == (("Customer No", "Key Customers"),)
    assert kinds["Employee"]["boss"] == "key"
    assert tables["Employee"].points == ()  # A key to the table itself, and two to one other: no plain words.
    assert tables["dear"].label is None


@pytest.mark.parametrize("only", [None, ["numbers"], ["Employee"], ["blobs"]])
def test_queries_about_odd_tables_run(odd, only):
    found = made(odd, 100 if only is None else 20, only=only)
    assert found.left_out[FAILED] == 0
    assert found.pairs
    for pair in found.pairs:
        assert not re.search(r"  |None", pair.question)
    if only is None:
        sql = " ".join(pair.sql for pair in found.pairs)
        assert all(name in sql for name in ('"Order"', '"unit price"', '"weird ""name"', "'it''s'", "strftime", "dear"))
        assert "empty_one" not in sql


def test_pairs_of_the_library_are_of_many_shapes_and_wordings(library_pairs):
    shapes = Counter(pair.shape for pair in library_pairs.pairs)
    assert len(library_pairs.pairs) == 240
    assert len({pair.question.rstrip(".?").lower() for pair in library_pairs.pairs}) == 240
    assert len(shapes) >= 20
    assert max(shapes.values()) <= 240 / 5
    assert max(Counter(pair.sql for pair in library_pairs.pairs).values()) <= 3
    starts = Counter(" ".join(pair.question.split()[:3]) for pair in library_pairs.pairs)
    assert len(starts) >= 30
    assert max(starts.values()) <= 50


def test_pairs_of_the_library_ask_for_dates_gaps_keys_and_apostrophes(library_pairs):
    queries = [pair.sql for pair in library_pairs.pairs]
    for pattern, least in (
        ("strftime", 10), ("BETWEEN", 3), ("IS NULL", 3), ("IS NOT NULL", 2), (r"'[^']*''[^']*'", 5), ("LIKE", 5),
        (r"JOIN .*JOIN", 20), ("JOIN", 60), ("HAVING", 10), ("NOT IN", 1), (r"SELECT AVG\(\w+\) FROM \w+\)", 3),
        (r"(Date|On) [<>]=? '\d{4}-", 4),
    ):  # fmt: skip
        assert sum(bool(re.search(pattern, sql)) for sql in queries) >= least, pattern
    assert any(
        "not been returned" in pair.question and "ReturnDate IS NULL" in pair.sql for pair in library_pairs.pairs
    )
    null = {found for sql in queries for found in re.findall(r"(\w+) IS (?:NOT )?NULL", sql)}
    assert null <= {"ReturnDate", "Fine", "Email", "BirthDate"}  # IS NULL only where there are NULLs.
    words = " ".join(pair.question for pair in library_pairs.pairs)
    assert "book copies" in words
    assert not re.search(r"[a-z][A-Z]|_|the (?:opened|joined|acquired) on\b", words)


def test_each_pair_says_something(library_pairs):
    with closing(sqlite3.connect(LIBRARY)) as connection:
        for pair in library_pairs.pairs:
            rows = connection.execute(pair.sql).fetchall()
            assert any(value is not None for row in rows for value in row), pair.sql
            assert rows != [(0,)]
            tree = sqlglot.parse_one(pair.sql, read="sqlite")
            if tree.args.get("where"):
                tree.set("where", None)
                assert connection.execute(tree.sql("sqlite")).fetchall() != rows, pair.sql


def test_the_same_seed_makes_the_same_pairs(library_pairs):
    again, other = made(LIBRARY, 24, seed=0), made(LIBRARY, 24, seed=1)
    assert again.pairs == made(LIBRARY, 24, seed=0).pairs
    assert again.pairs != other.pairs


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT Title FROM Book WHERE Pages > 99999", EMPTY), ("SELECT COUNT(*) FROM Book WHERE Pages > 99999", EMPTY),
        ("SELECT BirthDate FROM Author WHERE LastName = 'Marlow'", MISSING),
        ("SELECT MAX(Fine) FROM Loan WHERE Fine < 0", MISSING),
        ("SELECT Title FROM Book WHERE Pages > 1", IDLE), ("SELECT COUNT(*) FROM Book WHERE Pages > 1", IDLE),
        ("SELECT Genre FROM Book GROUP BY Genre HAVING COUNT(*) > 1", IDLE),
        ("SELECT Title FROM Book ORDER BY Genre LIMIT 2", TIED),
        ("SELECT Title FROM Book ORDER BY Pages DESC LIMIT 2", ""),
        ("SELECT City FROM Member GROUP BY City ORDER BY COUNT(*) DESC LIMIT 2", TIED),
        ("SELECT Title, Title FROM Book", GIVEN), ("SELECT Genre FROM Book WHERE Genre = 'Crime'", GIVEN),
        ("SELECT Titel FROM Book", FAILED), ("SELECT Title FROM Book WHERE Pages > 300", ""),
        ("SELECT T1.LoanId FROM Loan AS T1 JOIN Member AS T2 ON T1.MemberId < T2.MemberId", LONG),
    ],
)  # fmt: skip
def test_what_says_nothing_is_left_out(sql, reason):
    with answering(open_database(LIBRARY)) as ask:
        assert verdicts([Candidate("shape", "question", sql)], ask) == [reason]
    assert MAX_ROWS == 1000


@pytest.mark.parametrize(
    ("sql", "rows", "other", "reason"),
    [
        ("SELECT a FROM t WHERE b > 1", [["x"], ["y"]], [["y"], ["x"]], IDLE),
        ("SELECT a FROM t WHERE b > 1", [[1.0], [2]], [[2.0000001], [1]], IDLE),
        ("SELECT a FROM t WHERE b > 1 ORDER BY a", [["x"], ["y"]], [["y"], ["x"]], ""),
        ("SELECT a FROM t WHERE b > 1", [["x"]], [["y"], ["x"]], ""),
        ("SELECT a FROM t WHERE b > 1", [["x"]], None, FAILED),
    ],
)
def test_results_are_compared_as_the_metric_does(sql, rows, other, reason):
    """In whatever order a server returns rows; nothing is known of a query that failed."""
    assert verdicts([Candidate("shape", "question", sql)], lambda queries: [rows, other]) == [reason]


def test_bytes_and_documents_are_not_read_and_of_long_texts_the_beginning(tmp_path):
    with closing(sqlite3.connect(tmp_path / "long.db")) as connection, connection:
        connection.execute("CREATE TABLE t (id INTEGER, scan BLOB, doc JSON, body TEXT, name TEXT)")
        rows = [(number, b"\0" * 900_000, "{}", f"{number}" * 300_000, f"n{number}") for number in range(9)]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
    with answering(open_database(str(tmp_path / "long.db"))) as ask:
        (table,), _ = read_tables(open_database(str(tmp_path / "long.db")), ask)
        asked = " ".join(ask.known)
        assert ask.size < 10_000
        assert ask(["SELECT body FROM t"]) == [None]
        assert ask.why["SELECT body FROM t"] == "its rows are larger than 1 MB"
    assert "scan" not in asked
    assert "doc" not in asked
    assert {column.name: column.kind for column in table.columns} == {
        "id": "key", "scan": "other", "doc": "other", "body": "other", "name": "text"
    }  # fmt: skip


def test_large_results_are_not_kept_for_long(monkeypatch):
    monkeypatch.setattr(answers, "KEPT", 3_000)
    with answering(open_database(LIBRARY)) as ask:
        for number in range(8):
            (rows,) = ask([f"SELECT Title FROM Book WHERE Pages > {number}"])
            assert rows
        assert len(ask.known) < 8


def test_a_database_that_has_gone_ends_the_making_with_the_pairs_of_before(tmp_path):
    path = tmp_path / "gone.db"
    path.write_bytes((ROOT / "demo/library.db").read_bytes())
    with answering(open_database(str(path))) as ask:
        tables, _ = read_tables(open_database(str(path)), ask)
        found = Maker(tables, ask, 0).make(200, lambda done: path.unlink(missing_ok=True) if done > 20 else None)
    assert 20 < len(found.pairs) < 200
    assert "No such file" in found.lost
    with answering(open_database(LIBRARY)) as ask:
        ask.database.url = ask.database.url.set(database=str(path))
        with pytest.raises(NoAnswer, match="No such file"):
            read_tables(open_database(LIBRARY), ask)


def test_failures_alike_do_not_end_the_making_where_the_database_answers():
    with answering(open_database(LIBRARY)) as ask:
        bad = [f"SELECT COUNT(*) FROM Book GROUP BY COUNT(*), {number}" for number in range(12)]
        assert ask([*bad, "SELECT COUNT(*) FROM Branch"])[:-1] == [None] * 12
        assert ask.failures == 12
        assert ask.why[bad[0]]


def test_tables_that_a_role_may_not_read_are_left_out_with_the_reason(postgresql_database):
    host = postgresql_database.partition("host=")[2]
    with psycopg.connect(host=host, user="postgres", autocommit=True) as server:
        server.execute("CREATE ROLE narrow LOGIN")
        server.execute("GRANT SELECT ON users TO narrow")
    database = open_database(postgresql_database.replace("postgres@", "narrow@"), ["users", "secrets"])
    with answering(database) as ask:
        tables, left_out = read_tables(database, ask)
    assert [table.name for table in tables] == ["users"]
    assert "permission denied for table secrets" in left_out["secrets"]


def test_a_second_condition_must_leave_rows_out():
    select = "SELECT COUNT(*) FROM Book WHERE "
    one, two = "Genre = 'Crime'", "Pages > 1"
    with answering(open_database(LIBRARY)) as ask:
        candidate = Candidate("two", "question", f"{select}{one} AND {two}", [select + one, select + two])
        assert verdicts([candidate], ask) == [IDLE]


@pytest.mark.parametrize(
    ("column", "table", "words"),
    [
        ("JoinedOn", "Member", "joined"), ("return_date", "Loan", "were returned"),
        ("BirthDate", "Author", "were born"),
        ("LoanDate", "Loan", "were made"), ("due_date", "Loan", ""), ("AcquiredOn", "BookCopy", "were acquired"),
    ],
)  # fmt: skip
def test_what_happened_on_a_date(column, table, words):
    assert dates.happened(Column(column, "date"), Table(table, ())) == words


@pytest.mark.parametrize(
    ("counts", "balance"),
    [
        ([100, 20, 20, 20, 20], [20, 20, 20, 20, 20]), ([5, 5, 5, 5, 5, 5], [5, 5, 5, 5, 5, 5]), ([9, 1], [9, 1]),
        ([50, 1, 1, 1, 1], [3, 1, 1, 1, 1]), ([], []),
    ],
)  # fmt: skip
def test_no_shape_is_more_than_a_fifth_of_what_was_made(counts, balance):
    assert balanced(counts) == balance


def test_wordings_are_polished():
    assert polished("what is the highest pages of all books") == "what is the highest number of pages of all books"
    assert polished("how many loans did books from 1999 make") == "how many loans do books from 1999 have"
    assert dates.an("unit price") == "a unit price"
    assert dates.an("age") == "an age"


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "duckdb"])
def test_servers_and_duckdb_give_pairs_too(engine, request, tmp_path):
    if engine == "duckdb":
        url = str(tmp_path / "library.duckdb")
        copy_to_duckdb(url)
    else:
        url = servers_library(engine, request)
        build_library.build(url=url)
    found = made(url, 24)
    assert len(found.pairs) == 24
    assert found.left_out[FAILED] == 0
    assert len({pair.shape for pair in found.pairs}) >= 20
    sql = " ".join(pair.sql for pair in found.pairs)
    assert "JOIN BookCopy AS T2 ON" in sql
    assert "strftime('%Y'" in sql
    with closing(sqlite3.connect(ROOT / "demo/library.db")) as file:  # What is written is SQLite's SQL.
        assert all(file.execute(pair.sql).fetchall() for pair in found.pairs)


def test_a_database_of_200_tables_is_asked_about_as_a_whole(tmp_path):
    build_large.build(tmp_path / "large.db")
    database = open_database(str(tmp_path / "large.db"), ["auto"])
    names = ["Book", "Loan", "ParksRoom", "ParksBuilding"]
    database.columns = {name: database.columns[name] for name in names}
    with answering(database) as ask:
        tables, _ = read_tables(database, ask)
    assert {table.name: [other for _, other in table.points] for table in tables} == {
        "Book": [], "Loan": [], "ParksRoom": ["ParksBuilding"], "ParksBuilding": []
    }  # fmt: skip


def copy_to_duckdb(path: str) -> None:
    with closing(sqlite3.connect(LIBRARY)) as file, duckdb.connect(path) as copy:
        for table in ("Branch", "Author", "Member", "Book", "BookCopy", "Loan"):
            (sql,) = file.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            copy.execute(sql)
            rows = file.execute(f"SELECT * FROM {table}").fetchall()
            copy.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
