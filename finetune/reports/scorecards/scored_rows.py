"""The rows that logged models are scored on: read, named as the task names them, logged as a data set."""

import logging
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from finetune import InputError
from finetune.logged_models.opening import LoggedModel
from finetune.logged_models.refusals import logging_into
from finetune.rows.files.columns import parse_columns, read_columns
from finetune.rows.files.reading import read_rows
from finetune.rows.loading import part_of
from finetune.runs import tracking

import mlflow
from mlflow.data.dataset import Dataset

logger = logging.getLogger(__name__)


def load(flags: Namespace) -> list[dict]:
    """Return the rows of the part to score.

    Raises:
        InputError: no such file or part.
    """
    split = [item for item in flags.column or () if item.startswith("split=")]
    flags.column = [item for item in flags.column or () if item not in split]
    what, given = f"the rows of {flags.dataset}", dict(item.split("=", 1) for item in split)
    rows, _ = read_columns(read_rows(flags.dataset, flags.encoding), (), given, what)
    if any("split" in row for row in rows):
        wanted = part_of({"split": flags.split}, "--split")
        parts = [part_of(row, f"row {number} of {flags.dataset}") for number, row in enumerate(rows, start=1)]
        rows = [row for row, part in zip(rows, parts, strict=True) if part == wanted]
        if not rows:
            raise InputError(f"{flags.dataset} has no rows of --split {flags.split}; it has {', '.join(set(parts))}.")
    return rows[: flags.max_rows]


def name_columns(rows: list[dict], required: tuple[str, ...], flags: Namespace, logged: LoggedModel) -> list[dict]:
    """Return the rows under the names that the model's task has for their columns."""
    given, trained = parse_columns(flags.column, required), logged.card.columns
    needed = tuple(name for name in required if name != "context" or not flags.database)
    return read_columns(rows, required, given, f"the rows of {flags.dataset}", trained, needed)[0]


@contextmanager
def log_rows(flags: Namespace, rows: list[dict], columns: tuple[str, ...]) -> Iterator[tuple[str, Dataset]]:
    """Log the rows as a data set of the run that the model came from, its status untouched; yield its id and the set.

    Raises:
        InputError: what is logged of them meanwhile is refused; the scores are printed by then.
    """
    run_id, source, name = flags.run.info.run_id, str(flags.dataset.resolve()), f"{flags.name}_rows"
    logger.info(f"logging into run {run_id} of {mlflow.get_tracking_uri()}")
    with logging_into(flags.run, " The scores are those printed above."):
        yield run_id, tracking.log_dataset(run_id, rows, columns, source, name, "evaluation")
        tracking.log_messages(run_id)
