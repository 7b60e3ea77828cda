"""The share of a linear SVM in a classifier's logits, chosen on held-out rows together with the thresholds."""

from dataclasses import dataclass

from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import add_distances, to_scores
from finetune.reports.classifier_scores import FOLDS, MAIN_METRIC, choose_thresholds, decide_crossfitted
from finetune.reports.paired import f1_of
from finetune.reports.scorecards.against import VIEWS

import numpy as np

SHARES = (0.0, 0.5, 1.0, 2.0, 4.0)


@dataclass
class Mixture:
    """What was chosen on rows.

    Attributes:
        share: of the SVM's distances; 0 for the logits alone.
        scores: of the rows, with that share.
        thresholds: one for each output; None where classes exclude each other.
        decided: decisions for which the thresholds of each fifth of the rows were chosen on the other four, and the
            share is the one whose decisions of that kind are best on those four.
    """

    share: float
    scores: np.ndarray
    thresholds: list[float] | None
    decided: np.ndarray


def choose(logits: np.ndarray, labels: Labels, actual: np.ndarray, distances: np.ndarray | None = None) -> Mixture:
    """Return the share, of `SHARES`, with the best main score on rows; of equal ones the smallest.

    Args:
        logits, actual, distances: shape (rows, outputs); without distances the share is 0.
    """
    shares = SHARES if distances is not None else SHARES[:1]
    mixed = [logits if distances is None or not share else add_distances(logits, distances, share) for share in shares]
    scores = [to_scores(one, labels) for one in mixed]
    tried = [decide_crossfitted(one, labels, actual) for one in scores]
    best = _best(tried, labels, actual, np.arange(len(actual)))
    decided, fold = tried[best].copy(), np.arange(len(actual)) % FOLDS
    for held_out in range(FOLDS):
        others = np.flatnonzero(fold != held_out)
        if len(shares) > 1 and len(others):
            decided[fold == held_out] = tried[_best(tried, labels, actual, others)][fold == held_out]
    thresholds = None if labels.task == "multiclass" else choose_thresholds(scores[best], actual)
    return Mixture(shares[best], scores[best], thresholds, decided)


def _best(tried: list[np.ndarray], labels: Labels, actual: np.ndarray, rows: np.ndarray) -> int:
    if len(tried) == 1:
        return 0
    view, average = VIEWS[labels.task][MAIN_METRIC[labels.task]]
    once = np.ones((1, len(rows)))
    return int(np.argmax([f1_of(view(one[rows]), view(actual[rows]), average)(once)[0] for one in tried]))
