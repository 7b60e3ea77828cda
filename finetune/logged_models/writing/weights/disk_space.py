"""Room on the disks for weights that are about to be written: said first, and refused where there is not enough."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

from finetune import InputError

from mlflow.entities import Run
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

logger = logging.getLogger(__name__)
SPARE = 1.02  # for what goes with the weights, and what a disk needs itself


def check_disk(size: int, run: Run, what: str) -> None:
    """Say how much a model takes that is written here and then sent to its run's artifacts.

    Args:
        size: of its weights, in bytes.
        what: that takes it, for the message.

    Raises:
        InputError: there is not enough room.
    """
    check_places(size, [Path(tempfile.gettempdir()), *artifact_folder(run)], what)


def artifact_folder(run: Run) -> list[Path]:
    """Return the folder of a run's artifacts where it is on this machine; none otherwise."""
    return [Path(local_file_uri_to_path(run.info.artifact_uri))] if is_local_uri(run.info.artifact_uri) else []


def check_places(size: int, places: list[Path], what: str) -> None:
    """As `check_disk`, for folders that each get so many bytes; those on one disk share its room."""
    disks: dict[int, list[Path]] = {}
    for place in places:
        while not place.exists():
            place = place.parent
        disks.setdefault(os.stat(place).st_dev, []).append(place)
    for shared in disks.values():
        needed, free = int(SPARE * size * len(shared)), shutil.disk_usage(shared[0]).free
        where = " and ".join(map(str, shared))
        if needed > free:
            raise InputError(
                f"{what} takes {shown(needed)} on the disk of {where}, which has {shown(free)} free; make room there,"
                f" or set TMPDIR (of an export: --output) to a folder of another disk."
            )
        logger.info(f"{what} takes {shown(needed)} on the disk of {where}; {shown(free)} are free")


def shown(size: int) -> str:
    """Return bytes as MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
