"""LexGLUE's scores on examples worked out by hand, and against its published code."""

from metrics.unfair_tos.unfair_tos import multi_hot, score

import evaluate
import numpy as np
import pytest
from conftest import ROOT
from sklearn.metrics import f1_score


def published(logits: np.ndarray, labels: np.ndarray) -> dict:
    """Return what LexGLUE's experiments/unfair_tos.py computes: its steps, written anew."""
    predicted = (1 / (1 + np.exp(-logits)) > 0.5).astype(int)
    both = [np.column_stack([part, part.sum(axis=1) == 0]).astype(int) for part in (labels, predicted)]
    return {average: f1_score(*both, average=average, zero_division=0) for average in ("micro", "macro")}


def test_a_worked_example():
    actual = [[0], [], [1], [0, 1], []]
    predicted = [[0], [], [], [0], [1]]
    found = score(multi_hot(predicted, 2), multi_hot(actual, 2))
    # label 0: tp 2; label 1: fn 2, fp 1; none: tp 1, fp 1, fn 1
    assert found["macro_f1"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 3))
    assert found["labels_macro_f1"] == pytest.approx(0.5)
    assert found["labels_micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert found["binary_precision"] == pytest.approx(2 / 3)
    assert found["binary_recall"] == pytest.approx(2 / 3)
    assert found["binary_f1"] == pytest.approx(2 / 3)
    assert found["per_label"][0] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2}
    assert found["per_label"][1] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}


def test_the_scores_are_lexglues():
    random = np.random.default_rng(0)
    labels = (random.random((500, 8)) < 0.05).astype(int)
    logits = 3 * labels - 2 + random.normal(0, 1.5, (500, 8))
    found = score((logits > 0).astype(int), labels)
    expected = published(logits, labels)
    assert (found["micro_f1"], found["macro_f1"]) == pytest.approx((expected["micro"], expected["macro"]))


def test_evaluate_loads_the_metric_by_path():
    metric = evaluate.load(str(ROOT / "metrics" / "unfair_tos"))
    found = metric.compute(predictions=[[7], []], references=[[7], []])
    # Labels that neither side has count 0, as in the published code.
    assert found["macro_f1"] == pytest.approx(2 / 9)
    assert found["micro_f1"] == 1.0
    with pytest.raises(ValueError, match="label 8; expected 0 to 7"):
        metric.compute(predictions=[[8]], references=[[1]])
