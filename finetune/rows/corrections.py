"""Corrected answers of an experiment in MLflow as rows: --dataset mlflow:EXPERIMENT."""

import logging

from finetune import InputError
from finetune.models.files.schemas import reason

import mlflow
from mlflow.entities import Expectation, Trace
from mlflow.exceptions import MlflowException

logger = logging.getLogger(__name__)
PREFIX = "mlflow:"
KEY_TAG = "finetune.answer"  # a tag of each trace of an answer
MOST = 100_000  # traces that are looked at


def is_experiment(dataset: str) -> bool:
    """Say whether a data set is named as an experiment of MLflow."""
    return dataset.startswith(PREFIX)


def corrected_rows(dataset: str, columns: tuple[str, ...]) -> list[dict]:
    """Return the corrected answers of `mlflow:EXPERIMENT` (its name or id) as rows, the oldest first.

    Of one question that was corrected several times, the newest correction alone.

    Args:
        columns: that the rows must have; answers of other tasks have others.

    Raises:
        InputError: no such experiment, no corrected answer in it, or the store cannot be read.
    """
    name, store = dataset.removeprefix(PREFIX).strip(), mlflow.get_tracking_uri()
    try:
        traces = _traces(name, dataset)
    except MlflowException as error:
        raise InputError(f"--dataset {dataset}: the traces of {store} cannot be read: {reason(error)}.") from error
    found: dict[tuple, dict] = {}
    for trace in traces:  # The newest first.
        row = _inputs(trace) | _corrections(trace)
        if _corrections(trace) and set(columns) <= set(row):
            found.setdefault(tuple(str(value) for value in _inputs(trace).values()), row)
    if not found:
        raise InputError(
            f"--dataset {dataset}: of the {len(traces)} answers kept there none was corrected (with"
            f" {', '.join(columns)}); correct some on the page of try_model.py."
        )
    logger.info(f"{dataset}: {len(found)} corrected answers of {len(traces)} that were kept")
    return list(found.values())[::-1]


def _traces(name: str, dataset: str) -> list[Trace]:
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None and name.isdecimal():
        experiment = mlflow.get_experiment(name)
    if experiment is None:
        there = ", ".join(one.name for one in mlflow.search_experiments(max_results=10))
        raise InputError(
            f"--dataset {dataset}: there is no experiment {name} in {mlflow.get_tracking_uri()}; it has {there}."
        )
    return mlflow.search_traces(
        locations=[experiment.experiment_id],
        filter_string=f"tags.`{KEY_TAG}` != ''",
        order_by=["timestamp_ms DESC"],
        max_results=MOST,
        return_type="list",
    )


def _inputs(trace: Trace) -> dict:
    """Return what the model was given."""
    root = next((span for span in trace.data.spans if span.parent_id is None), None)
    return root.inputs if root is not None and isinstance(root.inputs, dict) else {}


def _corrections(trace: Trace) -> dict:
    """Return the newest corrected answer by its column."""
    given = [one for one in trace.info.assessments or [] if isinstance(one, Expectation)]
    given.sort(key=lambda one: one.last_update_time_ms or 0)
    return {one.name: one.value for one in given}
