"""Several data sets trained on together: each seen whole in an epoch, in shares as their weights say."""

import glob
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from random import Random

from finetune import InputError
from finetune.rows.corrections import PREFIX
from finetune.rows.files.reading import kind_of
from finetune.rows.loading import Rows

logger = logging.getLogger(__name__)
SET = "data set"  # the key under which a row says which it is of, until they are mixed
MOST_ROWS = 2_000_000  # of an epoch


@dataclass(frozen=True)
class Weighted:
    """A data set as `load_rows` takes it, with its weight, None where it has none."""

    dataset: str
    weight: float | None = None


def parse_sets(given: str | list[str]) -> list[Weighted]:
    """Return the data sets of --dataset.

    Each is NAME or NAME:WEIGHT. What is there by the whole name is that; of a Hub id without a number behind it, the
    part after the colon is its configuration, of a single one in any case.

    Raises:
        InputError: a weight that is none, one for a single file, or a set twice.
    """
    given = [given] if isinstance(given, str) else given
    found = [_parse(text, alone=len(given) == 1) for text in given]
    names = [one.dataset for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--dataset names {twice[0]} twice; give it once, with a weight such as {twice[0]}:2.")
    return found


def _parse(text: str, alone: bool) -> Weighted:
    name, colon, end = text.rpartition(":")
    if _is_here(text) or not colon or not name or f"{name}:" == PREFIX:
        return Weighted(text)
    try:
        weight = float(end)
    except ValueError as error:
        if _is_here(name) or kind_of(Path(name)):
            raise InputError(f"--dataset {text}: {end or 'nothing'} is no weight; expected {name}:2.") from error
        return Weighted(text)
    is_file = _is_here(name) or kind_of(Path(name)) is not None
    if alone and is_file:
        raise InputError(
            f"--dataset {text}: a weight says how several sets are mixed; give a second one, or no weight."
        )
    if not alone and not 0 < weight < math.inf:
        raise InputError(f"--dataset {text}: the weight must be a number above 0.")
    return Weighted(text) if alone else Weighted(name, weight)


def _is_here(name: str) -> bool:
    return os.path.exists(name) or bool(glob.glob(name, recursive=True))


def join(rows: Rows, others: list[Rows]) -> None:
    """Put the training rows of other sets behind those of the first, in place; each says which it is of."""
    rows.sets = [Rows(rows.train, None, rows.source, rows.split_by, rows.from_hub), *others]
    rows.train = [row | {SET: number} for number, one in enumerate(rows.sets) for row in one.train]


def mix(rows: Rows, sets: list[Weighted], limit: int | None, seed: int) -> None:
    """Repeat the joined training rows so that an epoch has them in shares as the weights say, in place; tell it.

    Each row is there at least once; the order is drawn by `seed`. Without weights each is there once.

    Args:
        limit: of the rows before they are repeated: the first ones.

    Raises:
        InputError: a set has no row left, or an epoch would be too long.
    """
    kept = rows.train[:limit]
    for number, one in enumerate(rows.sets):
        one.train = [{key: row[key] for key in row if key != SET} for row in kept if row[SET] == number]
    if empty := [one.dataset for one, own in zip(sets, rows.sets, strict=True) if not own.train]:
        cut = f" among the first {limit} (--max-train-rows)" if limit else ""
        raise InputError(f"{empty[0]}: no training row of it is left{cut}; leave the set out.")
    sizes = [len(one.train) for one in rows.sets]
    counts = counts_of(sizes, [one.weight for one in sets])
    if sum(counts) > MOST_ROWS:
        raise InputError(
            f"--dataset: an epoch would have {sum(counts):,} rows, as each set is seen whole in it; give weights that"
            " are nearer to each other."
        )
    random = Random(seed)
    rows.train = [
        row for one, count in zip(rows.sets, counts, strict=True) for row in _repeat(one.train, count, random)
    ]
    if counts != sizes:
        random.shuffle(rows.train)
    shares = [_share(*each) for each in zip(sets, sizes, counts, strict=True)]
    logger.info(f"An epoch: {', '.join(shares)}; validation rows are of {sets[0].dataset} alone")


def counts_of(sizes: list[int], weights: list[float | None]) -> list[int]:
    """Return how many rows of each set an epoch has: the fewest with which each is whole and the shares are right."""
    if not any(weights):
        return sizes
    given = [weight or 1.0 for weight in weights]
    unit = max(size / weight for size, weight in zip(sizes, given, strict=True))
    return [max(size, round(unit * weight)) for size, weight in zip(sizes, given, strict=True)]


def _repeat(rows: list[dict], count: int, random: Random) -> list[dict]:
    whole, rest = divmod(count, len(rows))
    return rows * whole + random.sample(rows, rest)


def _share(one: Weighted, size: int, count: int) -> str:
    times = f" (each about {count / size:.3g} times)" if count > size else ""
    return f"{count:,} rows of {one.dataset}{times}"
