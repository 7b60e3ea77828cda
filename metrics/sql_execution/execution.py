"""Run queries on generated databases, within limits, and compare their results."""

import math
import sqlite3
from collections.abc import Iterator

from .schemas import Database, create_table, quote

MAX_RESULT_ROWS = 5_000
MAX_VALUE_BYTES = 20_000
MAX_INSTRUCTIONS = (
    2_000_000  # of SQLite's virtual machine; a count and not a clock, so that a verdict never depends on load
)
PROGRESS = 10_000
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, 33}  # 33: SQLITE_RECURSIVE
FORBIDDEN_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}


class Unfinished(Exception):
    """The query ran past its instructions or rows."""


class Connection:
    """An in-memory database that only reads once it is filled."""

    def __init__(self, database: Database, collation: str = "NOCASE"):
        self.database = database
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        # Memory: replace(hex(zeroblob(...))) and group_concat cannot grow past this.
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        for table in database.schema.values():
            self.connection.execute(create_table(table, collation))
        self.fill()

    def fill(self, backwards: bool = False) -> None:
        """Insert the rows, again and in the other order if asked."""
        self.connection.set_authorizer(None)
        for name, rows in self.database.rows.items():
            if backwards:
                self.connection.execute(f"DELETE FROM {quote(name)}")
            if not rows:
                continue
            marks = ", ".join("?" * len(rows[0]))
            values = [tuple(row.values()) for row in (reversed(rows) if backwards else rows)]
            self.connection.executemany(f"INSERT INTO {quote(name)} VALUES ({marks})", values)
        self.connection.set_authorizer(_authorize)

    def run(self, sql: str) -> list[tuple]:
        """Return the rows of one query.

        Raises:
            sqlite3.Error, sqlite3.Warning: as SQLite refuses it.
            Unfinished: it ran past its limits.
        """
        calls = 0

        def tick() -> bool:
            nonlocal calls
            calls += 1
            return calls * PROGRESS > MAX_INSTRUCTIONS

        self.connection.set_progress_handler(tick, PROGRESS)
        try:
            rows = self.connection.execute(sql).fetchmany(MAX_RESULT_ROWS + 1)
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise Unfinished from error
            raise
        if len(rows) > MAX_RESULT_ROWS:
            raise Unfinished
        return rows

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _authorize(action: int, argument: str | None, second: str | None, *_) -> int:
    if action not in READING:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def is_empty(rows: list[tuple]) -> bool:
    """Say whether a result has nothing to compare: no rows, or only NULL and 0."""
    return all(value is None or value == 0 for row in rows for value in row)


def same_result(left: list[tuple], right: list[tuple], ordered: bool, fold_case: bool = True) -> bool:
    """Compare two results: as bags of rows, or as lists; numbers to 1e-6."""
    if len(left) != len(right) or (left and len(left[0]) != len(right[0])):
        return False
    left, right = ([_comparable(row, fold_case) for row in rows] for rows in (left, right))
    if not ordered:
        left, right = sorted(left), sorted(right)
    return all(_same_row(a, b) for a, b in zip(left, right, strict=True))


def _comparable(row: tuple, fold_case: bool) -> tuple:
    return tuple(_keys(row, fold_case))


def _keys(row: tuple, fold_case: bool) -> Iterator[tuple]:
    for value in row:
        if value is None:
            yield (0, 0.0)
        elif isinstance(value, int | float):
            # Rounded for sorting alone: neighbours within 1e-6 may still fall on both sides.
            yield (1, round(float(value), 5), float(value))
        else:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            yield (2, text.lower() if fold_case else text)


def _same_row(left: tuple, right: tuple) -> bool:
    return all(
        a == b or (a[0] == b[0] == 1 and math.isclose(a[2], b[2], rel_tol=1e-6, abs_tol=1e-6))
        for a, b in zip(left, right, strict=True)
    )
