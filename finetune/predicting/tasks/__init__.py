"""What predict.py does for one task alone: three classes of one shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

Pairs = list[tuple[dict, dict]]  # rows, each with its answer


@dataclass(frozen=True)
class Served:
    """How the served model of a task is called, and what it gives.

    Attributes:
        given: its input as texts and columns, in order: (text, False) or (column, True).
        answers: names of what it gives, and `type` what they are together, as Spark says it.
        is_named: its input is a column by its name.
        is_configured: it takes another base and another precision.
    """

    given: list[tuple[str, bool]]
    answers: tuple[str, ...]
    type: str = "string"
    is_named: bool = False
    is_configured: bool = True


class Task(Protocol):
    """The rows of one task: where they come from, and what is said of them.

    Attributes:
        does: what its models do, in words.
        words: what is counted, and what has become of it.
        own: flags that only some tasks have.
        columns: of its training; `needed`: those of them that the rows must have here.
        document: the rows of a document, None where the rows are no document's.
        blank: a row where there are none.
    """

    does: str
    words: tuple[str, str]
    own: tuple[str, ...]
    columns: tuple[str, ...]
    needed: tuple[str, ...]
    document: list[dict] | None
    blank: dict

    def check(self, parameters: dict) -> None:
        """Raise InputError for what is known to be wrong before a row is read."""

    def rows(self) -> Iterator[dict]:
        """Yield the rows, checked; of a file from its start at each call."""

    def read(self, row: dict) -> dict:
        """Return what the model reads of a row."""

    def predicted(self, model: Any) -> pa.Schema:
        """Return names and types of what a row gets."""

    def look_at(self, model: Any, encoded: Any, parameters: dict) -> None:
        """Warn of encoded rows that are too long, or count them."""

    def keep(self, model: Any, pairs: Pairs) -> Pairs:
        """Return the rows that are written."""

    def end(self, model: Any, seen: int) -> None:
        """Say what there is to say of all rows together."""

    def served(self) -> Served:
        """Return how a served model is called."""
