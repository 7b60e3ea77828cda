"""The processes in which a model's queries run: one of its own for each, started afresh or forked from a server."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

RUNNER, SERVER = (Path(__file__).parent / name for name in ("runner.py", "query_server.py"))
MEMORY_MEGABYTES = 1024
GRACE = 3  # seconds that a process has, beyond its query's, to say that time is up


class QueryFailed(Exception):
    """The database refused the query, or it was stopped at a limit."""


def start(script: Path) -> subprocess.Popen:
    """Return a process of one of the scripts here."""
    return subprocess.Popen(
        [sys.executable, "-P", "-B", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def pipes(process: subprocess.Popen) -> tuple[IO[str], IO[str]]:
    """Return stdin and stdout of a process."""
    assert process.stdin is not None  # PIPE
    assert process.stdout is not None  # PIPE
    return process.stdin, process.stdout


@contextmanager
def clock(process: subprocess.Popen, seconds: float) -> Iterator[threading.Event]:
    """Kill the process after so many seconds; yield what is set then."""
    is_late = threading.Event()

    def stop() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()


def in_process(job: dict) -> dict:
    """Return what runner.py answers to a job.

    Raises:
        QueryFailed: the process was stopped at a limit.
    """
    process = start(RUNNER)
    with clock(process, job["timeout"] + GRACE) as is_late:
        try:
            with process:
                # The job goes by stdin: a password among the arguments could be read by every user. Stdin stays open
                # until the answer is there: its end tells the process that this one is gone.
                stdin, stdout = pipes(process)
                stdin.write(json.dumps(job) + "\n")
                stdin.flush()
                answer = stdout.read()
        except BrokenPipeError:
            answer = ""
        finally:
            process.kill()
    if is_late.is_set():
        raise out_of_time(job)
    try:
        return json.loads(answer)
    except json.JSONDecodeError as error:
        raise died(process.returncode) from error


class QueryServer:
    """Answers one job after the other, each in a process that query_server.py forks for it; a context manager.

    The server itself runs no query. Where it dies all the same, the next job gets another.
    """

    def __init__(self):
        self.process: subprocess.Popen | None = None

    def ask(self, job: dict) -> dict:
        """Return what the process of a job answers.

        Raises:
            QueryFailed: the process was stopped at a limit.
        """
        (found,) = self.ask_all(job, 1)
        if isinstance(found, QueryFailed):
            raise found
        return found

    def ask_all(self, job: dict, count: int) -> list[dict | QueryFailed]:
        """Return what is answered to each of so many `queries` of a job; QueryFailed in the place of a stopped one."""
        process = self.process = self.process or start(SERVER)
        stdin, stdout = pipes(process)
        found: list[dict | QueryFailed] = []
        line = json.dumps(job) + "\n"
        while len(found) < count:
            with clock(process, job["timeout"] + 3 * GRACE + 60) as is_late:  # The first job waits for the server.
                try:
                    stdin.write(line)
                    stdin.flush()
                    line = ""
                    one = json.loads(stdout.readline())
                except (OSError, json.JSONDecodeError):
                    self.close()
                    failed = out_of_time(job) if is_late.is_set() else died(process.returncode)
                    return found + [failed] * (count - len(found))
            if "ended" in one:
                one = out_of_time(job) if one["ended"] is None else died(one["ended"])
            found.append(one)
        return found

    def close(self) -> None:
        """End the server and the query that it is at."""
        if self.process:
            process, self.process = self.process, None
            process.kill()
            for pipe in pipes(process):
                with suppress(OSError):  # A job that a dead process never read.
                    pipe.close()
            process.wait()

    def __enter__(self) -> "QueryServer":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def out_of_time(job: dict) -> QueryFailed:
    """Return what is said of a query that ran past its time."""
    return QueryFailed(f"stopped after {job['timeout']:g} seconds (--timeout)")


def died(status: int) -> QueryFailed:
    """Return what is said of a query whose process ended without an answer."""
    if status == -signal.SIGXCPU:
        return QueryFailed("stopped at a limit of time")
    reason = f"status {status}" if status >= 0 else f"signal {-status}"
    return QueryFailed(f"stopped at a limit of memory or time ({reason})")
