"""The files of a checkpoint: which are needed to predict, and what tells one from another."""

import hashlib
import os
from pathlib import Path

from finetune import InputError
from finetune.models.files.inside import is_numbered

PROGRESS = "progress.json"  # What the Trainer's own state leaves out: see progress.py.
FOLDER_TAG, TASK_TAG = "finetune.checkpoints", "finetune.task"  # where the checkpoints are, and what they do
STATE = "trainer_state.json"
SERVED_FILES = ("adapter_*", "*token*", "vocab*", "merges.txt", "*.model", "*.json", "tfidf.*")
STATE_FILES = (STATE, PROGRESS)


def served_files(checkpoint: Path) -> list[Path]:
    """Return what of a checkpoint is needed to predict; the optimiser's state is not."""
    found = {path for pattern in SERVED_FILES for path in checkpoint.glob(pattern)}
    return sorted(path for path in found if os.path.isfile(path) and path.name not in STATE_FILES)


def digest_of(checkpoint: Path, kind: str = "adapter", base: Path | None = None) -> str:
    """Return a digest of what a checkpoint predicts with, and of the kind of model that it is made into.

    Args:
        base: that it refers to in place of the one of training.
    """
    digest = hashlib.sha256(f"{kind}{'' if base is None else f' {base.absolute()}'}".encode())
    for path in served_files(checkpoint):
        with path.open("rb") as file:
            digest.update(f"{path.name} ".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def step_of(folder: Path) -> int:
    """Return the step of `checkpoint-STEP`.

    Raises:
        InputError: the folder has another name.
    """
    step = folder.name.removeprefix("checkpoint-")
    if folder.name == step or not is_numbered(step):
        raise InputError(f"{folder} is no checkpoint; expected a folder checkpoint-STEP.")
    return int(step)
