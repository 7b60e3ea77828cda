"""A disk that is full: what is whole stays, and the message says what to free."""

import shutil
from pathlib import Path

from finetune import InputError
from finetune.runs.checkpoints import checkpoints_in


def explain(error: Exception, folder: Path) -> None:
    """Take away the checkpoint that did not fit, and say what to do.

    Raises:
        InputError: where the disk is full.
    """
    text = str(error)
    free = shutil.disk_usage(folder).free
    signs = ("No space left", "os error 28", "Disk quota", "PytorchStreamWriter", "unexpected pos")
    if getattr(error, "errno", None) not in (28, 122) and not any(sign in text for sign in signs):
        return
    whole = checkpoints_in(folder)
    cut = [path for path in folder.glob("checkpoint-*") if path not in whole.values()]
    written = sum(file.stat().st_size for path in cut for file in path.rglob("*") if file.is_file())
    for path in cut:
        shutil.rmtree(path, ignore_errors=True)
    size = max((_size(path) for path in whole.values()), default=written)
    left = f"; {whole[max(whole)].name} is whole" if whole else ""
    raise InputError(
        f"the disk of {folder} is full ({free / 1e6:.0f} MB free, a checkpoint takes {max(size, written) / 1e6:.0f} MB)"
        f"{left}. Free some space there, or lower --save-total-limit, and go on with --resume."
    ) from error


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
