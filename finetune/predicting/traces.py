"""Single answers as traces in MLflow, with what people say of them: sent by a thread, which no answer waits for."""

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from finetune.logged_models.checkpoint_files import TASK_TAG
from finetune.logged_models.opening import LoggedModel
from finetune.models.prompts import Prompt
from finetune.redaction import redact, redact_values
from finetune.rows.corrections import KEY_TAG

import mlflow
from mlflow.entities import AssessmentSource
from mlflow.tracing.constant import TraceMetadataKey

logger = logging.getLogger(__name__)
LAST_WAIT = 5.0  # seconds that the end of a script waits for what is not sent yet
PAUSE = 5.0  # seconds between two attempts


@dataclass
class Step:
    """A part of an answer, with its beginning and end in nanoseconds since 1970."""

    name: str
    began: int
    ended: int = 0
    inputs: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)


@dataclass(eq=False)
class Record:
    """One answer: what was given, what came of it, and its steps.

    Attributes:
        right, expected: what a person said of it: whether it is right, and the right one by its column in rows.
        parts: of a document, its sentences with their labels.
        judged, told: how often it was judged, and which of these MLflow has.
    """

    inputs: dict
    outputs: dict
    steps: list[Step]
    parts: list[dict] = field(default_factory=list)
    key: str = field(default_factory=lambda: uuid4().hex)
    right: bool | None = None
    expected: dict = field(default_factory=dict)
    judged: int = 0
    told: int = 0
    is_sent: threading.Event = field(default_factory=threading.Event)


@contextmanager
def step(steps: list[Step], name: str, **inputs) -> Iterator[Step]:
    """Time a step, and put it behind the others."""
    found = Step(name, time.time_ns(), inputs=inputs)
    steps.append(found)
    try:
        yield found
    finally:
        found.ended = time.time_ns()


class Traces:
    """The traces of one model, in the experiment of its run.

    Args:
        with_rows: rows of results stand in them, not their number alone.
        keeps_trying: a store that is away is tried again until `close`; otherwise an answer is lost to it.
        place: says that answers were asked on the page or by a script.
    """

    def __init__(self, logged: LoggedModel, with_rows: bool, place: str, keeps_trying: bool = False):
        self.logged, self.with_rows, self.place, self.keeps_trying = logged, with_rows, place, keeps_trying
        self.waiting: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self.unsent: list[Record] = []
        self.trouble = ""  # what the store says, while it does
        self.ids: dict[str, str] = {}  # of records, the traces'
        self.closing = threading.Event()
        os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"  # Its queue would hold up the end of the process.
        self.thread = threading.Thread(target=self._send_all, name="traces", daemon=True)
        self.thread.start()

    def keep(self, record: Record) -> None:
        """Take an answer, or one that was judged since, to be sent."""
        record.is_sent.clear()
        self.unsent.append(record)
        self.waiting.put(record)

    def judge(self, record: Record, right: bool, expected: dict) -> None:
        """Take what a person says of an answer, with the right one where that was given."""
        record.right, record.expected = right, expected or record.expected
        record.judged += 1
        self.keep(record)

    def close(self, seconds: float = LAST_WAIT) -> list[Record]:
        """Wait for what is not sent, for so long; return what is left, and say it."""
        self.waiting.put(None)
        self.closing.set()
        self.thread.join(seconds)
        left = list(self.unsent)
        if left:
            why = self.trouble or f"it does not answer within {seconds:g} seconds"
            logger.warning(f"{len(left)} traces are not in MLflow: {why}; --no-trace leaves them out.")
        return left

    def _send_all(self) -> None:
        while (record := self.waiting.get()) is not None:
            while not self._try(record) and self.keeps_trying and not self.closing.wait(PAUSE):
                pass

    def _try(self, record: Record) -> bool:
        try:
            self._send(record)
        except Exception as error:  # Of MLflow, or of whatever is between.
            self.trouble = redact(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return False
        self.unsent.remove(record)
        self.trouble = ""
        record.is_sent.set()
        return True

    def _send(self, record: Record) -> None:
        if record.key not in self.ids:
            self.ids[record.key] = self._trace(record)
        trace_id, person = self.ids[record.key], AssessmentSource(source_type="HUMAN", source_id=self.place)
        if (number := record.judged) == record.told:
            return
        mlflow.log_feedback(trace_id=trace_id, name="right", value=record.right, source=person)
        for name, value in record.expected.items():
            mlflow.log_expectation(trace_id=trace_id, name=name, value=value, source=person)
        record.told = number

    def _trace(self, record: Record) -> str:
        """Send an answer with its steps; return the id of its trace."""
        metadata = {TraceMetadataKey.SOURCE_RUN: self.logged.card.run_id}
        if self.logged.model_id:
            metadata[TraceMetadataKey.MODEL_ID] = self.logged.model_id
        first, last = record.steps[0].began, record.steps[-1].ended
        root = mlflow.start_span_no_context(
            "answer",
            span_type="CHAIN",
            inputs=redact_values(record.inputs),
            tags={TASK_TAG: self.logged.card.task, KEY_TAG: record.key},
            metadata=metadata,
            experiment_id=self.experiment,
            start_time_ns=first,
        )
        errors = [] if self.with_rows else _errors(record)
        for one in record.steps:
            inputs = _with_kinds(self._with_prompt(record.inputs, one), errors)
            span = mlflow.start_span_no_context(
                one.name, parent_span=root, inputs=redact_values(inputs), start_time_ns=one.began
            )
            outputs = one.outputs if self.with_rows else {n: v for n, v in one.outputs.items() if n != "rows"}
            span.end(outputs=redact_values(_with_kinds(outputs, errors)), end_time_ns=one.ended)
        root.end(outputs=redact_values(_with_kinds(record.outputs, errors)), end_time_ns=last)
        mlflow.MlflowClient().get_trace(root.trace_id, display=False)  # What sends it says nothing where it fails.
        return root.trace_id

    def _with_prompt(self, given: dict, one: Step) -> dict:
        """Return what a step was given; where that was the model, its prompt too."""
        prompt = getattr(self.logged.card, "prompt", "")
        if one.name != "write" or not prompt:
            return one.inputs
        return one.inputs | {"prompt": Prompt(prompt).render(given | one.inputs)}

    @property
    def experiment(self) -> str:
        """The id of the experiment that the model's run is in."""
        if self.logged.model_id:
            return mlflow.get_logged_model(self.logged.model_id).experiment_id
        return mlflow.get_run(self.logged.card.run_id).info.experiment_id


def _errors(record: Record) -> list[str]:
    """Return what the database said of an answer's queries: an engine may quote the values it met."""
    ran = (one.outputs for one in record.steps if one.outputs.get("verdict") == "passed")
    return [outputs["error"] for outputs in ran if "error" in outputs]


def _with_kinds(value, errors: list[str]):
    """Return a value with the kinds of errors in their place, wherever it repeats them: asking again does."""
    if isinstance(value, dict):
        return {name: _with_kinds(each, errors) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_kinds(each, errors) for each in value]
    for error in errors if isinstance(value, str) else ():
        value = value.replace(error, ":".join(error.split(":", 2)[:2]))  # the database says: KIND: words
    return value


def save_corrections(left: list[Record]) -> Path | None:
    """Write the corrected answers among records as rows of training into a file; return it where there are any."""
    rows = [record.inputs | record.expected for record in left if record.expected]
    path = Path(f"corrections-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%fZ}.jsonl") if rows else None
    if path:
        path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
        logger.warning(f"{len(rows)} corrected answers are in {path}, which --dataset reads.")
    return path
