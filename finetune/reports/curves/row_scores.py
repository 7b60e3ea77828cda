"""What a training got right, validation row by row: kept in its run, so that trainings can be compared later."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from finetune.models.classifier.labels import Labels
from finetune.models.files.schemas import NULL, check, either, listed, matching, number, text, whole
from finetune.reports.classifier_scores import MAIN_METRIC
from finetune.reports.paired import Score, f1_of
from finetune.reports.scorecards.against import VIEWS
from finetune.runs import tracking

import numpy as np

FILE = "scores/validation_by_row.json"  # Not beside the scorecards, which are tables.


@dataclass(frozen=True)
class RowScores:
    """The main metric of a training on its validation rows.

    Attributes:
        metric: its name.
        scores: of each row, None where it has no usable gold; the metric is their mean.
        average: micro or macro, where the metric is an F1 of decisions; they have no scores of single rows.
        decided, actual: then, the columns of each row that are on.
        columns: then, how many there are.
    """

    metric: str
    scores: Sequence[float | None] | None = None
    average: str | None = None
    decided: list[list[int]] | None = None
    actual: list[list[int]] | None = None
    columns: int = 0

    @classmethod
    def of_labels(cls, labels: Labels, decided: np.ndarray, actual: np.ndarray) -> "RowScores":
        """Return those of decisions, arrays of 0 and 1 of shape (rows, outputs)."""
        metric = MAIN_METRIC[labels.task]
        view, average = VIEWS[labels.task][metric]
        given, there = view(decided), view(actual)
        decided_on, actual_on = ([np.flatnonzero(row).tolist() for row in side] for side in (given, there))
        return cls(metric, None, average, decided_on, actual_on, given.shape[1])

    @property
    def rows(self) -> int:
        """The number of validation rows."""
        return len(self.scores if self.scores is not None else self.actual or ())

    @property
    def usable(self) -> np.ndarray:
        """Which rows are scored, shape (rows,)."""
        return np.array([score is not None for score in self.scores]) if self.scores else np.ones(self.rows, bool)

    def score(self, usable: np.ndarray) -> Score:
        """Return a function from how often usable rows count, (samples, usable rows), to the metric, (samples,)."""
        if self.scores is not None:
            values = np.array([score for score, used in zip(self.scores, usable, strict=True) if used], dtype=float)
            return lambda weights: weights @ values / weights.sum(axis=1)
        decided, actual = (self._matrix(side)[usable] for side in (self.decided, self.actual))
        return f1_of(decided, actual, self.average or "macro", only_there=True)

    def differs(self, other: "RowScores") -> np.ndarray:
        """Return which rows another training scores, or decides, otherwise; shape (rows,)."""
        pairs = zip(self.scores or self.decided or (), other.scores or other.decided or (), strict=True)
        return np.array([one != two for one, two in pairs])

    def _matrix(self, on: list[list[int]] | None) -> np.ndarray:
        found = np.zeros((self.rows, self.columns))
        for row, columns in enumerate(on or ()):
            found[row, columns] = 1
        return found

    def log(self, run_id: str | None = None) -> None:
        """Log them into a run, by default the one in training."""
        tracking.log_dict(asdict(self), FILE, run_id)

    @classmethod
    def read(cls, run_id: str) -> "RowScores | None":
        """Return those of a run, None where it has none.

        Raises:
            InputError: the file is damaged.
        """
        found = tracking.load_artifact_json(run_id, FILE)
        if found is None:
            return None
        rows = either(NULL, listed(listed(whole(0, 10**6))))
        known = {
            "metric": matching(r"\w{1,60}", "the name of a metric"),
            "scores": either(NULL, listed(either(NULL, number(0, 1)))),
            "average": either(NULL, text()),
            "decided": rows,
            "actual": rows,
            "columns": whole(0, 10**6),
        }
        return cls(**check(found, known, f"{FILE} of run {run_id}", "train that share anew"))
