"""A run's models in MLflow: made when all their files are there, and cleared away where one was cut off.

MLflow takes the newest model of a name, whether its files are there or not: an entry that is never finished would
hide the good one before it.
"""

import json
import logging
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from finetune import InputError
from finetune.logged_models.checkpoint_files import step_of
from finetune.models.card import Card
from finetune.models.files.digests import FILES, digests_of
from finetune.permissions import share_files

import mlflow
import psutil
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

logger = logging.getLogger(__name__)
CHECKPOINT_TAG = "finetune.checkpoint"  # digest of what was logged
PROCESS_TAG = "finetune.logged_by"  # machine, process and its start
ATTEMPT_TAG = "finetune.attempt"  # one for each time that something is logged: a process may log twice
FORBIDDEN = "/:.%\"'`\\"
ABANDONED = 3600  # seconds after which an entry of another machine, or of who knows whom, is taken for left
NAMESPACE = Path("/proc/self/ns/pid")
# Runs beside a process that logs over a model, and outlives it: plain MLflow would take what it leaves.
GUARD = f"""import sys, mlflow
experiment, run_id, name, attempt = sys.argv[1:]
sys.stdin.read()
query = f"source_run_id = '{{run_id}}' AND name = '{{name}}'"
for model in mlflow.search_logged_models([experiment], query, output_format="list"):
    if model.status != "READY" and model.tags.get("{ATTEMPT_TAG}") == attempt:
        mlflow.MlflowClient().delete_logged_model(model.model_id)
"""


def logged_models(run: Run, name: str | None = None) -> list[LoggedModel]:
    """Return the models of a run, the newest first; without its experiment none would be found."""
    found = mlflow.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'", output_format="list"
    )
    return [model for model in found if name in (None, model.name)]


def ready_models(run: Run, name: str) -> list[LoggedModel]:
    """Return the models of a run and a name that were logged to their end, the newest first."""
    return [model for model in logged_models(run, name) if model.status == LoggedModelStatus.READY]


def find_logged(run: Run, name: str, digest: str) -> str | None:
    """Return the id of the model that a name stands for, where that is what has this digest, and has its files."""
    newest = next(iter(ready_models(run, name)), None)
    if newest is None or newest.tags.get(CHECKPOINT_TAG) != digest:
        return None
    return newest.model_id if mlflow.MlflowClient().list_logged_model_artifacts(newest.model_id) else None


def check_name(name: str) -> None:
    """Raise InputError for a name that a model in MLflow cannot have."""
    if name != name.strip() or not 0 < len(name) <= 250 or set(name) & set(FORBIDDEN) or not name.isprintable():
        raise InputError(
            f"--name {name[:80]!r} cannot be a model's name: it must not be empty, begin or end with a space, have more"
            f" than 250 characters or contain {FORBIDDEN}."
        )


def log_saved(run: Run, checkpoint: Path, name: str, digest: str, save: Callable[[Path], None]) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`; return its model id.

    The model is whole on this disk before its entry is made, so that plain MLflow misses its files only while they
    are uploaded; an entry that fails is taken away. (`Model.log` makes the model after its entry.)

    Args:
        digest: of what is logged.
        save: writes an MLflow model to the folder that it is given, which does not exist.
    """
    card, client = Card.read(checkpoint), mlflow.MlflowClient()
    tags = {CHECKPOINT_TAG: digest, PROCESS_TAG: this_process(), ATTEMPT_TAG: secrets.token_hex(8)}
    tags |= {"epoch": f"{card.epoch:g}"} if card.epoch is not None else {}
    guarded = _guarded(run, name, tags[ATTEMPT_TAG]) if ready_models(run, name) else nullcontext()
    with guarded, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save(folder)
        share_files(folder)
        write_digests(folder, digests_of(folder))
        # By the client: fluent calls put the model into the active experiment, where its run does not find it.
        model = client.create_logged_model(run.info.experiment_id, name, run.info.run_id, tags, run.data.params)
        try:
            _name_entry(folder, model)
            client.log_model_artifacts(model.model_id, str(folder))
            _link(run, model, step_of(checkpoint))
            client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        except BaseException:
            with suppress(Exception):
                client.delete_logged_model(model.model_id)
            raise
    return model.model_id


def write_digests(folder: Path, digests: dict[str, str]) -> None:
    """Write the digests of a saved model's files into its metadata."""
    saved = Model.load(folder)
    saved.metadata = (saved.metadata or {}) | {FILES: json.dumps(digests)}
    saved.save(str(folder / "MLmodel"))


def _name_entry(folder: Path, entry: LoggedModel) -> None:
    """Write the ids of its entry into a saved model."""
    saved = Model.load(folder)
    saved.run_id, saved.artifact_path = entry.source_run_id, entry.artifact_location
    saved.model_id = saved.model_uuid = entry.model_id
    saved.save(str(folder / "MLmodel"))


def _link(run: Run, entry: LoggedModel, step: int) -> None:
    """Make a model an output of its run, with what the run has measured at its step."""
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    client.log_outputs(run_id, [LoggedModelOutput(entry.model_id, step)])
    points = (point for key in client.get_run(run_id).data.metrics for point in client.get_metric_history(run_id, key))
    linked = [
        Metric(p.key, p.value, p.timestamp, p.step, entry.model_id, p.dataset_name, p.dataset_digest, run_id)
        for p in points
        if p.step == step and p.model_id is None
    ]
    client.log_batch(run_id, metrics=linked)


def clear_left(run: Run, name: str) -> None:
    """Delete what was not logged to its end under a name, but nothing that another process is logging now."""
    for model in logged_models(run, name):
        if model.status == LoggedModelStatus.READY:
            continue
        if is_being_logged(model):
            logger.warning(f"model {model.model_id} of the same name is being logged by another process; it is left.")
            continue
        mlflow.MlflowClient().delete_logged_model(model.model_id)
        logger.info(f"model {model.model_id}, which was not logged to its end, is deleted.")


def clear_older(run: Run, name: str, kept: str) -> None:
    """Delete the models of a name that are older than `kept`; one that is registered stays."""
    models = ready_models(run, name)
    ids = [model.model_id for model in models]
    for model in models[ids.index(kept) + 1 :]:
        if MLFLOW_MODEL_VERSIONS in model.tags:
            logger.warning(f"model {model.model_id} is registered ({model.tags[MLFLOW_MODEL_VERSIONS]}); it stays.")
            continue
        mlflow.MlflowClient().delete_logged_model(model.model_id)
        logger.info(f"model {model.model_id}, of the same name and older, is deleted.")


def this_process() -> str:
    """Return what tells this process from every other one: machine, process number, start."""
    namespace = os.readlink(NAMESPACE) if NAMESPACE.exists() else ""
    return f"{platform.node()}/{namespace} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_being_logged(model: LoggedModel) -> bool:
    """Say whether a process is logging a model now.

    On this machine the process is looked for; of another one, or where nothing says who it was, an entry counts for
    an hour.
    """
    if model.status != LoggedModelStatus.PENDING:
        return False
    tag = model.tags.get(PROCESS_TAG, "")
    if tag.partition(" ")[0] != this_process().partition(" ")[0]:
        return time.time() - model.creation_timestamp / 1000 < ABANDONED
    return is_running(tag)


def is_running(process: str) -> bool:
    """Say whether a process, as `this_process` names it, is running on this machine."""
    machine, _, numbers = process.partition(" ")
    number, _, start = numbers.partition(" ")
    try:
        found = psutil.Process(int(number))
        is_it = abs(found.create_time() - float(start)) < 2 and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False
    return is_it and machine == this_process().partition(" ")[0]


@contextmanager
def _guarded(run: Run, name: str, attempt: str) -> Iterator[None]:
    """Have another process take away what this one would leave if it were killed."""
    arguments = run.info.experiment_id, run.info.run_id, name, attempt
    guard = subprocess.Popen(
        [sys.executable, "-c", GUARD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
    )
    try:
        yield
    finally:
        assert guard.stdin is not None  # PIPE
        guard.stdin.close()
