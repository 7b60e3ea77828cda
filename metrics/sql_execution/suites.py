"""A gold query and the databases that its predictions are judged on: drawn for gold alone."""

import hashlib
import sqlite3
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from sqlglot import exp

from .databases import Generator
from .ddl import SQLITE
from .execution import Connection, Deadline, Unfinished, is_empty, same_result
from .limits import QueryError, check_tables
from .mutants import mutants
from .profiles import Profile, read_profile
from .queries import for_sqlite, is_ordered, normalize, parse, resolve
from .schemas import Database, Table, read_schema

VERSION = "2"  # part of every seed: a change of the generator changes the databases knowingly
DATABASES = 10
SIZES = (11, 19)  # rows a table, alternating; of 10 and 20 a share of 100 would be whole: / for integers unseen
ATTEMPTS = 5  # databases drawn at most, for each that is kept
FEWEST = 3  # databases without which gold counts as unusable
STEERED = 10  # databases drawn at most to tell gold from those of its mutants that others do not tell from it
MAX_SECONDS = 0.6  # of this thread's own time, for gold's databases
UNFINISHED = "it did not finish"
MISSES = 3  # in a row, after which the mutants left are taken for gold in other words


@dataclass
class Query:
    """One query as it runs, with what is known of it."""

    text: str
    tree: exp.Query
    profile: Profile
    normalized: str

    @classmethod
    def read(cls, text: str, schema: dict[str, Table], dialect: str = SQLITE) -> "Query":
        """Parse and resolve a query; of another dialect what SQLite makes of it.

        Raises:
            QueryError: whatever is wrong with it.
        """
        try:
            text = for_sqlite(text, dialect)
            tree = parse(text)
            check_tables(tree)
            resolver = resolve(tree, schema)
            return cls(text, tree, read_profile(tree, resolver), normalize(tree))
        except QueryError:
            raise
        except Exception as error:  # RecursionError, KeyError, ...: what a strange tree makes of sqlglot and of us.
            raise QueryError("cannot be read as a query") from error

    @property
    def ordered(self) -> bool:
        """Say whether the order of its result counts."""
        return is_ordered(self.tree)

    @property
    def spelling(self) -> list[str]:
        """The texts and functions on which letter case bears; equal ones need no second comparison."""
        nodes = self.tree.find_all(exp.Literal, exp.Lower, exp.Upper, exp.Like, exp.Collate)
        return sorted(str(node.this) if isinstance(node, exp.Literal) else type(node).__name__ for node in nodes)

    @property
    def order_may_matter(self) -> bool:
        """Say whether the result can depend on the order of insertion."""
        nodes = (exp.Limit, exp.Order, exp.Group, exp.Window, exp.GroupConcat, exp.AggFunc)
        return self.tree.find(*nodes) is not None


@dataclass
class Suite:
    """Databases with what gold returns on them; `reason` says why gold is unusable, if it is."""

    schema: dict[str, Table]
    gold: Query
    seed: bytes
    databases: list[tuple[Database, list[tuple]]] = field(default_factory=list)
    reason: str = ""
    keys: bool = True  # whether the declared keys hold

    def random(self, attempt: int) -> Random:
        """Return the source of chance of one database: the same for the same row, everywhere."""
        return Random(self.seed + attempt.to_bytes(2))

    def fill(self, count: int) -> None:
        """Draw databases until there are enough that gold says something definite on."""
        with Connection(Database(self.schema, {})) as connection:
            for self.keys in (True, False):
                generator = Generator(self.schema, self.gold.profile, None, self.keys)
                self.draw(connection, generator, count)
                if self.databases or not generator.has_keys or self.reason == UNFINISHED:
                    break  # Else gold returns nothing as long as the declared keys hold: they are wrong, not gold.
            for attempt in range(2 * ATTEMPTS if self.databases and not self.varies else 0):
                database = generator.draw(self.random(60_000 + attempt), SIZES[0], barren=attempt % 2 == 0)
                if tried := self.attempt(connection, database, [], may_be_empty=True):
                    self.databases.append((database, tried[0]))
        if len(self.databases) >= FEWEST:
            self.reason = self.is_vacuous

    def draw(self, connection: Connection, generator: Generator, count: int) -> None:
        """Draw so many databases for gold, then some more for those of its mutants that none tells from it."""
        living, misses = mutants(self.gold.tree, self.random(65_000)), 0
        deadline = Deadline(MAX_SECONDS)
        for attempt in range(ATTEMPTS * count + STEERED):
            found = len(self.databases)
            is_enough = found >= count and (not living or misses == MISSES)
            if is_enough or (not found and attempt >= 2 * count):
                return
            if self.reason == UNFINISHED or deadline.has_passed:
                self.databases, self.reason = [], UNFINISHED
                return
            yes_no = self.gold.profile.yes_no
            barren = yes_no or misses % 2 == 0 if found >= count else yes_no and attempt % 3 == 2
            database = generator.draw(self.random(attempt), SIZES[attempt % 2], barren)
            tried = self.attempt(connection, database, living, barren)
            if tried and (found < count or len(tried[1]) < len(living)):
                living, misses = tried[1], 0
                self.databases.append((database, tried[0]))
            else:
                misses += found >= count

    def attempt(self, connection: Connection, database: Database, living: list[str], may_be_empty: bool = False):
        """Return what gold returns and the mutants that return it too; None where gold says nothing definite."""
        try:
            connection.load(database)
            expected = connection.run(self.gold.text)
            if not may_be_empty and is_empty(expected):
                return None
            left = [sql for sql in living if _same(connection, sql, expected, self.gold.ordered)]
            if self.gold.order_may_matter:
                connection.fill(backwards=True)
                if not same_result(expected, connection.run(self.gold.text), self.gold.ordered):
                    return None
            return expected, left
        except (sqlite3.Error, sqlite3.Warning) as error:
            self.reason = str(error)
        except Unfinished:
            self.reason = UNFINISHED
        return None

    @property
    def varies(self) -> bool:
        """Say whether gold returns different things on different databases."""
        (_, first), *others = self.databases
        return not all(same_result(first, rows, self.gold.ordered) for _, rows in others)

    @property
    def is_vacuous(self) -> str:
        """Say why any constant would do as well as gold; empty where none would."""
        if not self.varies:
            return "it returns the same on all databases"
        rows = [row for _, rows in self.databases for row in rows]
        if not rows or not all(any(value is not None for value in column) for column in zip(*rows, strict=True)):
            return "a column of its result is NULL on all databases"
        return ""


def _same(connection: Connection, sql: str, expected: list[tuple], ordered: bool) -> bool:
    try:
        return same_result(expected, connection.run(sql), ordered)
    except (sqlite3.Error, sqlite3.Warning, Unfinished):
        return False


@lru_cache(maxsize=64)
def read_suite(gold: str, context: str, dialect: str, count: int) -> Suite:
    """Return gold's databases: of a row's text alone, whatever is predicted.

    Raises:
        ValueError: schema or gold cannot be read, or gold is unusable; with the reason.
    """
    schema = read_schema(context, dialect)
    query = Query.read(gold, schema, dialect)
    if not query.profile.tables:
        raise QueryError("it reads no table of the schema")
    # Not hash(): it differs from process to process.
    seed = hashlib.sha256("\0".join((VERSION, context, gold)).encode()).digest()
    suite = Suite(schema, query, seed)
    suite.fill(count)
    if len(suite.databases) < FEWEST and not suite.reason:
        suite.reason = "it returns nothing, or nothing definite, on the databases"
    return suite
