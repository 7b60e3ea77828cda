"""`last` in the place of a run's id: the newest run of the store that fits, which is named before it is used."""

import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from finetune import InputError
from finetune.logged_models.checkpoint_files import FOLDER_TAG, TASK_TAG
from finetune.models.files.schemas import reason

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

logger = logging.getLogger(__name__)
LAST = "last"
PAGE = 50  # runs asked for at a time: the newest ones nearly always do


def is_last(reference: str) -> bool:
    """Say whether `last`, `runs:/last` or `runs:/last/NAME` is given."""
    return reference.removeprefix("runs:").lstrip("/").split("/")[0] == LAST


def find_last(fits: Callable[[Run], bool], needed: str, experiment: str | None = None) -> Run:
    """Return the newest run of a training script here that fits, and say which that is.

    Deleted runs, and those of others, are passed over.

    Args:
        needed: what a run has to have, for the message where none does.
        experiment: to look in; default: what MLFLOW_EXPERIMENT_NAME or _ID names, or the whole store.

    Raises:
        InputError: none fits, or the store cannot be searched.
    """
    store = mlflow.get_tracking_uri()
    try:
        where, experiments = _experiments(experiment)
        run = next(filter(fits, _newest(experiments)), None)
    except MlflowException as error:
        raise InputError(f"last: the runs of {store} cannot be searched: {reason(error)}.") from error
    if run is None:
        raise InputError(
            f"last: no run in {store}{where} {needed}; give a run's id, or set MLFLOW_TRACKING_URI where it was tracked"
            " elsewhere."
        )
    begun = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    task = run.data.tags.get(TASK_TAG, "of an unknown task")
    logger.info(
        f"last is run {run.info.run_id} ({run.info.run_name}): {task}, begun {begun:%Y-%m-%d %H:%M} UTC,"
        f" {run.info.status}"
    )
    return run


def _experiments(given: str | None) -> tuple[str, list[str]]:
    """Return where is looked, in words, and the ids of the experiments."""
    name = given or os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip()
    number = os.environ.get("MLFLOW_EXPERIMENT_ID", "").strip()
    if not name and not number:
        return "", [experiment.experiment_id for experiment in mlflow.search_experiments()]
    found = mlflow.get_experiment_by_name(name) if name else mlflow.get_experiment(number)
    return f", experiment {name or number},", [found.experiment_id] if found else []


def _newest(experiments: list[str]) -> Iterator[Run]:
    """Yield the runs that a training script here has begun, the newest first."""
    if not experiments:
        return
    client, token = mlflow.MlflowClient(), None
    while True:
        page = client.search_runs(
            experiments,
            f"tags.`{FOLDER_TAG}` != ''",
            order_by=["attributes.start_time DESC"],
            max_results=PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return
