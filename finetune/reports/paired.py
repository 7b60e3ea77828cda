"""Two models, or a model and its base, on the same rows: what the difference of their scores allows to say."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest, norm

RESAMPLES = 10_000
CHUNK = 500  # resamples at a time: memory grows with it
ALPHA = 0.05
EXACT = 12  # rows: all exchanges of so many are tried
ROUNDED = 1e-12  # sums in another order are equal scores
Score = Callable[[np.ndarray], np.ndarray]
LEAST = 6  # rows: fewer give no p below 0.05, however they differ
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
    low, high = _interval(_mean(first, second), len(one), seed) if interval else (math.nan, math.nan)
    won, lost = int((one & ~two).sum()), int((two & ~one).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Paired(float(one.mean()), float(two.mean()), low, high, p, len(one), won, lost)


def paired_means(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Paired:
    """Compare the means of two scores of each row."""
    return paired_scores(_mean(first, second), len(first), seed)


def _mean(first: Sequence[float], second: Sequence[float]) -> Score:
    values = np.concatenate([first, second]).astype(float)
    return lambda weights: weights @ values / len(first)


def paired_scores(score: Score, rows: int, seed: int = 0) -> Paired:
    """Compare a score of two over a whole split: its p by exchange of their answers, its interval by bootstrap.

    Args:
        score: takes how often each answer counts, shape (samples, 2 * rows), those of the first before those of the
            second, and returns the score of each sample, (samples,).
    """
    first, second = score(_weights(np.zeros((1, rows)))), score(_weights(np.ones((1, rows))))
    p = _exchanged(score, rows, float((first - second)[0]), seed)
    return Paired(float(first[0]), float(second[0]), *_interval(score, rows, seed), p, rows)


def _weights(exchanged: np.ndarray) -> np.ndarray:
    """Return weights of what the first answers, but for rows that are 1: there the second's answer counts."""
    return np.concatenate([1.0 - exchanged, exchanged], axis=1)


def _exchanged(score: Score, rows: int, found: float, seed: int) -> float:
    """Return two-sided p: how often the two differ so much where both answers of a row are exchanged by chance.

    All exchanges of few rows, which is exact; 10,000 of them otherwise (Fisher 1935; Noreen 1989).
    """
    if rows <= EXACT:
        flips = (np.arange(2**rows)[:, None] >> np.arange(rows)) & 1
        return float((_differences(score, flips) >= abs(found) - ROUNDED).mean())
    random, more = np.random.default_rng(seed), 0
    for count in _chunks():
        flips = random.integers(0, 2, size=(count, rows))
        more += int((_differences(score, flips) >= abs(found) - ROUNDED).sum())
    return (more + 1) / (RESAMPLES + 1)


def _differences(score: Score, flips: np.ndarray) -> np.ndarray:
    return np.abs(score(_weights(flips)) - score(_weights(1 - flips)))


def _chunks() -> list[int]:
    return [min(CHUNK, RESAMPLES - start) for start in range(0, RESAMPLES, CHUNK)]


def _interval(score: Score, rows: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference, by resampling rows for both together (Efron and Tibshirani 1993)."""
    random, differences = np.random.default_rng(seed), []
    for count in _chunks():
        drawn = random.multinomial(rows, np.full(rows, 1 / rows), size=count).astype(float)
        none = np.zeros_like(drawn)
        differences.append(score(np.hstack([drawn, none])) - score(np.hstack([none, drawn])))
    low, high = np.quantile(np.round(np.concatenate(differences), 12), [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def f1_of(
    decided: np.ndarray, actual: np.ndarray, average: str, groups: np.ndarray | None = None, only_there: bool = False
) -> Score:
    """Return a function from how often rows count, (samples, rows), to micro or macro F1, (samples,).

    Args:
        decided, actual: of 0 and 1, shape (rows, labels).
        groups: the number of the group that each row is in; groups are drawn then, in the place of rows.
        only_there: macro F1 is the mean over the labels that are there or found in a sample, not 0 for each of the
            others; one that is so in no row at all is 0 in each sample.
    """
    hits, found, there = (np.asarray(a, dtype=float) for a in (decided * actual, decided, actual))
    if groups is not None:
        hits, found, there = (_summed(counts, groups) for counts in (hits, found, there))

    nowhere = (found + there).sum(axis=0) == 0

    def score(weights: np.ndarray) -> np.ndarray:
        right, sums = weights @ hits, weights @ found + weights @ there
        if average == "micro":
            right, sums = right.sum(axis=1, keepdims=True), sums.sum(axis=1, keepdims=True)
        scores = 2 * right / np.maximum(sums, 1e-12)
        if average == "micro" or not only_there:
            return scores.mean(axis=1)
        counted = (sums > 0) | nowhere
        return (scores * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)

    return score


def _summed(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    summed = np.zeros((int(groups.max()) + 1, counts.shape[1]))
    np.add.at(summed, groups, counts)
    return summed


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
    needed = max(LEAST, math.ceil((spread / difference) ** 2))
    return needed if needed <= MOST else None


def sentence(found: Paired, other: str, unit: str = "questions") -> str:
    """Return in a sentence what the comparison allows to say.

    Args:
        other: what the first is compared with, such as `the base`.
        unit: what the rows are, more than one.
    """
    rows = f"{found.rows} {unit if found.rows != 1 else unit.removesuffix('s')}"
    if found.verdict in ("better", "worse"):
        return f"{found.verdict} than {other} (p = {found.p:.2g}, {rows})"
    if found.rows == 0:
        return f"no {unit} are scored, so nothing can be said"
    if not found.difference:
        return f"no difference from {other} can be told from {rows}"
    text = f"{rows} {'are' if found.rows != 1 else 'is'} too few to tell it from {other} (p = {found.p:.2g})"
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
