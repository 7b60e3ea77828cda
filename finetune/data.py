"""Rows from a Hub data set, a local file or a folder, and the split into training and validation rows."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

from finetune.console import InputError

import pandas as pd
from datasets import load_dataset
from datasets.exceptions import DatasetNotFoundError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass
class Rows:
    """The rows of a run: `train` and `validation`, where they came from, and how they were split."""

    train: list[dict]
    validation: list[dict]
    source: str
    split_by: str
    from_hub: bool = False


def load_rows(dataset: str, columns: tuple[str, ...], validation_fraction: float, seed: int) -> Rows:
    """Load a data set and split it.

    `dataset` is a .jsonl/.json/.csv/.parquet file, a folder that holds train.* and validation.*, or a
    Hub id. Validation rows are, in this order of preference: the folder's or the Hub's own
    `validation` part, the rows whose column `split` says `validation`, or a share of
    `validation_fraction` of the rows, split by schema so that no validation schema was trained on.

    Raises:
        InputError: unreadable file (with the line), missing column, no rows, unreachable Hub id.
    """
    path = Path(dataset)
    if path.is_dir():
        train, validation = (_read_part(path, part) for part in ("train", "validation"))
        rows = Rows(train, validation, str(path.resolve()), "folder")
    elif path.suffix in SUFFIXES or path.exists():
        rows = _split_file(read_rows(path), path, columns, validation_fraction, seed)
    else:
        rows = _load_from_hub(dataset, columns, validation_fraction, seed)
    for name, part in (("training", rows.train), ("validation", rows.validation)):
        check_columns(part, columns, f"the {name} rows of {dataset}")
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


def _split_file(rows: list[dict], path: Path, columns: tuple[str, ...], fraction: float, seed: int) -> Rows:
    source = str(path.resolve())
    check_columns(rows, columns, f"the rows of {path}")
    parts = {row.get("split") for row in rows}
    if {"train", "validation"} <= parts:
        train, validation = ([row for row in rows if row["split"] == part] for part in ("train", "validation"))
        return Rows(train, validation, source, "column `split`")
    train, validation = split_by_schema(rows, fraction, seed)
    return Rows(train, validation, source, f"schema, {fraction:.0%} held out")


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


def _load_from_hub(dataset: str, columns: tuple[str, ...], fraction: float, seed: int) -> Rows:
    if dataset.startswith((".", "/", "~")) or dataset.count("/") > 1:
        raise InputError(f"there is no file or folder {dataset}.")
    try:
        parts = load_dataset(dataset)
    except (DatasetNotFoundError, OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{dataset} is neither a local file or folder nor a data set that can be had from the Hub"
            f" ({type(error).__name__}). Give a .jsonl/.json/.csv/.parquet file, for example"
            " --dataset demo/text_to_sql.jsonl, which needs no Hub."
        ) from error
    train = parts["train"].to_list()
    if "validation" in parts:
        return Rows(train, parts["validation"].to_list(), dataset, "the data set's own validation part", True)
    check_columns(train, columns, f"the rows of {dataset}")
    return Rows(*split_by_schema(train, fraction, seed), dataset, f"schema, {fraction:.0%} held out", True)


def check_writable(folder: str) -> None:
    """Raise InputError when a folder cannot be made or written into; leave nothing behind."""
    path = Path(folder)
    existing = path if path.exists() else next(parent for parent in path.resolve().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"the output folder {folder} cannot be written; choose another with --output-dir.")
