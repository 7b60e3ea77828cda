"""Names that files hold, as paths: the one place where such a name becomes a path, inside its folder or not at all."""

import os
import re
import shutil
from pathlib import Path

from finetune import InputError


def inside(folder: Path, name: object, what: str) -> Path:
    """Return FOLDER/NAME for a name that a journal, a manifest, a tag or the like gives.

    The folder itself may be, or lie behind, a symbolic link: it is the user's. Nothing below it may.

    Args:
        what: names the name, for the error.

    Raises:
        InputError: the name is not that of a place below the folder, or it is or passes through a link.
    """
    path = folder / plain(name, what)
    for part in (path, *path.parents):
        if part == folder:
            return path
        if part.is_symlink():
            raise InputError(f"{what} names {name!r}, which is or passes through a symbolic link; no link is followed.")
    raise AssertionError(path)


def plain(name: object, what: str) -> str:
    """Return a relative path in which nothing goes up, as a file system takes it.

    Raises:
        InputError: for anything else.
    """
    if not isinstance(name, str) or any(part in ("", ".", "..") or not _is_name(part) for part in name.split("/")):
        raise InputError(f"{what} names {str(name)[:80]!r}; expected the name of a place inside its own folder.")
    return name


def refuse_links(folder: Path) -> None:
    """Raise InputError where a folder that is written to or sent is, or holds, a symbolic link or a special file."""
    found = [folder] if folder.is_symlink() else []
    for root, folders, files in os.walk(folder):
        found += [path for path in (Path(root) / name for name in folders) if path.is_symlink()]
        found += [path for path in (Path(root) / name for name in files) if path.is_symlink() or not path.is_file()]
    if found:
        raise InputError(
            f"{found[0]} is a symbolic link or no plain file; nothing here makes such. Take it away, if you know why it"
            " is there, and try again."
        )


def is_numbered(name: str) -> bool:
    """Say whether a name is the number of a folder that a journal has made."""
    return bool(re.fullmatch(r"[0-9]{1,20}", name, re.ASCII))


def delete_numbered(path: Path, spool: Path) -> None:
    """Delete SPOOL/KIND/NUMBER, and nothing else."""
    if is_numbered(path.name) and path.parent.parent == spool and not path.is_symlink():
        shutil.rmtree(path)


def _is_name(part: str) -> bool:
    try:
        return len(os.fsencode(part)) <= 255 and part.isprintable()
    except UnicodeEncodeError:  # half a character
        return False
