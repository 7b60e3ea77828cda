"""A run that goes on where it was stopped: its own flags again, its last checkpoint, its time limit."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from finetune import tracking
from finetune.callbacks import STOPPED_TAG
from finetune.checkpoints import FOLDER_TAG, TASK_TAG, checkpoints_of
from finetune.console import InputError, ScriptParser
from finetune.logged_models import logged_models
from finetune.trackers import check_trackers

import mlflow
from accelerate.utils import broadcast_object_list
from mlflow.entities import Run
from transformers import TrainingArguments

ARTIFACT = "arguments.json"
PATH_FLAGS = ("--dataset", "--base-model", "--output-dir")
KEPT_FLAGS = ("--resume", "--max-time")


@dataclass
class Origin:
    """Where a run comes from: the arguments that it was started with, and the run to go on with or None."""

    arguments: list[str]
    run: Run | None


def parse_resumable(parser: ScriptParser, arguments: list[str] | None, task: str) -> tuple:
    """Return (flags, training arguments, origin).

    With `--resume RUN` the flags are those that the run was started with.

    Args:
        task: of the script, as in its model cards.

    Raises:
        InputError: no such run, one that is finished or whose checkpoints are gone, or flags beside --resume.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    flags, args = parser.parse(arguments)
    check_trackers(args)
    if flags.resume is None:
        return flags, args, Origin(_absolute(arguments), None)
    others = {a.split("=")[0].replace("_", "-") for a in arguments if a.startswith("--")} - set(KEPT_FLAGS)
    if others:
        raise InputError(f"{', '.join(sorted(others))}: --resume takes the run's own flags; give --max-time at most.")
    tracking.connect()
    run = tracking.find_run(flags.resume)
    recorded = tracking.load_artifact_json(run.info.run_id, ARTIFACT)
    if recorded is None:
        raise InputError(f"run {run.info.run_id} cannot be resumed: it has no {ARTIFACT} of a training script here.")
    if run.data.tags.get(TASK_TAG, task) != task:
        raise InputError(f"run {run.info.run_id} is {run.data.tags[TASK_TAG]}, not {task}: resume it with its script.")
    if run.info.status == "FINISHED" and STOPPED_TAG not in run.data.tags:
        raise InputError(f"run {run.info.run_id} is finished; there is nothing to resume. Start a new run for more.")
    if not checkpoints_of(run) and any(model.name.startswith("checkpoint-") for model in logged_models(run)):
        raise InputError(
            f"run {run.info.run_id} cannot be resumed: its checkpoints are no longer in"
            f" {run.data.tags.get(FOLDER_TAG)}; put them back. Its models in MLflow predict without them."
        )
    limit = ["--max-time", flags.max_time or "0"]
    flags, args = parser.parse(recorded["arguments"] + limit)
    check_trackers(args)
    # A run that was cut off before its setup was logged has no folder yet.
    args.output_dir = run.data.tags.get(FOLDER_TAG) or str(Path(args.output_dir).resolve() / run.info.run_id)
    return flags, args, Origin(recorded["arguments"], run)


@contextmanager
def training_run(experiment: str, args: TrainingArguments, origin: Origin) -> Iterator[str]:
    """Open the one run of a training, which the first process owns; yield its id on all processes.

    `args.output_dir` becomes the run's own folder.
    """
    if args.process_index == 0:
        run = tracking.run(experiment, origin.run and origin.run.info.run_id, args.report_to)
    else:
        run = nullcontext()
    with run as run_id:
        run_id = broadcast_object_list([run_id])[0]
        if origin.run is None:
            args.output_dir = str(Path(args.output_dir).resolve() / run_id)
        if args.process_index == 0:
            mlflow.set_tag(FOLDER_TAG, args.output_dir)
            mlflow.log_dict({"arguments": origin.arguments}, ARTIFACT)
        yield run_id


def _absolute(arguments: list[str]) -> list[str]:
    """Return the arguments with local paths made absolute: a run may be resumed from another folder."""
    found, expects = [], False
    for argument in arguments:
        flag, _, value = argument.partition("=")
        is_path = flag.replace("_", "-") in PATH_FLAGS
        if expects and Path(argument).exists():
            argument = str(Path(argument).resolve())
        elif is_path and value and Path(value).exists():
            argument = f"{flag}={Path(value).resolve()}"
        found.append(argument)
        expects = is_path and not value
    return found
