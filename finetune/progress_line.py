"""How far some work is, in one line: rewritten in place on a terminal, a line now and then elsewhere."""

import time
from contextlib import nullcontext

from finetune.screen import shown

# Seconds between two states of the line: on a terminal, and in what is read afterwards.
QUICK, SLOW = 0.2, 30


class Progress:
    """How far some work is, in one line: rewritten in place on a terminal, now and then a line elsewhere.

    Without a screen, as in a test or in another process than the first, it does nothing.

    Args:
        what: is being done.
        total: in `unit`; None where nobody knows.
        done: before it goes on here.
        quiet: no line, for what takes a moment.
    """

    open: "Progress | None" = None  # The one that `advance` counts in.

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0, quiet: bool = False):
        self.what, self.total, self.unit, self.quiet = what, total, unit, quiet
        self.done = self.begun = done
        self.start = self.shown = time.monotonic()
        self.note = ""

    def __enter__(self):
        """Let `advance` count here."""
        self.outer, Progress.open = Progress.open, self
        return self

    def __exit__(self, *error):
        Progress.open = self.outer
        if error[0] is None:
            self.close()

    def close(self) -> None:
        """Write the line that stays."""
        self._write(self.final(), final=True)

    def update(self, done: int, note: str | None = None) -> None:
        """Say how much is done, and what else there is to know."""
        self.done, self.note = done, self.note if note is None else note
        screen = shown()
        if screen and time.monotonic() - self.shown >= (QUICK if screen.is_terminal() else SLOW):
            self.show()

    def show(self) -> None:
        """Write the line as it stands."""
        self.shown = time.monotonic()
        self._write(self.text())

    def text(self) -> str:
        """Return the line as it stands."""
        seconds, done = time.monotonic() - self.start, self.done - self.begun
        parts = [f"{self.what}: {self._count()}{self.note}", duration(seconds)]
        if self.total and done:
            parts.append(f"about {duration(seconds / done * (self.total - self.done))} left")
        return ", ".join(parts)

    def final(self) -> str:
        """Return the line that stays."""
        return f"{self.what}: {self._count()} in {duration(time.monotonic() - self.start)}{self.note}"

    def _count(self) -> str:
        of = f" of {self.total}" if self.total and self.done != self.total else ""
        return f"{self.done}{of} {self.unit}"

    def _write(self, line: str, final: bool = False) -> None:
        screen = shown()
        if screen and not self.quiet:
            with screen.lock or nullcontext():
                screen.clear()
                screen.rewrite(line, final)


def advance(count: int, note: str | None = None) -> None:
    """Count work as done in the progress line that is open, with a word on it; without one do nothing."""
    if progress := Progress.open:
        progress.update(progress.done + count, note)


def duration(seconds: float) -> str:
    """Return seconds as `50 s`, `1 min 40 s` or `1 h 10 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s" if seconds % 60 else f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
