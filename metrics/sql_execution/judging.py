"""The verdict on one predicted query: its results beside gold's, on gold's databases and on some of its own."""

import gc
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .databases import Generator
from .ddl import SQLITE
from .execution import Connection, Deadline, Unfinished, column_orders, is_empty, reorder, same_result
from .limits import QueryError
from .queries import shapes
from .schemas import Database
from .suites import DATABASES, SIZES, Query, Suite, read_suite

WITH_NULLS = 10
logger = logging.getLogger(__name__)
MAX_SECONDS = 0.5  # of this thread's own time, after which no further databases are made for a prediction
Rows = list[tuple]


@dataclass
class Verdict:
    """What was found of one row.

    Attributes:
        usable: gold can be read, runs, and returns something, and not always the same, on enough databases.
        valid: the prediction is one query that runs on the schema.
        right, right_case_sensitive: it returns what gold returns on every database.
        right_any_order: it does with its columns in some order, one order for all databases.
        right_with_nulls: it also does where columns hold NULLs.
        exact: both have the same normalised syntax tree.
        reason: why it is not right; empty where it is.
        difference: the first database where they differ, as SQL, with both results.
    """

    usable: bool = False
    valid: bool = False
    right: bool = False
    right_case_sensitive: bool = False
    right_any_order: bool = False
    right_with_nulls: bool = False
    exact: bool = False
    reason: str = ""
    shapes: list[str] = field(default_factory=list)
    difference: str = ""


def judge(prediction: str, gold: str, context: str, databases: int = DATABASES, dialect: str = SQLITE) -> Verdict:
    """Compare a predicted query with gold on generated databases; never raises for what the texts hold.

    Args:
        context: CREATE TABLE statements.
        dialect: that all three are written in, as sqlglot names it; they are run as SQLite.
        databases: how many to compare on; fewer where gold leaves too many empty.
    """
    verdict = Verdict()
    try:
        with _without_collection():
            _judge(verdict, prediction, gold, context, databases, dialect)
    except Exception as error:  # A fault of this metric costs one row and is said; the other rows keep their score.
        logger.warning("the metric failed on one row; please report it", exc_info=error)
        reason = f"the metric failed: {type(error).__name__}: {error}"
        return Verdict(verdict.usable, reason=reason if verdict.usable else f"gold is unusable: {reason}")
    return verdict


@contextmanager
def _without_collection() -> Iterator[None]:
    """Put the collection of garbage off: in a process with large libraries it takes as long as a row may."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _judge(verdict: Verdict, prediction: str, gold: str, context: str, databases: int, dialect: str) -> None:
    """Fill the verdict."""
    try:
        suite = read_suite(gold, context, dialect, databases)
    except ValueError as error:
        verdict.reason = f"gold is unusable: {error}"
        return
    verdict.shapes = shapes(suite.gold.tree)
    if suite.reason:
        verdict.reason = f"gold is unusable: {suite.reason}"
        return
    verdict.usable = True
    try:
        given = Query.read(prediction, suite.schema, dialect)
    except QueryError as error:
        verdict.reason = str(error)
        return
    verdict.exact = given.normalized == suite.gold.normalized
    _Comparison(suite, given, verdict).run(databases)


class _Comparison:
    """One prediction beside one gold."""

    def __init__(self, suite: Suite, given: Query, verdict: Verdict):
        self.suite, self.given, self.verdict = suite, given, verdict
        self.generator = Generator(suite.schema, suite.gold.profile, given.profile, suite.keys)
        self.deadline = Deadline(MAX_SECONDS)
        self.met: list[tuple[Rows, Rows]] = []
        self.orders: list[tuple[int, ...]] | None = None  # of columns; None while the prediction's own will do

    def run(self, count: int) -> None:
        """Fill the verdict."""
        verdict = self.verdict
        try:
            with Connection(Database(self.suite.schema, {})) as connection:
                for database, expected in self.databases(connection, count):
                    connection.load(database)
                    if not self.compare(database, expected, connection.run(self.given.text)):
                        break
        except (sqlite3.Error, sqlite3.Warning) as error:
            verdict.reason = f"invalid: {error}"
        except Unfinished:
            verdict.reason = "invalid: it did not finish"
        verdict.valid = not verdict.reason.startswith("invalid")
        verdict.right = not verdict.reason
        verdict.right_any_order = verdict.right or (verdict.valid and bool(self.orders))
        if verdict.right:
            same_case = self.given.spelling == self.suite.gold.spelling
            verdict.right_case_sensitive = same_case or self.agrees(2 * DATABASES, "BINARY")
            verdict.right_with_nulls = verdict.exact or self.agrees(WITH_NULLS, nulls=True)

    def databases(self, connection: Connection, count: int) -> Iterator[tuple[Database, Rows]]:
        """Yield gold's databases and, where the prediction asks for other data than gold, as many for both."""
        yield from self.suite.databases
        if self.verdict.exact or self.given.profile == self.suite.gold.profile:
            return
        for attempt in range(count):
            database = self.generator.draw(self.suite.random(30_000 + attempt), SIZES[attempt % 2])
            if self.deadline.has_passed:
                return
            if tried := self.suite.attempt(connection, database, []):
                yield database, tried[0]

    def compare(self, database: Database, expected: Rows, actual: Rows) -> bool:
        """Compare both results on one database; False where no later one can change the verdict."""
        verdict, ordered = self.verdict, self.suite.gold.ordered
        if self.orders is None:
            # Nothing, NULL and 0 are one answer where gold has none: MAX(a) beside ORDER BY a LIMIT 1.
            if same_result(expected, actual, ordered) or (is_empty(expected) and is_empty(actual)):
                self.met.append((expected, actual))
                return True
            verdict.reason = "another result"
            verdict.difference = f"{database.statements()}\n-- gold: {expected[:20]}\n-- prediction: {actual[:20]}"
            self.orders = column_orders(expected, actual, ordered)
            for before in self.met:
                self.narrow(*before)
        else:
            self.narrow(expected, actual)
        return bool(self.orders)

    def narrow(self, expected: Rows, actual: Rows) -> None:
        """Keep the orders of columns that hold on one more database."""
        ordered = self.suite.gold.ordered
        assert self.orders is not None  # compare has set it.
        self.orders = [order for order in self.orders if same_result(expected, reorder(actual, order), ordered)]

    def agrees(self, count: int, collation: str = "NOCASE", nulls: bool = False) -> bool:
        """Compare once more where the letter case of text counts, or where there are NULLs."""
        ordered, gold = self.suite.gold.ordered, self.suite.gold
        with Connection(Database(self.suite.schema, {}), collation) as connection:
            for attempt in range(3 * count):
                random = self.suite.random((50_000 if nulls else 0) + attempt)
                database = self.generator.draw(random, SIZES[attempt % 2], nulls=nulls)
                try:
                    connection.load(database)
                    expected, actual = connection.run(gold.text), connection.run(self.given.text)
                    if gold.order_may_matter:
                        connection.fill(backwards=True)
                        if not same_result(expected, connection.run(gold.text), ordered):
                            continue
                except (sqlite3.Error, sqlite3.Warning, Unfinished):
                    return False
                if not is_empty(expected) and not same_result(expected, actual, ordered, collation == "NOCASE"):
                    return False
                count -= not is_empty(expected)
                if count == 0 or self.deadline.has_passed:
                    break
        return True
