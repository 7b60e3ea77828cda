"""Corrected answers of an experiment in MLflow as rows: --dataset mlflow:EXPERIMENT."""

import json
import logging
from contextlib import suppress
from dataclasses import dataclass

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


def source_of(dataset: str) -> str:
    """Return what a run says of such a data set; MLflow takes `mlflow:` for a scheme that it does not know."""
    return f"corrected answers of {dataset.removeprefix(PREFIX).strip()}"


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
    corrected = sorted(((_corrections(trace), trace) for trace in traces), key=lambda pair: pair[0].moment)
    found: dict[str, dict] = {}
    for correction, trace in corrected:
        inputs = _inputs(trace)
        row = inputs | correction.values
        if correction.values and set(columns) <= set(row):
            key = json.dumps(inputs, sort_keys=True, default=str)
            found.pop(key, None)
            found[key] = row
    if not found:
        raise InputError(
            f"--dataset {dataset}: of the {len(traces)} answers kept there none was corrected (with"
            f" {', '.join(columns)}); correct some on the page of try_model.py."
        )
    logger.info(f"{dataset}: {len(found)} corrected answers of {len(traces)} that were kept")
    return list(found.values())


def _traces(name: str, dataset: str) -> list[Trace]:
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None and name.isdecimal():
        with suppress(MlflowException):
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


@dataclass(frozen=True)
class Correction:
    """The newest corrected answer of a trace by its column, and when it was given; no values where it has none."""

    values: dict
    moment: int


def _corrections(trace: Trace) -> Correction:
    given = [one for one in trace.info.assessments or [] if isinstance(one, Expectation)]
    given.sort(key=lambda one: one.last_update_time_ms or 0)
    last = given[-1].last_update_time_ms if given else 0
    return Correction({one.name: one.value for one in given}, last or 0)
