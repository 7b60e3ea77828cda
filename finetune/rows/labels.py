"""The labels of rows: found, named, spelled out from 0 and 1, counted."""

import logging
from collections.abc import Sequence
from pathlib import Path

from finetune import InputError
from finetune.models.classifier.labels import NUMBER, Labels, as_name, labels_of
from finetune.rows.loading import Rows, check_columns

import numpy as np

logger = logging.getLogger(__name__)


def spell_out(
    rows: list[dict], names: list[str] | None, columns: list[str] | None, what: str, is_multi_hot: bool | None = None
) -> tuple[list[dict], bool]:
    """Return rows whose 0 and 1, one a label, are lists of labels; and whether `labels` held them.

    Args:
        names: of the labels, in the order of their 0 and 1.
        columns: of 0 and 1, one a label (--label-columns).
        is_multi_hot: what was found in the training rows, None to find it.

    Raises:
        InputError: 0 and 1 without as many names, a value that is neither, or a missing column.
    """
    if columns:
        check_columns(rows, tuple(columns), what)
        return [
            row | {"labels": [name for name in columns if _is_on(row.get(name), f"row {number} of {what}: {name}")]}
            for number, row in enumerate(rows, start=1)
        ], False
    if not any("labels" in row for row in rows):
        return rows, False
    found = [labels_of(row, f"row {number} of {what}") for number, row in enumerate(rows, start=1)]
    expected = is_multi_hot
    if is_multi_hot is None:
        is_multi_hot = _are_multi_hot(found)
    if not is_multi_hot:
        return rows, False
    if not names or (expected is None and len(names) != len(found[0])):
        raise InputError(
            f"{what}: labels are lists of {len(found[0])} zeros and ones, one a label, and --labels gives"
            f" {len(names or [])} names; give {len(found[0])}, in the order of the lists, for example --labels"
            ' billing bug ..., or write the labels as names or numbers: ["bug"] or [2].'
        )
    for number, values in enumerate(found, start=1):
        if len(values) != len(names) or not all(value in (0, 1) for value in values):
            raise InputError(f"row {number} of {what}: labels are {values}; expected {len(names)} zeros and ones.")
    return [
        row | {"labels": [name for name, value in zip(names, values, strict=True) if value]}
        for row, values in zip(rows, found, strict=True)
    ], True


def spell_parts(rows: Rows, names: list[str] | None, columns: list[str] | None) -> None:
    """Spell out the labels of all parts of a data set, in place; see `spell_out`.

    Args:
        names: of the labels; without them those of the Hub.
    """
    is_multi_hot = None
    for name, part in rows.parts.items():
        part, is_multi_hot = spell_out(part, names or rows.label_names, columns, f"{name} rows", is_multi_hot)
        setattr(rows, name, part)


def _are_multi_hot(found: list[list]) -> bool:
    """Say whether lists hold a 0 or 1 for each label: of one length, and a value twice, or true and 0.0, in some."""
    if len({len(values) for values in found}) != 1 or len(found[0]) < 2:
        return False
    if not all(isinstance(value, bool | int | float) and value in (0, 1) for values in found for value in values):
        return False
    are_numbers = all(type(value) is int for values in found for value in values)
    return not are_numbers or any(len(set(values)) < len(values) for values in found)


def _is_on(value, where: str) -> bool:
    text = str(value).strip().lower() if value is not None else ""
    if text not in ("0", "1", "0.0", "1.0", "true", "false"):
        raise InputError(f"{where} is {value!r}; expected 0 or 1.")
    return text in ("1", "1.0", "true")


def warn_of_labels(names: Sequence[str], validation: np.ndarray, labels: Labels) -> None:
    """Say which labels are one but for the case of their letters, and which the validation rows cannot measure.

    Args:
        names: of all labels.
        validation: of the validation rows, of 0 and 1, shape (rows, outputs).
    """
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(name.casefold(), []).append(name)
    for same in spelled.values():
        if len(same) > 1:
            logger.warning(f"the labels {' and '.join(same)} differ in upper and lower case alone, but are two.")
    metric = "f1" if labels.task == "binary" else "macro_f1"
    if unseen := [name for name, count in zip(labels.scored, validation.sum(axis=0), strict=True) if not count]:
        shown = ", ".join(unseen[:10]) + (f" and {len(unseen) - 10} more" if len(unseen) > 10 else "")
        logger.warning(f"labels that no validation row has, which count as 0 in {metric}: {shown}.")
    if labels.task == "multilabel" and validation.any(axis=1).all():
        logger.warning(
            'each validation row has a label: "none of them" counts as 0 in macro_f1, not in labels_macro_f1.'
        )


def count_labels(rows: list[dict], labels: Labels) -> str:
    """Return one line: how many rows have each label."""
    actual = labels.encode(rows, "the training rows")
    counts = [f"{name} {int(count)}" for name, count in zip(labels.scored, actual.sum(axis=0), strict=True)]
    if labels.task == "binary":
        counts = [f"{labels.names[0]} {int((actual == 0).sum())}", *counts]
    none = f", none of them {int((actual.sum(axis=1) == 0).sum())}" if labels.task == "multilabel" else ""
    return f"Labels of {len(rows)} training rows: {', '.join(counts)}{none}"


def read_names(given: list[str] | None) -> list[str] | None:
    """Return label names as they were given: the names, or the lines of one .txt file.

    Raises:
        InputError: no such file, or a name twice.
    """
    names = given
    if given and len(given) == 1 and given[0].endswith(".txt"):
        if not Path(given[0]).is_file():
            raise InputError(f"--labels: there is no file {given[0]}.")
        names = [line.strip() for line in Path(given[0]).read_text(encoding="utf-8").splitlines() if line.strip()]
    if names and len(set(names)) < len(names):
        raise InputError(f"--labels has a name twice: {', '.join(sorted(names))}.")
    return names


def find_labels(rows: list[dict], task: str | None, names: list[str] | None) -> Labels:
    """Return task and names, found from the training rows where they are not given.

    A list `labels` makes the task multilabel; a single `label` with two values binary, with more multiclass.

    Raises:
        InputError: no column of labels, one class only, or names or a task that the rows do not have.
    """
    several = "labels" in rows[0]
    if not several and "label" not in rows[0]:
        raise InputError(
            f"the training rows have neither labels nor label; found {', '.join(rows[0])}. Where they are called"
            " otherwise: --label-column COLUMN for one a row, --column labels=COLUMN for lists."
        )
    if task == "multilabel" and not several:
        raise InputError("--task multilabel needs a list `labels` in each row; the rows have a single `label`.")
    if task == "multiclass" and several:
        raise InputError("--task multiclass needs one `label` in each row; the rows have lists `labels`.")
    _refuse_mixed(rows, several)
    found = [labels_of(row, f"row {number} of the training rows") for number, row in enumerate(rows, start=1)]
    values = {as_name(label, "a training row") for labels in found for label in labels}
    _refuse_single_class(found, values, several)
    negative = [value for value in sorted(values) if NUMBER.fullmatch(value) and int(value) < 0]
    if negative and several and names is None:
        raise InputError(f"the lists of labels hold the label {negative[0]}; expected names, or numbers from 0.")
    task = task or ("multilabel" if several else "binary" if len(values) == 2 else "multiclass")
    if task == "binary" and several:
        return Labels(task, tuple(names if names and len(names) == 2 else ("no", "yes")))
    if names is None:
        # The values that occur: numbers may be years or postcodes.
        names = sorted(values, key=int) if all(map(NUMBER.fullmatch, values)) else sorted(values)
        names = ["no", "yes"] if task == "binary" and names == ["0", "1"] else names
    if task == "binary" and len(names) != 2:
        raise InputError(f"--task binary needs two labels, those of no and of yes; there are {', '.join(names)}.")
    labels = Labels(task, tuple(names))
    never = [name for name, count in zip(labels.scored, labels.encode(rows, "the training rows").sum(0), strict=True)
             if not count]  # fmt: skip
    if never:
        logger.warning(f"in no training row, and kept: the labels {', '.join(never)}. They cannot be learned.")
    return labels


def _refuse_mixed(rows: list[dict], several: bool) -> None:
    """Raise InputError for texts among lists: a cell of text is read by a rule of its own."""
    kinds = [isinstance(row.get("labels"), str) for row in rows]
    if several and any(kinds) and not all(kinds):
        place = kinds.index(True)
        where, value = f"row {place + 1} of the training rows", rows[place]["labels"]
        raise InputError(f"{where}: labels must be a list as in other rows, not {value!r}.")


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
