"""Answers judged on the database that the questions are about: what gold returns there, and what they return."""

from collections.abc import Callable
from dataclasses import dataclass, field

from finetune.databases.database import Database, Outcome, QueryFailed, Result
from finetune.databases.safe_sql import Refused
from finetune.progress_line import advance
from finetune.rows.sql.running import TIMEOUT, is_about, why
from metrics.sql_execution.execution import same_result
from metrics.sql_execution.queries import QueryError, is_ordered, parse
from metrics.sql_execution.sql_execution import wilson

MAX_ROWS = 10_000  # of a result that is compared; gold with more is not scored
KEPT_ROWS = 200  # of gold's result that is kept for the next model
SHOWN = 5
NAME = "exec_accuracy_database"


@dataclass(frozen=True)
class OnDatabase:
    """The database that rows are about, and how answers are tried on it.

    Attributes:
        with_rows: verdicts hold rows of results that differ.
        candidates: SQL a question that is tried, the first answer among it.
        known: gold's results by its SQL: the same for each model.
    """

    database: Database
    with_rows: bool = True
    candidates: int = 1
    known: dict[str, Outcome] = field(default_factory=dict)


@dataclass
class DatabaseVerdict:
    """What one answer returns on the database.

    Attributes:
        usable: the row is about the database, and gold runs on it.
        right: the answer returns what gold returns.
        reason: why it is not right; empty where it is.
        is_empty: gold returns no row, or NULL alone: easily equal.
        gold, answer: the first rows of both results, of an answer that is not right.
    """

    usable: bool = False
    right: bool = False
    reason: str = ""
    is_empty: bool = False
    gold: list[list] | None = None
    answer: list[list] | None = None


def judge_on_database(
    answers: list[str],
    rows: list[dict],
    database: Database,
    with_rows: bool = True,
    known: dict[str, Outcome] | None = None,
) -> list[DatabaseVerdict]:
    """Run gold and answers, each on its own and read-only, and compare the results.

    By the rules of metrics/sql_execution: columns in their order, rows in theirs where gold orders them, numbers to
    1e-6, letter case of text aside.

    Args:
        with_rows: verdicts hold the first rows of results that differ, and what the engine says of an error.
        known: gold's results by its SQL, added to in place: gold that fails once is not scored for any other model.
    """
    known, verdicts = {} if known is None else known, []
    advance(0, ", on the database")
    run = asking(database)
    for row, answer in zip(rows, answers, strict=True):
        if not is_about(str(row["context"]), database):
            verdicts.append(DatabaseVerdict(reason="the row is about other tables"))
            continue
        gold = str(row["answer"])
        expected = known[gold] if gold in known else run(gold)
        if not isinstance(expected, Result) or len(expected.rows) <= KEPT_ROWS:
            known[gold] = expected
        given = expected if answer == gold else run(answer)
        verdicts.append(_judge(expected, given, _orders(gold, database.dialect), with_rows))
    advance(0, "")
    return verdicts


def asking(database: Database) -> Callable[[str], Outcome]:
    """Return what runs one query after the other: the process of the first is there for all."""
    asked: list[str] = []
    results = database.run_all(iter(asked.pop, None), MAX_ROWS, TIMEOUT)

    def run(sql: str) -> Outcome:
        asked.append(sql)
        return next(results)

    return run


def _judge(gold: Outcome, given: Outcome, ordered: bool, with_rows: bool) -> DatabaseVerdict:
    if not isinstance(gold, Result):
        return DatabaseVerdict(reason=f"gold does not run on the database: {why(gold, with_rows)}")
    if gold.truncated:
        return DatabaseVerdict(reason=f"gold returns more than {MAX_ROWS:,} rows")
    verdict = DatabaseVerdict(usable=True, is_empty=all(value is None for row in gold.rows for value in row))
    if isinstance(given, Refused):
        verdict.reason = f"refused: {given}"
    elif isinstance(given, QueryFailed):
        verdict.reason = f"fails: {why(given, with_rows)}"
    elif same_result(_tuples(gold), _tuples(given), ordered) and not given.truncated:
        verdict.right = True
    else:
        verdict.reason = "another result"
    if not verdict.right and with_rows:
        verdict.gold = gold.rows[:SHOWN]
        verdict.answer = given.rows[:SHOWN] if isinstance(given, Result) else None
    return verdict


def _tuples(result: Result) -> list[tuple]:
    return [tuple(row) for row in result.rows]


def _orders(gold: str, dialect: str) -> bool:
    """Say whether the order of gold's rows counts."""
    try:
        return is_ordered(parse(gold, dialect))
    except QueryError:
        return False


def summarize_database(verdicts: list[DatabaseVerdict]) -> dict[str, float]:
    """Return the share of right answers with its Wilson 95 % interval, the rows scored, and those of empty gold."""
    usable = [verdict for verdict in verdicts if verdict.usable]
    right = sum(verdict.right for verdict in usable)
    low, high = wilson(right, len(usable))
    return {
        NAME: right / len(usable) if usable else float("nan"),
        f"{NAME}_low": low,
        f"{NAME}_high": high,
        f"{NAME}_rows": len(usable),
        f"{NAME}_empty_gold": sum(verdict.is_empty for verdict in usable),
    }


def database_columns(base: DatabaseVerdict, adapter: DatabaseVerdict) -> dict:
    """Return what the table of the scorecard says of a row: both verdicts, the rows where the adapter's differ."""
    return {
        "base_database_verdict": "right" if base.right else base.reason,
        "database_verdict": "right" if adapter.right else adapter.reason,
        "database_gold_rows": adapter.gold,
        "database_rows": adapter.answer,
    }
