"""Trackers beside MLflow: asked for by --report-to, checked before a run starts; W&B shows what MLflow shows.

The Trainer's own callbacks send losses, evaluations and configuration. What the scripts log themselves (scores,
tables, figures, parameters) goes to MLflow and, through `active`, to the W&B run of the same id.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec

from finetune import InputError
from finetune.console import is_main_process
from finetune.redaction import redact_arguments

import pandas as pd
from matplotlib.figure import Figure
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

logger = logging.getLogger(__name__)
UNTRACKED = ("offline", "disabled", "dryrun")


def check_trackers(args: TrainingArguments) -> None:
    """Put MLflow first among the trackers: the model lives there.

    Raises:
        InputError: a tracker that transformers does not know or that is not installed, or W&B without a login.
    """
    if "wandb" in args.report_to and find_spec("wandb") is None:
        raise InputError("--report-to wandb needs the package wandb: pip install -r requirements-wandb.txt.")
    args.report_to = ["mlflow", *(name for name in args.report_to if name != "mlflow")]
    try:
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()
    except (ValueError, RuntimeError, ImportError) as error:
        raise InputError(f"--report-to: {' '.join(str(error).split())}") from error
    if "wandb" in args.report_to and os.environ.get("WANDB_MODE") not in UNTRACKED and is_main_process():
        import wandb

        try:
            wandb.login()
        except wandb.errors.Error as error:
            raise InputError(
                "--report-to wandb needs an account: run `wandb login`, or set WANDB_MODE=offline to keep the run in"
                f" files ({' '.join(str(error).split())[:120]})."
            ) from error


def start_wandb(run_id: str, experiment: str, name: str | None = None) -> None:
    """Open the W&B run of an MLflow run: same id and name, goes on where it stood when the run is resumed.

    Raises:
        InputError: when W&B cannot be reached.
    """
    import wandb

    try:
        # By name: W&B reads the variables once in a process, and may have done so before.
        mode, folder = os.environ.get("WANDB_MODE"), os.environ.get("WANDB_DIR")
        project = os.environ.get("WANDB_PROJECT", experiment)
        with _harmless_arguments():
            wandb.init(project=project, id=run_id, name=name, resume="allow", mode=mode, dir=folder)
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--report-to wandb: {reason}. WANDB_MODE=offline keeps the run in files.") from error


@contextmanager
def _harmless_arguments() -> Iterator[None]:
    """Let W&B, which records the command, see it without secrets."""
    given, sys.argv = sys.argv, redact_arguments(sys.argv)
    try:
        yield
    finally:
        sys.argv = given


def finish_wandb(failed: bool) -> None:
    """Close the W&B run, if there is one."""
    if run := open_wandb_run():
        run.finish(exit_code=int(failed))


def open_wandb_run(run_id: str | None = None):
    """Return the open W&B run, or None where there is none or it belongs to another MLflow run."""
    wandb = sys.modules.get("wandb")  # Imported only where it was asked for.
    run = wandb.run if wandb else None
    return run if run is not None and run_id in (None, run.id) else None


def _mirrored(send):
    """Make a failure of W&B a warning: MLflow has it all, and training goes on."""

    @wraps(send)
    def sending(*arguments):
        try:
            send(*arguments)
        except Exception as error:
            logger.warning(f"not sent to W&B ({send.__name__}): {error}")

    return sending


@_mirrored
def show_metrics(metrics: dict[str, float], step: int, run_id: str) -> None:
    """Send metrics of an optimiser step."""
    if run := open_wandb_run(run_id):
        run.log(metrics | {"train/global_step": step})


@_mirrored
def show_settings(groups: dict[str, dict]) -> None:
    """Send nested settings as the configuration `group.name`."""
    if run := open_wandb_run():
        values = {f"{group}.{name}": value for group, settings in groups.items() for name, value in settings.items()}
        plain = json.dumps(values, default=lambda value: sorted(value) if isinstance(value, set) else str(value))
        run.config.update(json.loads(plain), allow_val_change=True)


@_mirrored
def show_table(frame: pd.DataFrame, name: str, run_id: str) -> None:
    """Send a table."""
    if run := open_wandb_run(run_id):
        import wandb

        plain = frame.map(lambda value: json.dumps(value, default=str) if isinstance(value, list | dict) else value)
        run.log({name: wandb.Table(dataframe=plain, allow_mixed_types=True)})


@_mirrored
def show_figure(figure: Figure, name: str, run_id: str) -> None:
    """Send a figure as an image."""
    if run := open_wandb_run(run_id):
        import wandb

        run.log({name: wandb.Image(figure)})
