"""What MLflow or a disk refuses, in a sentence: before the work that would be lost, where that can be known."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune import InputError
from finetune.logged_models.checkpoint_files import TASK_TAG
from finetune.models.files.schemas import reason

import mlflow
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.uri import is_local_uri


def why_deleted(run: Run) -> str | None:
    """Return a sentence about a run, or its experiment, that was deleted."""
    experiment = run.info.experiment_id
    if mlflow.MlflowClient().get_experiment(experiment).lifecycle_stage != LifecycleStage.ACTIVE:
        return (
            f"the experiment of run {run.info.run_id} was deleted; `mlflow experiments restore --experiment-id"
            f" {experiment}` brings it back."
        )
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        return f"run {run.info.run_id} was deleted; `mlflow runs restore --run-id {run.info.run_id}` brings it back."
    return None


def refuse_deleted(run_id: str) -> None:
    """Raise InputError where a run, or its experiment, was deleted."""
    try:
        deleted = why_deleted(mlflow.get_run(run_id))
    except MlflowException:  # Not there yet, as a run that was trained offline.
        return
    if deleted:
        raise InputError(deleted)


def check_rights(run: Run, hint: str = "") -> None:
    """Write a tag of the run as it is, before work that would be lost.

    Args:
        hint: what else there is to do.

    Raises:
        InputError: when it, or its artifacts on this machine, cannot be written.
    """
    with logging_into(run, hint):
        name = TASK_TAG if TASK_TAG in run.data.tags else MLFLOW_RUN_NAME
        if name in run.data.tags:
            mlflow.MlflowClient().set_tag(run.info.run_id, name, run.data.tags[name])
        place = Path(local_file_uri_to_path(run.info.artifact_uri)) if is_local_uri(run.info.artifact_uri) else None
        while place and not place.exists():
            place = place.parent
        if place and not os.access(place, os.W_OK):
            raise PermissionError(f"its artifacts are in {place}, which this user may not write")


@contextmanager
def logging_into(run: Run, hint: str = "") -> Iterator[None]:
    """Turn what MLflow or a disk refuses into one sentence.

    Raises:
        InputError: with the reason.
    """
    try:
        yield
    except (MlflowException, OSError) as error:
        where = f"run {run.info.run_id} of {mlflow.get_tracking_uri()}"
        raise InputError(f"{where} cannot be written: {why_refused(error)}.{hint}") from error


def is_refused(error: Exception) -> bool:
    """Say whether a server says no to who asks."""
    signs = ("error code 403", "error code 401", "403 Client Error", "401 Client Error")
    codes = ("PERMISSION_DENIED", "UNAUTHENTICATED")
    return getattr(error, "error_code", "") in codes or any(sign in str(error) for sign in signs)


def why_refused(error: Exception) -> str:
    """Return what went wrong with MLflow, or a disk, in a line."""
    return f"this user has no right to it there ({reason(error)})" if is_refused(error) else reason(error)
