"""The one MLflow run of a training: how it begins, goes on and ends, whatever becomes of the server meanwhile."""

import fcntl
import logging
import os
import re
import secrets
import subprocess
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from finetune import InputError
from finetune.models.card import CARD, Card
from finetune.models.files.inside import inside
from finetune.redaction import redact, redact_values
from finetune.runs import environment, trackers, tracking
from finetune.runs.sending import delivery, journal
from finetune.runs.sending.spool import clear

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH
from transformers.integrations import MLflowCallback

logger = logging.getLogger(__name__)
LOCK = "lock"


@contextmanager
def run(
    experiment: str,
    output_dir: str,
    resume: Run | None = None,
    report_to: Sequence[str] = (),
    online: bool = True,
    tags: dict[str, str] | None = None,
    empty: Run | None = None,
) -> Iterator[str]:
    """Start a run, or go on with the run `resume`, yield its id, and end it as it went.

    A run ends FINISHED, FAILED (any exception) or KILLED (a signal). Where `report_to` names wandb, a W&B run of
    the same id goes with it.

    Call it on the main process only. What is logged meanwhile goes through the journal in OUTPUT_DIR/<run id>.

    Args:
        output_dir: folder of runs; of a run that is resumed, its own.
        online: False to make the run in MLflow later.
        tags: of a new run, its name among them, or of the run `empty`.
        empty: a run that was made for this training.

    Raises:
        InputError: when another process trains the run.
    """
    header: dict = {"run_id": None, "experiment": experiment, "start_time": time.time_ns() // 1_000_000}
    header["tags"] = redact_values(_tags_for(experiment, tags or {}, empty))
    if made := resume or empty:
        header["run_id"] = made.info.run_id
    elif online:
        header["run_id"] = _create_run(header)
    else:
        header["offline_id"] = f"{journal.OFFLINE}{uuid.uuid4().hex}"
    folder = Path(output_dir) if resume else Path(output_dir) / (header["run_id"] or header["offline_id"])
    with _locked(folder):
        running = journal.Journal(folder, header)
        if resume or empty:
            mlflow.MlflowClient().update_run(header["run_id"], "RUNNING")
        if resume:
            running.known_digests = {i.dataset.name: i.dataset.digest for i in resume.inputs.dataset_inputs}
        running.start()
        if empty:
            running.write("tags", values=header["tags"])
        os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "5")
        monitor = SystemMetrics(running.run_id, resume_logging=resume is not None)
        monitor.start()
        status, refused = "FAILED", False
        try:
            if "wandb" in report_to:
                trackers.start_wandb(
                    running.run_id, experiment, None if resume else header["tags"].get(MLFLOW_RUN_NAME)
                )
            yield running.run_id
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except Exception as error:
            if resume and isinstance(error, InputError) and not running.training:
                status, refused = resume.info.status, True  # Before it went on: nothing has changed.
            else:
                text = redact(traceback.format_exc())
                running.file("error.txt", lambda path: path.write_text(text, encoding="utf-8"))
            raise
        finally:
            monitor.finish()
            if not refused:
                tracking.log_messages()
            _end(running, folder, status, resume.info.end_time if resume and refused else None)
            trackers.finish_wandb(failed=status != "FINISHED")
            if refused:
                (folder / LOCK).unlink()
                with suppress(OSError):
                    folder.rmdir()  # It was made for this.


def _tags_for(experiment: str, given: dict[str, str], empty: Run | None) -> dict[str, str]:
    """Return the tags that a run gets, its name among them; those that the run `empty` has stay unless given."""
    found = resolve_tags(_git_tags())
    if empty:
        return {name: value for name, value in found.items() if name not in empty.data.tags} | given
    # MLflow would draw a name from Python's generator: the same one for each training of one seed.
    return {MLFLOW_RUN_NAME: f"{experiment}-{secrets.token_hex(2)}"} | found | given


def _git_tags() -> dict[str, str]:
    def git(*command: str) -> str:
        return subprocess.run(
            ["git", "-C", str(tracking.FOLDER), *command], capture_output=True, text=True
        ).stdout.strip()

    commit = git("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"mlflow.source.git.commit": commit, "git.modified": str(bool(git("status", "--porcelain"))).lower()}


def open_run(experiment: str, tags: dict[str, str], empty: Run | None = None) -> str:
    """Begin a run that holds no training of its own, and return its id.

    Args:
        tags, empty: as `run` takes them.

    Raises:
        InputError: the store refuses it.
    """
    values, client = redact_values(_tags_for(experiment, tags, empty)), mlflow.MlflowClient()
    if empty is None:
        return _create_run({"experiment": experiment, "start_time": time.time_ns() // 1_000_000, "tags": values})
    client.update_run(empty.info.run_id, "RUNNING")
    for name, value in values.items():
        client.set_tag(empty.info.run_id, name, value)
    return empty.info.run_id


def _create_run(header: dict) -> str:
    try:
        experiment = delivery.find_experiment(header["experiment"])
        run = mlflow.MlflowClient().create_run(experiment, header["start_time"], header["tags"])
    except MlflowException as error:
        raise InputError(f"no run could be made in {mlflow.get_tracking_uri()}: {error}.") from error
    return run.info.run_id


def _end(running: journal.Journal, folder: Path, status: str, moment: int | None) -> None:
    """End the run, and say what to do where not all of it is in MLflow."""
    patience = 15 if status == "KILLED" else environment.patience()
    complete = running.close(status, patience, moment)
    if running.delivery.header.get("offline_id"):
        rename_cards(folder, running.run_id)
    if not complete:
        left = f"{len(running.pending)} entries are not in MLflow yet" if running.pending else "MLflow refused a part"
        logger.warning(
            f"{left}; they are kept in {folder / journal.SPOOL}. When the server answers:\n"
            f"  python log_model.py {running.run_id} --sync {folder}"
        )


def rename_cards(folder: Path, run_id: str) -> None:
    """Write the id that MLflow gave to an offline run into its checkpoints."""
    for path in folder.glob(f"checkpoint-*/{CARD}"):
        try:
            card = Card.read(inside(folder, path.parent.name, str(folder)))
            if card.run_id != run_id:
                replace(card, run_id=run_id).write(path.parent)
        except InputError as error:
            logger.warning(f"{path} does not get the run's id: {error}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder for one process; the lock goes with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise InputError(f"{folder / LOCK} cannot be made ({error.strerror}); a link there is not followed.") from error
    with os.fdopen(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process trains the run in {folder}; wait for it, or stop it first.") from error
        except OSError as error:  # A file system without locks.
            logger.warning(f"{folder} cannot be locked ({error}); see that one process alone trains this run.")
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def sync(reference: str, folder: Path) -> str:
    """Put what a training could not send into its run, and return the run's id.

    Args:
        reference: id of the run, or the offline one that training printed.
        folder: OUTPUT_DIR/<run id>.

    Raises:
        InputError: no such spool, one of another run, or the server refuses or stops to answer.
    """
    run_id = reference.removeprefix("runs:/").split("/")[0]
    folder = folder if os.path.isdir(folder / journal.SPOOL) or folder.name == run_id else folder / run_id
    if not os.path.isfile(folder / journal.SPOOL / journal.HEADER):
        raise InputError(
            f"there is nothing to sync in {str(folder)[:300]}; expected OUTPUT_DIR/<run id> with a folder spool."
        )
    with _locked(folder):
        pending = journal.Journal(folder)
        known = pending.delivery.ids
        if run_id not in known:
            raise InputError(f"the spool in {folder} is of run {pending.run_id}, not of {run_id}.")
        entries, points = len(pending.pending), sum(len(entry.get("points", ())) for entry in pending.pending)
        if pending.run_id and not pending.pending and pending.delivery.run_id is None:
            _make_run(pending)
        pending.deliver()
        if pending.pending or pending.rejected:
            raise InputError(
                f"{len(pending.pending) + pending.rejected} of {entries} entries are not in MLflow yet (see above);"
                f" they are kept in {folder / journal.SPOOL}."
            )
        clear(folder / journal.SPOOL)
        rename_cards(folder, pending.run_id)
    logger.info(f"{entries} entries with {points} metric points of {folder} are in MLflow.")
    return pending.run_id


def _make_run(pending: journal.Journal) -> None:
    try:
        pending.delivery.make_run()
    except MlflowException as error:
        raise InputError(f"no run could be made in {mlflow.get_tracking_uri()}: {error}.") from error


class SystemMetrics(SystemMetricsMonitor):
    """MLflow's system metrics through the journal: its own monitor ends when the server is away once."""

    def monitor(self) -> None:
        """Collect until told to finish."""
        while not self._shutdown_event.wait(self.sampling_interval):
            self.collect_metrics()
            self.publish_metrics(self.aggregate_metrics())

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log one sample."""
        if running := journal.active_journal():
            names = {self._metrics_prefix + name: value for name, value in metrics.items()}
            running.metrics(names, self._logging_step)
        self._logging_step += 1
        for monitor in self.monitors:
            monitor.clear_metrics()


class RunCallback(MLflowCallback):
    """The Trainer's MLflow callback, for `report_to="mlflow"`, whose calls go through the journal.

    Args:
        at_begin: is called when all checks are passed and training begins.
    """

    def __init__(self, at_begin: Callable[[], None]):
        super().__init__()
        self._ml_flow, self.at_begin = _Fluent(), at_begin

    def setup(self, args, state, model):
        """Log the Trainer's arguments into the run that is open."""
        with environment.settled():
            super().setup(args, state, model)

    def on_train_begin(self, args, state, control, **kwargs):
        """Log the Trainer's arguments."""
        if running := journal.active_journal():
            running.training = True
            self.at_begin()
        super().on_train_begin(args, state, control, **kwargs)


class _Fluent:
    """What the Trainer's callback uses of `mlflow`."""

    __version__ = mlflow.__version__
    is_tracking_uri_set = staticmethod(lambda: True)
    get_tracking_uri = staticmethod(mlflow.get_tracking_uri)
    active_run = staticmethod(lambda: journal.active_journal())
    end_run = staticmethod(lambda: None)

    def log_params(self, params: dict, synchronous: bool | None = None) -> None:
        # With MLFLOW_FLATTEN_PARAMS the names of labels are among them; MLflow would refuse all for one of these.
        names = {name: re.sub(r"[^\w.\- :]", "_", str(name))[:MAX_ENTITY_KEY_LENGTH] for name in params}
        tracking.log_params({names[name]: str(value) for name, value in params.items()})

    def log_metrics(self, metrics: dict, step: int, synchronous: bool | None = None) -> None:
        if running := journal.active_journal():
            running.metrics(metrics, step)

    def set_tags(self, tags: dict) -> None:
        for name, value in tags.items():
            tracking.set_tag(name, str(value))
