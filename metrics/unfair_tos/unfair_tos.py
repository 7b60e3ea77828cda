"""Scores of multi-label classification as LexGLUE reports them, and plain ones; a local `evaluate` module.

    metric = evaluate.load("metrics/unfair_tos")
    metric.compute(predictions=[[0, 2], []], references=[[0], []], labels=8)

Micro- and macro-F1 count "none of the labels" as one more class, as in the published code of LexGLUE
(Chalkidis et al., arXiv 2110.00976, experiments/unfair_tos.py). All scores are over the whole split.
"""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import f1_score, precision_recall_fscore_support

LABELS = 8


def multi_hot(rows: list[list[int]], labels: int) -> np.ndarray:
    """Return lists of label ids as an array of 0 and 1, shape (rows, labels).

    Raises:
        ValueError: for a label id that is not in 0 .. labels - 1.
    """
    found = np.zeros((len(rows), labels), dtype=np.int32)
    for number, row in enumerate(rows):
        for label in row:
            if not 0 <= label < labels:
                raise ValueError(f"row {number} has the label {label}; expected 0 to {labels - 1}")
            found[number, label] = 1
    return found


def with_none(matrix: np.ndarray) -> np.ndarray:
    """Return the array with one more column: 1 where a row has no label."""
    return np.hstack([matrix, (matrix.sum(axis=1, keepdims=True) == 0).astype(matrix.dtype)])


def score(predicted: np.ndarray, actual: np.ndarray) -> dict:
    """Return the scores for two arrays of 0 and 1, shape (rows, labels).

    `micro_f1` and `macro_f1` have the class "none"; `labels_micro_f1` and `labels_macro_f1` have not.
    `binary_*` ask only whether a row has any label. `per_label` lists f1, precision, recall and support.
    """
    options = {"zero_division": 0}
    found: dict = {}
    for average in ("micro", "macro"):
        found[f"{average}_f1"] = float(f1_score(with_none(actual), with_none(predicted), average=average, **options))
        found[f"labels_{average}_f1"] = float(f1_score(actual, predicted, average=average, **options))
    any_actual, any_predicted = actual.any(axis=1), predicted.any(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(any_actual, any_predicted, average="binary", **options)
    found |= {"binary_f1": float(f1), "binary_precision": float(precision), "binary_recall": float(recall)}
    columns = precision_recall_fscore_support(actual, predicted, average=None, **options)
    found["per_label"] = [
        {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for p, r, f, n in zip(*columns, strict=True)
    ]
    return found


class UnfairTos(evaluate.Metric):
    """F1 scores of multi-label classification.

    `compute(predictions, references, labels=8)` takes a list of label ids for each row; see `score`.
    """

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Sequence(datasets.Value("int32"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description=type(self).__doc__,
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(self, predictions: list[list[int]], references: list[list[int]], labels: int = LABELS) -> dict:
        return score(multi_hot(predictions, labels), multi_hot(references, labels))
