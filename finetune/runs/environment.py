"""What MLflow's own variables say of a training: those that MLflow Projects sets and the Trainer's callback knows."""

import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from finetune import InputError
from finetune.logged_models.checkpoint_files import FOLDER_TAG, TASK_TAG
from finetune.runs import tracking
from finetune.runs.checkpoints import STOPPED_TAG

import mlflow
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.validation import _validate_tag

logger = logging.getLogger(__name__)
RUN, NESTED, TAGS = "MLFLOW_RUN_ID", "MLFLOW_NESTED_RUN", "MLFLOW_TAGS"
EXPERIMENT, EXPERIMENT_ID = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"
ARTIFACTS, DISABLED, FLATTEN = "HF_MLFLOW_LOG_ARTIFACTS", "DISABLE_MLFLOW_INTEGRATION", "MLFLOW_FLATTEN_PARAMS"
PATIENCE = "FINETUNE_PATIENCE"
MOST_PARAMS = "MLFLOW_MAX_LOG_PARAMS"
ON, OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
LONGEST_NAME = 250  # of a run, in the databases of MLflow
OWN = "finetune."  # begins tags that --resume and log_model.py go by


class RunFlags(Protocol):
    """What the flags of every training say of its run."""

    experiment: str
    offline_ok: bool
    preflight_only: bool


def check_environment() -> None:
    """Look at what needs no store, before anything starts; say what is ignored.

    Raises:
        InputError: MLflow is switched off, or a variable has a value that means nothing.
    """
    if _is_on(DISABLED):
        raise InputError(
            f"{DISABLED} is set, but the model lives in MLflow; unset it. A database file needs no server."
        )
    if _is_on(ARTIFACTS):
        logger.warning(f"{ARTIFACTS} is ignored: --log-checkpoints says which checkpoints go to MLflow.")
    _is_on(NESTED), _is_on(FLATTEN)
    patience()
    count = _text(MOST_PARAMS)
    if count and not (count.isascii() and count.isdecimal()):
        raise InputError(f"{MOST_PARAMS} {count} must be a whole number.")
    given_tags()


def patience() -> float:
    """Return the seconds to wait, at the end of training, for a server that does not answer.

    Raises:
        InputError: FINETUNE_PATIENCE is no number of seconds.
    """
    try:
        seconds = float(_text(PATIENCE) or 60)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise InputError(f"{PATIENCE} {_text(PATIENCE)} must be a number of seconds, 0 or more.")
    return seconds


def given_tags() -> dict[str, str]:
    """Return the tags of MLFLOW_TAGS.

    Raises:
        InputError: no JSON object of texts, or names that MLflow or the scripts do not allow.
    """
    example = f'{TAGS} must be a JSON object of texts, such as {{"team": "a"}}'
    try:
        tags = json.loads(_text(TAGS) or "{}")
    except ValueError as error:
        raise InputError(f"{example}; it is no JSON ({error}).") from error
    if not isinstance(tags, dict):
        raise InputError(f"{example}; it is a {type(tags).__name__}.")
    for name, value in tags.items():
        if not isinstance(value, str | int | float):
            raise InputError(f"{example}; {name} is a {type(value).__name__}.")
        if name.startswith(OWN):
            raise InputError(f"{TAGS}: tags that begin with {OWN} are the scripts' own; call {name} something else.")
        try:
            _validate_tag(name, str(value))
        except MlflowException as error:
            raise InputError(f"{TAGS}: {error.message}") from error
        if "\0" in str(value):
            raise InputError(f"{TAGS}: the text of {name} has a NUL character, which no store keeps.")
    check_name(f"{TAGS}, {MLFLOW_RUN_NAME}", tags.get(MLFLOW_RUN_NAME))
    return {name: str(value) for name, value in tags.items()}


def check_name(what: str, name: str | float | None) -> None:
    """Raise InputError for a name that a run cannot have.

    Args:
        what: names where it was given.
    """
    text = "x" if name is None else str(name)
    if not text.strip() or not text.isprintable() or len(text) > LONGEST_NAME:
        raise InputError(
            f"{what} {text[:80]!r} cannot be a run's name: it must not be empty, have control characters or more than"
            f" {LONGEST_NAME} characters."
        )


def place(flags: RunFlags, is_given: bool) -> tuple[Run | None, dict[str, str]]:
    """Settle where a new training is logged: its experiment goes into the flags.

    Return the empty run that is there for it (MLFLOW_RUN_ID), or None for a new one, and the tags it gets.

    Args:
        is_given: --experiment was given, which comes before the variables.

    Raises:
        InputError: no such run or experiment, a run that holds a training, or contradictions.
    """
    run_id, tags = _text(RUN), given_tags()
    if flags.preflight_only:
        return None, tags
    if run_id:
        _connect(flags, RUN)
        run = _find_run(run_id)
        own = mlflow.get_experiment(run.info.experiment_id).name
        if not _is_on(NESTED):
            _check_experiment(flags, is_given, own)
            _check_empty(run)
            return run, tags
        tags |= {MLFLOW_PARENT_RUN_ID: run_id}
        logger.info(f"{NESTED}: the run becomes a child of {run_id}.")
        flags.experiment = flags.experiment if is_given else _experiment(flags) or own
        return None, tags
    if _is_on(NESTED):
        logger.warning(f"{NESTED} is ignored: there is no run to be nested in; {RUN} would name it.")
    if not is_given:
        flags.experiment = _experiment(flags) or flags.experiment
    return None, tags


def check_resumed(run_id: str) -> None:
    """Raise InputError where MLFLOW_RUN_ID names another run than --resume."""
    if _text(RUN) not in ("", run_id) and not _is_on(NESTED):
        raise InputError(f"--resume goes on with run {run_id}, and {RUN} names run {_text(RUN)}; unset {RUN}.")


@contextmanager
def settled() -> Iterator[None]:
    """Hide the variables that have been taken account of from the Trainer's callback."""
    names = (RUN, NESTED, TAGS, EXPERIMENT, EXPERIMENT_ID, ARTIFACTS)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _text(name: str) -> str:
    return os.environ.get(name, "").strip()


def _is_on(name: str) -> bool:
    value = _text(name).lower()
    if value not in (*ON, *OFF):
        raise InputError(f"{name} {_text(name)} is neither true nor false.")
    return value in ON


def _connect(flags: RunFlags, name: str) -> None:
    if not tracking.connect(flags.offline_ok):
        hint = f"give {EXPERIMENT}" if name == EXPERIMENT_ID else f"unset {name}"
        raise InputError(f"{name} cannot be looked up while the tracking server is away; {hint} for --offline-ok.")


def _find_run(run_id: str) -> Run:
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise InputError(
            f"{RUN} {run_id}: there is no such run in {mlflow.get_tracking_uri()}; unset it for a new run."
        ) from error
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise InputError(f"{RUN} {run_id}: this run was deleted; restore it, or unset the variable for a new run.")
    return run


def _check_empty(run: Run) -> None:
    """Raise InputError where a run holds a training: another one's points would be taken for its own."""
    tags, run_id = run.data.tags, run.info.run_id
    if not {FOLDER_TAG, TASK_TAG} & set(tags) and "loss" not in run.data.metrics:
        return
    if run.info.status == "FINISHED" and STOPPED_TAG not in tags:
        raise InputError(f"{RUN} {run_id}: this run already holds a finished training; unset it for a new run.")
    raise InputError(
        f"{RUN} {run_id}: this run already holds a training that has not come to its end; go on with it by --resume"
        f" {run_id}, or unset {RUN} for a new run."
    )


def _check_experiment(flags: RunFlags, is_given: bool, own: str) -> None:
    """Put the experiment of the run into the flags."""
    if is_given and flags.experiment != own:
        raise InputError(f"--experiment {flags.experiment}: {RUN} names a run of the experiment {own}; leave one out.")
    if _text(EXPERIMENT) not in ("", own):
        logger.warning(f"{EXPERIMENT} is ignored: {RUN} names a run of the experiment {own}.")
    flags.experiment = own


def _experiment(flags: RunFlags) -> str | None:
    """Return the experiment that the variables name, None where they name none."""
    name, number = _text(EXPERIMENT), _text(EXPERIMENT_ID)
    if not number:
        return name or None
    _connect(flags, EXPERIMENT_ID)
    try:
        found = mlflow.get_experiment(number).name
    except MlflowException as error:
        raise InputError(
            f"{EXPERIMENT_ID} {number}: there is no such experiment in {mlflow.get_tracking_uri()}."
        ) from error
    if name not in ("", found):
        raise InputError(f"{EXPERIMENT_ID} {number} is the experiment {found}, and {EXPERIMENT} is {name}; unset one.")
    return found
