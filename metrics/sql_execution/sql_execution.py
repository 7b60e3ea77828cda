"""Execution accuracy of predicted SQL for rows that have a schema but no data; a local `evaluate` module.

    metric = evaluate.load("metrics/sql_execution")
    metric.compute(predictions=[...], references=[...], schemas=[...])

For each row, databases are generated from the CREATE TABLE statements and the conditions of both
queries; a prediction is right when it returns what gold returns on every one of them. Test-suite
accuracy after Zhong, Yu and Klein, "Semantic Evaluation for Text-to-SQL with Distilled Test Suites"
(EMNLP 2020); the databases here are built, not distilled.
"""

import hashlib
import math
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

import datasets
import evaluate
from sqlglot import exp

# evaluate copies only the files that this one imports, so conditions has to be among them.
from .conditions import Atom
from .databases import Generator
from .ddl import SQLITE
from .dialects import known_dialects
from .execution import Connection, Unfinished, is_empty, same_result
from .profiles import Profile, read_profile
from .queries import SHAPES, QueryError, for_sqlite, is_ordered, normalize, parse, resolve, shapes
from .schemas import Database, read_schema

VERSION = "1"  # part of every seed: a change of the generator changes the databases knowingly
DATABASES = 10
SIZES = (10, 20)  # rows a table, alternating
ATTEMPTS = 5  # databases drawn at most, for each that is kept
FEWEST = 3  # databases without which gold counts as unusable


@dataclass
class Verdict:
    """What was found of one row.

    Attributes:
        usable: gold can be read, runs, and returns something on enough databases.
        valid: the prediction is one query that runs on the schema.
        right, right_case_sensitive: it returns what gold returns on every database.
        exact: both have the same normalised syntax tree.
        reason: why it is not right; empty where it is.
        difference: the first database where they differ, as SQL, with both results.
    """

    usable: bool = False
    valid: bool = False
    right: bool = False
    right_case_sensitive: bool = False
    exact: bool = False
    reason: str = ""
    shapes: list[str] = field(default_factory=list)
    difference: str = ""


@dataclass
class _Query:
    text: str
    tree: exp.Query
    profile: Profile
    normalized: str

    @classmethod
    def read(cls, text: str, schema: dict, dialect: str = SQLITE) -> "_Query":
        """Parse and resolve a query; of another dialect what SQLite makes of it."""
        text = for_sqlite(text, dialect)
        tree = parse(text)
        resolver = resolve(tree, schema)
        return cls(text, tree, read_profile(tree, resolver), normalize(tree))

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


@lru_cache(maxsize=1024)
def _read_gold(gold: str, context: str, dialect: str) -> _Query:
    return _Query.read(gold, read_schema(context, dialect), dialect)


def judge(prediction: str, gold: str, context: str, databases: int = DATABASES, dialect: str = SQLITE) -> Verdict:
    """Compare a predicted query with gold on databases generated for both.

    Args:
        context: CREATE TABLE statements.
        dialect: that all three are written in, as sqlglot names it; they are run as SQLite.
        databases: how many to compare on; fewer where gold leaves too many empty.
    """
    verdict = Verdict()
    try:
        schema = read_schema(context, dialect)
        wanted = _read_gold(gold, context, dialect)
    except ValueError as error:
        verdict.reason = f"gold is unusable: {error}"
        return verdict
    verdict.shapes = shapes(wanted.tree)
    given, problem = None, ""
    try:
        given = _Query.read(prediction, schema, dialect)
        verdict.exact = given.normalized == wanted.normalized
    except QueryError as error:
        problem = str(error)
    generator = Generator(schema, wanted.profile, given.profile if given else None)
    # Not hash(): it differs from process to process.
    seed = hashlib.sha256("\0".join((VERSION, context, gold)).encode()).digest()
    kept = 0
    for attempt in range(ATTEMPTS * databases):
        if kept == databases or (kept == 0 and attempt >= 2 * databases):
            break
        database = generator.draw(Random(seed + attempt.to_bytes(2)), SIZES[attempt % 2])
        outcome = _compare(database, wanted, given, verdict)
        kept += outcome is not None
        if outcome:
            problem = problem or outcome
            break
        if kept == FEWEST and given is None:
            break
    verdict.usable = kept >= FEWEST or bool(kept and problem)
    if not verdict.usable:
        verdict.reason = verdict.reason or "gold is unusable: it returns nothing, or nothing definite, on the databases"
        verdict.valid = verdict.exact = False
        return verdict
    verdict.reason = problem
    verdict.valid = given is not None and not problem.startswith("invalid")
    verdict.right = not problem
    verdict.right_case_sensitive = verdict.right and (
        given.spelling == wanted.spelling or _right_with_case(generator, seed, wanted, given)
    )
    return verdict


def _compare(database: Database, wanted: _Query, given: _Query | None, verdict: Verdict) -> str | None:
    """Return "" for equal results, why they are not, or None for a database that is no use for this gold."""
    ordered = is_ordered(wanted.tree)
    with Connection(database) as connection:
        try:
            expected = connection.run(wanted.text)
            if is_empty(expected):
                return None
            actual, problem = None, ""
            if given is not None:
                actual, problem = _run(connection, given)
            if wanted.order_may_matter:
                connection.fill(backwards=True)
                if not same_result(expected, connection.run(wanted.text), ordered):
                    return None
        except (sqlite3.Error, sqlite3.Warning) as error:
            verdict.reason = f"gold is unusable: {error}"
            return None
        except Unfinished:
            return None
    if problem or given is None:
        return problem
    if same_result(expected, actual, ordered):
        return ""
    verdict.difference = f"{database.statements()}\n-- gold: {expected[:20]}\n-- prediction: {actual[:20]}"
    return "another result"


def _run(connection: Connection, given: _Query) -> tuple[list[tuple], str]:
    try:
        return connection.run(given.text), ""
    except (sqlite3.Error, sqlite3.Warning) as error:
        return [], f"invalid: {error}"
    except Unfinished:
        return [], "invalid: it did not finish"


def _right_with_case(generator: Generator, seed: bytes, wanted: _Query, given: _Query) -> bool:
    """Compare once more where the letter case of text counts."""
    for attempt in range(2 * DATABASES):
        database = generator.draw(Random(seed + attempt.to_bytes(2)), SIZES[attempt % 2])
        with Connection(database, "BINARY") as connection:
            try:
                expected, actual = connection.run(wanted.text), connection.run(given.text)
            except (sqlite3.Error, sqlite3.Warning, Unfinished):
                return False
        if not is_empty(expected) and not same_result(expected, actual, is_ordered(wanted.tree), fold_case=False):
            return False
    return True


def wilson(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a share (Wilson 1927)."""
    if total == 0:
        return 0.0, 1.0
    share, square = right / total, z * z
    middle = share + square / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    return max(0.0, (middle - spread) / (1 + square / total)), min(1.0, (middle + spread) / (1 + square / total))


def summarize(verdicts: list[Verdict]) -> dict:
    """Return the scores over all rows whose gold is usable; see `SqlExecution`."""
    usable = [verdict for verdict in verdicts if verdict.usable]
    total = len(usable)

    def share(name: str, rows: list[Verdict]) -> float:
        return sum(getattr(verdict, name) for verdict in rows) / len(rows) if rows else math.nan

    by_shape = {}
    for shape in SHAPES:
        rows = [verdict for verdict in usable if shape in verdict.shapes]
        if rows:
            by_shape[shape] = {"exec_accuracy": share("right", rows), "rows": len(rows)}
    low, high = wilson(sum(verdict.right for verdict in usable), total)
    return {
        "exec_accuracy": share("right", usable),
        "exec_accuracy_low": low,
        "exec_accuracy_high": high,
        "exec_accuracy_case_sensitive": share("right_case_sensitive", usable),
        "exact_ast": share("exact", usable),
        "valid": share("valid", usable),
        "coverage": total / len(verdicts) if verdicts else math.nan,
        "rows": len(verdicts),
        "rows_scored": total,
        "by_shape": by_shape,
        "reasons": dict(Counter(verdict.reason.partition(":")[0] for verdict in verdicts if verdict.reason)),
    }


class SqlExecution(evaluate.Metric):
    """Execution accuracy on generated databases.

    `compute(predictions, references, schemas)` takes three equally long lists of texts: predicted SQL, gold
    SQL and CREATE TABLE statements; `dialect` names what they are written in (default `sqlite`). It returns
    shares from 0 to 1 of the rows whose gold is usable: `exec_accuracy` (with its Wilson 95 % interval
    `exec_accuracy_low`, `exec_accuracy_high`), `exec_accuracy_case_sensitive`, `exact_ast`, `valid`; the share
    of usable rows as `coverage`; `rows`, `rows_scored`, `by_shape` and the counted `reasons` of what is not
    right.

    Raises:
        ValueError: sqlglot has no such dialect.
    """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description=type(self).__doc__,
            features=datasets.Features({"predictions": text, "references": text, "schemas": text}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        schemas: list[str],
        databases: int = DATABASES,
        dialect: str = SQLITE,
    ):
        if dialect not in known_dialects():
            raise ValueError(f"dialect {dialect!r} is none of sqlglot's: {', '.join(known_dialects())}.")
        rows = zip(predictions, references, schemas, strict=True)
        return summarize([judge(*row, databases=databases, dialect=dialect) for row in rows])
