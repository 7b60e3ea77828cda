"""demo/library.db and its questions: what the builder makes, and that every query says something."""

import csv
import sqlite3
from contextlib import closing

from finetune.databases.database import Database, open_database
from finetune.databases.running.runner import answer
from finetune.databases.urls import connect_arguments
from metrics.sql_execution.queries import normalize_sql

import build_large
import build_library
import pytest
import sqlalchemy
import sqlglot
from conftest import ROOT
from database_servers import servers_library

with (ROOT / "demo/library_questions.csv").open(encoding="utf-8", newline="") as file:
    PAIRS = list(csv.DictReader(file))


def found(database: Database, sql: str) -> list[list]:
    """Return what a query finds on the read-only path, within this process: it takes a second less."""
    path = database.url.database
    got = answer(
        {"engine": database.engine, "sql": sql, "dialect": "sqlite", "tables": database.tables, "max_rows": 1000,
         "schema": database.schema, "timeout": 20, "connection": connect_arguments(database.url),
         "database": f"file:{path}?mode=ro" if database.engine == "sqlite" else path}
    )  # fmt: skip
    assert "rows" in got, (sql, got)
    return got["rows"]


def dump(path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def shape(sql: str) -> str:
    """Return a query without its literals."""
    tree = sqlglot.parse_one(sql, read="sqlite")
    return tree.transform(
        lambda node: sqlglot.exp.Placeholder() if isinstance(node, sqlglot.exp.Literal) else node
    ).sql()


def test_the_file_is_what_the_script_builds(tmp_path):
    build_library.build(tmp_path / "library.db")
    assert dump(tmp_path / "library.db") == dump(build_library.FILE)
    assert build_library.FILE.stat().st_size < 100_000


def test_its_tables_have_keys_dates_apostrophes_and_missing_values():
    inspector = sqlalchemy.inspect(sqlalchemy.create_engine(f"sqlite:///{build_library.FILE}"))
    tables = inspector.get_table_names()
    assert len(tables) == 6
    assert all(inspector.get_pk_constraint(table)["constrained_columns"] == [f"{table}Id"] for table in tables)
    assert sum(len(inspector.get_foreign_keys(table)) for table in tables) == 5
    kinds = {str(column["type"]) for table in tables for column in inspector.get_columns(table)}
    assert kinds == {"INTEGER", "TEXT", "DATE", "REAL"}
    text = "\n".join(dump(build_library.FILE))
    assert "O''Brien" in text
    assert "Children''s" in text
    assert "NULL" in text
    with closing(sqlite3.connect(build_library.FILE)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_sixty_pairs_of_about_thirty_shapes_over_all_tables():
    assert len({pair["question"] for pair in PAIRS}) == len(PAIRS) == 60
    shapes = [shape(pair["sql"]) for pair in PAIRS]
    assert 28 <= len(set(shapes)) <= 36
    assert max(map(shapes.count, shapes)) == 3
    assert all(normalize_sql(pair["sql"]) for pair in PAIRS)
    read = {table.name for pair in PAIRS for table in sqlglot.parse_one(pair["sql"]).find_all(sqlglot.exp.Table)}
    assert read == set(open_database(str(build_library.FILE)).tables)


@pytest.mark.parametrize("sql", sorted({pair["sql"] for pair in PAIRS}))
def test_each_query_has_a_result_that_says_something(sql):
    database = open_database(str(build_library.FILE))
    rows = found(database, sql)
    assert rows
    assert all(value not in (None, 0, 0.0) for row in rows for value in row)
    tree = sqlglot.parse_one(sql, read="sqlite")
    if tree.args.get("where"):  # A condition that keeps every row, or says nothing, would be right when left out.
        tree.set("where", None)
        assert found(database, tree.sql("sqlite")) != rows
    if tree.args.get("limit"):  # No tie at the limit: another order would be right too.
        order, count = tree.args["order"].expressions[0].this, int(tree.args["limit"].expression.name)
        tree.set("limit", None)
        values = [row[-1] for row in found(database, tree.select(order.copy()).sql("sqlite"))]
        assert values[count - 1] != values[count]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_servers_answer_the_questions_as_sqlite_does(engine, request):
    url = servers_library(engine, request)
    build_library.build(url=url)
    server, file = open_database(url), open_database(str(build_library.FILE))
    assert server.tables.keys() == file.tables.keys()
    for sql in sorted({pair["sql"] for pair in PAIRS}):
        here, there = ([[as_text(value) for value in row] for row in found(one, sql)] for one in (file, server))
        assert there == here if "ORDER BY" in sql else sorted(there) == sorted(here), sql


def as_text(value) -> str:
    """Return a value as text in which 5, 5.0 and '5.00' are one."""
    try:
        return f"{float(value):.4f}"
    except ValueError:
        return value


def test_the_large_database_holds_the_library_among_200_tables(tmp_path):
    build_large.build(tmp_path / "large.db")
    inspector = sqlalchemy.inspect(sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'large.db'}"))
    assert len(inspector.get_table_names()) == 200
    library = [line for line in dump(build_library.FILE) if line.startswith("INSERT")]
    assert set(library) <= set(dump(tmp_path / "large.db"))
