"""Rows from a Hub data set, a local file or a folder, and the split into training and validation rows."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

from finetune.console import InputError

import pandas as pd
from datasets import Features, load_dataset
from datasets.exceptions import DatasetNotFoundError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
PARTS = ("train", "validation", "test")


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


def load_rows(dataset: str, columns: tuple[str, ...], validation_fraction: float | None, seed: int) -> Rows:
    """Load a data set and split it.

    `dataset` is a .jsonl/.json/.csv/.parquet file, a folder that holds train.* and validation.* (and
    test.*), or a Hub id, `id:configuration` for one of several. Validation rows are, in this order of
    preference: the folder's or the Hub's own `validation` part, the rows whose column `split` says
    `validation`, or a share of `validation_fraction` of the rows, split by schema so that no validation
    schema was trained on. Without a fraction, data that has no validation part is refused.

    Raises:
        InputError: unreadable file (with the line), missing column, no rows, unreachable Hub id.
    """
    path = Path(dataset)
    if path.is_dir():
        train, validation = (_read_part(path, part) for part in ("train", "validation"))
        test = _read_part(path, "test") if any(path.glob("test.*")) else None
        rows = Rows(train, validation, str(path.resolve()), "folder", test=test)
    elif path.suffix in SUFFIXES or path.exists():
        rows = _split_file(read_rows(path), path, columns, validation_fraction, seed)
    else:
        rows = _load_from_hub(dataset, columns, validation_fraction, seed)
    for name, part in rows.parts.items():
        check_columns(part, columns, f"the {'training' if name == 'train' else name} rows of {dataset}")
    return rows


def read_rows(path: Path) -> list[dict]:
    """Return the rows of one .jsonl/.json/.csv/.parquet file.

    Raises:
        InputError: when it is missing, unreadable, or of another kind.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is not a kind of file that can be read; expected {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    if path.suffix == ".jsonl":
        return list(_read_json_lines(path))
    try:
        if path.suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise InputError(f"{path} must hold a JSON list of objects.")
            return rows
        # keep_default_na: an answer "None" or "NA" is text, not a missing value.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False) if path.suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as {path.suffix[1:]}: {reason}.") from error
    return frame.to_dict("records")


def _read_json_lines(path: Path):
    with path.open(encoding="utf-8") as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}.")
                yield row
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not valid JSON ({error.msg}); is the file truncated?") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, after line {number}: not UTF-8 text.") from error


def check_columns(rows: list[dict], columns: tuple[str, ...], what: str) -> None:
    """Raise InputError when there are no rows, or when a column is in none of the first."""
    if not rows:
        raise InputError(f"{what}: there are none; expected rows with {', '.join(columns)}.")
    missing = [name for name in columns if not any(name in row for row in rows[:1000])]
    if missing:
        raise InputError(
            f"{what} have no column {', '.join(missing)}; found {', '.join(rows[0])}, expected {', '.join(columns)}."
        )


def _read_part(folder: Path, part: str) -> list[dict]:
    files = sorted(path for path in folder.glob(f"{part}.*") if path.suffix in SUFFIXES)
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise InputError(
            f"the folder {folder} must hold exactly one {part} file ({part}.jsonl, .json, .csv or .parquet);"
            f" found {found}. To hold rows out of one file, give the file itself."
        )
    return read_rows(files[0])


def _split_file(rows: list[dict], path: Path, columns: tuple[str, ...], fraction: float | None, seed: int) -> Rows:
    source = str(path.resolve())
    check_columns(rows, columns, f"the rows of {path}")
    parts = {row.get("split") for row in rows}
    if {"train", "validation"} <= parts:
        train, validation, test = ([row for row in rows if row.get("split") == part] for part in PARTS)
        return Rows(train, validation, source, "column `split`", test=test or None)
    _refuse_no_validation(str(path), fraction)
    train, validation = split_by_schema(rows, fraction, seed)
    return Rows(train, validation, source, f"schema, {fraction:.0%} held out")


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
    return Rows(*split_by_schema(rows["train"], fraction, seed), dataset, f"schema, {fraction:.0%} held out", True)


def _class_names(features: Features) -> list[str] | None:
    """Return the names of a `label` or `labels` column that the Hub declares as classes."""
    feature = features.get("labels", features.get("label"))
    return getattr(getattr(feature, "feature", feature), "names", None)


def check_writable(folder: str) -> None:
    """Raise InputError when a folder cannot be made or written into; leave nothing behind."""
    path = Path(folder)
    existing = path if path.exists() else next(parent for parent in path.resolve().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"the output folder {folder} cannot be written; choose another with --output-dir.")
