"""The columns of predictions: those that were given, as they were given, and beside them what was predicted."""

from collections.abc import Callable, Container, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from finetune import InputError
from finetune.models.files.schemas import reason
from finetune.rows.files.reading import declared_columns

import pyarrow as pa

ROWS_AT_A_TIME = 1024


def free_name(prediction: str, taken: Container[str]) -> str:
    """Return the name of a predicted column, `predicted_...` where that is taken."""
    return free_name(f"predicted_{prediction}", taken) if prediction in taken else prediction


class Columns:
    """Which columns an output has.

    Args:
        declared: names and types that the input's file declares; the types of others are those of their values.
        output: the file; a CSV or Parquet file has one header for all rows.

    Attributes:
        seen: how many rows `look_through` has read.
    """

    def __init__(self, declared: pa.Schema | None = None, output: Path | None = None):
        self.declared = declared or pa.schema([])
        self.given = dict.fromkeys(self.declared.names)
        self.typed = output is not None and output.suffix == ".parquet"
        self.types = pa.schema([])
        self.header_is_written, self.seen = False, 0

    def look_at(self, rows: list[dict]) -> None:
        """Take up the columns of rows, in the order in which they first appear.

        Raises:
            InputError: values that no column of a Parquet file can hold together.
        """
        names = dict.fromkeys(name for row in rows for name in row)
        if self.header_is_written and (late := [name for name in names if name not in self.given]):
            raise InputError(
                f"a row has the column {', '.join(map(repr, late))}, which the rows before it did not have: the header"
                " is written. Give the rows as a file with --input, which is looked through before, or write .jsonl."
            )
        self.given |= names
        if self.typed and not self.header_is_written:
            found = [pa.field(n, _type_of(rows, n)) for n in names if n not in self.declared.names]
            self.types = _merged(self.types, pa.schema(found))

    def name(self, prediction: str) -> str:
        """Return the name of a predicted column: a given one keeps its own."""
        return free_name(prediction, self.given)

    def add(self, row: dict, predictions: dict) -> dict:
        """Return a row with its predictions."""
        return row | {self.name(name): value for name, value in predictions.items()}

    def schema(self, predicted: pa.Schema) -> pa.Schema:
        """Return names and types of all columns: the given ones, then the predicted ones."""
        given = [self.declared if name in self.declared.names else self.types for name in self.given]
        fields = [schema.field(name) if self.typed else pa.field(name, pa.string())
                  for name, schema in zip(self.given, given, strict=True)]  # fmt: skip
        return pa.schema([*fields, *(field.with_name(self.name(field.name)) for field in predicted)])


def to_table(rows: list[dict], schema: pa.Schema) -> pa.Table:
    """Return rows as a table; raise InputError for a value that its column cannot hold as it is."""
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        try:
            columns.append(pa.array([row.get(name) for row in rows], type=kind))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise _not_one_type(name, error) from error
    return pa.Table.from_arrays(columns, schema=schema)


def look_through(
    read: Callable[[], Iterable[dict]], source: Path, encoding: str, output: Path | None, needed: list[str]
) -> Columns:
    """Read a file of rows once and return its columns: what is wrong with a row is said before any is predicted.

    Args:
        read: begins to read the rows anew, checked for what the model needs.
        needed: columns of a file that has no row and declares none.

    Raises:
        InputError: of `read`, or values that no column of a Parquet file can hold.
    """
    rows = iter(read())
    first = list(islice(rows, ROWS_AT_A_TIME))
    columns = Columns(declared_columns(source, encoding), output)
    for chunk in chain([first], _chunks(rows)):
        columns.look_at(chunk)
        columns.seen += len(chunk)
    if not columns.given:
        columns.look_at([dict.fromkeys(needed, "")])
    if columns.typed:
        schema = columns.schema(pa.schema([]))
        for chunk in _chunks(iter(read())):
            to_table(chunk, schema)
    return columns


def _chunks(rows: Iterator[dict]) -> Iterator[list[dict]]:
    while chunk := list(islice(rows, ROWS_AT_A_TIME)):
        yield chunk


def _type_of(rows: list[dict], name: str) -> pa.DataType:
    try:
        kind = pa.array([row.get(name) for row in rows]).type
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise _not_one_type(name, error) from error
    if pa.types.is_struct(kind) and not kind.num_fields:
        raise _not_one_type(name, "empty objects")
    return kind


def _merged(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    names = dict.fromkeys([*one.names, *other.names])
    fields = []
    for name in names:
        both = [pa.schema([schema.field(name)]) for schema in (one, other) if name in schema.names]
        try:
            fields += pa.unify_schemas(both, promote_options="permissive")
        except pa.ArrowException as error:
            raise _not_one_type(name, error) from error
    return pa.schema(fields)


def _not_one_type(name: str, why: Exception | str) -> InputError:
    return InputError(
        f"the column {name!r} has values that a Parquet file cannot hold together as they are"
        f" ({reason(why)}); write .jsonl, or .csv."
    )
