"""A run that goes on where it was stopped, on this machine or another: its flags, its checkpoint, its status."""

import json
import logging
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from finetune import InputError, screen, stopping
from finetune.logged_models.checkpoint_files import FOLDER_TAG, STATE, TASK_TAG
from finetune.logged_models.last_run import find_last, is_last
from finetune.models.bases.configs import changed_fields
from finetune.models.card import Card
from finetune.models.files.adapter_files import check_adapter
from finetune.models.files.replacing import replace_file
from finetune.reports.curves.children import is_finished, rows_of_curve, unfinished_curve_of
from finetune.reports.curves.training import Request, Requested
from finetune.reports.explaining.description import describe
from finetune.rows.loading import check_writable
from finetune.runs import environment, full_disk, lifecycle, tracking
from finetune.runs.checkpoints import PERCENT_TAG, checkpoints_in, folder_of, has_checkpoint, read_state
from finetune.runs.sending import journal, uploads
from finetune.runs.trackers import check_trackers
from finetune.training import callbacks
from finetune.training.checkpoint_state import check_state
from finetune.training.flags.adapter_flags import Start, start_from
from finetune.training.flags.recorded_flags import (
    ARTIFACT,
    BEFORE_FLAGS,
    KEPT,
    absolute,
    begun_in,
    changed_settings,
    check_recorded,
    hides_database,
    settings_of,
    without_resume,
)
from finetune.training.flags.script_parser import ScriptParser
from finetune.training.flags.shared_flags import SharedFlags
from finetune.training.flags.trainer_flags import given_names
from finetune.training.mixed_precision import settle_precision
from finetune.training.private_apis import save_checkpoint
from finetune.training.progress import ProgressCallback, set_random_state
from finetune.training.training_line import LineCallback

import mlflow
from accelerate.utils import broadcast_object_list
from mlflow.entities import Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers import ProgressCallback as TqdmCallback
from transformers.integrations import MLflowCallback

logger = logging.getLogger(__name__)
RESUMED_TAG = "finetune.resumed"


@dataclass
class Origin:
    """Where a training comes from.

    Attributes:
        arguments: that the run was started with.
        settings: all that they and the defaults say, before the script fills in what depends on the data.
        run: to go on with, or None.
        config: the file of --config, without secrets, or None.
        drift: settings that are not what they were, by name.
        moved: from the folder that its checkpoints were in, where that is no longer here.
        last_point: of the loss that the run has.
        online: whether the tracking server answers.
        checkpoint: to go on from, once the run is open.
        empty: the run that was made for this training (MLFLOW_RUN_ID), or None.
        tags: that the run gets beside its own.
        start: the trained adapter that it starts from, or None for a fresh one.
        task: of the script.
        given: the arguments beside --resume.
        kept: flags that it was begun with by default, which may be another by now.
    """

    arguments: list[str]
    settings: dict
    run: Run | None = None
    config: str | None = None
    drift: dict[str, str] = field(default_factory=dict)
    moved: str | None = None
    last_point: Metric | None = None
    online: bool = True
    checkpoint: str | None = None
    empty: Run | None = None
    tags: dict[str, str] = field(default_factory=dict)
    start: Start | None = None
    task: str = ""
    given: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    trainer: Trainer | None = None
    progress: ProgressCallback | None = None


def parse_resumable(parser: ScriptParser, arguments: list[str] | None, task: str) -> tuple:
    """Return (flags, training arguments, origin).

    The flags of the file of `--config` count as given on the command line.
    With `--resume RUN`, or `--resume last`, the flags are those that the run was started with; others may be given
    beside it where they do not change what is trained.

    Args:
        task: of the script, as in its model cards.

    Raises:
        InputError: no such run, one that is finished, or flags that would change what is trained.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    arguments, config = parser.expand(arguments)
    flags, args = parser.parse(arguments)
    environment.check_environment()
    environment.check_name("--run-name", args.run_name)
    check_trackers(args)
    if args.hub_token:
        raise InputError("--hub-token would be logged with the other flags; give it as HF_TOKEN.")
    if flags.resume is None:
        start = start_from(flags, given_names(arguments))
        settle_precision(flags, args, task)
        empty, tags = environment.place(flags, "experiment" in given_names(arguments))
        settings = settings_of(flags, args)
        if start:
            arguments, tags = [*arguments, f"--adapter={start.uri}"], tags | start.tags
        origin = Origin(absolute(arguments), settings, config=config, empty=empty, tags=tags, start=start, task=task)
        return flags, args, origin
    tracking.connect()
    run = _find_last(flags, arguments, task) if is_last(flags.resume) else tracking.find_run(flags.resume)
    environment.check_resumed(run.info.run_id)
    recorded = tracking.load_artifact_json(run.info.run_id, ARTIFACT)
    if recorded is None:
        raise InputError(f"run {run.info.run_id} cannot be resumed: it has no {ARTIFACT} of a training script here.")
    check_recorded(recorded, f"{ARTIFACT} of run {run.info.run_id}")
    check_resumable(run, task)
    given, before = absolute(without_resume(arguments)), recorded.get("settings", {})
    if before:
        before = {name: value for name, value in BEFORE_FLAGS.items() if hasattr(flags, name)} | before
        before["compute_dtype"] = begun_in(before, run.data.params, task)
    names = {argument.partition("=")[0].lstrip("-").replace("-", "_") for argument in given}
    if hides_database(recorded["arguments"]) and "database" not in names:
        raise InputError(
            f"run {run.info.run_id} cannot be resumed without --database: its URL had a password, which no run records;"
            " give the URL again, beside --resume."
        )
    kept = [f"--{name}={before[name]}" for name in KEPT if before.get(name) is not None and name not in names]
    flags, args = parser.parse([*recorded["arguments"], *given], kept)
    check_trackers(args)
    start = start_from(flags, given_names([*recorded["arguments"], *given]), run)
    settle_precision(flags, args, task, recorded="compute_dtype" not in names)
    if "max_time" not in names:  # It was for the time before.
        flags.max_time = None
    settings = settings_of(flags, args)
    drift = changed_settings(before, settings)
    folder = run.data.tags.get(FOLDER_TAG)
    moved = folder if folder and not os.path.isdir(folder) else None
    output_dir = args.output_dir if "output_dir" in names else None
    args.output_dir = _choose_folder(run, output_dir, parser.defaults()["output_dir"])
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    last = max(history, key=lambda metric: metric.step, default=None)
    tags = environment.given_tags() | ({MLFLOW_RUN_NAME: args.run_name} if "run_name" in drift else {})
    origin = Origin(recorded["arguments"], settings, run, config, drift, moved, last, tags=tags, start=start, task=task)
    origin.given, origin.kept = given, kept
    return flags, args, origin


def _find_last(flags: SharedFlags, arguments: list[str], task: str) -> Run:
    """Return the newest run of a task that has a checkpoint and more to do, of --experiment where that is given.

    Of a training of a learning curve that is not finished, it is the curve.
    """

    def fits(run: Run) -> bool:
        if run.data.tags.get(TASK_TAG) != task:
            return False
        return bool(unfinished_curve_of(run)) or (not is_finished(run) and has_checkpoint(run))

    needed = f"is a training of {task} that was cut off and has a checkpoint"
    run = find_last(fits, needed, flags.experiment if "experiment" in given_names(arguments) else None)
    if curve := unfinished_curve_of(run):
        logger.info(f"It is of the learning curve {curve.info.run_id} ({curve.info.run_name}), which goes on.")
    return curve or run


def check_resumable(run: Run, task: str) -> None:
    """Raise InputError where a run is another script's, or has come to its end."""
    if run.data.tags.get(TASK_TAG, task) != task:
        raise InputError(f"run {run.info.run_id} is {run.data.tags[TASK_TAG]}, not {task}: resume it with its script.")
    if is_finished(run):
        raise InputError(f"run {run.info.run_id} is finished; there is nothing to resume. Start a new run for more.")


@contextmanager
def training_run(flags: SharedFlags, args: TrainingArguments, origin: Origin) -> Iterator[str]:
    """Open the one run of a training, which the first process owns; yield its id on all processes.

    `args.output_dir` becomes the run's own folder, `origin.checkpoint` the newest complete checkpoint, which is
    downloaded where this machine does not have it.

    Raises:
        Requested: the flags ask for a learning curve; there is no run then.
    """
    tags = origin.tags | _name(flags, args, origin)
    if flags.learning_curve:
        raise Requested(Request(flags, tags, origin))
    if flags.train_percent:
        tags[PERCENT_TAG] = str(flags.train_percent)
    if args.process_index == 0:
        run: AbstractContextManager[str | None] = lifecycle.run(
            flags.experiment, args.output_dir, origin.run, args.report_to, origin.online, tags, origin.empty
        )  # fmt: skip
    else:
        run = nullcontext()
    run_id = None
    try:
        with run as run_id:
            run_id = broadcast_object_list([run_id])[0]
            if origin.run is None:
                args.output_dir = str(Path(args.output_dir).resolve() / run_id)
            if args.process_index == 0:
                if origin.run is None:
                    _announce(args, origin)
                else:
                    origin.checkpoint = _find_start(origin.run, origin.moved, Path(args.output_dir))
                logger.info(
                    f"Run {run_id} of {mlflow.get_tracking_uri()}, with its messages in full as {screen.kept_name()};"
                    f" checkpoints: {args.output_dir}"
                )
            origin.checkpoint = broadcast_object_list([origin.checkpoint])[0]
            try:
                yield run_id
            except stopping.EvaluationStopped:
                _save_unevaluated(origin)
            except Exception as error:
                full_disk.explain(error, Path(args.output_dir))
                raise
        if args.process_index == 0 and origin.online:
            describe(run_id)
    except BaseException:
        if run_id and args.process_index == 0 and checkpoints_in(Path(args.output_dir)):
            command = shlex.join(["python", sys.argv[0] or "train.py", "--resume", run_id])
            logger.info(f"Go on from the last checkpoint with\n  {command}")
        raise
    finally:
        stopping.in_training(False)


def attach(trainer: Trainer, card: Card, flags: SharedFlags, origin: Origin, found: Callable[[], dict] = dict) -> None:
    """Give a trainer the callbacks of every training, in the order that they need.

    Args:
        card: goes into each checkpoint.
        found: returns fields of the card that training finds out, as they are when a checkpoint is saved.

    Raises:
        InputError: when the base is not the one that the checkpoint was trained on.
    """
    _check_base(card, origin)
    progress = ProgressCallback(trainer, Path(origin.checkpoint) if origin.checkpoint else None)
    origin.trainer, origin.progress = trainer, progress
    seconds = callbacks.parse_duration(flags.max_time) or float("inf")
    trainer.remove_callback(MLflowCallback)  # In its place, the same one through the journal.
    chain = [
        callbacks.LossGuardCallback(),
        callbacks.LastKeptCallback(),
        callbacks.RowOrderCallback(),
        callbacks.TimeLimitCallback(seconds, progress),
        progress,
        callbacks.CardCallback(card, found),  # Closes a checkpoint: everything in it is written before.
    ]
    for shown in (PrinterCallback, TqdmCallback):
        trainer.remove_callback(shown)
    if trainer.args.process_index == 0:
        chain = chain if trainer.args.disable_tqdm else [LineCallback(), *chain]
        note = partial(_note_resume, trainer.args, origin)
        chain += [lifecycle.RunCallback(note), callbacks.CheckpointCallback(flags.log_checkpoints, card)]
    for callback in [*chain, callbacks.StopCallback(progress)]:
        trainer.add_callback(callback)
    if trainer.args.world_size > 1:
        stopping.watch(_give_up)


def _give_up() -> None:
    if running := journal.active_journal():
        running.delivery.try_to_end("FAILED")


def _choose_folder(run: Run, given: str | None, default: str) -> str:
    """Return the run's own folder: where its checkpoints are on this machine, or a new one.

    What the store says is no reason to write somewhere: the folder that it names must be known as the run's by what
    is in it.

    Args:
        given: with `--output-dir`, now.
    """
    own = folder_of(run)
    if own and not given:
        return str(own)
    check_writable(given or default)
    folder = str(Path(given or default).resolve() / run.info.run_id)
    if not given and run.data.tags.get(FOLDER_TAG) not in (None, folder):
        logger.info(
            f"{run.data.tags[FOLDER_TAG][:300]}, where the run was, has no checkpoint of it here; it goes on in"
            f" {folder} (--output-dir for another folder)."
        )
    return folder


def _announce(args: TrainingArguments, origin: Origin) -> None:
    """Record where the run is and how it was started: at once, as no run can be resumed without."""
    tracking.set_tag(FOLDER_TAG, args.output_dir)
    tracking.log_dict({"arguments": origin.arguments, "settings": origin.settings}, ARTIFACT)
    if origin.config:
        tracking.log_text(origin.config, "config.yaml")
    running = journal.active_journal()
    assert running is not None  # training_run has opened it.
    parent = origin.tags.get(MLFLOW_PARENT_RUN_ID)
    if parent and origin.online and (rows := rows_of_curve(parent)):
        running.known_digests, running.known_of = rows, "the other trainings of its learning curve have"
    running.wait(10 if origin.online else 0, hurried=True)


def _name(flags: SharedFlags, args: TrainingArguments, origin: Origin) -> dict[str, str]:
    """Return the name of the run as a tag: --run-name, or task, base and rank with something of its own."""
    if args.run_name:
        return {MLFLOW_RUN_NAME: args.run_name}
    if origin.empty or MLFLOW_RUN_NAME in origin.tags:
        return {}
    # The default of --experiment names the task.
    base, task = Path(flags.base_model), next(f.default for f in fields(flags) if f.name == "experiment")
    base = base.resolve() if base.is_dir() else base
    return {MLFLOW_RUN_NAME: f"{task}-{base.name[:60]}-r{flags.lora_r}-{secrets.token_hex(2)}"}


def _find_start(run: Run, moved: str | None, folder: Path) -> str | None:
    """Return the newest complete checkpoint, from this disk or from MLflow.

    Raises:
        InputError: when the run had some, and none is left.
    """
    known, run_id = checkpoints_in(folder), run.info.run_id
    steps = uploads.uploaded_steps(run_id)
    if max(steps, default=0) > max(known, default=0):
        logger.info(f"Downloading the checkpoints of steps {', '.join(map(str, steps))} from MLflow")
        for step in set(steps) - set(known):
            uploads.download(run_id, step, folder)
        known = checkpoints_in(folder)
    if not known and moved and "loss" in run.data.metrics:
        raise InputError(
            f"run {run_id} cannot be resumed: its checkpoints are no longer in {moved}, and not in MLflow; put"
            " them back."
        )
    if not known:
        logger.info("the run has no checkpoint yet; it begins again.")
    if not known:
        return None
    start = known[max(known)]
    try:
        Card.read(start)
        check_adapter(start)
        check_state(start)
        _move_best(start)
    except InputError as error:
        raise InputError(f"{error} To go on from the checkpoint before it, delete {start}.") from error
    return str(start)


def _move_best(checkpoint: Path) -> None:
    """Make the best checkpoint that a state names the one beside it: the Trainer ends with whatever lies there."""
    state, best = read_state(checkpoint), None
    if state.get("best_global_step"):
        best = str(checkpoint.parent / f"checkpoint-{state['best_global_step']}")
    if state.get("best_model_checkpoint") != best:
        state["best_model_checkpoint"] = best
        replace_file(checkpoint / STATE, json.dumps(state, indent=2, sort_keys=True) + "\n")


def _note_resume(args: TrainingArguments, origin: Origin) -> None:
    """Note in the run when and from where it went on, what has changed, and what an end without a word has cost."""
    if origin.run is None:
        return
    tracking.set_tag(FOLDER_TAG, args.output_dir)
    if origin.config:  # The one that the run began with stays beside it.
        tracking.log_text(origin.config, f"config-{screen.STARTED:%Y-%m-%dT%H-%M-%SZ}.yaml")
    for name, change in origin.drift.items():
        tracking.set_tag(f"param_drift.{name}", change)
    for name, value in origin.tags.items():
        tracking.set_tag(name, value)
    if MLFLOW_RUN_NAME in origin.tags:
        logger.info(f"the run is called {origin.tags[MLFLOW_RUN_NAME]} now.")
    run, now = origin.run, datetime.now(UTC)
    start = Path(origin.checkpoint).name if origin.checkpoint else "the beginning"
    note = f"{now:%Y-%m-%dT%H:%M:%SZ} from {start}, was {run.info.status}"
    if run.info.status == "RUNNING":
        note += " (cut off without a word)"
    if origin.last_point:
        seconds = now.timestamp() - origin.last_point.timestamp / 1000
        note += f"; last logged step {origin.last_point.step}, {seconds:.0f} s before"
    earlier = run.data.tags.get(RESUMED_TAG)
    tracking.set_tag(RESUMED_TAG, f"{earlier}\n{note}" if earlier else note)
    logger.info(f"Resumed: {note}")


def _check_base(card: Card, origin: Origin) -> None:
    if origin.checkpoint is None:
        return
    before = Card.read(Path(origin.checkpoint))
    for name in ("base_fingerprint", "base_revision", "quantization", "compute_dtype", "prompt"):
        then, now = getattr(before, name, None), getattr(card, name, None)
        is_known = then is not None or name in ("base_revision", "quantization")  # An older file may not say it.
        if is_known and _comparable(then) != _comparable(now):
            raise InputError(
                f"run {before.run_id} cannot be resumed: its checkpoint was trained with another"
                f" {name.replace('_', ' ')} ({str(then)[:80]}, now {str(now)[:80]})."
            )
    source = card.base_model, card.base_revision
    recorded = card.base_config if before.base_config is None else before.base_config
    if changed := changed_fields(recorded or {}, *source, in_training=True):
        raise InputError(f"run {before.run_id} cannot be resumed: its base's configuration was changed: {changed}.")


def _comparable(value):
    """Return what a card says without how 4-bit weights are packed: FSDP packs them otherwise, and means the same."""
    return {k: v for k, v in value.items() if k != "bnb_4bit_quant_storage"} if isinstance(value, dict) else value


def _save_unevaluated(origin: Origin) -> None:
    """Save the step whose evaluation was cut off; `StopCallback` ends it with KeyboardInterrupt."""
    trainer, progress = origin.trainer, origin.progress
    if trainer is None or progress is None or progress.random_state is None:  # of --eval-on-start: no step was made
        raise KeyboardInterrupt
    set_random_state(progress.random_state)
    progress.pending_evaluation = progress.stopped = progress.cut_off = True
    save_checkpoint(trainer)
