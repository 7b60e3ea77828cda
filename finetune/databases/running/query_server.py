"""Answers jobs of runner.py one after the other, each in a process of its own, forked from this one.

As a script it reads a job a line on stdin and writes the answer of each as a line of JSON on stdout. A fork has at once
what runner.py takes half a second to import; its limits are those of a process of runner.py, and it ends at the latest
when this one does, which ends with the process that holds the other end of stdin. No query runs in this process.

A job with `queries` has a line for each of them, and one fork for all, as long as none is stopped at a limit: another
fork goes on behind that one. This is for queries of our own.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

GRACE = 3  # seconds that a process has, beyond its query's, to say that time is up
LIBRARIES = {"sqlite": "sqlite3", "postgresql": "psycopg", "mysql": "pymysql", "duckdb": "duckdb"}


def main() -> None:
    """Read jobs until stdin ends."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    prepared: set[tuple[str, str]] = set()
    while line := sys.stdin.readline():
        job = json.loads(line)
        kind = job["engine"], job["dialect"]
        if kind not in prepared:
            prepared.add(kind)
            prepare(*kind)
        for found in in_forks(job, job.get("queries") or [job["sql"]]):
            sys.stdout.write(found + "\n")
            sys.stdout.flush()


def prepare(engine: str, dialect: str) -> None:
    """Import what all forks need; what is missing, each of them says."""
    with suppress(Exception):
        __import__(LIBRARIES[engine])
        if dialect:  # SQL of our own for an engine has none, and is not checked.
            from finetune.databases.safety import make_safe

            make_safe("SELECT 1 FROM t", {"t": ["a"]}, (), engine, dialect)


def in_forks(job: dict, queries: list[str]) -> Iterator[str]:
    """Yield the JSON of each query's answer; `{"ended"}` with the status of its process, None where it was late."""
    done = 0
    while done < len(queries):
        for found in in_fork(job, queries[done:]):
            yield found
            done += 1


def in_fork(job: dict, queries: list[str]) -> Iterator[str]:
    """Yield the answers of one fork, up to the first that it owes."""
    reader, writer = os.pipe()
    lifeline, held = os.pipe()  # Its end tells the fork that this process is gone.
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.close(held)
        serve(job, queries, writer, lifeline)
    os.close(writer)
    os.close(lifeline)
    try:
        yield from read_answers(child, reader, len(queries), job["timeout"] + GRACE)
    finally:
        os.close(reader)
        os.close(held)


def read_answers(child: int, reader: int, count: int, seconds: float) -> Iterator[str]:
    """Yield the lines that a fork writes, each within its seconds, and end it after the last or where one is late."""
    rest, is_late = b"", False
    for _ in range(count):
        rest, line, is_late = read_line(child, reader, rest, time.monotonic() + seconds)
        if line is None:
            break
        count -= 1
        yield line
    os.kill(child, signal.SIGKILL)  # It has answered, or is late.
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if count:
        yield json.dumps({"ended": None if is_late else status})


def read_line(child: int, reader: int, rest: bytes, deadline: float) -> tuple[bytes, str | None, bool]:
    """Return what was read behind a line, the line, None where the pipe ends or time is up, and whether it is."""
    pieces = [rest]
    while b"\n" not in pieces[-1]:
        left = deadline - time.monotonic()
        ready = select.select([reader, sys.stdin], [], [], left)[0] if left > 0 else []
        if sys.stdin in ready:  # The next job comes only after this answer: nobody waits for it any more.
            os.kill(child, signal.SIGKILL)
            os._exit(1)
        if not ready:
            return b"", None, True
        pieces.append(os.read(reader, 1 << 20))
        if not pieces[-1]:
            return b"", None, False
    line, _, rest = b"".join(pieces).partition(b"\n")
    return rest, line.decode(), False


def serve(job: dict, queries: list[str], writer: int, lifeline: int) -> None:
    """Answer a job's queries and end this process, whatever comes."""
    try:
        from finetune.databases.running.runner import answer, limit_process, limit_processor

        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)  # What a driver prints is no answer.
        threading.Thread(target=end_with, args=(lifeline,), daemon=True).start()
        limit_process(job["memory_megabytes"] * (8 if job["engine"] == "duckdb" else 1), job["timeout"] * len(queries))
        with os.fdopen(writer, "w") as file:
            for sql in queries:
                limit_processor(job["timeout"])
                file.write(json.dumps(answered(answer, job | {"sql": sql})) + "\n")
                file.flush()
    finally:
        os._exit(0)  # No driver's clean-up may take longer than the query.


def answered(answer: Callable[[dict], dict], job: dict) -> dict:
    """Return an answer, or `{"error"}`: nobody would see a traceback."""
    try:
        return answer(job)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def end_with(lifeline: int) -> None:
    """Wait for the end of a pipe, and end."""
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
