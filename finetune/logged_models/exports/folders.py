"""The folder of an export: whole when it is there, and no other folder is written over."""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune import InputError
from finetune.permissions import share_files

logger = logging.getLogger(__name__)
MODEL_CARD = "README.md"
MARK = "log_model.py --export"  # in the card of each export
REPLACED = "replaced"


def check_free(target: Path, overwrite: bool) -> None:
    """Raise InputError where a folder cannot be made, or is there and may not be replaced."""
    if not (target.exists() or target.is_symlink()):
        above = next(parent for parent in target.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise InputError(f"--output {target} cannot be made: {above} is no folder that can be written.")
        return
    if not overwrite:
        raise InputError(f"{target} is there already; give another folder with --output, or --overwrite.")
    if target.is_symlink() or not _is_export(target):
        raise InputError(
            f"--overwrite: {target} was not written by {MARK} ({MODEL_CARD} there does not say so), and is left as it"
            " is; give another folder with --output."
        )


@contextmanager
def new_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a folder beside `target` that takes its place at the end, and is gone after an error.

    What it replaces is deleted last, and stays where that fails.

    Raises:
        InputError: as `check_free`.
    """
    check_free(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    _name_left(target)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        made = beside / target.name
        made.mkdir()
        yield made
        share_files(made)
        if target.exists():
            target.rename(beside / REPLACED)
        made.rename(target)
    finally:
        if (beside / REPLACED).exists() and not target.exists():
            (beside / REPLACED).rename(target)
        shutil.rmtree(beside, ignore_errors=True)


def _name_left(target: Path) -> None:
    """Warn of what exports to a folder have left beside it that were killed; they may be running, so it stays."""
    for path in target.parent.glob(".*"):
        if not re.fullmatch(rf"\.{re.escape(target.name)}-[a-z0-9_]{{8}}", path.name):
            continue
        if (path / REPLACED).exists():
            logger.warning(f"{path} is left of an export that was cut off; {path / REPLACED} was {target} before.")
        elif (path / target.name).exists():
            logger.warning(f"{path} is left of an export that was cut off, if none is running; delete it then.")


def _is_export(folder: Path) -> bool:
    try:
        return MARK in (folder / MODEL_CARD).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
