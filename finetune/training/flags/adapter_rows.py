"""What the adapter that a training starts from was trained on: rows that are held out now may be among it."""

import logging
from collections.abc import Iterator

from finetune import InputError
from finetune.runs import tracking
from finetune.training.flags.adapter_flags import RUN_TAG, Start

from mlflow.data.dataset import Dataset
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

logger = logging.getLogger(__name__)
MOST_RUNS = 20  # one after the other, each from the adapter of the one before


def warn_of_learnt_rows(start: Start | None, held_out: Dataset) -> None:
    """Warn where a run that the adapter comes from was trained on the data set that rows are held out of.

    The same rows may be held out there: then it has learnt none of them. Runs that are not in this store are unknown.

    Args:
        held_out: as it is logged, with source and digest.
    """
    for run in _runs_behind(start):
        inputs = [one for one in run.inputs.dataset_inputs if one.dataset.source == held_out.to_dict()["source"]]
        trained = any(
            tag.value == "training" for one in inputs for tag in one.tags if tag.key == MLFLOW_DATASET_CONTEXT
        )
        if trained and held_out.digest not in {one.dataset.digest for one in inputs}:
            logger.warning(
                f"the adapter was trained on this data set before (run {run.info.run_id}), and measured on other"
                " rows of it: it may have learnt some that are held out here, and their score then measures memory."
                " Start from an adapter that has not seen the data set, or mark rows in a column `split`, the same ones"
                " each time."
            )
            return


def _runs_behind(start: Start | None) -> Iterator[Run]:
    """Yield the run that the adapter is of, the one that this has started from, and so on."""
    run_id = start.card.run_id if start else None
    for _ in range(MOST_RUNS):
        if not run_id:
            return
        try:
            run = tracking.find_run(run_id)
        except InputError:
            return
        yield run
        run_id = run.data.tags.get(RUN_TAG)
