"""Rows to predict from and rows with predictions: read and written in chunks, so that neither has to fit in memory."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from finetune import console
from finetune.console import InputError
from finetune.data import check_writable

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

OUTPUT_SUFFIXES = (".jsonl", ".csv", ".parquet")


def check_output(path: Path | None) -> None:
    """Raise InputError for an output file that cannot be written."""
    if path is None:
        return
    if path.suffix not in OUTPUT_SUFFIXES:
        raise InputError(f"--output {path}: expected a name that ends in .jsonl, .csv or .parquet.")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}.")
    check_writable(str(path.parent))


def read_lines() -> Iterator[tuple[int, str | dict]]:
    """Yield (number, content) of the lines on stdin that are not empty: JSON objects parsed, others as text."""
    for number, line in enumerate(sys.stdin, start=1):
        if line.lstrip().startswith("{"):
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"stdin, line {number}: not valid JSON ({error.msg}).") from error
        elif line.strip():
            yield number, line.strip()


class Writer:
    """Prints predictions, or writes rows to a file that appears under its name when it is whole.

    Args:
        output: the file, or None for stdout.
    """

    def __init__(self, output: Path | None):
        self.output, self.parquet, self.started = output, None, False
        self.part = output.with_name(output.name + ".part") if output else None
        if self.part:
            self.part.write_text("")

    def write(self, rows: list[dict], lines: list[str]) -> None:
        """Write one chunk: the rows to the file, or the lines to stdout."""
        if self.part is None:
            for line in lines:
                console.print_result(line)
            return
        frame = pd.DataFrame(rows)
        if self.output.suffix == ".parquet":
            table = pa.Table.from_pandas(frame, preserve_index=False)
            self.parquet = self.parquet or pq.ParquetWriter(self.part, table.schema)
            self.parquet.write_table(table)
        elif self.output.suffix == ".csv":
            frame = frame.map(lambda value: json.dumps(value) if isinstance(value, list | dict) else value)
            frame.to_csv(self.part, mode="a", header=not self.started, index=False)
        elif rows:
            with self.part.open("a", encoding="utf-8") as file:
                frame.to_json(file, orient="records", lines=True, force_ascii=False)
        self.started = True

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind, *_) -> None:
        """Give the file its name; drop it after bad input; after any other error leave what is written as .part."""
        if self.part is None:
            return
        if self.parquet:
            self.parquet.close()
        if kind is None:
            self.part.rename(self.output)
            console.print_result(str(self.output))
        elif issubclass(kind, InputError):
            self.part.unlink()
