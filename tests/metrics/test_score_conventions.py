"""What the execution score forgives, what it does not, and how many rows are judged together."""

import math

from finetune.models.generation import Generation
from finetune.reports.sql_scorecard import Answers, Scorecard
from metrics.sql_execution import judge, judge_all, judging, parallel, summarize
from metrics.sql_execution.unwrapping import unwrap

import evaluate
import pytest
from conftest import ROOT

T = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER, m INTEGER NOT NULL)"
GOLD = "SELECT name, n FROM t WHERE n > 3"
LIKES = "CREATE TABLE a (id INTEGER PRIMARY KEY, x INTEGER); CREATE TABLE b (y INTEGER)"


@pytest.mark.parametrize(
    ("gold", "prediction", "any_order"),
    [
        (GOLD, "SELECT n, name FROM t WHERE n > 3", True),
        (GOLD, "SELECT n, name FROM t WHERE n >= 3", False),
        (GOLD, "SELECT n, n FROM t WHERE n > 3", False),
        (GOLD, "SELECT n, name, n FROM t WHERE n > 3", False),
        ("SELECT name, n, m FROM t ORDER BY n", "SELECT m, name, n FROM t ORDER BY n", True),
        ("SELECT name, n, m FROM t ORDER BY n", "SELECT m, name, n FROM t ORDER BY n DESC", False),
        ("SELECT name, COUNT(*) FROM t GROUP BY name", "SELECT COUNT(*), name FROM t GROUP BY name", True),
    ],
)
def test_the_order_of_columns_counts_in_the_strict_score_alone(gold, prediction, any_order):
    verdict = judge(prediction, gold, T)
    assert (verdict.usable, verdict.valid, verdict.right, verdict.right_any_order) == (True, True, False, any_order)


@pytest.mark.parametrize(
    ("context", "gold", "prediction", "with_nulls"),
    [
        (T, "SELECT COUNT(*) FROM t", "SELECT COUNT(n) FROM t", False),
        (T, "SELECT COUNT(*) FROM t", "SELECT COUNT(id) FROM t", True),
        (T, "SELECT COUNT(*) FROM t", "SELECT COUNT(m) FROM t", True),
        (T, "SELECT AVG(n) FROM t", "SELECT SUM(n) * 1.0 / COUNT(*) FROM t", False),
        (T, "SELECT AVG(n) FROM t", "SELECT SUM(n) * 1.0 / COUNT(n) FROM t", True),
        (T, "SELECT name FROM t WHERE NOT n > 3", "SELECT name FROM t WHERE n <= 3", True),
        (T, "SELECT name FROM t WHERE n <> 3", "SELECT name FROM t WHERE n IS NOT 3", False),
        (LIKES, "SELECT id FROM a WHERE x NOT IN (SELECT y FROM b)",
         "SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE y = x)", False),
    ],
)  # fmt: skip
def test_what_differs_on_nulls_alone_is_wrong_in_the_pass_with_nulls_alone(context, gold, prediction, with_nulls):
    verdict = judge(prediction, gold, context)
    assert (verdict.right, verdict.right_with_nulls) == (True, with_nulls)


@pytest.mark.parametrize(
    "around", ["{};;", "{} ; ;\n", "{}; -- done", "\ufeff{}", "{}\n-- done", "-- so\n{};", "{}; /* x */"]
)
def test_semicolons_comments_and_a_byte_order_mark_are_no_error(around):
    assert judge(around.format(GOLD), GOLD, T).right
    assert judge(GOLD, around.format(GOLD), T).right


WRAPPED = ["```sql\n{}\n```", "```\n{}```", "Here is the query:\n```sql\n{}\n```\nIt counts.", "SQL: {}", "Answer: {}",
           "```sqlite\n{}", "sql\n{}"]  # fmt: skip


@pytest.mark.parametrize("around", WRAPPED)
def test_fences_and_prefixes_are_refused_and_taken_off_where_asked(around):
    assert not judge(around.format(GOLD), GOLD, T).valid
    assert judge(unwrap(around.format(GOLD)), GOLD, T).right


@pytest.mark.parametrize(
    "text", [GOLD, "SELECT ':' FROM t", "no idea", "", "SELECT name FROM t WHERE name = 'a: SELECT'"]
)
def test_what_is_not_wrapped_stays(text):
    assert unwrap(text) == text


def test_the_scorecard_counts_unwrapped_answers():
    verdicts = [judge(GOLD, GOLD, T)]
    one = Answers([Generation("x", [1], True)], verdicts, 1.0, unwrapped=1)
    card = Scorecard([{"question": "q", "context": T, "answer": GOLD}], one, one)
    assert card.metrics["unwrapped"] == 1
    assert "answers unwrapped" in card.format("test")


def test_two_processes_give_what_one_gives_in_any_order():
    rows = [(f"SELECT name, n FROM t WHERE n > {number % 5}", GOLD, T) for number in range(8)]
    rows += [("\ud800", GOLD, T), (None, GOLD, T), (GOLD, "nonsense", T), (GOLD, GOLD, "nonsense")]
    alone = judge_all(rows, workers=1)
    assert judge_all(rows[::-1], workers=2)[::-1] == alone
    assert [verdict.right for verdict in alone[:5]] == [False, False, False, True, False]


def test_a_worker_that_is_killed_costs_no_verdict(monkeypatch):
    monkeypatch.setattr(parallel, "WORKER", "import sys; sys.stdin.readline()  # {path} {package}")
    assert [verdict.right for verdict in judge_all([(GOLD, GOLD, T)] * 6, workers=2)] == [True] * 6


def test_compute_takes_what_is_no_text_and_returns_all_scores():
    metric = evaluate.load(str(ROOT / "metrics" / "sql_execution"))
    predictions = ["\ud800", None, "SELECT n, name FROM t WHERE n > 3", GOLD]
    found = metric.compute(predictions=predictions, references=[GOLD] * 4, schemas=[T] * 4)
    scores = {name: found[f"exec_accuracy{name}"] for name in ("", "_any_order", "_with_nulls", "_case_sensitive")}
    assert scores == {"": 0.25, "_any_order": 0.5, "_with_nulls": 0.25, "_case_sensitive": 0.25}
    assert (found["valid"], found["coverage"]) == (0.5, 1.0)
    page = (ROOT / "docs" / "text_to_sql.md").read_text()
    assert all(f"`{name}`" in page or name in ("exec_accuracy_low", "exec_accuracy_high") for name in found)


def test_the_summary_of_nothing_is_no_number():
    assert math.isnan(summarize([])["exec_accuracy_any_order"])


@pytest.mark.parametrize(("failing", "usable"), [("read_suite", False), ("_Comparison", True)])
def test_a_fault_of_the_metric_costs_one_row_and_is_said(failing, usable, monkeypatch, caplog):
    monkeypatch.setattr(judging, failing, lambda *_: 1 / 0)
    verdict = judge("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = 1", "CREATE TABLE t (a TEXT, b INTEGER)")
    assert (verdict.usable, verdict.right, verdict.valid) == (usable, False, False)
    assert "the metric failed: ZeroDivisionError" in verdict.reason
    assert "please report it" in caplog.text
