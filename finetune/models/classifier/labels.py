"""The labels of a classification task: what they are called, and rows as arrays of 0 and 1."""

import json
import logging
import re
from dataclasses import dataclass

from finetune import InputError

import numpy as np

logger = logging.getLogger(__name__)
NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
TASKS = ("multilabel", "binary", "multiclass")


@dataclass(frozen=True)
class Labels:
    """A classification task and the names of its labels, in the order of the model's outputs.

    `multilabel`: any number of the names, a sigmoid each. `multiclass`: exactly one of them, a softmax.
    `binary`: one output; the two names are those of "no" and of "yes".
    """

    task: str
    names: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """The number of logits of the model."""
        return 1 if self.task == "binary" else len(self.names)

    @property
    def scored(self) -> tuple[str, ...]:
        """The names of the outputs, one a column of the scores."""
        return self.names[1:] if self.task == "binary" else self.names

    def encode(self, rows: list[dict], what: str) -> np.ndarray:
        """Return the rows' labels as 0 and 1, shape (rows, outputs), float32.

        Raises:
            InputError: for a label that is neither a known name nor an id in range, with its row.
        """
        found = np.zeros((len(rows), self.outputs), dtype=np.float32)
        for number, row in enumerate(rows, start=1):
            where = f"row {number} of {what}"
            labels = labels_of(row, where)
            if self.task == "binary" and "labels" in row:  # A list asks whether there is any.
                found[number - 1, 0] = bool(labels)
                continue
            ids = [self._id(label, where) for label in labels]
            if self.task == "binary":
                found[number - 1, 0] = ids == [1]
            else:
                found[number - 1, ids] = 1
        return found

    def _id(self, label, where: str) -> int:
        text = as_name(label, where)
        if text in self.names:
            return self.names.index(text)
        # A number counts the names, unless the names are numbers themselves.
        if NUMBER.fullmatch(text) and 0 <= int(text) < len(self.names) and not any(map(NUMBER.fullmatch, self.names)):
            return int(text)
        ids = "" if any(map(NUMBER.fullmatch, self.names)) else f", or a number from 0 to {len(self.names) - 1}"
        raise InputError(
            f"{where} has the label {label!r}; expected one of {', '.join(self.names)}{ids}. Mend the row, or give all"
            " names with --labels."
        )


def as_name(label, where: str) -> str:
    """Return a label as the name of a class: 1, 1.0 and True are "1".

    Raises:
        InputError: a number with a fraction, or no single value.
    """
    if isinstance(label, bool | np.bool_):
        return str(int(label))
    if isinstance(label, float | np.floating):
        if not float(label).is_integer():
            raise InputError(f"{where} has the label {label}; a class is a name or a whole number.")
        return str(int(label))
    if not isinstance(label, str | int | np.integer):
        raise InputError(f"{where} has the label {label!r}; expected a name or a number.")
    return str(label).strip() if isinstance(label, str) else str(label)


def labels_of(row: dict, where: str) -> list:
    """Return the labels of a row: its `labels`, or its single `label`.

    `labels` is a list; in a cell of text it is a JSON list such as ["billing", "bug"] or [0, 3], or names with
    semicolons between them: billing;bug.

    Raises:
        InputError: when it has neither, `labels` is something else, or `label` is a list.
    """
    if "labels" not in row:
        label = row.get("label")
        if "label" not in row:
            raise InputError(
                f"{where} has no label, only {', '.join(map(str, row))}; where its column is called otherwise, give"
                " --column label=COLUMN."
            )
        if label is None or (isinstance(label, str) and not label.strip()):
            raise InputError(f"{where} has no label: it is empty; fill it in, or leave the row out.")
        if isinstance(label, list | dict) or (isinstance(label, str) and label.lstrip().startswith("[")):
            raise InputError(f"{where}: label is {label!r}; a list of labels belongs into a column `labels`.")
        return [label]
    value = row["labels"]
    if isinstance(value, str):
        value = _read_cell(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list):
        raise InputError(
            f'{where}: labels must be a list such as ["billing", "bug"] or [0, 3], or names with semicolons'
            f" between them, billing;bug; not {row['labels']!r}."
        )
    return value


def _read_cell(text: str) -> list | None:
    """Return the labels of a cell of text; None where it looks like a list and is none."""
    if not text.lstrip().startswith(("[", "{")):
        return [name.strip() for name in text.split(";") if name.strip()]
    try:
        return json.loads(text)
    except ValueError:
        return None
