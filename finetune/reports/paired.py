"""Two models, or a model and its base, on the same rows: what the difference of their scores allows to say."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest, norm

RESAMPLES = 10_000
CHUNK = 500  # resamples at a time: memory grows with it
ALPHA = 0.05
Score = Callable[[np.ndarray], np.ndarray]
MOST = 10_000  # rows: more than that are not asked for


@dataclass(frozen=True)
class Paired:
    """A score of two on the same rows.

    Attributes:
        first, second: the scores, from 0 to 1.
        low, high: 95 % interval of `first - second`.
        p: two-sided, of no difference.
        rows: that both were scored on.
        only_first, only_second: rows that one alone gets right; None where rows are not right or wrong.
    """

    first: float
    second: float
    low: float
    high: float
    p: float
    rows: int
    only_first: int | None = None
    only_second: int | None = None

    @property
    def difference(self) -> float:
        """`first - second`."""
        return self.first - self.second

    @property
    def verdict(self) -> str:
        """What can be said of the first: better, worse, or `no difference can be told`."""
        if self.p >= ALPHA or not self.difference:
            return "no difference can be told"
        return "better" if self.difference > 0 else "worse"

    def metrics(self) -> dict[str, float]:
        """Return the numbers by name."""
        return {name: value for name, value in asdict(self).items() if value is not None} | {
            "difference": self.difference
        }


def mcnemar(first: Sequence[bool], second: Sequence[bool], seed: int = 0, interval: bool = True) -> Paired:
    """Compare which rows two get right: p of the exact test of McNemar (1947), the interval by bootstrap of the rows.

    Args:
        interval: without it, `low` and `high` are NaN.
    """
    one, two = np.array(first, dtype=bool), np.array(second, dtype=bool)
    if not len(one):
        return Paired(0.0, 0.0, -1.0, 1.0, 1.0, 0, 0, 0)
    low, high = math.nan, math.nan
    if interval:
        found = paired_means(first, second, seed)
        low, high = found.low, found.high
    won, lost = int((one & ~two).sum()), int((two & ~one).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Paired(float(one.mean()), float(two.mean()), low, high, p, len(one), won, lost)


def paired_means(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Paired:
    """Compare the means of two scores of each row, by paired bootstrap."""
    one, two = np.array(first, dtype=float), np.array(second, dtype=float)
    return paired_bootstrap(lambda weights: (weights @ one / len(one), weights @ two / len(two)), len(one), seed)


def paired_bootstrap(
    scores: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], rows: int, seed: int = 0, resamples: int = RESAMPLES
) -> Paired:
    """Compare two scores over a whole split, by resampling its rows for both together (Efron and Tibshirani 1993).

    Args:
        scores: takes how often each row counts, shape (samples, rows), and returns both scores of each, (samples,).
    """
    first, second = (float(values[0]) for values in scores(np.ones((1, rows))))
    random, differences = np.random.default_rng(seed), []
    for start in range(0, resamples, CHUNK):
        count = min(CHUNK, resamples - start)
        one, two = scores(random.multinomial(rows, np.full(rows, 1 / rows), size=count).astype(float))
        differences.append(one - two)
    drawn = np.round(np.concatenate(differences), 12)  # Sums in another order are equal scores.
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Paired(first, second, float(low), float(high), min(1.0, 2 * (tail + 1) / (resamples + 1)), rows)


def both(first: Score, second: Score) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return two scores as one function of how often rows count."""
    return lambda weights: (first(weights), second(weights))


def f1_of(decided: np.ndarray, actual: np.ndarray, average: str) -> Score:
    """Return a function from how often rows count, (samples, rows), to micro or macro F1, (samples,).

    Args:
        decided, actual: of 0 and 1, shape (rows, labels).
    """
    hits, found, there = (np.asarray(a, dtype=float) for a in (decided * actual, decided, actual))

    def score(weights: np.ndarray) -> np.ndarray:
        right, sums = weights @ hits, weights @ found + weights @ there
        if average == "micro":
            right, sums = right.sum(axis=1, keepdims=True), sums.sum(axis=1, keepdims=True)
        return (2 * right / np.maximum(sums, 1e-12)).mean(axis=1)

    return score


def rows_needed(first: float, second: float, only_one: float, power: float = 0.8) -> int | None:
    """Return about how many rows would tell a difference as large as this one, at p < 0.05 four times in five.

    McNemar's test in its normal approximation (Connor 1987). None where no number of rows that anybody has would do.

    Args:
        first, second: the shares of rows that each gets right.
        only_one: the share of rows that one alone gets right.
    """
    difference = abs(first - second)
    if not difference:
        return None
    spread = norm.ppf(1 - ALPHA / 2) * math.sqrt(only_one)
    spread += norm.ppf(power) * math.sqrt(max(0.0, only_one - difference**2))
    needed = math.ceil((spread / difference) ** 2)
    return needed if needed <= MOST else None


def sentence(found: Paired, other: str, unit: str = "questions") -> str:
    """Return in a sentence what the comparison allows to say.

    Args:
        other: what the first is compared with, such as `the base`.
        unit: what the rows are.
    """
    if found.verdict in ("better", "worse"):
        return f"{found.verdict} than {other} (p = {found.p:.2g}, {found.rows} {unit})"
    if found.rows == 0:
        return f"no {unit} are scored, so nothing can be said"
    if not found.difference:
        return f"no difference from {other} can be told from {found.rows} {unit}"
    text = f"{found.rows} {unit} are too few to tell it from {other} (p = {found.p:.2g})"
    if found.only_first is None or found.only_second is None:
        return text
    needed = rows_needed(found.first, found.second, (found.only_first + found.only_second) / found.rows)
    if needed and needed > found.rows:
        return f"{text}; a difference like this one would take about {round_up(needed)}"
    return text


def round_up(count: int) -> int:
    """Return a number rounded up to two digits."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return math.ceil(count / unit) * unit
