"""The points of a learning curve on the same validation rows, their intervals, and what twice the rows would give."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from finetune import InputError
from finetune.reports.curves.row_scores import RowScores
from finetune.reports.paired import ALPHA, LEAST, ROUNDED, Score

import numpy as np

RESAMPLES = 2000
CHUNK = 100  # resamples at a time: memory grows with it
LEAST_POINTS = 3
CAVEAT = "Intervals are of the validation rows alone: another seed, or other rows drawn, would move the points too."


@dataclass(frozen=True)
class Point:
    """A training on a share of the rows: its percentage, its training rows, its run, its scores."""

    percent: int
    rows: int
    run_id: str
    scores: RowScores


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The ends of the interval; None where all resamples are alike, which says nothing of other rows."""
        return (self.low, self.high) if self.high - self.low > ROUNDED else None

    def __str__(self) -> str:
        return f"{self.value:.3f} ({f'{self.low:.3f} to {self.high:.3f}' if self.bounds else 'no interval'})"

    @property
    def signed(self) -> str:
        """The value as a difference."""
        return f"{self.value:+.3f} ({f'{self.low:+.3f} to {self.high:+.3f}' if self.bounds else 'no interval'})"


class LearningCurve:
    """The points of a curve, the fewest rows first.

    All intervals are percentiles of one bootstrap of the validation rows: each resample scores all points on the same
    rows, so differences are paired, and the fit is made anew in each.

    Args:
        points: at least two, on the same validation rows.

    Raises:
        InputError: they were not scored on the same rows, or no row is scored.
    """

    def __init__(self, points: list[Point]):
        self.points = points
        first = points[0].scores
        if any((one.scores.rows, one.scores.metric, one.scores.actual) != (first.rows, first.metric, first.actual)
               for one in points):  # fmt: skip
            raise InputError("the shares were not scored on the same validation rows: start a new curve.")
        self.usable = usable = np.logical_and.reduce([one.scores.usable for one in points])
        self.metric, self.evaluated = first.metric, int(usable.sum())
        if not self.evaluated:
            raise InputError("no validation row could be scored with all shares, so there is no curve to draw.")
        self.sizes = np.array([one.rows for one in points], dtype=float)
        scores = [one.scores.score(usable) for one in points]
        self.values = _score(scores, np.ones((1, self.evaluated)))[0]
        self.resampled = np.concatenate([_score(scores, drawn) for drawn in _resamples(self.evaluated)])

    @property
    def shares(self) -> list[Estimate]:
        """The metric of each point."""
        return [self._estimate(value, found) for value, found in zip(self.values, self.resampled.T, strict=True)]

    def gain(self, first: int, second: int) -> Estimate:
        """Return by how much one point is above another, by their places."""
        values, found = self.values, self.resampled
        return self._estimate(values[second] - values[first], found[:, second] - found[:, first])

    def moved(self, first: int, second: int) -> int:
        """Return how many rows two points, by their places, score or decide differently."""
        return int((self.points[first].scores.differs(self.points[second].scores) & self.usable).sum())

    def tells(self, first: int, second: int) -> bool:
        """Say whether the rows are enough to tell two points, by their places, from each other."""
        gain = self.gain(first, second)
        return self.moved(first, second) >= LEAST and not gain.low <= 0 <= gain.high

    @cached_property
    def why_not(self) -> str:
        """Why the curve does not allow an estimate for more rows; empty where it does."""
        if len(set(self.sizes)) < LEAST_POINTS:
            return f"it has {len(set(self.sizes))} points, and a fit needs at least {LEAST_POINTS} to be held against"
        gain, shares = self.gain(0, -1), f"{self.points[0].percent} % and {self.points[-1].percent} % of the rows"
        moved, step = self.moved(0, -1), self.gain(-2, -1).value
        if moved < LEAST:
            return (
                f"no difference can be told between {shares}: {moved} of the {self.evaluated:,} validation rows come"
                f" out differently, and fewer than {LEAST} tell nothing"
            )
        if not self.tells(0, -1):
            return f"no difference can be told between {shares}: {gain.signed}; more validation rows would tell more"
        if gain.bounds is None:
            return f"all validation rows moved alike between {shares}, which gives no interval: {gain.value:+.3f}"
        if gain.high < 0:
            return f"more rows made it worse between {shares}: {gain.signed}"
        if self.misfit > step:
            return f"the fitted line misses a point by {self.misfit:.3f}, more than the last step of {step:+.3f}"
        return ""

    def at(self, rows: float) -> Estimate:
        """Return what the fit says of so many rows."""
        found = self._fitted(self.resampled, rows)
        return self._estimate(self._fitted(self.values[None], rows)[0], found)

    @property
    def twice_gain(self) -> Estimate:
        """By how much the fit says that twice the largest share is above it."""
        most = self.sizes[-1]
        found = self._fitted(self.resampled, 2 * most) - self._fitted(self.resampled, most)
        return self._estimate(self.at(2 * most).value - self.at(most).value, found)

    @property
    def misfit(self) -> float:
        """By how much the fit misses the point that it misses most."""
        fitted = [self.at(rows).value for rows in self.sizes]
        return float(np.abs(self.values - fitted).max())

    def _fitted(self, scores: np.ndarray, rows: float) -> np.ndarray:
        """Return (samples,): what lines through log error over log rows, of scores (samples, points), say of rows."""
        errors = np.log(np.maximum(1 - scores, 0.5 / self.evaluated))  # No wrong row at all: half of one.
        places = np.log(self.sizes) - np.log(self.sizes).mean()
        means = errors.mean(axis=1)
        slopes = (errors - means[:, None]) @ places / (places**2).sum()
        return 1 - np.exp(means + slopes * (np.log(rows) - np.log(self.sizes).mean()))

    @staticmethod
    def _estimate(value: float, found: np.ndarray) -> Estimate:
        low, high = np.quantile(found, [ALPHA / 2, 1 - ALPHA / 2])
        return Estimate(float(value), float(low), float(high))


def _resamples(rows: int) -> Iterator[np.ndarray]:
    """Yield how often each row counts, (samples, rows), RESAMPLES samples in all."""
    random = np.random.default_rng(0)
    for _ in range(RESAMPLES // CHUNK):
        yield random.multinomial(rows, np.full(rows, 1 / rows), size=CHUNK).astype(float)


def _score(scores: list[Score], weights: np.ndarray) -> np.ndarray:
    return np.stack([score(weights) for score in scores], axis=1)
