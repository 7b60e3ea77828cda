"""Faults on purpose: trainings in processes that start in a moment, to be killed at a chosen one."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
from conftest import ROOT

# Each process is forked from one that has imported everything, and so starts in a moment.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["train_sql_generator", "train_classifier", "train_summarizer", "log_model"])
# What takes time, and differs from run to run.
TIMED = ("system/", "train_runtime", "train_samples", "train_steps", "eval_runtime", "eval_samples", "eval_steps")


def start(script: str, flags, log: Path, **environment) -> multiprocessing.Process:
    """Run a script in a process; what it prints goes to LOG.out and LOG.err."""
    values = dict(os.environ) | environment
    process = _context.Process(target=_run, args=(script, [str(flag) for flag in flags], str(log), values))
    process.start()
    return process


def _run(script: str, flags: list[str], log: str, environment: dict) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, end in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{log}.{end}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.setpgid(0, 0)
    import importlib

    from finetune import console

    sys.argv = [str(ROOT / f"{script}.py"), *flags]
    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    console.run(importlib.import_module(script).main)


def finish(process: multiprocessing.Process, log: Path, status: int = 0, timeout: float = 900) -> str:
    """Wait for the end, and return what was printed on stdout."""
    process.join(timeout)
    assert process.exitcode == status, f"{process.exitcode}\n{log.with_suffix('.err').read_text()[-3000:]}"
    return log.with_suffix(".out").read_text()


def when(condition: Callable[[], bool], process: multiprocessing.Process, timeout: float = 900) -> bool:
    """Wait until the condition holds; return False where the process ends or the time is over before."""
    deadline = time.monotonic() + timeout
    while process.is_alive() and time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def history(run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Return the points of each metric of a run by step, without those that measure time."""
    client = mlflow.MlflowClient()
    keys = [key for key in client.get_run(run_id).data.metrics if not key.startswith(TIMED)]
    keys = [key for key in keys if not key.endswith(("tokens_per_second", "tokens_per_second_base"))]
    return {key: [(point.step, point.value) for point in client.get_metric_history(run_id, key)] for key in keys}
