"""The labels of a classification task: what they are called, and rows as arrays of 0 and 1."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from finetune.console import InputError

import numpy as np

logger = logging.getLogger(__name__)
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
        text = str(int(label) if isinstance(label, bool | np.bool_) else label)
        if text in self.names:
            return self.names.index(text)
        if text.isdigit() and int(text) < len(self.names):
            return int(text)
        raise InputError(
            f"{where} has the label {label!r}; expected one of {', '.join(self.names)}, or a number from 0 to"
            f" {len(self.names) - 1}. Mend the row, or give all names with --label-names."
        )


def labels_of(row: dict, where: str) -> list:
    """Return the labels of a row: its list `labels` (in CSV, a JSON list), or its single `label`.

    Raises:
        InputError: when it has neither, or `labels` is not a list.
    """
    if "labels" not in row:
        if row.get("label") is None or row["label"] == "":
            raise InputError(f"{where} has no label.")
        return [row["label"]]
    value = row["labels"]
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except json.JSONDecodeError:
            value = None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list):
        raise InputError(f"{where}: labels must be a list such as [0, 3], not {row['labels']!r}.")
    return value


def read_names(given: list[str] | None) -> list[str] | None:
    """Return label names as they were given: the names, or the lines of one .txt file.

    Raises:
        InputError: no such file, or a name twice.
    """
    names = given
    if given and len(given) == 1 and given[0].endswith(".txt"):
        if not Path(given[0]).is_file():
            raise InputError(f"--label-names: there is no file {given[0]}.")
        names = [line.strip() for line in Path(given[0]).read_text(encoding="utf-8").splitlines() if line.strip()]
    if names and len(set(names)) < len(names):
        raise InputError(f"--label-names has a name twice: {', '.join(sorted(names))}.")
    return names


def find_labels(rows: list[dict], task: str | None, names: list[str] | None) -> Labels:
    """Return task and names, found from the training rows where they are not given.

    A list `labels` makes the task multilabel; a single `label` with two values binary, with more multiclass.

    Raises:
        InputError: no column of labels, one class only, or names or a task that the rows do not have.
    """
    several = "labels" in rows[0]
    if not several and "label" not in rows[0]:
        raise InputError(f"the training rows have neither labels nor label; found {', '.join(rows[0])}.")
    if task == "multilabel" and not several:
        raise InputError("--task multilabel needs a list `labels` in each row; the rows have a single `label`.")
    if task == "multiclass" and several:
        raise InputError("--task multiclass needs one `label` in each row; the rows have lists `labels`.")
    found = [labels_of(row, f"row {number} of the training rows") for number, row in enumerate(rows, start=1)]
    values = {str(int(label) if isinstance(label, bool | np.bool_) else label) for labels in found for label in labels}
    _refuse_single_class(found, values, several)
    task = task or ("multilabel" if several else "binary" if len(values) == 2 else "multiclass")
    if task == "binary" and several:
        return Labels(task, tuple(names if names and len(names) == 2 else ("no", "yes")))
    if names is None:
        numbers = all(value.removeprefix("-").isdigit() for value in values)
        names = [str(n) for n in range(max([0, *map(int, values)]) + 1)] if numbers else sorted(values)
        names = ["no", "yes"] if task == "binary" and names == ["0", "1"] else names
    if task == "binary" and len(names) != 2:
        raise InputError(f"--task binary needs two labels, those of no and of yes; there are {', '.join(names)}.")
    labels = Labels(task, tuple(names))
    never = [name for name, count in zip(labels.scored, labels.encode(rows, "the training rows").sum(0), strict=True)
             if not count]  # fmt: skip
    if never:
        logger.warning(f"in no training row, and kept: the labels {', '.join(never)}. They cannot be learned.")
    return labels


def _refuse_single_class(found: list[list], values: set[str], several: bool) -> None:
    """Raise InputError where every row has the same labels: there is nothing to tell apart."""
    if len({tuple(sorted(map(str, labels))) for labels in found}) < 2 or (not several and len(values) < 2):
        only = ", ".join(sorted(values)) or "none"
        raise InputError(f"all training rows have the same labels ({only}); there is nothing to tell apart.")


def balanced_sample(actual: np.ndarray, labels: Labels, size: int, seed: int) -> list[int]:
    """Return the indices of about `size` rows: as many with a label as without, or as many of each class."""
    groups = actual.argmax(axis=1) if labels.task == "multiclass" else actual.any(axis=1).astype(int)
    random, share = np.random.default_rng(seed), max(1, size // len(set(groups.tolist())))
    chosen = [random.permutation(np.flatnonzero(groups == group))[:share] for group in sorted(set(groups.tolist()))]
    return sorted(np.concatenate(chosen).tolist())
