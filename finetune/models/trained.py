"""A trained model of any task: what all of them have in common, and which of them a task has."""

from typing import Any, ClassVar, Protocol

from finetune.models.classifier.classifier import Classifier
from finetune.models.sql_writer import SqlWriter
from finetune.models.summarizer.summarizer import Summarizer


class TrainedModel(Protocol):
    """What a row goes through, whatever the task: its columns are read, encoded, answered, and shown in a line."""

    columns: ClassVar[tuple[str, ...]]

    def encode(self, rows: list[dict]) -> Any: ...

    def answer(self, encoded: Any, batch_size: int = ..., **parameters: Any) -> list[dict]: ...

    def line(self, answer: dict) -> str: ...


def kind_of(task: str) -> type[SqlWriter] | type[Classifier] | type[Summarizer]:
    """Return the class of a task's models, which also says what holds of all of them.

    `columns`: what they read. `parameters`: of a prediction, with their defaults. `forms`: in which a checkpoint can be
    logged. `checked_by`: what of an answer a reloaded model must give again. `by_epoch`: whether a checkpoint is also
    found by its epoch.
    """
    match task:
        case "text-to-sql":
            return SqlWriter
        case "classification":
            return Classifier
        case "summarization":
            return Summarizer
    raise AssertionError(f"no model card has the task {task}")
