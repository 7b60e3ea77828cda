"""Rows with predictions, written in chunks, so that they do not have to fit in memory."""

import base64
import csv
import io
import json
import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune import console
from finetune.console import InputError
from finetune.data import check_writable
from finetune.output_columns import Columns, to_table
from finetune.stdin_lines import STDIN

import pyarrow as pa
import pyarrow.parquet as pq

logger = logging.getLogger(__name__)
OUTPUT_SUFFIXES = (".jsonl", ".csv", ".parquet")


def check_output(flag: str, path: Path | None, source: Path | None, suffixes: tuple[str, ...] | None = None) -> None:
    """Raise InputError for an output file that cannot be written, or that is the input.

    Args:
        source: the input file, or STDIN; None where there is none.
        suffixes: that the name may have.
    """
    if path is None:
        return
    if suffixes and path.suffix not in suffixes:
        raise InputError(f"{flag} {path}: expected a name that ends in {', '.join(suffixes[:-1])} or {suffixes[-1]}.")
    if not os.path.isdir(path.parent):
        raise InputError(f"{flag} {path}: there is no folder {path.parent}.")
    if os.path.isdir(path):
        raise InputError(f"{flag} {path}: this is a folder; give the name of a file.")
    check_writable(str(path.parent), flag)
    part = part_of(path)
    if len(os.fsencode(part.name)) > 255:
        raise InputError(f"{flag}: the name of the file is too long; choose a shorter one.")
    if os.path.islink(part) or (os.path.exists(part) and not os.path.isfile(part)):
        raise InputError(f"{flag} {path}: {part}, which is written first, is no plain file; take it away.")
    for written, name in ((path, "this"), (part, part)):
        if _is_same(written, source):
            raise InputError(f"{flag} {path}: {name} is the input, and would be lost; choose another name.")


def part_of(path: Path) -> Path:
    """Return where an output is written until it is whole."""
    return path.with_name(path.name + ".part")


def _is_same(path: Path, source: Path | None) -> bool:
    """Say whether a file is the input, by whatever name."""
    try:
        given = os.fstat(sys.stdin.fileno()) if source == STDIN else source.stat()
        return os.path.samestat(path.stat(), given)
    except (OSError, ValueError, AttributeError):  # One of them is not there, or stdin is no file.
        return False


def as_json(row: dict, **options) -> str:
    """Return a row as a line of JSON; NaN as null, dates in ISO form, decimal numbers as texts, bytes in base64."""
    try:
        return json.dumps(row, default=_as_text, allow_nan=False, **options)
    except ValueError:  # JSON has no NaN; Infinity, where JSON brought it, stays.
        return json.dumps(_without_nan(row), default=_as_text, **options)


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _as_text(value) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class JsonLines:
    """Rows as JSON, one a line, each with its own keys."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, rows: list[dict]) -> None:
        """Append rows."""
        self.file.writelines(f"{as_json(row, ensure_ascii=False)}\n" for row in rows)

    def close(self) -> None:
        """Write what is left."""
        self.file.close()


class Csv(JsonLines):
    """Rows as CSV; lists and objects in a cell as JSON."""

    def __init__(self, path: Path, schema: pa.Schema):
        super().__init__(path, schema)
        self.names = schema.names
        self._line(self.names)

    def write(self, rows: list[dict]) -> None:
        """Append rows."""
        for row in rows:
            self._line([self._cell(row.get(name)) for name in self.names])

    def _line(self, cells: list) -> None:
        # With a line end of \r\n the csv module also quotes a text with a lone \r, at which readers end a line.
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self.file.write(line.getvalue()[:-2] + "\n")

    @staticmethod
    def _cell(value):
        if isinstance(value, list | dict):
            return as_json(value, ensure_ascii=False)
        value = _without_nan(value)
        return value if value is None or isinstance(value, str | int | float) else _as_text(value)


class Parquet:
    """Rows as Parquet, a row group for each call of `write`."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.schema, self.writer = schema, pq.ParquetWriter(path, schema)

    def write(self, rows: list[dict]) -> None:
        """Append rows."""
        self.writer.write_table(to_table(rows, self.schema))

    def close(self) -> None:
        """Write the end, without which a Parquet file cannot be read."""
        self.writer.close()


KINDS = dict(zip(OUTPUT_SUFFIXES, (JsonLines, Csv, Parquet), strict=True))


class Writer:
    """Prints predictions, or writes rows to a file that appears under its name when it is whole.

    Args:
        output: the file, or None for stdout.
        columns: that the rows have.
        predicted: names and types of what is predicted.
    """

    def __init__(self, output: Path | None, columns: Columns, predicted: pa.Schema):
        self.output, self.columns, self.predicted, self.file, self.written = output, columns, predicted, None, 0
        self.part = part_of(output) if output else None

    def write(self, rows: list[dict], lines: list[str]) -> None:
        """Write one chunk: the rows to the file, or the lines to stdout."""
        if self.part is None:
            for line in lines:
                console.print_result(line)
            return
        with self._disk():
            self._open()
            self.file.write(rows)
        self.written += len(rows)

    def _open(self) -> None:
        if self.file is None:
            self.file = KINDS[self.output.suffix](self.part, self.columns.schema(self.predicted))
            self.columns.header_is_written = self.output.suffix != ".jsonl"

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self.part} cannot be written: {error.strerror or error}.") from error

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind, *_) -> None:
        """Give the file its name; after an error leave what is written as .part, and nothing where nothing is."""
        if self.part is None:
            return
        with self._disk():
            if kind is None:
                self._open()
            if self.file:
                self.file.close()
            if kind is None:
                self.part.replace(self.output)
        if kind is None:
            console.print_result(str(self.output))
        elif self.written:
            logger.warning(f"the first {self.written} rows, with their predictions, are in {self.part}.")
        elif self.file:  # One of an earlier attempt, with its predictions, stays.
            self.part.unlink(missing_ok=True)
