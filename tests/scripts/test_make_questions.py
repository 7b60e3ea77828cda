"""make_questions.py: the file it writes, what it says, and what it refuses."""

import csv
import json
import sqlite3
from contextlib import closing

import make_questions
from finetune.making_questions.live.making import Maker
from metrics.sql_execution.queries import normalize_sql

import pytest
from conftest import ROOT, call

LIBRARY = ROOT / "demo/library.db"


def run(*arguments) -> str | None:
    return call(make_questions.main, "--database", *arguments)


def test_pairs_are_written_as_csv_or_lines_with_their_origin(tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    assert run(LIBRARY, "--rows", 30, "--output", tmp_path / "pairs.csv") is None
    assert capsys.readouterr().out == f"{tmp_path / 'pairs.csv'}\n"
    with (tmp_path / "pairs.csv").open(newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 30
    assert {tuple(pair) for pair in pairs} == {("question", "sql", "origin")}
    assert {pair["origin"] for pair in pairs} == {"generated"}
    assert all(normalize_sql(pair["sql"]) for pair in pairs)
    first, *others = [record.getMessage() for record in caplog.records if record.name == "make_questions"]
    assert "made by rule: a person reads and mends them before training" in first
    assert any("left out" in line and "found nothing" in line for line in others)
    assert run(LIBRARY, "--rows", 30, "--output", tmp_path / "pairs.jsonl") is None
    lines = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == pairs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.csv", "pairs.jsonl"]


def test_a_file_is_replaced_only_when_told(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("mended by hand")
    assert "is there already; --overwrite replaces it" in run(LIBRARY, "--output", path)
    assert path.read_text() == "mended by hand"
    assert run(LIBRARY, "--rows", 3, "--output", path, "--overwrite") is None
    assert path.read_text().startswith("question,sql,origin\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--output", "pairs.xlsx"], "expected a name that ends with .csv or .jsonl"),
        (["--output", "nowhere/pairs.csv"], "there is no folder nowhere"),
        (["--output", "pairs.csv", "--rows", "0"], "--rows 0 must be at least 1"),
        (["--output", "pairs.csv", "--rows", "many"], "--rows"),
        (["--output", "pairs.csv", "--tables", "Lone"], "there is no Lone; the database has Author"),
        (["--rows", "3"], "--output"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_no_file(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run(LIBRARY, *arguments)
    assert sentence in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_no_database_and_no_rows_end_with_a_sentence(tmp_path):
    output = tmp_path / "pairs.csv"
    assert "there is no such file" in run(tmp_path / "absent.db", "--output", output)
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("CREATE TABLE city (name TEXT)")
    assert "none of the 1 tables has rows" in run(tmp_path / "empty.db", "--output", output)
    assert not output.exists()


def test_fewer_pairs_than_asked_for_are_said_and_written(tmp_path, caplog):
    with closing(sqlite3.connect(tmp_path / "small.db")) as connection, connection:
        connection.execute("CREATE TABLE city (name TEXT)")
        connection.executemany("INSERT INTO city VALUES (?)", [("Rome",), ("Oslo",)])
    assert run(tmp_path / "small.db", "--output", tmp_path / "pairs.csv") is None
    made = len((tmp_path / "pairs.csv").read_text().splitlines()) - 1
    assert 0 < made < 500
    assert f"{made} pairs in the place of 500: these tables have no more" in caplog.text


def test_the_database_is_not_changed_and_tables_without_keys_are_told(tmp_path, caplog):
    path = tmp_path / "two.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE city (id INTEGER, name TEXT)")
        connection.execute("CREATE TABLE street (city_id INTEGER, name TEXT)")
        connection.execute("CREATE TABLE lane (name TEXT)")
        connection.execute("INSERT INTO city VALUES (1, 'Rome')")
        connection.execute("INSERT INTO street VALUES (1, 'Via Appia')")
    before = path.read_bytes()
    assert run(path, "--rows", 5, "--output", tmp_path / "pairs.csv") is None
    assert path.read_bytes() == before
    assert "left out, without rows: lane." in caplog.text
    assert "declares no keys between its tables" in caplog.text


def test_dates_that_are_none_of_the_calendar_are_not_asked_about(tmp_path):
    with closing(sqlite3.connect(tmp_path / "dates.db")) as connection, connection:
        connection.execute("CREATE TABLE visit (name TEXT, day DATE, paid_on DATETIME)")
        rows = [(f"n{number}", "0000-00-00", "2023-02-30 10:00:00") for number in range(9)]
        connection.executemany("INSERT INTO visit VALUES (?, ?, ?)", [*rows, ("m", "2024-01-01", None)])
    assert run(tmp_path / "dates.db", "--rows", 20, "--output", tmp_path / "pairs.csv") is None
    assert "day" not in (tmp_path / "pairs.csv").read_text()


def test_a_database_that_goes_midway_leaves_the_pairs_of_before_and_a_sentence(tmp_path, caplog, monkeypatch):
    path, output = tmp_path / "gone.db", tmp_path / "pairs.csv"
    path.write_bytes(LIBRARY.read_bytes())
    fill = Maker.fill
    monkeypatch.setattr(Maker, "fill", lambda self, rows, _: fill(self, rows, lambda done: path.unlink(True)))
    error = run(path, "--rows", 200, "--output", output)
    made = len(output.read_text().splitlines()) - 1
    assert 0 < made < 200
    assert "--database does not answer any more: FileNotFoundError" in error
    assert f"the {made} pairs of before are in {output}" in error
    assert "queries failed, the first for this reason: FileNotFoundError" in caplog.text
    assert "in the place of" not in caplog.text


def test_a_question_that_is_drawn_again_is_not_said_to_be_left_out(tmp_path, caplog):
    caplog.set_level("INFO")
    assert run(LIBRARY, "--rows", 100, "--output", tmp_path / "pairs.csv") is None
    (left_out,) = [line for line in caplog.messages if line.startswith("left out")]
    assert "again" not in left_out
    assert "drawn" not in left_out
