"""The execution score on other people's rows: what is right, wrong, invalid and unusable."""

import json
from random import Random

from metrics.sql_execution import judge
from metrics.sql_execution.databases import Generator
from metrics.sql_execution.schemas import read_schema
from metrics.sql_execution.suites import Query

import pytest
from conftest import ROOT

CASES = [json.loads(line) for line in (ROOT / "tests" / "metrics" / "score_cases.jsonl").read_text().splitlines()]
TX = "CREATE TABLE tx (id INTEGER, d DATE, at TIMESTAMP, price INTEGER, name TEXT, note TEXT)"
SONGS = (
    "CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER);"
    "CREATE TABLE song (song_id INTEGER PRIMARY KEY, singer_id REFERENCES singer, title TEXT, sales INTEGER)"
)
RIGHT = [
    (TX, "SELECT name FROM tx WHERE d > '2012-03-01'", "SELECT name FROM tx WHERE '2012-03-01' < date(d)"),
    (TX, "SELECT name FROM tx WHERE d LIKE '2012%'", "SELECT name FROM tx WHERE strftime('%Y', d) = '2012'"),
    (TX, "SELECT COUNT(*) FROM tx WHERE strftime('%m', d) = '03'", "SELECT COUNT(*) FROM tx WHERE d LIKE '____-03-%'"),
    (TX, "SELECT SUM(CASE WHEN note = 'a' THEN price END) FROM tx", "SELECT SUM(price) FROM tx WHERE note = 'a'"),
    (TX, "SELECT name FROM tx WHERE length(name) > 5", "SELECT name FROM tx WHERE NOT length(name) <= 5"),
    (SONGS, "SELECT sales FROM song", "SELECT s.sales FROM song s JOIN singer p ON s.singer_id = p.singer_id"),
    (SONGS, "SELECT title FROM song", "SELECT title FROM song;;\n-- done"),
    (SONGS, "SELECT title FROM song", "/* all */ SELECT title FROM song /* done */ ;"),
]
WRONG = [
    (TX, "SELECT name FROM tx WHERE d > '2012-03-01'", "SELECT name FROM tx WHERE d >= '2012-03-01'"),
    (TX, "SELECT date(at) FROM tx", "SELECT datetime(at) FROM tx"),
    (TX, "SELECT name FROM tx WHERE strftime('%Y', d) = '2012'", "SELECT name FROM tx WHERE strftime('%Y', d) > '2'"),
    (TX, "SELECT MAX(strftime('%H', at)) FROM tx", "SELECT MAX(strftime('%M', at)) FROM tx"),
    (TX, "SELECT IIF(price > 5, 'dear', 'cheap') FROM tx", "SELECT IIF(price >= 5, 'dear', 'cheap') FROM tx"),
    (TX, "SELECT CASE name WHEN 'a' THEN 1 WHEN 'b' THEN 2 ELSE 3 END FROM tx",
     "SELECT CASE name WHEN 'a' THEN 1 WHEN 'c' THEN 2 ELSE 3 END FROM tx"),
    (TX, "SELECT EXISTS (SELECT 1 FROM tx WHERE name = 'x')", "SELECT 1"),
    (TX, "SELECT COUNT(*) > 5 FROM tx", "SELECT 1"),
    (TX, "SELECT IIF(MAX(price) > 100, 'yes', 'no') FROM tx", "SELECT 'yes'"),
    (TX, "SELECT name FROM tx WHERE price = (SELECT MAX(price) FROM tx)",
     "SELECT name FROM tx ORDER BY price DESC LIMIT 1"),
    (TX, "SELECT name FROM tx WHERE substr(name, 1, 2) = 'ab'", "SELECT name FROM tx WHERE substr(name, 1, 1) = 'a'"),
    (SONGS, "SELECT MAX(age) FROM singer WHERE age < 30", "SELECT 29"),
    (SONGS, "SELECT title FROM song WHERE sales > (SELECT AVG(sales) FROM song)",
     "SELECT title FROM song WHERE sales >= (SELECT AVG(sales) FROM song)"),
    (SONGS, "SELECT name FROM singer WHERE name LIKE '%a%'", "SELECT name FROM singer WHERE name = '%a%'"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_cases_of_other_peoples_rows(case):
    expected = case["expected"].split()[0]
    verdict = judge(case["prediction"], case["gold"], case["schema"])
    if case["expected"] == "usable as with self":
        assert verdict.usable == judge(case["gold"], case["gold"], case["schema"]).usable
    elif expected == "unusable":
        assert not verdict.usable
    else:
        wanted = {"invalid": (False, False), "wrong": (True, False)}.get(expected, (True, True))
        assert (verdict.usable, verdict.valid, verdict.right) == (True, *wanted), verdict.reason


@pytest.mark.parametrize(("context", "gold", "prediction"), RIGHT)
def test_the_same_in_other_words_is_right(context, gold, prediction):
    verdict = judge(prediction, gold, context)
    assert (verdict.usable, verdict.right) == (True, True), verdict.reason + verdict.difference


@pytest.mark.parametrize(("context", "gold", "prediction"), WRONG)
def test_errors_in_dates_cases_and_yes_or_no_show(context, gold, prediction):
    assert judge(gold, gold, context).right
    verdict = judge(prediction, gold, context)
    assert (verdict.usable, verdict.valid, verdict.right) == (True, True, False)


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("SELECT 1", "it reads no table of the schema"),
        ("SELECT a FROM elsewhere", "it reads no table of the schema"),
        ("SELECT name, NULL FROM singer", "a column of its result is NULL on all databases"),
        ("SELECT 'x' FROM singer GROUP BY 1", "it returns the same on all databases"),
    ],
)
def test_gold_that_says_nothing_is_unusable(gold, reason):
    assert judge(gold, gold, SONGS).reason == f"gold is unusable: {reason}"


@pytest.mark.parametrize("prediction", ["SELECT 1", "no", "SELECT title FROM song ORDER BY sales LIMIT 1", "\ud800"])
@pytest.mark.parametrize("gold", ["SELECT title FROM song LIMIT 3", "SELECT title FROM song WHERE sales > 5"])
def test_gold_alone_decides_whether_a_row_counts(prediction, gold):
    assert judge(prediction, gold, SONGS).usable == judge(gold, gold, SONGS).usable


@pytest.mark.parametrize("nulls", [False, True])
def test_databases_keep_the_declared_keys(nulls):
    schema = read_schema(SONGS)
    gold = Query.read("SELECT p.name FROM singer p JOIN song s ON p.singer_id = s.singer_id WHERE s.sales > 3", schema)
    for number in range(20):
        rows = Generator(schema, gold.profile, None).draw(Random(number), 20, nulls=nulls).rows
        for table, key in (("singer", "singer_id"), ("song", "song_id")):
            keys = [row[key] for row in rows[table]]
            assert None not in keys
            assert len(set(keys)) == len(keys) > 3
        assert {row["singer_id"] for row in rows["song"]} <= {row["singer_id"] for row in rows["singer"]} | {None}
        assert all(row["name"] is not None for row in rows["singer"])
    assert any(row["sales"] is None for row in rows["song"]) == nulls


def test_undeclared_keys_keep_their_orphans():
    context = "CREATE TABLE a (id INTEGER, x TEXT); CREATE TABLE b (a_id INTEGER, y INTEGER)"
    verdict = judge("SELECT y FROM b", "SELECT y FROM b JOIN a ON a.id = b.a_id", context)
    assert (verdict.usable, verdict.right) == (True, False)
