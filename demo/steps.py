"""The numbered steps of a demo: what each is for, about how long it takes, its command, and what came of it."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from finetune import console
from finetune.progress_line import duration
from finetune.runs import tracking

import mlflow


class Steps:
    """Counts the steps; with the first one the clock starts and MLflow is connected."""

    def __init__(self, count: int):
        self.count, self.number, self.start = count, 0, time.monotonic()
        console.quiet_libraries()
        tracking.connect()
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # Nothing here comes from the Hub: do not look there.

    def begin(self, title: str, takes: str, purpose: str) -> None:
        """Print which step begins, how long it will take on a CPU of two cores, and what it is for."""
        self.number += 1
        print(f"\n[{self.number}/{self.count}] {title} ({takes})\n  {purpose}", flush=True)


def script(name: str, *arguments: str, given: str | None = None) -> list[str]:
    """Run one script and return the lines of its stdout.

    Args:
        given: its stdin.
    """
    lines = f"  # with {len(given.splitlines())} lines on stdin" if given else ""
    print(f"\n$ python {name} {shlex.join(arguments)}{lines}", flush=True)
    command = [sys.executable, str(FOLDER.parent / name), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, input=given, text=True, cwd=FOLDER.parent, check=False)
    if done.returncode:
        sys.exit(f"{name} failed with status {done.returncode}; its messages stand above.")
    return done.stdout.rstrip().splitlines()


def show_end(run_id: str, command: str, start: float) -> None:
    """Print the run, the commands to go on with, and how long it took since `start`."""
    print(f"\nrun id: {run_id}\n\nGo on with")
    print(f"  .venv/bin/mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}")
    print(f"  .venv/bin/python {command}")
    print(f"{duration(time.monotonic() - start)} in all")
