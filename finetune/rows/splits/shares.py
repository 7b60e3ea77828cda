"""A percentage of the training rows: that of 25 is within that of 50, and each label stays."""

import logging
import math
from collections.abc import Callable, Hashable
from random import Random

from finetune.models.classifier.labels import as_name, labels_of
from finetune.rows.loading import Rows
from finetune.rows.mixing import SET

logger = logging.getLogger(__name__)
Groups = Callable[[dict], set[Hashable]]


def by_label(row: dict) -> set[Hashable]:
    """Return the labels of a row, for `take_percent`."""
    return {as_name(label, "a training row") for label in labels_of(row, "a training row")}


def by_set(row: dict) -> set[Hashable]:
    """Return the data set of a row where several are mixed, for `take_percent`."""
    return {row.get(SET)}


def take_percent(rows: Rows, percent: int | None, seed: int, groups: Groups = by_set) -> Rows:
    """Leave a percentage of the training rows, in place, in their order; corrected answers behind them alike.

    Args:
        percent: from 1 to 100; None for all.
        groups: of a row, each of which keeps about as large a share of its rows, and at least one.
    """
    if percent is None:
        return rows
    before, own = len(rows.train), len(rows.train) - sum(len(one.train) for one in rows.corrections)
    rows.train = _take(rows.train[:own], percent, seed, groups)
    for one in rows.corrections:
        one.train = _take(one.train, percent, seed, groups)
        rows.train += one.train
    logger.info(f"--train-percent {percent}: {len(rows.train):,} of {before:,} training rows")
    return rows


def _take(rows: list[dict], percent: int, seed: int, groups: Groups) -> list[dict]:
    order, found = list(range(len(rows))), [groups(row) for row in rows]
    Random(seed).shuffle(order)
    counts: dict = {}
    for group in (group for names in found for group in names):
        counts[group] = counts.get(group, 0) + 1
    # A row counts for the rarest of its labels: common ones come along.
    strata: dict = {}
    first = dict.fromkeys(_one_of_each(order, found, counts))
    for place in [*first, *(each for each in order if each not in first)]:
        rarest = min(found[place], key=lambda group: (counts[group], str(group)), default=None)
        strata.setdefault(rarest, []).append(place)
    # The front of each stratum is the same for each percentage: so smaller shares are within larger ones.
    kept = {place for places in strata.values() for place in places[: math.ceil(len(places) * percent / 100)]}
    return [rows[place] for place in sorted(kept.union(first))]


def _one_of_each(order: list[int], found: list[set], counts: dict) -> list[int]:
    """Return a row of each group, the rarest group first; rows that have several of them are not taken twice."""
    chosen: list[int] = []
    covered: set = set()
    for group in sorted(counts, key=lambda name: (counts[name], str(name))):
        if group not in covered:
            chosen.append(next(place for place in order if group in found[place]))
            covered |= found[chosen[-1]]
    return chosen
