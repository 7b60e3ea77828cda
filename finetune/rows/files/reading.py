"""Rows of files: JSON, CSV and Parquet as people have them, or one sentence that says where they cannot be read."""

import csv
import io
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from finetune import InputError

import pyarrow as pa
import pyarrow.parquet as pq

logger = logging.getLogger(__name__)
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SHEETS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
ZIP = b"PK\x03\x04"  # how .xlsx and .ods begin, whatever they are called
INDEX = "__index_level_"  # how pandas names the columns of an index that has no name
AS_CSV = "in the spreadsheet program, save the sheet as CSV (UTF-8), and give that file"
csv.field_size_limit(2**31 - 1)


def kind_of(path: Path) -> str | None:
    """Return the suffix that says what a file holds, without that of its compression; None for others."""
    suffix = Path(path.stem).suffix if path.suffix.lower() in CODECS else path.suffix
    return suffix.lower() if suffix.lower() in SUFFIXES else None


def read_rows(path: Path, encoding: str = "utf-8") -> list[dict]:
    """Return the rows of a file; see `stream_rows`."""
    return list(stream_rows(path, encoding))


def stream_rows(path: Path, encoding: str = "utf-8", raw: bool = False) -> Iterator[dict]:
    """Yield the rows of a .jsonl, .json, .csv, .tsv or .parquet file, or of one compressed as .gz, .zst or .bz2.

    JSON may hold a list of objects, an object a line, or objects one after the other, whatever its suffix. CSV is
    separated by commas, semicolons, tabs or vertical bars, whichever its header has most; every record must have as
    many fields as the header. NaN and null are None; all of CSV is text.

    Args:
        raw: leave a NaN of a Parquet file what it is, and the index that pandas has put beside the columns.

    Raises:
        InputError: the file is missing, of another kind, or cannot be read, with the line where that can be told.
    """
    kind = kind_of(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise InputError(f"{path} is an address, and only files are read here; download it first.")
    if path.suffix.lower() in SHEETS:
        raise InputError(f"{path} is a workbook, which is not read here; {AS_CSV}.")
    if kind is None:
        raise InputError(
            f"{path} is not a kind of file that can be read; expected {', '.join(SUFFIXES)}, or one of these with"
            f" {', '.join(CODECS)} behind it."
        )
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}.")
    try:
        if kind in (".csv", ".tsv"):
            _refuse_workbook(path)
        for row in {".csv": _csv, ".tsv": _csv, ".parquet": _parquet}.get(kind, _json)(path, encoding):
            yield row if raw else {n: None if _is_nan(v) else v for n, v in row.items() if not n.startswith(INDEX)}
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as {kind[1:]}: {reason}.") from error
    except UnicodeDecodeError as error:
        guess = "utf-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1, cp1252 or utf-16"
        raise InputError(
            f"{path} is not {encoding} text ({error.reason} {error.object[error.start]:#04x}); name its encoding with"
            f" --encoding, for example {guess}."
        ) from error


def _refuse_workbook(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(ZIP)) == ZIP:
            raise InputError(f"{path} is called CSV and holds a workbook; {AS_CSV}.")


def _is_nan(value) -> bool:
    return isinstance(value, float) and value != value


def declared_columns(path: Path, encoding: str = "utf-8") -> pa.Schema:
    """Return names and types of the columns that a CSV or Parquet file declares; of JSON, which declares none, none."""
    kind = kind_of(path)
    if kind == ".parquet":
        schema = pq.read_schema(path)
        return pa.schema([*((name, pa.int64()) for name in _range_index(schema)), *schema])
    if kind not in (".csv", ".tsv"):
        return pa.schema([])
    with _text(path, encoding) as text:
        first = text.readline()
        header = next(csv.reader(chain([first], text), delimiter=_separator(first)), [])
    return pa.schema([(name, pa.string()) for name in _header(header, path) if name])


def text_encoding(encoding: str) -> str:
    """Return the name of an encoding for which a byte order mark is no text; raise InputError where there is none."""
    try:
        "".encode(encoding)
    except LookupError as error:
        raise InputError(f"--encoding {encoding}: there is no such encoding; expected for example utf-8.") from error
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


@contextmanager
def _text(path: Path, encoding: str) -> Iterator[io.TextIOWrapper]:
    """Yield a file's text without its byte order mark, decompressed; line ends as they are."""
    with (
        pa.input_stream(str(path), compression=CODECS.get(path.suffix.lower())) as raw,
        io.BufferedReader(raw) as buffered,
    ):
        yield io.TextIOWrapper(buffered, encoding=text_encoding(encoding), newline="")


def read_object(line: str, source: Path | str, number: int) -> dict:
    """Return the row that a line holds as a JSON object; raise InputError where it holds none."""
    return _checked(_parse(line, source, number), line, f"{source}, line {number}")


def _json(path: Path, encoding: str) -> Iterator[dict]:
    with _text(path, encoding) as text:
        lines = ((number, line) for number, line in enumerate(text, start=1) if line.strip())
        number, first = next(lines, (0, ""))
        if not first:
            return
        is_list = first.lstrip().startswith("[")
        try:
            row = None if is_list else _parsed(first)
        except json.JSONDecodeError:
            rest = text.read()
            if first.strip() != "{" and not rest.lstrip().startswith(('"', "}")):
                _parse(first, path, number)  # A line that is broken: say so.
            yield from _objects(first + rest, path)
            return
        except (ValueError, RecursionError):
            row = _parse(first, path, number)
        if is_list:
            yield from _list(first + text.read(), path)
            return
        second = next(lines, None)
        if second is None:
            _refuse_wrapper(row, path)
        yield _checked(row, first, f"{path}, line {number}")
        for number, line in chain([second] if second else [], lines):
            yield read_object(line, path, number)


class _Twice(ValueError):
    """A name that stands twice in one object: one of the values would be lost."""


def _once(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"{next(name for name in names if names.count(name) > 1)!a} is named twice in one object")
    return found


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _parsed(text: str):
    return json.loads(text, parse_constant=_constant, object_pairs_hook=_once)


def _parse(text: str, path: Path | str, number: int):
    """Return a JSON value; raise InputError with its line where there is none."""
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        line = number + error.lineno - 1
        raise InputError(f"{path}, line {line}: not valid JSON ({error.msg}); is the file truncated?") from error
    except (ValueError, RecursionError) as error:  # A number of thousands of digits; brackets in brackets.
        raise InputError(f"{path}, line {number}: {_why(error)}.") from error


def _why(error: Exception) -> str:
    if isinstance(error, _Twice):
        return str(error)
    return "a number is too long" if isinstance(error, ValueError) else "it is nested too deeply"


def _list(text: str, path: Path) -> Iterator[dict]:
    for number, row in enumerate(_parse(text, path, 1), start=1):
        yield _checked(row, text, f"{path}, object {number}")


def _objects(text: str, path: Path) -> Iterator[dict]:
    """Yield objects that stand one after the other, over several lines each."""
    decoder = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_once)
    end, number = 0, 0
    while rest := text[end:].lstrip():
        start = len(text) - len(rest)
        try:
            row, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            line = text.count("\n", 0, error.pos) + 1
            raise InputError(f"{path}, line {line}: not valid JSON ({error.msg}); is the file truncated?") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, object {number + 1}: {_why(error)}.") from error
        number += 1
        if number == 1 and not text[end:].strip():
            _refuse_wrapper(row, path)
        yield _checked(row, text, f"{path}, object {number}")


def _refuse_wrapper(row, path: Path) -> None:
    """Raise InputError for a single object that is no row, but holds some: {"data": [...]}."""
    holds = isinstance(row, dict) and row and all(isinstance(value, list | dict) for value in row.values())
    if holds and "messages" not in row:
        raise InputError(
            f"{path} holds one object with {', '.join(list(row)[:5])}; expected a list of objects, or one a line."
        )


def _checked(row, text: str, where: str) -> dict:
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(row).__name__}.")
    if "\\ud" in text or "\\uD" in text:
        for name, value in row.items():
            try:
                json.dumps([name, value], ensure_ascii=False, default=str).encode()
            except UnicodeEncodeError as error:
                raise InputError(f"{where}: {name!a} holds half a character (a lone surrogate); mend it.") from error
    return row


def _csv(path: Path, encoding: str) -> Iterator[dict]:
    with _text(path, encoding) as text:
        first = text.readline()
        separator = _separator(first)
        reader = csv.reader(chain([first], text), delimiter=separator, strict=True)
        header, line = None, 1
        try:
            for record in reader:
                if header is None:
                    header = _header(record, path)
                    if separator != ",":
                        logger.info(f"{path}: its fields are separated by {SEPARATORS[separator]}.")
                elif record:
                    if len(record) != len(header):
                        raise InputError(
                            f"{path}, line {line}: {len(record)} fields where the header has {len(header)}"
                            f" ({', '.join(filter(None, header))}); a text with the separator ({SEPARATORS[separator]})"
                            " must stand in double quotes."
                        )
                    if any(value for name, value in zip(header, record, strict=True) if not name):
                        raise InputError(f"{path}, line {line}: a value in a column that has no name.")
                    yield {name: value for name, value in zip(header, record, strict=True) if name}
                line = reader.line_num + 1
        except csv.Error as error:
            reason = "a quote is opened and never closed" if "end of data" in str(error) else str(error)
            raise InputError(
                f"{path}, line {line}: not valid CSV ({reason}); a quote inside a quoted text must be doubled."
            ) from error


def _separator(header: str) -> str:
    """Return the separator that a header has most of outside of quotes; a comma where it has none."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=lambda separator: (bare.count(separator), separator == ","))


def _header(record: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in record]
    _refuse_twice(names, path)
    return names


def _refuse_twice(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the header names {', '.join(twice)} twice.")


def _parquet(path: Path, encoding: str) -> Iterator[dict]:
    with pq.ParquetFile(path) as file:
        _refuse_twice(file.schema_arrow.names, path)
        ranges = {name: iter(values) for name, values in _range_index(file.schema_arrow).items()}
        for batch in file.iter_batches(1024):
            for row in batch.to_pylist():
                yield {name: next(values, None) for name, values in ranges.items()} | row


def _range_index(schema: pa.Schema) -> dict[str, range]:
    """Return an index of pandas that has a name and is a range: it is no column, but noted in the metadata."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
        found = {i["name"]: range(i["start"], i["stop"], i["step"]) for i in noted if isinstance(i, dict)}
    except (ValueError, AttributeError, KeyError, TypeError):  # not as pandas writes it
        return {}
    return {name: values for name, values in found.items() if isinstance(name, str) and name not in schema.names}
