"""Run queries on generated databases, within limits, and compare their results."""

import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice, product

from .schemas import Database, create_table, quote

MAX_RESULT_ROWS = 5_000
MAX_RESULT_BYTES = 500_000
MAX_VALUE_BYTES = 20_000
MAX_ROW_BYTES = 1_000_000  # of a generated row
MAX_PATTERN = 200  # of LIKE and GLOB, whose time grows with pattern times text, and within one instruction
MAX_INSTRUCTIONS = (
    2_000_000  # of SQLite's virtual machine; a count and not a clock, so that a verdict never depends on load
)
MAX_SECONDS = 0.3  # of this thread's own time, where single instructions are slow
PROGRESS = 2_000
MAX_REORDERED = 12  # columns
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, 33}  # 33: SQLITE_RECURSIVE
FORBIDDEN_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}


class Deadline:
    """Seconds of this thread's own time from now on."""

    def __init__(self, seconds: float):
        self.wall, self.thread = time.perf_counter() + seconds, time.thread_time() + seconds

    @property
    def has_passed(self) -> bool:
        """Say whether they are used up. The wall's first: a thread's time is slow to tell on some systems."""
        return time.perf_counter() > self.wall and time.thread_time() > self.thread


class Unfinished(Exception):
    """The query ran past its instructions or rows."""


class Connection:
    """An in-memory database that only reads once it is filled."""

    def __init__(self, database: Database, collation: str = "NOCASE"):
        self.database = database
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN)
        for table in database.schema.values():
            self.connection.execute(create_table(table, collation))
        self.fill()

    def load(self, database: Database) -> None:
        """Take another database of the same schema: cheaper than a connection of its own."""
        filled, self.database = self.database.rows, database
        self.fill(emptied=filled)

    def fill(self, backwards: bool = False, emptied: Iterable[str] = ()) -> None:
        """Insert the rows, again and in the other order if asked, and after emptying some tables."""
        self.connection.set_authorizer(None)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
        for name in self.database.rows if backwards else emptied:
            self.connection.execute(f"DELETE FROM {quote(name)}")
        for name, rows in self.database.rows.items():
            if not rows:
                continue
            marks = ", ".join("?" * len(rows[0]))
            values = [tuple(row.values()) for row in (reversed(rows) if backwards else rows)]
            self.connection.executemany(f"INSERT INTO {quote(name)} VALUES ({marks})", values)
        # Memory: replace(hex(zeroblob(...))) and group_concat cannot grow past this.
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        self.connection.set_authorizer(_authorize)

    def run(self, sql: str, values: tuple = ()) -> list[tuple]:
        """Return the rows of one query.

        Raises:
            sqlite3.Error, sqlite3.Warning: as SQLite refuses it.
            Unfinished: it ran past its limits.
        """
        calls, deadline = 0, None

        def tick() -> bool:
            nonlocal calls, deadline
            calls += 1
            deadline = deadline or Deadline(MAX_SECONDS)  # Most queries never come here.
            return calls * PROGRESS > MAX_INSTRUCTIONS or deadline.has_passed

        self.connection.set_progress_handler(tick, PROGRESS)
        try:
            return self._fetch(sql, values)
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise Unfinished from error
            raise
        except (MemoryError, OverflowError, ValueError) as error:  # ValueError: text that is no UTF-8, a NUL
            raise sqlite3.DataError(str(error) or type(error).__name__) from error
        finally:
            self.connection.set_progress_handler(None, 0)

    def _fetch(self, sql: str, values: tuple) -> list[tuple]:
        rows: list[tuple] = []
        size = 0
        cursor = self.connection.execute(sql, values)
        for row in cursor:
            size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            if len(rows) == MAX_RESULT_ROWS or size > MAX_RESULT_BYTES:
                cursor.close()
                raise Unfinished
            rows.append(row)
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


@lru_cache(maxsize=1)
def _bare_connection(thread: int) -> Connection:
    return Connection(Database({}, {}))


@lru_cache(maxsize=65536)
def is_true(expression: str, *values: int | float | str | None) -> bool:
    """Say whether an expression of a column `v`, or of `v` and `w`, holds for values; what SQLite refuses does not."""
    connection = _bare_connection(threading.get_ident())
    try:
        row = ", ".join(f"? AS {name}" for name in "vw"[: len(values)])
        return bool(connection.run(f"SELECT ({expression}) FROM (SELECT {row})", values)[0][0])
    except (sqlite3.Error, sqlite3.Warning, Unfinished):
        return False


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


def column_orders(expected: list[tuple], actual: list[tuple], ordered: bool) -> list[tuple[int, ...]]:
    """Return the orders of the actual columns in which a result is the expected one; the first hundred."""
    if len(expected) != len(actual) or not expected or not 1 < len(expected[0]) == len(actual[0]) <= MAX_REORDERED:
        return []
    places = range(len(expected[0]))
    alike = [
        [i for i in places if same_result([(row[j],) for row in expected], [(row[i],) for row in actual], ordered)]
        for j in places
    ]
    orders = (order for order in islice(product(*alike), 10_000) if len(set(order)) == len(order))
    return list(islice((order for order in orders if same_result(expected, reorder(actual, order), ordered)), 100))


def reorder(rows: list[tuple], order: tuple[int, ...]) -> list[tuple]:
    """Return rows with their columns in another order."""
    return [tuple(row[i] for i in order) for row in rows]


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
