"""Digests of a logged model's files, among its metadata: a file that was changed since it was logged is refused."""

import hashlib
import json
from pathlib import Path

from finetune import InputError
from finetune.models.files.inside import plain
from finetune.models.files.schemas import mapped, matching, reason

from mlflow.models import Model

FILES = "finetune_files"
DIGESTS = mapped(matching(r"[0-9a-f]{64}", "a SHA-256 digest"))


def digest_file(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """Return the digest of each file that a saved model is loaded from: all but those that describe it at its top."""
    paths = sorted(path for path in folder.glob("*/**/*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in paths}


def read_digests(model: Model, where: Path) -> dict[str, str]:
    """Return the digests of a logged model; none of one that an older version logged.

    Raises:
        InputError: they are damaged.
    """
    given = (model.metadata or {}).get(FILES, "{}")
    try:
        found = json.loads(given)
        if not DIGESTS[1](found):
            raise ValueError("they are no digests")
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged: the digests of its files ({reason(error)}).") from error
    return found


def check_digests(folder: Path, digests: dict[str, str]) -> None:
    """Raise InputError where a file of a logged model is gone or was changed."""
    for name, digest in digests.items():
        path = folder / plain(name, "MLmodel")
        try:
            found = digest_file(path)
        except OSError as error:
            raise InputError(f"the model in {folder} is not whole: {name} cannot be read ({reason(error)}).") from error
        if found != digest:
            raise InputError(
                f"{path} is not what was logged: its digest is another one than MLmodel says, so it was changed or"
                " damaged since. Log the model again with log_model.py."
            )
