"""What a training logs: on disk at once, in MLflow as soon as its server answers, and never twice.

Training only appends lines to a file; a thread of its own delivers them in order. So a server that is slow, gone or
restarted costs training nothing, and what a killed process did not come to send is sent when the run goes on, or by
`log_model.py RUN --sync FOLDER`.
"""

import json
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path, PurePosixPath

from finetune import InputError
from finetune.models.files.inside import refuse_links
from finetune.models.files.replacing import replace_file
from finetune.runs.sending import spool
from finetune.runs.sending.delivery import Delivery, is_reachable
from finetune.runs.sending.spool import FILES, HEADER, LINES, REJECTED, SENT, SPOOL, read_entries

logger = logging.getLogger(__name__)
OFFLINE = spool.OFFLINE
ATTEMPTS = 5  # at an entry that a server which answers does not take
_active: "Journal | None" = None


class Journal:
    """The lines of one run, in FOLDER/spool: `run.json` says of which, `sent` up to which number MLflow has them.

    The spool is removed when all of it has arrived.

    Args:
        folder: of the run.
        header: of a new spool: `run_id`, None for a run that is yet to be made, and what `Delivery` makes it of.

    Raises:
        InputError: what the spool holds is damaged, or a link leads out of it; nothing has been sent or written then.
    """

    def __init__(self, folder: Path, header: dict | None = None):
        self.spool = folder / SPOOL
        self.spool.mkdir(parents=True, exist_ok=True)
        refuse_links(self.spool)
        path = self.spool / HEADER
        if header is not None and not path.exists():
            replace_file(path, json.dumps(header))
        self.delivery = Delivery(self.spool, path)
        self.sent = spool.read_count(self.spool / SENT)
        # By number, not by line: a line may be missing where the disk was full.
        self.pending = deque(entry for entry in read_entries(self.spool / LINES) if entry["number"] > self.sent)
        rejected = read_entries(self.spool / REJECTED)
        self._last = self.pending[-1]["number"] if self.pending else self.sent
        self.rejected, self.reachable, self.training = 0, True, False
        self.known_digests: dict[str, str] = {}  # Of the rows that it has to have, by part.
        self.known_of = "it was trained on"  # such rows, in a message
        self.digests: dict[str, str] = {}  # Of the rows now.
        self._lines = (self.spool / LINES).open("a", encoding="utf-8")
        if self._lines.tell():
            self._lines.write("\n")  # The last line may have been cut off.
        self._lock, self._news = threading.Lock(), threading.Event()
        self._hurry, self._closing = threading.Event(), threading.Event()  # not to wait between attempts; to end
        self._numbers = count(time.time_ns())
        self._take_rejected(rejected)
        self._thread = threading.Thread(target=self._send, name="journal", daemon=True)

    @property
    def run_id(self) -> str:
        """The id in MLflow, or the offline one of a run that is not there yet."""
        return self.delivery.run_id or self.delivery.header["offline_id"]

    def start(self) -> None:
        """Begin to deliver; from now on `active` is this journal."""
        global _active
        _active = self
        for entry in self.pending:
            if entry["op"] == "end":  # Of the process before, which could not send it.
                entry |= {"op": "tags", "values": {}}
        self._thread.start()
        self._news.set()

    def write(self, op: str, **values) -> None:
        """Append an entry. Never raises and never waits for the server."""
        try:
            with self._lock:
                self._last += 1
                entry = {"op": op, "number": self._last} | values
                line = json.dumps(entry, default=str) + "\n"
                self.pending.append(entry)  # Delivered from memory, even where the disk is full.
                self._lines.write(line)
                self._lines.flush()
        except (OSError, ValueError) as error:
            logger.warning(f"not kept on disk until MLflow has it: {op} ({error})")
        self._news.set()

    def metrics(self, metrics: dict[str, float], step: int, **values) -> None:
        """Append metrics of an optimiser step with the time of now."""
        now = time.time_ns() // 1_000_000
        self.write("metrics", points=[[key, float(value), now, step] for key, value in metrics.items()], **values)

    def file(self, name: str, save: Callable[[Path], object], table: bool = False) -> None:
        """Append a file.

        Args:
            name: path among the run's artifacts.
            save: writes it to the path that it is given.
            table: MLflow shows it as a table.
        """
        try:
            path = self.spool / FILES / str(next(self._numbers)) / PurePosixPath(name).name
            path.parent.mkdir(parents=True)
            save(path)
        except OSError as error:
            logger.warning(f"{name} was not logged: {error}")
            return
        folder = str(PurePosixPath(name).parent)
        relative = str(path.relative_to(self.spool))
        self.write("file", file=relative, folder=None if folder == "." else folder, table=name if table else None)

    def checkpoint(self, folder: Path, **values) -> None:
        """Append a checkpoint as it is now: the Trainer may delete it before it is uploaded."""
        copy = self.spool / spool.CHECKPOINTS / f"{next(self._numbers)}" / folder.name
        try:
            # The same bytes under a second name; no copy is made where the file system has links.
            shutil.copytree(folder, copy, copy_function=_link, ignore=shutil.ignore_patterns("training_args.bin"))
        except OSError as error:
            logger.warning(f"{folder.name} stays on this disk only: {error}")
            return
        self.write("checkpoint", folder=str(copy.relative_to(self.spool)), **values)

    def wait(self, patience: float, hurried: bool = False) -> None:
        """Wait until all so far has arrived, or for `patience` seconds without a sign of the server.

        Args:
            hurried: count a long upload to a server that answers as no sign.
        """
        last, since = -1, time.monotonic()
        self._hurry.set()
        while self.pending and self._thread.is_alive() and time.monotonic() - since < patience:
            if self.sent != last or (self.reachable and not hurried):
                last, since = self.sent, time.monotonic()
            self._news.set()
            time.sleep(0.02)
        self._hurry.clear()

    def close(self, status: str, patience: float, moment: int | None = None) -> bool:
        """End the run and wait until all has arrived, or for `patience` seconds without a sign of the server.

        Return whether all is in MLflow. What is not stays in the spool.

        Args:
            moment: of the end, in milliseconds; by default now.
        """
        global _active
        self.write("end", status=status, time=moment or time.time_ns() // 1_000_000)
        if status in ("FAILED", "KILLED"):
            self.delivery.try_to_end(status)  # Before a long upload that the end of the process may cut off.
        self.wait(patience, hurried=status == "KILLED")
        self._closing.set()
        self._hurry.set()
        self._news.set()
        # Nothing is sent once it is said to be kept; an attempt may take minutes.
        self._thread.join(2 if self.pending else None)
        self._lines.close()
        _active = None
        complete = not self.pending and not self.rejected
        if complete:
            spool.clear(self.spool)
        return complete

    def deliver(self) -> None:
        """Deliver what is pending, in this thread, for as long as the server answers."""
        while self.pending and not self.rejected:
            self._deliver_next()
            if not self.reachable:
                break

    def _send(self) -> None:
        wait = 0.0
        while True:
            self._news.wait()
            self._news.clear()
            while self.pending:
                if self._deliver_next():
                    wait = 0.0
                else:
                    self._hurry.wait(wait := min(5.0, 2 * wait + 0.2))
                    time.sleep(0.1)
                if self._closing.is_set():
                    return
            if self._closing.is_set():
                return

    def _deliver_next(self) -> bool:
        """Deliver the next entries that go together; return whether that could be done."""
        with self._lock:
            entries = self._next_entries()
        try:
            self.delivery.apply(entries)
        except Exception as error:  # Of any library between here and the server: training goes on.
            if not is_reachable():
                if self.reachable:
                    logger.warning("MLflow does not answer; training goes on, and what it logs is kept until it does.")
                self.reachable = False
                return False
            entries[0]["attempts"] = entries[0].get("attempts", 0) + 1
            if entries[0]["attempts"] < ATTEMPTS and not isinstance(error, InputError):
                return False
            if len(entries) > 1:  # One of them is to blame.
                for entry in entries:
                    entry["alone"] = True
                return False
            self._reject(entries, error)
        if not self.reachable:
            logger.warning("MLflow answers again.")
        self.reachable = True
        with self._lock:
            for _ in entries:
                self.pending.popleft()
        self.sent = entries[-1]["number"]
        _write_count(self.spool / SENT, self.sent)
        return True

    def _next_entries(self) -> list[dict]:
        """Return the first entry, or as many metrics as go into one request."""
        entries: list[dict] = []
        for entry in self.pending:
            alone = entry["op"] != "metrics" or "dataset" in entry or "alone" in entry
            if entries and (alone or len(entries) == 50):
                break
            entries.append(entry)
            if alone:
                break
        return entries

    def _reject(self, entries: list[dict], error: Exception) -> None:
        self.rejected += len(entries)
        path = self.spool / REJECTED
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(entry | {"error": str(error)}, default=str) + "\n" for entry in entries)
        except OSError as full:
            logger.warning(f"{path}: {full}")
        op, text = entries[0]["op"], str(error)[:300]
        what = f"{op} cannot be sent" if isinstance(error, InputError) else f"MLflow does not take {op}"
        logger.warning(f"{what} ({text}); it is kept in {path}.")

    def _take_rejected(self, entries: list[dict]) -> None:
        """Try once more what an earlier process was refused."""
        for entry in entries:
            notes = ("op", "number", "error", "attempts", "alone")
            self.write(entry["op"], **{key: value for key, value in entry.items() if key not in notes})
        (self.spool / REJECTED).unlink(missing_ok=True)


def active_journal(run_id: str | None = None) -> Journal | None:
    """Return the journal of the training in this process, or None where there is none or it is another run's."""
    return _active if _active is not None and run_id in (None, _active.run_id, *_active.delivery.ids) else None


def _write_count(path: Path, number: int) -> None:
    try:
        path.write_text(str(number), encoding="utf-8")
    except OSError as error:
        logger.warning(f"{path}: {error}")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
