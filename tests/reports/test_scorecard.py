"""The scorecard's arithmetic, on answers made by hand."""

from finetune.models.generation import Generation
from finetune.reports.sql_scorecard import Answers, Scorecard
from metrics.sql_execution.sql_execution import judge

import pytest

CONTEXT = "CREATE TABLE head (age INTEGER, name VARCHAR)"
GOLD = "SELECT name FROM head WHERE age > 56"
WRONG = "SELECT name FROM head WHERE age < 56"


def answers(texts: list[str], seconds: float) -> Answers:
    verdicts = [judge(text, GOLD, CONTEXT) for text in texts]
    return Answers([Generation(text, [1] * 9, text != "prose") for text in texts], verdicts, seconds)


def card(before: list[str], after: list[str]) -> Scorecard:
    rows = [{"question": "q", "context": CONTEXT, "answer": GOLD}] * len(before)
    return Scorecard(rows, answers(before, 2.0), answers(after, 1.0))


def test_metrics_deltas_and_the_paired_test():
    # 1 both right, 6 won, 1 lost, 2 both wrong.
    found = card([GOLD, *[WRONG] * 6, GOLD, "prose", WRONG], [GOLD, *[GOLD] * 6, WRONG, WRONG, WRONG])
    metrics = found.metrics
    assert (metrics["exec_accuracy_base"], metrics["exec_accuracy"]) == (0.2, 0.7)
    assert metrics["exec_accuracy_delta"] == pytest.approx(0.5)
    # McNemar, exact: 2 * sum(C(7, k), k = 0..1) / 2^7
    assert metrics["mcnemar_p"] == pytest.approx(2 * (1 + 7) / 2**7)
    assert metrics["changed_outputs"] == 0.8
    assert (metrics["valid_base"], metrics["valid"]) == (0.9, 1.0)
    assert (metrics["ended_base"], metrics["ended"]) == (0.9, 1.0)
    assert metrics["tokens_per_second"] == 100
    assert metrics["tokens_per_second_base"] == 49.5
    text = found.format("test")
    assert "exec_accuracy                     20.0%    70.0%    +50.0" in text
    assert "80% of the answers changed" in text


def test_equal_answers_change_nothing():
    found = card([GOLD, WRONG], [GOLD, WRONG]).metrics
    assert (found["changed_outputs"], found["mcnemar_p"], found["exec_accuracy_delta"]) == (0, 1, 0)


def test_the_table_tells_what_and_where():
    table = card([GOLD, "prose"], [WRONG, GOLD]).table
    assert [row["base_verdict"] for row in table] == ["right", "not a query"]
    assert [row["adapter_verdict"] for row in table] == ["another result", "right"]
    assert "INSERT INTO" in table[0]["first_difference"]
    assert table[1]["first_difference"] == ""
