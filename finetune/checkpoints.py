"""Checkpoints on disk: the model card that travels in each, and how one is found again from its run."""

import hashlib
import json
from pathlib import Path

from finetune import uploads
from finetune.base_configs import read_config
from finetune.base_models import fingerprint
from finetune.console import InputError
from finetune.quantization import to_record

from mlflow.entities import Run
from transformers import BitsAndBytesConfig, Trainer

CARD = "finetune.json"
PROGRESS = "progress.json"  # What the Trainer's own state leaves out: see progress.py.
FOLDER_TAG = "finetune.checkpoints"
TASK_TAG = "finetune.task"
SERVED_FILES = ("adapter_*", "*token*", "vocab*", "merges.txt", "*.model", "*.json")
STATE_FILES = ("trainer_state.json", PROGRESS)


def start_card(task: str, flags, revision: str | None, quantization: BitsAndBytesConfig | None) -> dict:
    """Return what the card of every task has: enough to restore the base as it was trained.

    Args:
        flags: with `base_model`, `compute_dtype` and `max_length`.
    """
    is_folder = Path(flags.base_model).is_dir()
    return {
        "task": task,
        "base_model": str(Path(flags.base_model).resolve()) if is_folder else flags.base_model,
        "base_revision": revision,
        "base_fingerprint": fingerprint(Path(flags.base_model)) if is_folder else None,
        "base_config": read_config(flags.base_model, revision),
        "quantization": to_record(quantization),
        "compute_dtype": flags.compute_dtype,
        "max_length": flags.max_length,
    }


def final_step(trainer: Trainer) -> int:
    """Return the step of the weights that a training has ended with: the best, or the last."""
    best = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    return best or trainer.state.global_step


def find_checkpoint(run: Run, which: str) -> tuple[Path, str]:
    """Return the folder of a run's checkpoint, and why it is that one.

    Args:
        which: `best` (by the metric training selected on; the last one where nothing was evaluated),
            `last`, a step, or, where checkpoints are made at the end of epochs, an epoch.

    Raises:
        InputError: the run has no checkpoint, or not that one.
    """
    steps = list_checkpoints(run)
    last = steps[max(steps)]
    if which == "last":
        return last, f"last, step {step_of(last)}"
    if which == "best":
        return _best(run, steps, last)
    known, expected = {str(step): path for step, path in steps.items()}, f"steps {', '.join(map(str, steps))}"
    if load_card(last)["task"] == "classification":
        epochs = {f"{load_card(path).get('epoch', 0):g}": path for path in steps.values()}
        known, expected = known | epochs, f"{expected} or epochs {', '.join(epochs)}"
    if which not in known:
        raise InputError(
            f"run {run.info.run_id} has no checkpoint {which}; expected best, last or one of the {expected}."
        )
    return known[which], f"step {step_of(known[which])}, by --checkpoint {which}"


def _best(run: Run, steps: dict[int, Path], last: Path) -> tuple[Path, str]:
    best = json.loads((last / "trainer_state.json").read_text(encoding="utf-8")).get("best_global_step")
    if best in steps:
        metric = run.data.params.get("metric_for_best_model", "")
        by = f" by eval_{metric.removeprefix('eval_')}" if metric not in ("", "None") else ""
        return steps[best], f"best{by}, step {best}"
    why = f"the best, step {best}, is no longer there" if best else "nothing was evaluated"
    return last, f"last, step {step_of(last)}: {why}"


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(checkpoint.name.split("-")[1])


def served_files(checkpoint: Path) -> list[Path]:
    """Return what of a checkpoint is needed to predict; the optimiser's state is not."""
    found = {path for pattern in SERVED_FILES for path in checkpoint.glob(pattern)}
    return sorted(path for path in found if path.name not in STATE_FILES)


def digest_of(checkpoint: Path, kind: str = "adapter") -> str:
    """Return a digest of what a checkpoint predicts with, and of the kind of model that it is made into."""
    digest = hashlib.sha256(kind.encode())
    for path in served_files(checkpoint):
        with path.open("rb") as file:
            digest.update(f"{path.name} ".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def list_checkpoints(run: Run) -> dict[int, Path]:
    """Return the complete checkpoints of a run by step, from MLflow where this machine has none.

    Raises:
        InputError: there is none.
    """
    if FOLDER_TAG not in run.data.tags:
        raise InputError(f"run {run.info.run_id} has no checkpoint; it was not made by a training script here.")
    steps = checkpoints_of(run) or checkpoints_in(uploads.download_all(run.info.run_id))
    if not steps:
        raise InputError(
            f"run {run.info.run_id} has no checkpoint in {run.data.tags[FOLDER_TAG]} and none in MLflow: training"
            " ended before the first save, or the folder was moved or deleted."
        )
    return steps


def checkpoints_of(run: Run) -> dict[int, Path]:
    """Return the complete checkpoints of a run on this machine by step, in order; there may be none."""
    folder = run.data.tags.get(FOLDER_TAG)
    return checkpoints_in(Path(folder)) if folder else {}  # A run cut off before its setup has none.


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """Return the complete checkpoints in a folder by step, in order; there may be none."""
    found = folder.glob("checkpoint-*")
    return dict(sorted((int(path.name.split("-")[1]), path) for path in found if _is_complete(path)))


def _is_complete(path: Path) -> bool:
    return all((path / name).is_file() for name in ("adapter_model.safetensors", "trainer_state.json", CARD))


def load_card(folder: Path) -> dict:
    """Return the model card of a checkpoint or of a logged model's folder."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))
