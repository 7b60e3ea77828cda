"""What is asked on the page is done one after the other, by one thread; who waits is told their place."""

import asyncio
import logging
import threading
from collections.abc import Callable

from finetune import InputError

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """Whoever asked has gone, or has pressed Stop."""


class Job:
    """One request, and the events of its answer in their order; None ends them.

    Args:
        work: takes the job, and tells by `emit` what comes of it.
    """

    def __init__(self, work: Callable[["Job"], None]):
        self.work, self.is_stopped = work, False
        self.loop, self.events = asyncio.get_running_loop(), asyncio.Queue()  # type: ignore[var-annotated]

    def emit(self, **event) -> None:
        """Tell something.

        Raises:
            Stopped: nobody listens.
        """
        if self.is_stopped:
            raise Stopped
        self.put(event)

    def end(self) -> None:
        """Say that nothing follows."""
        self.put(None)

    def put(self, event: dict | None) -> None:
        """Send an event to whoever listens, or nobody does."""
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # The server has ended.
            self.is_stopped = True


class Desk:
    """Jobs in their order: the first of the list is under way."""

    def __init__(self):
        self.jobs: list[Job] = []
        self.changed = threading.Condition()
        threading.Thread(target=self._work, name="desk", daemon=True).start()

    def put(self, job: Job) -> None:
        """Take a job, and tell it how many are before it."""
        with self.changed:
            self.jobs.append(job)
            job.emit(place=len(self.jobs) - 1)
            self.changed.notify()

    def drop(self, job: Job) -> None:
        """Take back a job that nobody waits for any more; one that is under way ends at its next word."""
        job.is_stopped = True
        with self.changed:
            if job in self.jobs[1:]:
                self.jobs.remove(job)
                self._tell_places()

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.jobs)
                job = self.jobs[0]
            self._do(job)
            with self.changed:
                self.jobs.remove(job)
                self._tell_places()

    def _do(self, job: Job) -> None:
        try:
            job.work(job)
        except Stopped:
            pass
        except InputError as error:
            job.put({"error": str(error)})
        except Exception as error:  # The page goes on.
            logger.exception("a request of the page failed")
            job.put({"error": f"this did not work ({type(error).__name__}); the terminal says more."})
        job.end()

    def _tell_places(self) -> None:
        for place, job in enumerate(self.jobs):
            job.put({"place": place})
