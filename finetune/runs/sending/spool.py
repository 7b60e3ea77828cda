"""The folder in which a journal keeps what MLflow does not have yet: what may stand in it, and what is deleted."""

import json
import logging
from contextlib import suppress
from pathlib import Path

from finetune import InputError
from finetune.models.files.inside import delete_numbered, inside, is_numbered, plain, refuse_links
from finetune.models.files.schemas import (
    FLAG,
    NULL,
    NUMBER,
    Kind,
    check,
    either,
    listed,
    mapped,
    matching,
    one_of,
    read_json,
    reason,
    shown,
    text,
    whole,
)

logger = logging.getLogger(__name__)
SPOOL = "spool"
HEADER, LINES, SENT, REJECTED = "run.json", "journal.jsonl", "sent", "rejected.jsonl"
OFFLINE_TAG, OFFLINE = "finetune.offline_id", "offline-"  # begins the id of a run that MLflow does not know yet
FILES, CHECKPOINTS = "files", "checkpoints"  # Each with a numbered folder an entry.
RUN_ID = matching(r"[A-Za-z0-9_-]{1,256}", "the id of a run")
TIME = whole(0, 2**63 - 1)
PAIR = listed(text(), 2, 2)


def _place(kind: str) -> Kind:
    """The name of what an entry has put into its own folder."""

    def fits(value: object) -> bool:
        parts = value.split("/") if isinstance(value, str) else []
        with suppress(InputError):
            return len(parts) == 3 and parts[0] == kind and is_numbered(parts[1]) and bool(plain(value, ""))
        return False

    return f"{kind}/NUMBER/NAME", fits


def _artifact(value: object) -> bool:
    with suppress(InputError):
        return bool(plain(value, ""))
    return False


def _is_point(value: object) -> bool:
    kinds = (text(), NUMBER, TIME, whole(-(2**63), 2**63 - 1))
    return isinstance(value, list) and len(value) == 4 and all(k[1](v) for k, v in zip(kinds, value, strict=True))


ARTIFACT = ("the name of a place among the run's artifacts", _artifact)
POINTS = listed(("[name, value, time in milliseconds, step]", _is_point))
# What each kind of line has: fields that it must have, fields that it may have.
LINE = {
    "metrics": ({"points": POINTS}, {"dataset": either(NULL, PAIR)}),
    "params": ({"values": mapped(text())}, {}),
    "tags": ({"values": mapped(text())}, {}),
    "untag": ({"name": text()}, {}),
    "input": ({"dataset": mapped(either(NULL, text())), "context": text()}, {}),
    "file": ({"file": _place(FILES)}, {"folder": either(NULL, ARTIFACT), "table": either(NULL, ARTIFACT)}),
    "checkpoint": (
        {"folder": _place(CHECKPOINTS), "model": FLAG, "again": FLAG, "keep": listed(TIME), "dataset": PAIR},
        {"state": FLAG},
    ),
    "end": ({"status": one_of("FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED"), "time": TIME}, {}),
}  # fmt: skip
NOTES = {"error": text(), "attempts": TIME, "alone": FLAG}  # of a line that MLflow refused
OFFLINE_HEADER = {
    "experiment": text(), "tags": mapped(text()), "start_time": TIME,
    "offline_id": matching(r"offline-[0-9a-f]{32}", "the id of a run that MLflow does not know"),
}  # fmt: skip
SAVE_IT = "keep a copy of the folder, take the line away, and run the command again for the rest"


def read_header(path: Path) -> dict:
    """Return what `run.json` says of the run.

    Raises:
        InputError: it is damaged.
    """
    mend = f"the spool in {path.parent} cannot be sent without it"
    header = check(read_json(path, mend), {"run_id": either(NULL, RUN_ID)}, path, mend, OFFLINE_HEADER, lambda *_: True)
    return check(header, OFFLINE_HEADER, path, mend, {"run_id": NULL}) if header["run_id"] is None else header


def read_entries(path: Path) -> list[dict]:
    """Return the entries of a file of JSON lines; one that was cut off while it was written does not count.

    Raises:
        InputError: for a line that was changed since it was written.
    """
    entries = []
    for number, line in enumerate(_split(path), start=1):
        if not line.strip(b"\0\r "):
            continue
        try:
            entry = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            if line.endswith(b"}"):  # It was whole once.
                raise InputError(f"{path}, line {number}, is damaged: {reason(error)}; {SAVE_IT}.") from error
            logger.warning(f"{path}: a line that was cut off is left out.")
            continue
        entries.append(check_entry(entry, f"{path}, line {number},"))
    return entries


def _split(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}.") from error


def check_entry(entry: object, where: str) -> dict:
    """Return an entry of a journal.

    Raises:
        InputError: it is of no kind that a training writes.
    """
    op = entry.get("op") if isinstance(entry, dict) else None
    if not isinstance(op, str) or op not in LINE:
        raise InputError(f"{where} is damaged: op is {shown(op)}, expected {', '.join(LINE)}; {SAVE_IT}.")
    required, optional = LINE[op]
    ours = {"op": one_of(op), "number": whole(1, 2**62)}
    return check(entry, ours | required, where, SAVE_IT, optional | NOTES)


def read_count(path: Path) -> int:
    """Return up to which number MLflow has the entries; 0, where that was cut off: none arrives twice."""
    try:
        found = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: {reason(error)}; delete it: all is sent again, none twice.") from error
    return int(found) if is_numbered(found) else 0


def place_of(entry: dict, spool: Path) -> Path:
    """Return where an entry's file or folder is in the spool.

    Raises:
        InputError: it is not in there, or is or holds a link.
    """
    name = entry["file"] if entry["op"] == "file" else entry["folder"]
    path = inside(spool, name, f"the journal in {spool}")
    refuse_links(path.parent)
    if path.exists() and path.is_dir() != (entry["op"] == "checkpoint"):
        raise InputError(f"{path} is a {'folder' if path.is_dir() else 'file'}, where the other was put.")
    return path


def clear(spool: Path) -> None:
    """Delete what a journal has put into its spool, and the spool where that was all."""
    if spool.is_symlink():
        return
    for name in (HEADER, f"{HEADER}.new", LINES, SENT, REJECTED):
        (spool / name).unlink(missing_ok=True)
    for kind in (spool / FILES, spool / CHECKPOINTS):
        for path in kind.iterdir() if kind.is_dir() and not kind.is_symlink() else ():
            delete_numbered(path, spool)
        with suppress(OSError):
            kind.rmdir()
    with suppress(OSError):
        spool.rmdir()
