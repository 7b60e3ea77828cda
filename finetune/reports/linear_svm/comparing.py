"""A trained classifier beside a linear SVM on the same rows: scores of both, their difference, and the word for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import decide, to_scores
from finetune.reports.classifier_scores import MAIN_METRIC, METRICS, score_labels
from finetune.reports.linear_svm.mixing import choose
from finetune.reports.paired import LEAST, Paired
from finetune.reports.scorecards.against import compare_decisions
from finetune.rows.labelled_texts import LabelledTexts

import numpy as np

MAX_GROUPS = 2000  # that are resampled: more rows, or documents, go into so many parts by their number
CHOSE = "validation"  # the part whose rows chose the model among the checkpoints


@dataclass
class BesideSvm:
    """A model and a linear SVM on the rows of a part.

    Attributes:
        scores: of the SVM, by name.
        metric: the main one, which `pair` compares: the model's first.
        unit: what was resampled.
    """

    part: str
    scores: dict[str, float]
    metric: str
    pair: Paired
    unit: str

    def metrics(self) -> dict[str, float]:
        """Return the scores and the difference, with its interval, under the names of metrics of a run."""
        found = {f"{self.part}_svm_{name}": value for name, value in self.scores.items()}
        pair = self.pair
        bounds = {"": pair.difference, "_low": pair.low, "_high": pair.high, "_p": pair.p}
        return found | {f"{self.part}_svm_difference{end}": value for end, value in bounds.items()}

    @property
    def is_better(self) -> bool:
        """Say whether the model is shown to be better: on rows that chose nothing, by interval and by p."""
        return self.part != CHOSE and self.is_ahead

    @property
    def is_ahead(self) -> bool:
        """Say whether interval and p both say so: where few rows differ, an interval alone says too much."""
        return self.pair.low > 0 and self.pair.verdict == "better"

    @property
    def figures(self) -> str:
        """The two scores and their difference, in words."""
        pair = self.pair
        return (
            f"{self.metric} of the SVM {pair.second:.3f}, of the model {pair.first:.3f} on {self.part}:"
            f" {pair.difference:+.3f} ({pair.low:+.3f} to {pair.high:+.3f}, 95 % by {self.unit}; p = {pair.p:.2g})"
        )

    def sentence(self, read: int, texts: int) -> str:
        """Return what a user must know before the model is used.

        Args:
            read: how many of the training's texts the SVM has read.
        """
        svm = "linear SVM on TF-IDF" + (f" of {read} of the {texts} training texts" if read < texts else "")
        if self.is_better:
            return f"The model is better than a {svm}: {self.figures}"
        if self.is_ahead:
            where = "on the rows that chose its thresholds; whether it is better, a test part shows"
            return f"The model is ahead of a {svm} {where}: {self.figures}"
        if self.pair.high < 0 and self.pair.verdict == "worse":
            return f"A {svm}, a minute of work at most, is better: {self.figures}"
        return f"The model is not shown to be better than a {svm}, a minute of work at most: {self.figures}"

    def format(self) -> str:
        """Return it as lines below a scorecard."""
        found = [f"{name} {value:.3f}" for name, value in self.scores.items()]
        return f"  a linear SVM on TF-IDF, same rows: {', '.join(found)}\n  {self.figures}"


def beside_svm(
    part: str, labels: Labels, rows: LabelledTexts, decided: np.ndarray, distances: np.ndarray,
    thresholds: list[float] | None = None,
) -> BesideSvm:  # fmt: skip
    """Compare decisions of a model, shape (rows, outputs), with those of an SVM.

    Args:
        thresholds: of the SVM; without, those of each fifth of the rows are chosen on the other four.
    """
    actual, metric = rows.actual, MAIN_METRIC[labels.task]
    scores = to_scores(distances, labels)
    theirs = choose(distances, labels, actual).decided if thresholds is None else decide(scores, labels, thresholds)
    groups, unit = groups_of(rows.documents, len(rows.texts))
    pair = compare_decisions(labels.task, metric, decided, theirs, actual, groups)
    found = score_labels(labels, scores, theirs, actual)
    return BesideSvm(part, {name: found[name] for name in METRICS[labels.task]}, metric, pair, unit)


def groups_of(documents: Sequence[str] | None, rows: int) -> tuple[np.ndarray, str]:
    """Return the number of each row's group, from 0 on, and what the groups are: documents, or texts.

    Few documents say nothing of others: then texts are resampled.
    """
    names = dict.fromkeys(documents or ())
    if len(names) >= LEAST:
        numbers = {name: number for number, name in enumerate(names)}
        return np.array([numbers[name] for name in documents or ()]) % MAX_GROUPS, "documents"
    return np.arange(rows) % MAX_GROUPS, "texts"
