"""The share of a linear SVM in a classifier's logits, chosen on held-out rows, and the thresholds for it."""

from dataclasses import dataclass

from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import add_distances, decide, to_scores
from finetune.reports.classifier_scores import FOLDS, MAIN_METRIC, choose_thresholds, decide_crossfitted
from finetune.reports.paired import f1_of
from finetune.reports.scorecards.against import VIEWS

import numpy as np
from sklearn.metrics import average_precision_score

SHARES = (0.0, 0.5, 1.0, 2.0, 4.0)


@dataclass
class Mixture:
    """What was chosen on rows.

    Attributes:
        share: of the SVM's distances; 0 for the logits alone.
        scores: of the rows, with that share.
        thresholds: one for each output; None where classes exclude each other.
        decided: decisions for which thresholds and share of each fifth of the rows were chosen on the other four.
    """

    share: float
    scores: np.ndarray
    thresholds: list[float] | None
    decided: np.ndarray


def choose(logits: np.ndarray, labels: Labels, actual: np.ndarray, distances: np.ndarray | None = None) -> Mixture:
    """Return the share, of `SHARES`, that is best on rows, of equal ones the smallest, and thresholds for it.

    The best share is the one with the highest average precision, which needs no thresholds: F1 would take one that
    only the luck of its thresholds makes the best. Labels count by their rows, as a few say little. Where classes
    exclude each other there are no thresholds, and the main score decides.

    Args:
        logits, actual, distances: shape (rows, outputs); without distances the share is 0.
    """
    shares = SHARES if distances is not None else SHARES[:1]
    mixed = [logits if distances is None or not share else add_distances(logits, distances, share) for share in shares]
    scores, fold = [to_scores(one, labels) for one in mixed], np.arange(len(actual)) % FOLDS
    best, tried = _best(mixed, labels, actual), dict[int, np.ndarray]()
    decided = np.zeros(scores[best].shape, dtype=np.int64)
    for held_out in range(FOLDS):
        others = fold != held_out
        chosen = _best([one[others] for one in mixed], labels, actual[others])
        if chosen not in tried:
            tried[chosen] = decide_crossfitted(scores[chosen], labels, actual)
        decided[~others] = tried[chosen][~others]
    thresholds = None if labels.task == "multiclass" else choose_thresholds(scores[best], actual)
    return Mixture(shares[best], scores[best], thresholds, decided)


def _best(mixed: list[np.ndarray], labels: Labels, actual: np.ndarray) -> int:
    if len(mixed) == 1 or not actual.any():
        return 0
    if labels.task != "multiclass":
        there = np.flatnonzero(actual.any(axis=0))
        found = [[average_precision_score(actual[:, label], np.nan_to_num(one[:, label])) for label in there]
                 for one in mixed]  # fmt: skip
        precisions = np.average(found, axis=1, weights=actual[:, there].sum(axis=0))
        return int(np.argmax(np.round(precisions, 9)))  # Sums of many parts: equal ones differ by rounding.
    view, average = VIEWS[labels.task][MAIN_METRIC[labels.task]]
    once, truth = np.ones((1, len(actual))), view(actual)
    return int(np.argmax([f1_of(view(decide(one, labels, None)), truth, average)(once)[0] for one in mixed]))
