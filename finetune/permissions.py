"""Permissions of the files that a run leaves: those of the umask, as of every other file."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)
PROBE = ".permissions"


def share_files(folder: Path) -> None:
    """Let those read a folder's files whom the umask lets.

    Libraries that write a file under another name first, as safetensors does, leave it to its owner alone (0600).
    """
    try:
        # A file made for it: the umask of a process can only be read by changing it, for other threads too.
        probe = folder / PROBE
        probe.touch()
        mode = probe.stat().st_mode & 0o777
        probe.unlink()
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(path.stat().st_mode | mode)
    except OSError as error:  # Another user's files, or a file system that has no permissions.
        logger.debug(f"permissions in {folder}: {error}")
