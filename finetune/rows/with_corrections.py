"""A data set with corrected answers beside it: for the tasks that train on one data set."""

import logging
from collections.abc import Callable
from dataclasses import replace

from finetune import InputError
from finetune.rows.corrections import is_experiment
from finetune.rows.loading import Rows, load_rows, load_training_rows

logger = logging.getLogger(__name__)


def load_with_corrections(
    dataset: str | list[str],
    columns: tuple[str, ...],
    validation_fraction: float | None,
    seed: int,
    encoding: str,
    given: dict[str, str],
    hold_out: Callable,
) -> Rows:
    """Return the rows of a data set as `load_rows` does, those of `mlflow:EXPERIMENT` behind its training rows.

    A correction of a text that is held out does not train.

    Args:
        dataset: one, or several of which all but the first name an experiment.

    Raises:
        InputError: see `load_rows`; a further data set that names no experiment.
    """
    first, *others = [dataset] if isinstance(dataset, str) else dataset
    if wrong := [name for name in others if not is_experiment(name)]:
        raise InputError(
            f"--dataset {wrong[0]}: this script trains on one data set; behind it, corrected answers are named as"
            " mlflow:EXPERIMENT."
        )
    rows = load_rows(first, columns, validation_fraction, seed, encoding, given, hold_out)
    held_out = {_bare(row[columns[0]]) for part in (rows.validation, rows.test) for row in part or []}
    for name in others:
        more, _ = load_training_rows(name, columns, encoding, given)
        apart = [row for row in more.train if _bare(row[columns[0]]) not in held_out]
        if len(apart) < len(more.train):
            logger.info(f"{name}: {len(more.train) - len(apart)} of its rows are held out, and are left out.")
        rows.train += apart
        rows.corrections.append(replace(more, train=apart))
    return rows


def _bare(text: str) -> str:
    return " ".join(text.lower().split())
