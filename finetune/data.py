"""Rows from a Hub data set, a local file or a folder, and the split into training and validation rows."""

import glob
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

from finetune.console import InputError
from finetune.reading import SUFFIXES, kind_of, read_rows

from datasets import Features, load_dataset
from datasets.exceptions import DatasetNotFoundError

logger = logging.getLogger(__name__)
PARTS = ("train", "validation", "test")
# How the parts are called in a column `split` and in names of files, whatever their letter case.
SPELLINGS = {
    "train": ("train", "training"), "validation": ("validation", "valid", "val", "dev", "development", "eval"),
    "test": ("test", "testing"),
}  # fmt: skip


@dataclass
class Rows:
    """The rows of a run: its parts, where they came from, and how they were split.

    `test` is None where the data has no test part; `label_names` are the Hub's names of the classes.
    """

    train: list[dict]
    validation: list[dict]
    source: str
    split_by: str
    from_hub: bool = False
    test: list[dict] | None = None
    label_names: list[str] | None = None

    @property
    def parts(self) -> dict[str, list[dict]]:
        """The parts that there are, by name."""
        parts = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in parts.items() if part is not None}


def load_rows(
    dataset: str, columns: tuple[str, ...], validation_fraction: float | None, seed: int, encoding: str = "utf-8"
) -> Rows:
    """Load a data set and split it.

    `dataset` is a file of rows (see reading.py), a pattern of several such as `data/*.jsonl`, a folder that
    holds train.* and validation.* (and test.*), or a Hub id, `id:configuration` for one of several.
    Validation rows are, in this order of preference: the folder's or the Hub's own `validation` part, the
    rows whose column `split` says `validation`, or a share of `validation_fraction` of the training rows, split
    by schema so that no validation schema was trained on. Without a fraction, data that has no validation
    part is refused. Rows marked test never train.

    Args:
        columns: of text; rows that lack one of them are left out and counted.

    Raises:
        InputError: unreadable file (with the line), missing column, a part that is not known, no text where one
            must be, no rows, unreachable Hub id.
    """
    path = Path(dataset)
    files = [] if path.exists() else sorted(map(Path, glob.glob(dataset, recursive=True)))
    if path.is_dir():
        train, validation = (_read_part(path, part, encoding) for part in ("train", "validation"))
        test = _read_part(path, "test", encoding) if _files_of(path, "test") else None
        rows = Rows(train, validation, str(path.resolve()), "folder", test=test)
    elif files:
        found = [row for file in files for row in read_rows(file, encoding)]
        rows = _split_file(found, path, columns, validation_fraction, seed)
    elif kind_of(path) or path.exists():
        rows = _split_file(read_rows(path, encoding), path, columns, validation_fraction, seed)
    else:
        rows = _load_from_hub(dataset, columns, validation_fraction, seed)
    for name, part in rows.parts.items():
        what = f"the {'training' if name == 'train' else name} rows of {dataset}"
        check_columns(part, columns, what)
        setattr(rows, name, complete_rows(part, columns, what))
    return rows


def check_texts(rows: list[dict], columns: tuple[str, ...], what: str) -> None:
    """Raise InputError for a number, list or other value where a text must be; a missing value is none."""
    kinds = {bool: "a truth value", int: "a number", float: "a number"}
    for number, row in enumerate(rows, start=1):
        for name in columns:
            value = row.get(name)
            if value is not None and not isinstance(value, str):
                kind = kinds.get(type(value), f"a {type(value).__name__}")
                raise InputError(f"row {number} of {what}: {name} is {str(value)[:80]}, {kind}; expected a text.")


def complete_rows(rows: list[dict], columns: tuple[str, ...], what: str) -> list[dict]:
    """Return the rows that have a text in each of the columns; the others are counted in the log.

    Raises:
        InputError: a number, list or other value where a text must be, or no row is left.
    """
    check_texts(rows, columns, what)
    kept = [row for row in rows if all((row.get(name) or "").strip() for name in columns)]
    if len(kept) < len(rows):
        logger.warning(f"{what}: {len(rows) - len(kept)} of {len(rows)} lack {' or '.join(columns)} and are left out.")
    if columns and not kept:
        raise InputError(f"{what}: there are none with {' and '.join(columns)}.")
    return kept


def check_columns(rows: list[dict], columns: tuple[str, ...], what: str) -> None:
    """Raise InputError when there are no rows, or when a column is in none of the first."""
    if not rows:
        raise InputError(f"{what}: there are none; expected rows with {', '.join(columns)}.")
    missing = [name for name in columns if not any(name in row for row in rows[:1000])]
    if missing:
        raise InputError(
            f"{what} have no column {', '.join(missing)}; found {', '.join(rows[0])}, expected {', '.join(columns)}."
        )


def _files_of(folder: Path, part: str) -> list[Path]:
    """Return a part's files in a folder: train.csv, or train-00000-of-00002.parquet and its like."""
    names = "|".join(SPELLINGS[part])
    pattern = re.compile(rf"({names})(-\d+-of-\d+)?(\.\w+)+", re.IGNORECASE)
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name) and kind_of(path))


def _read_part(folder: Path, part: str, encoding: str) -> list[dict]:
    files = _files_of(folder, part)
    if len(files) != 1 and not (files and all("-of-" in path.name for path in files)):
        found = ", ".join(path.name for path in files) or "none"
        raise InputError(
            f"the folder {folder} must hold exactly one {part} file ({', '.join(part + each for each in SUFFIXES)});"
            f" found {found}. To hold rows out of one file, give the file itself."
        )
    return [row for file in files for row in read_rows(file, encoding)]


def part_of(row: dict, where: str) -> str:
    """Return the part that a row's column `split` names: train, validation or test.

    Raises:
        InputError: another value, or none.
    """
    given = str(row.get("split") or "").strip().lower()
    for part, spellings in SPELLINGS.items():
        if given in spellings:
            return part
    raise InputError(
        f"{where}: split is {row.get('split')!r}; expected train, validation or test (also"
        f" {', '.join(each for part in SPELLINGS.values() for each in part[1:])})."
    )


def _split_file(rows: list[dict], path: Path, columns: tuple[str, ...], fraction: float | None, seed: int) -> Rows:
    source = str(path.resolve())
    check_columns(rows, columns, f"the rows of {path}")
    test, how = None, "schema"
    if any("split" in row for row in rows):
        parts: dict[str, list[dict]] = {name: [] for name in PARTS}
        for number, row in enumerate(rows, start=1):
            parts[part_of(row, f"row {number} of {path}")].append(row)
        if not parts["train"]:
            raise InputError(f"{path}: its column `split` marks no row train.")
        test = parts["test"] or None
        if parts["validation"]:
            return Rows(parts["train"], parts["validation"], source, "column `split`", test=test)
        rows, how = parts["train"], "column `split` for test, and schema"
    _refuse_no_validation(str(path), fraction)
    train, validation = split_by_schema(rows, fraction, seed)
    return Rows(train, validation, source, f"{how}, {fraction:.0%} held out", test=test)


def _refuse_no_validation(dataset: str, fraction: float | None) -> None:
    if fraction is None:
        raise InputError(
            f"{dataset} has no validation part, and training does not go on without one: give a folder with train.*"
            " and validation.*, or rows with a column `split` that says train and validation."
        )


def split_by_schema(rows: list[dict], fraction: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Hold out about `fraction` of the rows, whole schemas at a time.

    Rows whose `context` names the same columns stay together: a split by row would put the tables of
    the validation rows into training and flatter every score.

    Raises:
        InputError: when the fraction is not between 0 and 1, or the rows have one schema only.
    """
    if not 0 < fraction < 1:
        raise InputError(f"--validation-fraction {fraction} must lie between 0 and 1 (0.05 holds out one row in 20).")
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(schema_signature(str(row.get("context", row))), []).append(row)
    if len(groups) < 2:
        raise InputError(
            "all rows have the same schema, so none can be held out by schema; give a folder with train.* and"
            " validation.*, or a column `split`, and --allow-leaks, since both parts will share it."
        )
    signatures = sorted(groups)
    Random(seed).shuffle(signatures)
    wanted, train, validation = max(1, round(len(rows) * fraction)), [], []
    for position, signature in enumerate(signatures):
        # The last group always trains: neither part may be empty.
        held_out = len(validation) < wanted and position < len(signatures) - 1
        (validation if held_out else train).extend(groups[signature])
    Random(seed).shuffle(train)
    return train, validation


def schema_signature(context: str) -> str:
    """Return the column names of a schema in one order, without the table's name, types or layout."""
    inside = " ".join(re.findall(r"\((.*?)\)\s*(?:;|$)", context, flags=re.DOTALL)) or context
    return " ".join(sorted(set(re.findall(r"\w+", inside.lower()))))


def _load_from_hub(dataset: str, columns: tuple[str, ...], fraction: float | None, seed: int) -> Rows:
    if dataset.startswith((".", "/", "~")) or dataset.count("/") > 1:
        raise InputError(f"there is no file or folder {dataset}.")
    name, _, configuration = dataset.partition(":")
    try:
        parts = load_dataset(name, configuration or None)
    except (DatasetNotFoundError, OSError, ValueError, RuntimeError) as error:
        example = ", for example --dataset demo/text_to_sql.jsonl" if "question" in columns else ""
        raise InputError(
            f"{dataset} is neither a local file or folder nor a data set that can be had from the Hub"
            f" ({type(error).__name__}). Give a .jsonl/.json/.csv/.parquet file{example}, which needs no Hub."
        ) from error
    rows = {part: parts[part].to_list() for part in PARTS if part in parts}
    names = _class_names(parts["train"].features)
    if "validation" in rows:
        how = "the data set's own validation part"
        return Rows(rows["train"], rows["validation"], dataset, how, True, rows.get("test"), names)
    _refuse_no_validation(dataset, fraction)
    check_columns(rows["train"], columns, f"the rows of {dataset}")
    how = f"schema, {fraction:.0%} held out"
    return Rows(*split_by_schema(rows["train"], fraction, seed), dataset, how, True, rows.get("test"))


def _class_names(features: Features) -> list[str] | None:
    """Return the names of a `label` or `labels` column that the Hub declares as classes."""
    feature = features.get("labels", features.get("label"))
    return getattr(getattr(feature, "feature", feature), "names", None)


def check_writable(folder: str, flag: str = "--output-dir") -> None:
    """Raise InputError when a folder cannot be made or written into; leave nothing behind."""
    path = Path(folder)
    existing = path if path.exists() else next(parent for parent in path.resolve().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"the output folder {folder} cannot be written; choose another with {flag}.")
