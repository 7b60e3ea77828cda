"""Rows from a Hub data set, a local file or a folder, and the split into training and validation rows."""

import glob
import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from finetune import InputError
from finetune.rows.corrections import corrected_rows, is_experiment, source_of
from finetune.rows.files.columns import read_columns, say_columns
from finetune.rows.files.reading import SUFFIXES, kind_of, read_rows

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

    `test` is None where the data has no test part; `label_names` are the Hub's names of the classes; `columns` is
    what the data calls the task's columns; `sets` are the data sets that its training rows are mixed of, if several;
    `corrections` are corrected answers that stand behind its training rows.
    """

    train: list[dict]
    validation: list[dict] | None
    source: str
    split_by: str
    from_hub: bool = False
    test: list[dict] | None = None
    label_names: list[str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    sets: list["Rows"] = field(default_factory=list)
    corrections: list["Rows"] = field(default_factory=list)

    @property
    def parts(self) -> dict[str, list[dict]]:
        """The parts that there are, by name."""
        parts = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def origin(self) -> str:
        """Where its rows and the corrected answers behind them came from, in words; `source` is what can be opened."""
        return " + ".join([self.source, *(one.source for one in self.corrections)])


def load_rows(
    dataset: str,
    columns: tuple[str, ...],
    validation_fraction: float | None,
    seed: int,
    encoding: str = "utf-8",
    given: dict[str, str] | None = None,
    hold_out: Callable | None = None,
    fill: Callable[[list[dict]], list[dict]] | None = None,
) -> Rows:
    """Load a data set and split it.

    `dataset` is a file of rows (see reading.py), a pattern of several such as `data/*.jsonl`, a folder that
    holds train.* and validation.* (and test.*), `mlflow:EXPERIMENT` for the corrected answers of one, or a Hub id,
    `id:configuration` for one of several.
    Validation rows are, in this order of preference: the folder's or the Hub's own `validation` part, the
    rows whose column `split` says `validation`, or a share of `validation_fraction` of the training rows.
    Without a fraction, data that has no validation part is refused. Rows marked test never train.

    Args:
        columns: of text; rows that lack one of them are left out and counted.
        given: what the data calls them: see columns.read_columns.
        hold_out: takes rows, fraction and seed, returns training and validation rows; it may say what it goes `by`.
        fill: returns rows with their `context`, which the data need not have then.

    Raises:
        InputError: unreadable file (with the line), missing column, a part that is not known, no text where one
            must be, no rows, unreachable Hub id.
    """
    rows = _open(dataset, columns, encoding, given or {})
    _name_columns(rows, dataset, columns, given or {}, fill)
    if rows.validation is None:
        _split_by_column(rows, dataset)
    if rows.validation is None:
        _refuse_no_validation(dataset, validation_fraction)
        train = complete_rows(rows.train, columns, f"the training rows of {dataset}")
        assert hold_out is not None  # Who gives a fraction says how.
        rows.train, rows.validation = hold_out(train, validation_fraction, seed)
        by = getattr(hold_out, "by", "schema" if "question" in columns else "text")
        rows.split_by += f"{validation_fraction:.0%} held out by {by}"
    for name, part in rows.parts.items():
        what = f"the {'training' if name == 'train' else name} rows of {dataset}"
        check_columns(part, columns, what)
        setattr(rows, name, complete_rows(part, columns, what))
    return rows


def load_training_rows(
    dataset: str,
    columns: tuple[str, ...],
    encoding: str = "utf-8",
    given: dict[str, str] | None = None,
    fill: Callable[[list[dict]], list[dict]] | None = None,
) -> tuple[Rows, int]:
    """Return the training rows of a data set, and how many others it has: those for validation and test.

    Args: as `load_rows` takes them; what `given` names may be missing.

    Raises:
        InputError: as `load_rows`, but for validation rows, which it need not have.
    """
    rows = _open(dataset, columns, encoding, given or {}, optional=("validation", "test"))
    others = sum(len(part) for name, part in rows.parts.items() if name != "train")
    rows.validation = rows.test = None
    names = {name.strip().lower() for row in rows.train for name in row}
    known = {name: column for name, column in (given or {}).items() if column.strip().lower() in names}
    _name_columns(rows, dataset, columns, known, fill)
    _split_by_column(rows, dataset)
    others += sum(len(part) for name, part in rows.parts.items() if name != "train")
    check_columns(rows.train, columns, f"the training rows of {dataset}")
    rows.train = complete_rows(rows.train, columns, f"the training rows of {dataset}")
    return rows, others


def _open(
    dataset: str, columns: tuple[str, ...], encoding: str, given: dict[str, str], optional: tuple[str, ...] = ("test",)
) -> Rows:
    """Return the rows of a data set as they are there, by part where it has parts.

    Args:
        optional: parts that a folder need not have.
    """
    if is_experiment(dataset):
        return Rows(corrected_rows(dataset, columns), None, source_of(dataset), "")
    path = Path(dataset)
    files = [] if os.path.exists(path) else sorted(map(Path, glob.glob(dataset, recursive=True)))
    if os.path.isdir(path):
        parts = {p: _read_part(path, p, encoding) for p in PARTS if p not in optional or files_of(path, p)}
        validation, test = parts.get("validation"), parts.get("test")
        return Rows(parts["train"], validation, str(path.resolve()), "folder", test=test)
    if files or kind_of(path) or os.path.exists(path):
        found = [row for file in files or [path] for row in read_rows(file, encoding)]
        return Rows(found, None, str(path.resolve()), "")
    return _load_from_hub(dataset, columns, given)


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


def files_of(folder: Path, part: str) -> list[Path]:
    """Return a part's files in a folder: train.csv, or train-00000-of-00002.parquet and its like."""
    names = "|".join(SPELLINGS[part])
    pattern = re.compile(rf"({names})(-\d+-of-\d+)?(\.\w+)+", re.IGNORECASE)
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name) and kind_of(path))


def _read_part(folder: Path, part: str, encoding: str) -> list[dict]:
    files = files_of(folder, part)
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


def _name_columns(
    rows: Rows, dataset: str, columns: tuple[str, ...], given: dict[str, str], fill: Callable | None
) -> None:
    """Give the columns of all parts the names that the task has for them, and fill in their context, in place."""
    needed = tuple(name for name in columns if name != "context") if fill else columns
    for name, part in rows.parts.items():
        what = f"the rows of {dataset}" if rows.validation is None else f"the {name} rows of {dataset}"
        if not part:
            check_columns(part, columns, what)
        named, found = read_columns(part, columns, given, what, needed=needed)
        setattr(rows, name, fill(named) if fill else named)
        if name == "train":
            rows.columns = found
            say_columns(found, what)


def _split_by_column(rows: Rows, dataset: str) -> None:
    """Take the parts that a column `split` names apart, in place, where there is one."""
    if not any("split" in row for row in rows.train):
        return
    parts: dict[str, list[dict]] = {name: [] for name in PARTS}
    for number, row in enumerate(rows.train, start=1):
        parts[part_of(row, f"row {number} of {dataset}")].append(row)
    if not parts["train"]:
        raise InputError(f"{dataset}: its column `split` marks no row train.")
    rows.train, rows.validation = parts["train"], parts["validation"] or None
    rows.test = rows.test or parts["test"] or None
    rows.split_by = "column `split`" + ("" if rows.validation else " for test, and ")


def _refuse_no_validation(dataset: str, fraction: float | None) -> None:
    if fraction is None:
        raise InputError(
            f"{dataset} has no validation part, and training does not go on without one: give a folder with train.*"
            " and validation.*, rows with a column `split` that says train and validation, or --validation-fraction"
            " 0.1, which holds out one row in ten."
        )


def _load_from_hub(dataset: str, columns: tuple[str, ...], given: dict[str, str]) -> Rows:
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
    rows = {part: parts[name].to_list() for part, name in _parts_of_hub(parts, dataset).items()}
    how = "the data set's own validation part" if "validation" in rows else ""
    names = _class_names(next(iter(parts.values())).features, given)
    return Rows(rows["train"], rows.get("validation"), dataset, how, True, rows.get("test"), names)


def _parts_of_hub(names: Iterable[str], dataset: str) -> dict[str, str]:
    """Return the Hub's names of train, validation and test; of other parts it is said that they are not read.

    Raises:
        InputError: there is no training part, or a part comes under two names.
    """
    found: dict[str, str] = {}
    for name in names:
        part = next((part for part, spellings in SPELLINGS.items() if name.lower() in spellings), None)
        if part is None:
            logger.warning(f"{dataset}: its part {name} is not read.")
        elif found.setdefault(part, name) != name:
            raise InputError(f"{dataset} has two parts for {part}: {found[part]} and {name}; expected one of each.")
    if "train" not in found:
        raise InputError(f"{dataset} has no part train; it has {', '.join(names)}.")
    return found


def _class_names(features: Features, given: dict[str, str]) -> list[str] | None:
    """Return the names of a `label` or `labels` column that the Hub declares as classes."""
    named = {name.strip().lower(): feature for name, feature in features.items()}
    columns = [given.get(name, name).strip().lower() for name in ("labels", "label")]
    feature = next((named[column] for column in columns if column in named), None)
    return getattr(getattr(feature, "feature", feature), "names", None)


def check_writable(folder: str, flag: str = "--output-dir") -> None:
    """Raise InputError when a folder cannot be made or written into; leave nothing behind."""
    path = Path(folder)
    existing = next(place for place in (path, *path.resolve().parents) if os.path.exists(place))
    is_name = all(len(os.fsencode(part)) <= 255 for part in path.parts)
    if not is_name or not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"the output folder {folder} cannot be written; choose another with {flag}.")
