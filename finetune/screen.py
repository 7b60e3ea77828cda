"""What a script says on stderr: one line a message and one that shows progress; the whole is kept for the run.

Messages go through logging. `extra=DETAIL` is for --verbose and the run alone; `extra=in_full(text)` says there in full
what the message says in a line. Of a library's warning one line is shown, once.
"""

import logging
import re
import shutil
import sys
import warnings
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from finetune.redaction import redact

# All of C0 but tab and newline, C1, and the characters that order text from right to left.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
DETAIL = {"detail": True}
OWN = ("finetune", "metrics", "__main__")  # The first parts of our own loggers' names.
WARNED = "warnings."  # begins the names of the loggers that warnings go through
CLEAR = "\r\x1b[K"
MAX_KEPT = 5000  # messages
_state = {"verbose": False}
_screens: list["Screen"] = []  # the one that progress is shown on, or none
_kept: deque[str] = deque(maxlen=MAX_KEPT)
STARTED = datetime.now(UTC)


def in_full(text: str) -> dict:
    """Return the `extra` of a message that is a short form of this text."""
    return {"whole": text}


def set_verbose(verbose: bool) -> None:
    """Show messages in full from now on."""
    _state["verbose"] = bool(verbose)


def is_verbose() -> bool:
    """Say whether messages are shown in full."""
    return _state["verbose"]


def for_stream(text: str, stream: TextIO) -> str:
    """Return text as it is, or for a terminal with its control characters shown.

    A model's text, or a value of a database, may hold sequences that a terminal obeys: that rewrite its lines or its
    clipboard (ESC, OSC, C1), or that show text in another order than it has. They become \\uXXXX, so that JSON stays
    JSON.
    """
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) if stream.isatty() else text


class Formatter(logging.Formatter):
    """Formats a message without secrets: in full, or in a line."""

    def __init__(self, full: bool = False):
        super().__init__("%(message)s")
        self.full = full

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self.full and not _is_own(record):
            return redact(f"{record.name.removeprefix(WARNED).partition('.')[0]}: {' '.join(text.split())[:200]}")
        return redact(getattr(record, "whole", text) if self.full else text)


class Redacting(logging.Formatter):
    """Formats as another formatter does, without secrets and control characters."""

    def __init__(self, inner: logging.Formatter | None):
        super().__init__()
        self.inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return for_stream(redact(self.inner.format(record)), sys.stderr)


class Screen(logging.StreamHandler):
    """Writes messages to stderr, around the progress line where one is open."""

    def __init__(self):
        super().__init__(sys.stderr)
        self.short, self.full, self.line, self.seen = Formatter(), Formatter(full=True), "", set()

    def format(self, record: logging.LogRecord) -> str:
        return for_stream((self.full if _state["verbose"] else self.short).format(record), self.stream)

    def filter(self, record: logging.LogRecord) -> bool:
        if _state["verbose"]:
            return True
        if _is_own(record):
            return not getattr(record, "detail", False)
        text = self.short.format(record)
        is_new = record.levelno >= logging.WARNING and text not in self.seen
        self.seen.add(text)
        return is_new

    def emit(self, record: logging.LogRecord) -> None:
        line = self.clear()
        super().emit(record)
        self.rewrite(line)

    def clear(self) -> str:
        """Take the progress line off a terminal and return it."""
        line, self.line = self.line, ""
        if line:
            self._put(CLEAR)
        return line

    def rewrite(self, line: str, final: bool = False) -> None:
        """Write the progress line in the place of the one before; a final one stays."""
        if not line:
            return
        if not self.is_terminal():
            self._put(line + "\n")
        else:
            width = shutil.get_terminal_size().columns - 1
            self._put(CLEAR + line[:width] + "\n" * final)
            self.line = "" if final else line

    def _put(self, text: str) -> None:
        with suppress(OSError, ValueError):  # A full disk, or a reader that has gone, ends no training.
            self.stream.write(text)
            self.stream.flush()

    def is_terminal(self) -> bool:
        """Say whether lines can be rewritten."""
        return self.stream.isatty()


class Keeper(logging.Handler):
    """Keeps messages in full."""

    def __init__(self):
        super().__init__()
        self.setFormatter(Formatter(full=True))

    def emit(self, record: logging.LogRecord) -> None:
        moment = datetime.fromtimestamp(record.created, UTC)
        _kept.append(f"{moment:%H:%M:%S} {record.levelname.lower()} {self.format(record)}")


def shown() -> Screen | None:
    """Return the screen that progress lines are written to; None where there is none."""
    return _screens[0] if _screens else None


def clear() -> str:
    """Take the progress line off the terminal, for what is written there otherwise; return it for `restore`."""
    return _screens[0].clear() if _screens else ""


def restore(line: str) -> None:
    """Put back the progress line that `clear` has taken off."""
    if line and _screens:
        _screens[0].rewrite(line)


def kept() -> str:
    """Return all messages so far in full, with the time of each (UTC)."""
    return "".join(f"{message}\n" for message in _kept)


def kept_name() -> str:
    """Return where in a run the messages of this process go."""
    return f"messages/{Path(sys.argv[0] or 'python').stem}-{STARTED:%Y-%m-%dT%H-%M-%SZ}.txt"


def install(level: int, is_shown: bool) -> None:
    """Send messages of this process to stderr, and keep them.

    Args:
        level: the least of what is shown and kept.
        is_shown: progress too: of the first process only.
    """
    screen = Screen()
    logging.basicConfig(level=level, handlers=[screen, Keeper()], force=True)
    _screens[:] = [screen] if is_shown else []
    warnings.showwarning = _show_warning
    for name in ("transformers", "mlflow", "datasets", "huggingface_hub"):  # They write to stderr themselves.
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for found in list(logging.root.manager.loggerDict.values()):
        for handler in getattr(found, "handlers", ()):
            if not isinstance(handler.formatter, Redacting):
                handler.setFormatter(Redacting(handler.formatter))


def show_progress() -> None:
    """Show progress lines in a process that is not one of the scripts."""
    _screens[:] = [Screen()]


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Make a warning a message: of the package that warns."""
    package = re.search(r"-packages/(\w+)", str(filename))
    whole = warnings.formatwarning(message, category, filename, lineno, line)
    # Not the package's own logger, which may keep its messages to itself, as torch's does.
    logging.getLogger(WARNED + (package[1] if package else "python")).warning(
        str(message), extra=in_full(whole.rstrip())
    )


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OWN
