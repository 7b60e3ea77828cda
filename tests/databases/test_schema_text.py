"""What is read of a database: names as they are, types where none is declared, keys; on four engines."""

import os
import sqlite3
import time
from contextlib import closing

from finetune.databases.database import open_database
from finetune.databases.schema.reading import Key
from metrics.sql_execution.schemas import read_schema

import duckdb
import psycopg
import pymysql
from sqlalchemy.engine import make_url

KEYED = (
    "CREATE TABLE kshelf (room INTEGER, place INTEGER, PRIMARY KEY (room, place))",
    "CREATE TABLE kbook (id INTEGER PRIMARY KEY, room INTEGER, place INTEGER,"
    " FOREIGN KEY (room, place) REFERENCES kshelf (room, place))",
    "CREATE TABLE kloan (id INTEGER, book_id INTEGER, FOREIGN KEY (book_id) REFERENCES kbook (id))",
)
KEYS = [Key("kbook", ("room", "place"), "kshelf", ("room", "place")), Key("kloan", ("book_id",), "kbook", ("id",))]
NAMES = ["kbook", "kloan", "kshelf"]


def sqlite_of(path, *statements) -> str:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return str(path)


def test_keys_are_read_composite_ones_too(tmp_path, postgresql_database, mysql_database):
    with duckdb.connect(str(tmp_path / "keys.duckdb")) as connection:
        for statement in KEYED:
            connection.execute(statement)
    with psycopg.connect(host=postgresql_database.partition("host=")[2], user="postgres", dbname="postgres") as server:
        for statement in KEYED:
            server.execute(statement)
        server.execute(f"GRANT SELECT ON {', '.join(NAMES)} TO reader")
    socket = make_url(mysql_database).query["unix_socket"]
    with closing(pymysql.connect(unix_socket=socket, user="root", database="shop", autocommit=True)) as server:
        for statement in KEYED:
            server.cursor().execute(statement)
    for reference in (
        sqlite_of(tmp_path / "keys.db", *KEYED), str(tmp_path / "keys.duckdb"), postgresql_database, mysql_database,
        postgresql_database.replace("postgres@", "reader@"),
    ):  # fmt: skip
        assert open_database(reference, NAMES).keys == KEYS, reference
        assert open_database(reference, ["kloan", "kshelf"]).keys == []


def test_a_key_of_sqlite_without_columns_means_the_primary_one_in_any_letter_case(tmp_path):
    path = sqlite_of(
        tmp_path / "a.db", "CREATE TABLE Shelf (Room, Place, PRIMARY KEY (Room, Place))",
        "CREATE TABLE book (r, p, FOREIGN KEY (R, P) REFERENCES shelf)", "CREATE TABLE lost (x REFERENCES absent)",
    )  # fmt: skip
    assert open_database(path).keys == [Key("book", ("r", "p"), "Shelf", ("Room", "Place"))]


def test_names_are_written_so_that_the_schema_is_read_again(tmp_path):
    names = ["order", "OrderItem", "two words", "o'neill", 'say "hi"', "straße", "2024", "group", "semi;colon", "x)y"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    statements = [f"CREATE TABLE {name} ({', '.join(f'{other} TEXT' for other in quoted)})" for name in quoted]
    database = open_database(sqlite_of(tmp_path / "names.db", *statements))
    assert sorted(database.columns) == sorted(names)
    read = read_schema(database.statements)
    assert sorted(read) == sorted(name.lower() for name in names)
    assert all(list(table.columns) == [name.lower() for name in names] for table in read.values())
    assert "CREATE TABLE OrderItem (" in database.statements


def test_columns_without_a_type_get_the_one_of_their_values(tmp_path):
    path = sqlite_of(
        tmp_path / "untyped.db", "CREATE TABLE t (whole, part, mixed, day, text, none, bytes, late, own NUMERIC(3))",
        "INSERT INTO t VALUES (1, 1.5, 1, '2024-01-02', 'a', NULL, x'00', '2024-01-02', 1)",
        "INSERT INTO t VALUES (2, NULL, 2.5, '2024-02-30', 'b', NULL, x'00', '2024-01-02 10:00', 2)",
        "CREATE VIEW v AS SELECT whole, whole + 1 AS next, UPPER(text) AS loud, day FROM t",
    )  # fmt: skip
    database = open_database(path)
    assert database.columns["t"] == {
        "whole": "INTEGER", "part": "REAL", "mixed": "REAL", "day": "DATE", "text": "TEXT", "none": "TEXT",
        "bytes": "BLOB", "late": "TEXT", "own": "NUMERIC",
    }  # fmt: skip
    assert database.columns["v"] == {"whole": "INTEGER", "next": "INTEGER", "loud": "TEXT", "day": "DATE"}
    assert os.listdir(tmp_path) == ["untyped.db"]


def test_a_view_that_never_ends_or_is_broken_keeps_nothing_up(tmp_path, caplog):
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    path = sqlite_of(
        tmp_path / "views.db", "CREATE TABLE t (a INTEGER)", "CREATE TABLE gone (a INTEGER)",
        f"CREATE VIEW endless AS {endless} SELECT i FROM n WHERE i < 0", "CREATE VIEW broken AS SELECT a FROM gone",
        "DROP TABLE gone",
    )  # fmt: skip
    start = time.monotonic()
    assert open_database(path).columns == {"endless": {"i": "TEXT"}, "t": {"a": "INTEGER"}}
    assert time.monotonic() - start < 60
    assert "broken is left out" in caplog.text


def test_the_same_name_in_another_schema_is_another_table(postgresql_database):
    with psycopg.connect(host=postgresql_database.partition("host=")[2], user="postgres", dbname="postgres") as server:
        server.execute("CREATE SCHEMA elsewhere")
        server.execute("CREATE TABLE elsewhere.kauthor (id INTEGER PRIMARY KEY, other TEXT)")
        server.execute("CREATE TABLE kauthor (id INTEGER PRIMARY KEY, name TEXT)")
        server.execute(
            "CREATE TABLE kpage (own INTEGER REFERENCES kauthor, foreign_id INTEGER REFERENCES elsewhere.kauthor)"
        )
    database = open_database(postgresql_database, ["kauthor", "kpage"])
    assert database.statements == (
        "CREATE TABLE kauthor (id INTEGER, name TEXT); CREATE TABLE kpage (own INTEGER, foreign_id INTEGER)"
    )
    assert database.keys == [Key("kpage", ("own",), "kauthor", ("id",))]
