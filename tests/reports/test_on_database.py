"""Gold and answers run on the database itself: what is right there, what is named, and what may be logged."""

import json
import sqlite3
from contextlib import closing
from types import SimpleNamespace

from finetune import InputError
from finetune.databases.database import QueryFailed, open_database
from finetune.models.generation import Generation
from finetune.reports.scorecards.against import compare_answers
from finetune.reports.scorecards.on_database import DatabaseVerdict, judge_on_database, summarize_database
from finetune.reports.sql_scorecard import Answers, Scorecard
from finetune.rows.sql.loading import load_questions
from finetune.rows.sql.running import GoldOnDatabase, is_about
from metrics.sql_execution.sql_execution import judge

import pytest

FLAGS = {
    "column": None, "validation_fraction": 0.3, "split_by": "auto", "encoding": "utf-8", "clean": True,
    "dialect": "sqlite", "allow_leaks": False, "distractor_columns": 0, "rows": True, "train_percent": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "library.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE Author (Id INTEGER, Name TEXT, Birth_Date DATE);"
            "INSERT INTO Author VALUES (1, 'O''Hara', '1950-05-01'), (2, 'Lem', '1921-09-12'), (3, 'Lem', '1980-01-02')"
        )
    return open_database(str(path))


def verdicts(library, pairs, **options):
    rows = [{"question": "q", "context": library.statements, "answer": gold} for gold, _ in pairs]
    return judge_on_database([answer for _, answer in pairs], rows, library, **options)


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("SELECT Name FROM Author", "select name from author where id > 0", True),
        ("SELECT Name FROM Author", "SELECT DISTINCT Name FROM Author", False),
        ("SELECT Name, Id FROM Author", "SELECT Id, Name FROM Author", False),
        ("SELECT Id FROM Author", "SELECT Id FROM Author ORDER BY Id DESC", True),
        ("SELECT Id FROM Author ORDER BY Id", "SELECT Id FROM Author ORDER BY Id DESC", False),
        ("SELECT AVG(Id) FROM Author", "SELECT SUM(Id) / 3.0 FROM Author", True),
        ("SELECT Id FROM Author WHERE strftime('%Y', Birth_Date) = '1950'", "SELECT Id FROM Author WHERE Id = 1", True),
        ("SELECT Id FROM Author WHERE Birth_Date BETWEEN '1900-01-01' AND '1960-01-01'", "SELECT 1", False),
        ("SELECT COUNT(*) FROM Author WHERE Birth_Date < date('now')", "SELECT COUNT(*) FROM Author", True),
        ("SELECT Name FROM Author", "SELECT nope FROM Author", False),
        ("SELECT Name FROM Author", "no query", False),
    ],
)  # fmt: skip
def test_results_are_compared_by_the_rules_of_the_metric(library, gold, answer, right):
    (found,) = verdicts(library, [(gold, answer)])
    assert (found.usable, found.right) == (True, right), found


def test_rows_of_failing_answers_are_shown_unless_they_may_not_be(library):
    pair = ("SELECT Id, Name FROM Author ORDER BY Id", "SELECT Id, Name FROM Author ORDER BY Id DESC")
    (found,) = verdicts(library, [pair])
    assert found.gold[0] == [1, "O'Hara"]
    assert found.answer[0] == [3, "Lem"]
    (bare,) = verdicts(library, [pair], with_rows=False)
    assert (bare.gold, bare.answer, bare.reason) == (None, None, "another result")


def test_gold_that_fails_is_not_scored_and_empty_gold_is_counted(library):
    found = verdicts(library, [
        ("SELECT nope FROM Author", "SELECT Name FROM Author"), ("SELECT Id FROM Author WHERE Id > 9", "SELECT 1"),
        ("SELECT MAX(Id) FROM Author WHERE Id > 9", "SELECT MIN(Id) FROM Author WHERE Id > 9"),
        ("SELECT Id FROM Author", "SELECT Id FROM Author"),
    ])  # fmt: skip
    assert [verdict.usable for verdict in found] == [False, True, True, True]
    scores = summarize_database(found)
    assert (scores["exec_accuracy_database_rows"], scores["exec_accuracy_database_empty_gold"]) == (3, 2)
    assert scores["exec_accuracy_database"] == pytest.approx(2 / 3)


def test_rows_about_other_tables_are_not_run(library):
    assert is_about("CREATE TABLE author (NAME TEXT)", library)
    assert not is_about("CREATE TABLE author (salary INT)", library)
    other = [{"question": "q", "context": "CREATE TABLE t (a INT)", "answer": "SELECT a FROM t"}]
    assert not judge_on_database(["SELECT a FROM t"], other, library)[0].usable
    assert GoldOnDatabase(library)(other) == other


def test_rows_that_do_not_run_are_named_and_left_out(library, tmp_path, caplog):
    queries = [f"SELECT {c} FROM Author" for c in ("Id", "Name", "MAX(Id)", "titel", "Birth_Date", "COUNT(*)")]
    rows = [{"question": f"Question {n}?", "answer": sql} for n, sql in enumerate(queries)]
    rows.append({"question": "Double quotes?", "answer": 'SELECT Id FROM Author WHERE Name = "Lem"'})
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    flags = SimpleNamespace(**FLAGS, dataset=str(tmp_path / "rows.json"))
    found, findings = load_questions(flags, 0, library)
    assert len(found.train) + len(found.validation) == 6
    assert [row["question"] for row in findings["skipped"]] == ["Question 3?"]
    where = f"1 of 7 rows of {flags.dataset} have SQL that does not run on the database, and are left out (skipped_rows"
    assert where in caplog.text
    assert "'Question 3?': no such column: titel" in caplog.text
    caplog.clear()
    kept, findings = load_questions(SimpleNamespace(**vars(flags) | {"clean": False}), 0, library)
    assert len(kept.train) + len(kept.validation) == 7
    assert "are kept (--no-clean), and are not scored on it: 'Question 3?'" in caplog.text
    assert "skipped_rows" not in caplog.text
    assert findings["skipped"] == []
    with pytest.raises(InputError, match=r"none of the 1 rows of x\.csv has SQL that runs on the .*: 'Question 3\?'"):
        GoldOnDatabase(library, source="x.csv")(rows[3:4])


def test_rows_that_do_not_run_are_named_with_their_set(library, tmp_path, caplog):
    for name, columns in (("own", ("Id", "Name", "MAX(Id)", "MIN(Id)")), ("more", ("titel", "Birth_Date"))):
        rows = [{"question": f"Which {c}, {name}?", "answer": f"SELECT {c} FROM Author"} for c in columns]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    own, more = (str(tmp_path / f"{name}.json") for name in ("own", "more"))
    flags = SimpleNamespace(**FLAGS, dataset=[own, more], max_train_rows=None)
    _, findings = load_questions(flags, 0, library)
    assert f"1 of 2 rows of {more} have SQL that does not run" in caplog.text
    assert f"rows of {own}" not in caplog.text
    assert [row["question"] for row in findings["skipped"]] == ["Which titel, more?"]


def test_rows_with_a_context_of_their_own_are_counted_in_the_measured_set(library, tmp_path, caplog):
    other = "CREATE TABLE t (a INT, b INT)"
    rows = [{"question": f"Which {c}?", "answer": f"SELECT {c} FROM Author"} for c in ("Id", "Name", "MAX(Id)")]
    rows += [{"question": f"Which {c} of t?", "answer": f"SELECT {c} FROM t", "context": other} for c in "ab"]
    (tmp_path / "own.json").write_text(json.dumps(rows))
    (tmp_path / "more.json").write_text(json.dumps(rows[3:]))
    own, more = (str(tmp_path / f"{name}.json") for name in ("own", "more"))
    flags = SimpleNamespace(**FLAGS | {"allow_leaks": True}, max_train_rows=None)
    found, _ = load_questions(SimpleNamespace(**vars(flags), dataset=own), 0, library)
    assert {row["context"] for row in found.train + found.validation} == {other, library.statements}
    assert f"2 of 5 rows of {own} have a `context` of their own" in caplog.text
    caplog.clear()
    (tmp_path / "own.json").write_text(json.dumps(rows[:3]))
    load_questions(SimpleNamespace(**vars(flags), dataset=[own, more]), 0, library)
    assert "of their own" not in caplog.text


class Failing:
    """A database whose queries fail from a place on, as one that is gone by then."""

    def __init__(self, database, first: int):
        self.database, self.first, self.asked = database, first, []

    def __getattr__(self, name: str):
        return getattr(self.database, name)

    def run_all(self, queries, *limits):
        for found in self.database.run_all(self.noted(queries), *limits):
            yield found if len(self.asked) <= self.first else QueryFailed("gone: away")

    def noted(self, queries):
        for sql in queries:
            self.asked.append(sql)
            yield sql


def answered(database, rows, texts, **options) -> Answers:
    judged = judge_on_database(texts, rows, database, **options)
    found = [judge(text, row["answer"], row["context"]) for text, row in zip(texts, rows, strict=True)]
    return Answers([Generation(text, [1], True) for text in texts], found, 1.0, on_database=judged)


def about(library, *queries: str) -> list[dict]:
    return [{"question": "q", "context": library.statements, "answer": sql} for sql in queries]


def test_gold_is_run_once_for_all_models_and_a_failure_counts_for_none(library):
    rows = about(library, *["SELECT Id FROM Author", "SELECT nope FROM Author", "SELECT Name FROM Author"] * 2)
    counting, known = Failing(library, 99), {}
    for answer in ("SELECT 1", "SELECT 2"):
        judge_on_database([answer] * 6, rows, counting, known=known)
    assert [counting.asked.count(row["answer"]) for row in rows[:3]] == [1, 1, 1]
    assert len(counting.asked) == 3 + 12


def test_a_row_that_is_scored_for_one_model_alone_is_compared_for_none(library):
    rows = about(library, "SELECT Id FROM Author", "SELECT Name FROM Author", "SELECT MAX(Id) FROM Author")
    right, gone = [row["answer"] for row in rows], Failing(library, 2)
    ours, theirs = answered(library, rows, right), answered(gone, rows, ["SELECT Name FROM Author"] * 3)
    for one, two in ((ours, theirs), (theirs, ours)):
        assert compare_answers(rows, one, two).pairs["exec_accuracy_database"].rows == 1
        assert Scorecard(rows, one, two).on_database.rows == 1


def test_a_score_without_rows_is_no_pair(library):
    rows = about(library, "SELECT Id FROM Author", "SELECT Name FROM Author")
    right, gone = [row["answer"] for row in rows], Failing(library, 0)
    found = compare_answers(rows, answered(gone, rows, right), answered(gone, rows, ["SELECT 1"] * 2))
    assert list(found.pairs) == ["exec_accuracy"]
    assert found.conclusion.startswith("2 questions are too few to tell it from the other (p = 0.5)")
    bare = [row | {"context": "no schema"} for row in rows]
    found = compare_answers(bare, *[answered(gone, bare, right)] * 2)
    assert found.pairs == {}
    assert found.conclusion == "No questions are scored with both, so nothing can be said."
    assert found.conclusion in found.format("runs:/other/model")
    assert found.record("test", "x")["scores"] == {}


def test_two_models_with_a_real_difference_on_the_database(library):
    rows = about(library, *["SELECT Name FROM Author WHERE Id > 1"] * 8)
    right, wrong = [row["answer"] for row in rows], ["SELECT Id FROM Author"] * 8
    found = compare_answers(rows, answered(library, rows, right), answered(library, rows, wrong))
    assert found.pairs["exec_accuracy_database"].p == pytest.approx(2 / 2**8)
    assert found.conclusion == "This model is better than the other (p = 0.0078, 8 questions)."
    assert found.table[0]["this_database_verdict"] == "right"
    assert found.table[0]["other_database_verdict"] == "another result"
    turned = compare_answers(rows, answered(library, rows, wrong), answered(library, rows, right))
    assert "This model is worse than the other" in turned.format("x")
    same = compare_answers(rows, *[answered(library, rows, right)] * 2)
    assert same.conclusion == "No difference from the other can be told from 8 questions."


def test_the_line_at_the_end_says_that_the_database_was_gone(library):
    rows = about(library, "SELECT Id FROM Author", "SELECT Name FROM Author")
    right, gone = [row["answer"] for row in rows], Failing(library, 0)
    line = Scorecard(rows, answered(gone, rows, right), answered(gone, rows, right)).headline("validation")
    assert "100.0% of 2 questions right on generated databases" in line
    assert line.endswith("; nothing is scored on the database: gold does not run on the database: gone: away")


def test_the_scorecard_has_the_database_in_metrics_table_and_words(library):
    gold = "SELECT Name FROM Author WHERE Id > 1"
    rows = [{"question": "q", "context": library.statements, "answer": gold}] * 8

    def answers(texts: list[str]) -> Answers:
        judged = judge_on_database(texts, rows, library)
        found = [judge(text, gold, library.statements) for text in texts]
        return Answers([Generation(text, [1], True) for text in texts], found, 1.0, on_database=judged)

    card = Scorecard(rows, answers(["SELECT Id FROM Author"] * 8), answers([gold] * 7 + ["SELECT Id FROM Author"]))
    metrics = card.metrics
    assert (metrics["exec_accuracy_database"], metrics["exec_accuracy_database_base"]) == (7 / 8, 0)
    assert metrics["exec_accuracy_database_low"] < 7 / 8 < metrics["exec_accuracy_database_high"]
    assert metrics["exec_accuracy_database_rows"] == 8
    assert metrics["mcnemar_p_database"] == pytest.approx(2 / 2**7)
    assert card.table[0]["database_verdict"] == "right"
    assert card.table[7]["database_gold_rows"] == [["Lem"], ["Lem"]]
    assert card.table[7]["database_rows"] == [[1], [2], [3]]
    assert "87.5% of 8 questions right on the database" in card.headline("test")
    assert "better than the base (p = 0.016, 8 questions)" in card.headline("test")
    assert "on the database (8 rows)" in card.format("test")


def test_a_database_that_is_gone_at_the_end_is_said_in_the_headline(library):
    gold = "SELECT Name FROM Author"
    rows = [{"question": "q", "context": library.statements, "answer": gold}] * 2
    gone = DatabaseVerdict(False, False, "unable to open database file")

    def answers(text: str) -> Answers:
        found = [judge(text, gold, library.statements)] * 2
        return Answers([Generation(text, [1], True)] * 2, found, 1.0, on_database=[gone] * 2)

    card = Scorecard(rows, answers("SELECT Id FROM Author"), answers(gold))
    why = "nothing is scored on the database: unable to open database file"
    headline = card.headline("test")
    assert "100.0% of 2 questions right on generated databases (95 %" in headline
    assert why in headline
    assert f"  {why}" in card.format("test")
