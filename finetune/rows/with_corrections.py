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
    spell: Callable[[Rows], None] = lambda rows: None,
) -> Rows:
    """Return the rows of a data set as `load_rows` does, those of `mlflow:EXPERIMENT` behind its training rows.

    A correction of a text that is held out does not train.

    Args:
        dataset: one, or several of which all but the first name an experiment.
        spell: writes the labels of the rows, in place, as corrected answers have them.

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
    spell(rows)
    held_out = {_bare(row[columns[0]]) for part in (rows.validation, rows.test) for row in part or []}
    for name in others:
        more, _ = load_training_rows(name, columns, encoding, given)
        alike = _labelled_alike(rows.train, more.train, name)
        apart = [row for row in alike if _bare(row[columns[0]]) not in held_out]
        if len(apart) < len(alike):
            logger.info(f"{name}: {len(alike) - len(apart)} of its rows are held out, and are left out.")
        rows.train += apart
        rows.corrections.append(replace(more, train=apart))
    return rows


def _labelled_alike(rows: list[dict], corrected: list[dict], name: str) -> list[dict]:
    """Return the corrected rows that have the rows' column of labels: answers of another task have the other one."""
    column = next((column for column in ("labels", "label") if column in rows[0]), None)
    alike = [row for row in corrected if column is None or column in row]
    if len(alike) < len(corrected):
        logger.warning(f"{name}: {len(corrected) - len(alike)} of its rows have no {column}, and are left out.")
    return alike


def _bare(text: str) -> str:
    return " ".join(text.lower().split())
