"""What --resume needs of a checkpoint beside card and adapter: looked at before a run is opened and trained on."""

from pathlib import Path

from finetune.cards import MEND
from finetune.checkpoints import PROGRESS, STATE, read_state
from finetune.console import InputError
from finetune.progress import read_progress
from finetune.schemas import reason

import torch
from transformers.trainer_callback import TrainerState
from transformers.trainer_pt_utils import safe_globals

TENSORS = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")


def check_state(checkpoint: Path) -> None:
    """Raise InputError where the state of a training in a checkpoint cannot be read.

    Nothing is unpickled: tensors are opened as the Trainer does it, with `weights_only`, and mapped, not read.
    """
    read_state(checkpoint)
    try:
        TrainerState.load_from_json(str(checkpoint / STATE))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise InputError(f"{checkpoint / STATE} is damaged: {reason(error)}; {MEND}.") from error
    if (checkpoint / PROGRESS).is_file():
        read_progress(checkpoint)
    for path in sorted(path for pattern in TENSORS for path in checkpoint.glob(pattern)):
        try:
            if not path.is_file():  # Whoever opens a pipe waits for ever.
                raise OSError("it is no plain file")
            with safe_globals():
                torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # Of pickle, zip and torch: whatever is in the way, it is not what was saved.
            raise InputError(f"{path} is damaged: {reason(error)}; {MEND}.") from error
