"""Answers jobs of runner.py one after the other, each in a process of its own, forked from this one.

As a script it reads a job a line on stdin and writes the answer of each as a line of JSON on stdout. A fork has at once
what runner.py takes half a second to import; its limits are those of a process of runner.py, and it ends at the latest
when this one does, which ends with the process that holds the other end of stdin. No query runs in this process.
"""

import json
import os
import select
import signal
import sys
import threading
import time
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
        sys.stdout.write(in_fork(job) + "\n")
        sys.stdout.flush()


def prepare(engine: str, dialect: str) -> None:
    """Import what all forks need; what is missing, each of them says."""
    from finetune.databases.safety import make_safe

    with suppress(Exception):
        __import__(LIBRARIES[engine])
        make_safe("SELECT 1 FROM t", {"t": ["a"]}, (), engine, dialect)


def in_fork(job: dict) -> str:
    """Return the JSON of a job's answer; `{"ended"}` with the status of its process, None where it was late."""
    reader, writer = os.pipe()
    lifeline, held = os.pipe()  # Its end tells the fork that this process is gone.
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.close(held)
        serve(job, writer, lifeline)
    os.close(writer)
    os.close(lifeline)
    try:
        return read_answer(child, reader, time.monotonic() + job["timeout"] + GRACE)
    finally:
        os.close(reader)
        os.close(held)


def read_answer(child: int, reader: int, deadline: float) -> str:
    """Return what a fork writes until it ends or its deadline comes, and end it."""
    pieces: list[bytes] = []
    is_late = False
    while True:
        left = deadline - time.monotonic()
        ready = select.select([reader, sys.stdin], [], [], left)[0] if left > 0 else []
        if sys.stdin in ready:  # The next job comes only after this answer: nobody waits for it any more.
            os.kill(child, signal.SIGKILL)
            os._exit(1)
        if not ready:
            is_late = True
            break
        piece = os.read(reader, 1 << 20)
        if not piece:
            break
        pieces.append(piece)
    os.kill(child, signal.SIGKILL)  # It has answered, or is late.
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = b"".join(pieces).decode()
    with suppress(ValueError):
        json.loads(text)
        return text
    return json.dumps({"ended": None if is_late else status})


def serve(job: dict, writer: int, lifeline: int) -> None:
    """Answer a job and end this process, whatever comes."""
    try:
        from finetune.databases.running.runner import answer, limit_process

        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)  # What a driver prints is no answer.
        threading.Thread(target=end_with, args=(lifeline,), daemon=True).start()
        limit_process(job["memory_megabytes"] * (8 if job["engine"] == "duckdb" else 1), job["timeout"])
        found = answer(job)
    except Exception as error:  # Nobody would see a traceback.
        found = {"error": f"{type(error).__name__}: {error}"}
    try:
        with os.fdopen(writer, "w") as file:
            json.dump(found, file)
    finally:
        os._exit(0)  # No driver's clean-up may take longer than the query.


def end_with(lifeline: int) -> None:
    """Wait for the end of a pipe, and end."""
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
