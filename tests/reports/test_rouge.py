"""ROUGE against the rouge-score library itself, worked by hand, and as `evaluate` loads it."""

from metrics.rouge.rouge import ROUGE, repetition_rate, score, split_lines

import evaluate
import pytest
from conftest import ROOT
from rouge_score import rouge_scorer

PAIRS = [
    ("the cat sat on the mat", "the cat was on the mat"),
    ("Dr. Smith went home. He slept.", "He slept. Dr. Smith was at home."),
    ("nothing alike", "words of another kind"),
    ("running dogs", "dogs ran and run"),
    ("", "an empty summary"),
]


def test_the_scores_are_those_of_rouge_score_with_sentences_on_lines():
    scorer = rouge_scorer.RougeScorer(list(ROUGE), use_stemmer=True)
    lines = {PAIRS[1][0]: "Dr. Smith went home.\nHe slept.", PAIRS[1][1]: "He slept.\nDr. Smith was at home."}
    for prediction, reference in PAIRS:
        expected = scorer.score(lines.get(reference, reference), lines.get(prediction, prediction))
        found = score([prediction], [reference])
        assert {name: found[name] for name in ROUGE} == {name: expected[name].fmeasure for name in ROUGE}


def test_a_worked_example():
    """5 of 6 words are shared, 3 of 5 pairs (the cat, on the, the mat), and in order the cat on the mat."""
    found = score(*[[text] for text in PAIRS[0]])
    assert found["rouge1"] == pytest.approx(5 / 6)
    assert found["rouge2"] == pytest.approx(3 / 5)
    assert found["rougeL"] == pytest.approx(5 / 6)


def test_sentences_in_another_order_cost_rouge_l_but_not_rouge_lsum():
    found = score(["It rained all day. We stayed at home."], ["We stayed at home. It rained all day."])
    assert found["rougeLsum"] == pytest.approx(1)
    assert found["rougeL"] == pytest.approx(0.5)


def test_lines_stay_and_sentences_are_split():
    assert split_lines("One. Two!\n\nMr. Three is here") == "One.\nTwo!\nMr. Three is here"


def test_means_are_over_rows_and_repetition_is_counted():
    found = score(["a b c", "x y z"], ["a b c", "q r s"])
    assert found["rouge1"] == pytest.approx(0.5)
    assert repetition_rate("the dog ran and the dog ran") == pytest.approx(1 / 5)
    assert repetition_rate("a b a b a b a b") == pytest.approx(4 / 6)
    assert repetition_rate("no way") == 0
    with pytest.raises(ValueError, match="0 predictions"):
        score([], [])


def test_evaluate_loads_it_offline():
    metric = evaluate.load(str(ROOT / "metrics" / "rouge"))
    assert metric.compute(predictions=["a b"], references=["a b"])["rougeLsum"] == 1.0
