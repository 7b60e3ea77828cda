"""A run that goes on where it was stopped: its own flags again, its last checkpoint, its time limit."""

import re
import sys
from pathlib import Path

from finetune import tracking
from finetune.checkpoints import FOLDER_TAG, checkpoints_of
from finetune.console import InputError, ScriptParser
from finetune.logged_models import logged_models

import mlflow
from mlflow.entities import Run

ARTIFACT = "arguments.json"
STOPPED_TAG = "finetune.stopped"
PATH_FLAGS = ("--dataset", "--base-model", "--output-dir")
KEPT_FLAGS = ("--resume", "--max-time")


def parse_resumable(parser: ScriptParser, arguments: list[str] | None) -> tuple:
    """Return (flags, training arguments, arguments to record, run to go on with or None).

    With `--resume RUN` the flags are those that the run was started with.

    Raises:
        InputError: no such run, one that is finished or whose checkpoints are gone, or flags beside --resume.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    flags, args = parser.parse(arguments)
    if flags.resume is None:
        return flags, args, _absolute(arguments), None
    others = {a.split("=")[0].replace("_", "-") for a in arguments if a.startswith("--")} - set(KEPT_FLAGS)
    if others:
        raise InputError(f"{', '.join(sorted(others))}: --resume takes the run's own flags; give --max-time at most.")
    tracking.connect()
    run = tracking.find_run(flags.resume)
    recorded = tracking.load_artifact_json(run.info.run_id, ARTIFACT)
    if recorded is None:
        raise InputError(f"run {run.info.run_id} cannot be resumed: it has no {ARTIFACT} of a training script here.")
    if run.info.status == "FINISHED" and STOPPED_TAG not in run.data.tags:
        raise InputError(f"run {run.info.run_id} is finished; there is nothing to resume. Start a new run for more.")
    if not checkpoints_of(run) and any(model.name.startswith("checkpoint-") for model in logged_models(run)):
        raise InputError(
            f"run {run.info.run_id} cannot be resumed: its checkpoints are no longer in"
            f" {run.data.tags.get(FOLDER_TAG)}; put them back. Its models in MLflow predict without them."
        )
    limit = ["--max-time", flags.max_time or "0"]
    flags, args = parser.parse(recorded["arguments"] + limit)
    # A run that was cut off before its setup was logged has no folder yet.
    args.output_dir = run.data.tags.get(FOLDER_TAG) or str(Path(args.output_dir).resolve() / run.info.run_id)
    return flags, args, recorded["arguments"], run


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


def parse_duration(text: str | None) -> float | None:
    """Return the seconds of a duration such as 90s, 45m, 2h or 1h30m; None for none and for 0.

    Raises:
        InputError: for anything else.
    """
    if text in (None, "0"):
        return None
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or not match:
        raise InputError(f"--max-time {text} is not a duration; expected one such as 90s, 45m, 2h or 1h30m.")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def mark_stopped(run: Run | None, reason: str | None) -> None:
    """Tag the active run as stopped before its end, or take the tag away again."""
    if reason:
        mlflow.set_tag(STOPPED_TAG, reason)
    elif run is not None and STOPPED_TAG in run.data.tags:
        mlflow.delete_tag(STOPPED_TAG)
