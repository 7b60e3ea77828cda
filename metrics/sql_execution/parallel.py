"""Many verdicts: on all cores, with a progress bar, and the same as one by one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.pool import ThreadPool
from queue import SimpleQueue
from typing import IO

from tqdm import tqdm

from .ddl import SQLITE
from .judging import Verdict, judge
from .suites import DATABASES

FEWEST_ROWS = 100  # worth the second that a process takes to start
# A process of its own, not a fork: torch and others have threads. Not multiprocessing: it would run the script again.
WORKER = "import sys; sys.path[:] = {path!r}; from {package}.parallel import work; work()"


def judge_all(
    rows: Iterable[tuple[str, str, str]], databases: int = DATABASES, dialect: str = SQLITE, workers: int | None = None
) -> list[Verdict]:
    """Judge (prediction, gold, schema) of each row, in their order.

    Args:
        workers: processes; default: one a core where there are many rows.
    """
    tasks: list[list] = [[*row, databases, dialect] for row in rows]
    count = workers or (cores() if len(tasks) >= FEWEST_ROWS else 1)
    with tqdm(
        total=len(tasks), desc="verdicts", unit="row", disable=None if len(tasks) >= FEWEST_ROWS else True
    ) as bar:
        if count > 1:
            return _share_out(tasks, count, bar)
        verdicts = []
        for task in tasks:
            verdicts.append(judge(*task))
            bar.update()
        return verdicts


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _share_out(tasks: list[list], count: int, bar: tqdm) -> list[Verdict]:
    verdicts: dict[int, Verdict] = {}
    waiting: SimpleQueue[int | None] = SimpleQueue()
    for number in [*range(len(tasks)), *[None] * count]:
        waiting.put(number)

    def serve(_: int) -> None:
        command = [sys.executable, "-c", WORKER.format(path=sys.path, package=__package__)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None  # PIPE
            assert process.stdout is not None  # PIPE
            for number in iter(waiting.get, None):
                verdicts[number] = _ask(process.stdin, process.stdout, tasks[number]) or judge(*tasks[number])
                bar.update()
            with suppress(BrokenPipeError):  # A worker that has ended has not read all.
                process.stdin.close()

    with ThreadPool(count) as pool:
        pool.map(serve, range(count))
    return [verdicts[number] for number in range(len(tasks))]


def _ask(questions: IO[str], answers: IO[str], task: list) -> Verdict | None:
    """Return a worker's verdict; None where it has ended, such as for want of memory."""
    try:
        questions.write(json.dumps(task) + "\n")
        questions.flush()
        answer = answers.readline()
    except (OSError, ValueError):
        return None
    return Verdict(**json.loads(answer)) if answer else None


def work() -> None:
    """Read tasks as lines of JSON and print the verdicts."""
    for line in sys.stdin:
        print(json.dumps(asdict(judge(*json.loads(line)))), flush=True)
