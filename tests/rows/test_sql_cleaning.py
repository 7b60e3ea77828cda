"""Cleaning by rule, leaks between parts, and schemas that do not give the answer away: known answers."""

import re

from finetune import InputError
from finetune.rows.splits.leaks import format_leaks, leak_report, refuse_leaks
from finetune.rows.sql.cleaning import clean_rows
from finetune.rows.sql.distractors import distract
from metrics.sql_execution.sql_execution import judge

import pytest
from conftest import demo_rows

CONTEXT = "CREATE TABLE table_name_7 (player VARCHAR, score VARCHAR, year INTEGER)"


def row(answer: str, question: str = "Who?", context: str = CONTEXT) -> dict:
    return {"question": question, "context": context, "answer": answer}


DROPPED = [
    ("SELECT player FROM table_name_7 WHERE 2005 > 2", "comparison of constants"),
    ("SELECT player FROM table_name_7 WHERE year > 23 OFFSET 120", "number split at a comma"),
    ("SELECT player FROM table_name_7 WHERE score = 66 - 73 - 70", "arithmetic in place of a literal"),
    ("SELECT player FROM table_name_7 WHERE score = −14(63 - 67 = 203)", "comparison of constants"),
    ("SELECT 2012 FROM table_name_7 WHERE year = 3", "constant in place of a column"),
    ("SELECT height FROM table_name_7", "gold does not run on its schema"),
    ('SELECT "height" FROM table_name_7', "gold does not run on its schema"),
    ('SELECT player FROM table_name_7 WHERE "week" = "week"', "gold does not run on its schema"),
    ("SELECT player FROM other", "gold does not run on its schema"),
    ("SELECT SUM(1 AS st) FROM table_name_7", "gold is not one query"),
    ("DELETE FROM table_name_7", "gold is not one query"),
    ("", "gold is not one query"),
]
KEPT = [
    ('SELECT player FROM table_name_7 WHERE score = "5th"', "Who?",
     "SELECT player FROM table_name_7 WHERE score = '5th'"),
    ('SELECT player FROM table_name_7 WHERE score = "it\'s"', "Who?",
     "SELECT player FROM table_name_7 WHERE score = 'it''s'"),
    ('SELECT "player" FROM table_name_7 WHERE score = "player"', "Who?",
     'SELECT "player" FROM table_name_7 WHERE score = "player"'),
    ('SELECT player  FROM table_name_7 WHERE score <> "keith downing"', "When did Keith Downing play?",
     "SELECT player  FROM table_name_7 WHERE score <> 'Keith Downing'"),
    ("SELECT player FROM table_name_7 WHERE score LIKE '%downing%'", "When did DOWNING play?",
     "SELECT player FROM table_name_7 WHERE score LIKE '%DOWNING%'"),
    ("SELECT player FROM table_name_7 WHERE score = 'a'", "A team and a score?",
     "SELECT player FROM table_name_7 WHERE score = 'a'"),
    ("SELECT player FROM table_name_7 WHERE score = 'art'", "The Party?",
     "SELECT player FROM table_name_7 WHERE score = 'art'"),
    ("SELECT player FROM table_name_7 WHERE year > -3 ORDER BY year LIMIT 3 OFFSET 2", "Who?",
     "SELECT player FROM table_name_7 WHERE year > -3 ORDER BY year LIMIT 3 OFFSET 2"),
    ("SELECT SUM(year) / 2 FROM table_name_7", "Who?", "SELECT SUM(year) / 2 FROM table_name_7"),
    ("SELECT player FROM table_name_7 WHERE EXISTS (SELECT 1 FROM table_name_7 WHERE year = 3)", "Who?",
     "SELECT player FROM table_name_7 WHERE EXISTS (SELECT 1 FROM table_name_7 WHERE year = 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reason"), DROPPED)
def test_corrupt_gold_is_left_out_with_its_reason(answer, reason):
    cleaning = clean_rows([row(answer)])
    assert cleaning.rows == []
    assert cleaning.dropped[0]["reason"].startswith(reason)
    assert cleaning.summary() == {"rows_given": 1, "rows_kept": 0, "dropped": {reason: 1}, "rewritten": {}}


@pytest.mark.parametrize(
    "context", ["CREATE TABLE t (order VARCHAR)", "no schema", "", "CREATE TABLE a (x); CREATE TABLE a (y)"]
)
def test_a_schema_that_cannot_be_read_is_left_out(context):
    assert clean_rows([row("SELECT 1", context=context)]).summary()["dropped"] == {"schema cannot be read": 1}


@pytest.mark.parametrize(("answer", "question", "cleaned"), KEPT)
def test_literals_are_rewritten_and_all_else_stands(answer, question, cleaned):
    (kept,) = clean_rows([row(answer, question)]).rows
    assert kept == row(cleaned, question)


def test_cleaning_leaves_clean_rows_as_they_are():
    rows = demo_rows("test")
    cleaning = clean_rows(rows)
    assert cleaning.dropped == []
    assert cleaning.rows == rows


def test_the_leak_report_counts_what_both_parts_have():
    train = [
        row("SELECT player FROM table_name_7", "Who played?"),
        row("SELECT a FROM t", "Q", "CREATE TABLE t (a INT)"),
    ]
    fresh = [row(f"SELECT c{i} FROM u", f"q{i}", f"CREATE TABLE u (c{i} INT)") for i in range(7)]
    leaking = [
        row("SELECT x FROM y", "WHO  played ?", "CREATE TABLE y (x INT)"),
        row("SELECT year FROM table_name_7", "When?"),
        row("select A from T", "What?", "CREATE TABLE t (a INT, b INT)"),
    ]
    report = leak_report(train, fresh + leaking)
    assert report == {
        "validation_rows": 10, "train_rows": 2, "shared_question": 1, "shared_schema": 1, "shared_gold_sql": 1,
        "counted": ["question", "schema", "gold_sql"], "share": 0.3,
    }  # fmt: skip
    assert "1 question, 1 schema, 1 gold sql; 30.00% in all" in format_leaks(report)
    with pytest.raises(InputError, match="--allow-leaks"):
        refuse_leaks(report)
    refuse_leaks(leak_report(train, fresh))
    assert leak_report(train, [])["share"] == 0


def test_distractors_add_columns_shuffle_and_scrub_types():
    rows = demo_rows("test")[:60]
    changed = distract(rows, 3, seed=1)
    assert changed == distract(rows, 3, seed=1)
    assert changed != distract(rows, 3, seed=2)
    for before, after in zip(rows, changed, strict=True):
        assert (after["question"], after["answer"]) == (before["question"], before["answer"])
        old, new = (set(re.findall(r"[\w]+", r["context"])) for r in (before, after))
        tables = before["context"].count("CREATE TABLE")
        assert len(new - old - {"VARCHAR"}) == 3 * tables
        assert old - new <= {"TEXT", "INTEGER", "DATE"}
        assert judge(after["answer"], after["answer"], after["context"]).right
        assert set(re.findall(r"\w+ (\w+)[,)]", after["context"])) == {"VARCHAR"}
    orders = [[re.findall(r"(\w+) \w+[,)]", r["context"]) for r in part] for part in (rows, changed)]
    moved = [[name for name in new if name in old] != old for old, new in zip(*orders, strict=True)]
    assert sum(moved) > 30
    assert distract(rows, 0, seed=1) == rows
    assert 10 < sum(a != b for a, b in zip(rows, distract(rows, 3, seed=1, share=0.5), strict=True)) < 50


def test_rows_with_holes_are_left_to_the_audit():
    """Nothing here fails on an empty column: training drops the row later, with its reason."""
    rows = [row("SELECT player FROM table_name_7"), {"question": None, "context": None}, {"context": CONTEXT}]
    assert len(clean_rows(rows).dropped) == 2
    assert [r.get("question") for r in distract(rows, 2, seed=0)] == ["Who?", None, None]
    assert leak_report(rows[:1], rows[1:])["share"] == 0.5
