"""A model's files: on this disk and readable, fetched, or a sentence about where they are looked for."""

import atexit
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from finetune.checkpoints import CARD, served_files
from finetune.console import InputError
from finetune.refusals import why_refused

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

EXPECTED = "expected runs:/<run id>/model as log_model.py prints it, models:/NAME@ALIAS, or a checkpoint folder"


def check_folder(folder: Path) -> Path:
    """Return a folder with a model or a checkpoint, whose files this user may read.

    Raises:
        InputError: it is none.
    """
    is_checkpoint = os.path.lexists(folder / CARD)
    check_readable(folder, [folder / CARD, *served_files(folder)] if is_checkpoint else [], str(folder))
    if not os.path.isdir(folder):
        raise InputError(f"there is no model {str(folder)[:300]}: it is no folder here, and no URI; {EXPECTED}.")
    if not is_checkpoint and not os.path.lexists(folder / "MLmodel"):
        inside = sorted(str(path) for path in folder.glob("checkpoint-*"))
        hint = f"give a checkpoint in it, such as {inside[-1]}" if inside else EXPECTED
        raise InputError(f"there is no model in the folder {folder}: no MLmodel and no {CARD}; {hint}.")
    if not is_checkpoint:  # Only now: a folder of anything else may hold millions of files.
        check_readable(folder, None, str(folder))
    return folder


def check_readable(folder: Path, files: list[Path] | None, shown: str) -> None:
    """Raise InputError where a folder is there, and this user may not read it.

    Args:
        files: that are needed; None for all of it.
    """
    above = list(reversed(folder.absolute().parents))
    # One after the other: what lies below a folder that cannot be entered cannot be listed.
    for path in chain(above, [folder], _below(folder) if files is None else files):
        needed = os.X_OK if path in above else os.R_OK | (os.X_OK if os.path.isdir(path) else 0)
        is_dangling = os.path.islink(path) and not os.path.exists(path)
        if os.path.lexists(path) and not is_dangling and not os.access(path, needed, effective_ids=True):
            found, command = path.lstat(), f"chmod -R a+rX {shlex.quote(str(folder))}"
            raise InputError(
                f"the model {shown} cannot be read by this user (number {os.geteuid()}): {path} belongs to user"
                f" {found.st_uid} and has the permissions {found.st_mode & 0o777:04o}. Its owner lets others read it"
                f" with `{f'chmod a+x {shlex.quote(str(path))}' if path in above else command}`."
            )


def _below(folder: Path) -> Iterator[Path]:
    yield from folder.rglob("*")


def on_this_disk(place: str, uri: str) -> Path:
    """Return the folder that a store names, whose files this user may read.

    Raises:
        InputError: it is not there.
    """
    folder = Path(local_file_uri_to_path(place))
    check_readable(folder, None, uri)
    if not os.path.isdir(folder):
        raise InputError(_moved(folder, uri))
    return folder


def _moved(place: Path, uri: str) -> str:
    """Return where a store looks for files that are not there, and how they are found again."""
    store = mlflow.get_tracking_uri()
    text = f"the files of the model {uri} were moved or deleted: {store} looks for them in {place}, where nothing is."
    missing = next(path for path in (*reversed(place.parents), place) if not path.exists())
    if (found := _find_again(place)) is None:
        return f"{text} Move them back, or link their new place: `ln -s NEW_PLACE {shlex.quote(str(missing))}`."
    root, count = found
    before = Path(*place.parts[:count])
    old = max(before, missing, key=lambda path: len(path.parts))
    command = f"ln -s {shlex.quote(str(root / old.relative_to(before)))} {shlex.quote(str(old))}"
    if not old.parent.exists():
        command = f"mkdir -p {shlex.quote(str(old.parent))} && {command}"
    there = root.joinpath(*place.parts[count:])
    return f"{text} They seem to be in {there}: give that folder in place of the URI, or link it: `{command}`."


def _find_again(place: Path) -> tuple[Path, int] | None:
    """Return a folder below which a model lies as it did elsewhere, and how many of the old path's parts it replaces.

    An SQLite store that was moved with its artifacts has them beside it.
    """
    store = mlflow.get_tracking_uri()
    beside = [Path(store.removeprefix("sqlite:///")).absolute().parent] if store.startswith("sqlite:///") else []
    for root in (*beside, Path.cwd()):
        for count in range(1, len(place.parts)):
            if root.joinpath(*place.parts[count:], "MLmodel").is_file():
                return root, count
    return None


def fetch(source: str, uri: str, place: str) -> Path:
    """Return a copy of a model's files that goes with this process.

    Args:
        source: that MLflow downloads from.
        uri, place: for the message.

    Raises:
        InputError: they cannot be had.
    """
    target = tempfile.mkdtemp(prefix="model-")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=target))
    except (MlflowException, OSError, ValueError, ImportError) as error:  # S3 and others need packages.
        raise InputError(
            f"there is no model {uri}: its files are not in {place} ({why_refused(error)}); {EXPECTED}."
        ) from error
