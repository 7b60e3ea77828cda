"""Being asked to stop: SIGTERM of a preempted machine, or Ctrl-C. Training saves a checkpoint first."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

AT_ONCE_AFTER = 2.0  # seconds: launchers pass a signal on that the processes have got themselves
GRACE = 20.0  # seconds for processes that wait for one another, of the 30 that launchers leave them
_received: list[tuple[int, float]] = []
_training = _seen = False


class EvaluationStopped(KeyboardInterrupt):
    """An evaluation was cut off; the weights are those of a whole step."""


def install() -> None:
    """Take SIGTERM and SIGINT: at once outside of training, at the end of a step within it."""
    _received.clear()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _receive)


def exit_status() -> int:
    """Return 143 after SIGTERM and 130 after Ctrl-C."""
    return 143 if _received and _received[0][0] == signal.SIGTERM else 130


def requested() -> bool:
    """Say whether this process was asked to stop."""
    return bool(_received)


def in_training(value: bool) -> None:
    """Say whether training is under way, so that there is something to save first."""
    global _training
    _training = value


def seen() -> None:
    """Say that training knows of the request and is about to end: it is not hung."""
    global _seen
    _seen = True


def check_evaluation() -> None:
    """End an evaluation in training when this process was asked to stop; it is made up for on resume.

    Several processes evaluate together, and finish what they have begun.

    Raises:
        EvaluationStopped: in a training of one process.
    """
    if _training and _received and os.environ.get("WORLD_SIZE", "1") == "1":
        raise EvaluationStopped


def watch(hung: Callable[[], None]) -> None:
    """Call `hung` and exit with status 1 where a signal is not followed by an end in time.

    A process that waits for another one, which has died, in a collective operation of C code never comes to see
    the signal in Python.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def wait():
        os.read(read, 1)
        time.sleep(GRACE)
        if _training and not _seen:
            print(f"error: no step came to its end within {GRACE:g} s of the signal.", file=sys.stderr, flush=True)
            hung()
            os._exit(1)

    threading.Thread(target=wait, name="stopping", daemon=True).start()


def _receive(number: int, frame) -> None:
    now = time.monotonic()
    again = bool(_received) and number == signal.SIGINT and now - _received[0][1] > AT_ONCE_AFTER
    _received.append((number, now))
    if not _training or again:
        raise KeyboardInterrupt
    if len(_received) == 1:
        name = signal.Signals(number).name
        os.write(2, f"{name}: saving a checkpoint at the end of this step; Ctrl-C again stops at once.\n".encode())
