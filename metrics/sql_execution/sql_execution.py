"""Execution accuracy of predicted SQL for rows that have a schema but no data; a local `evaluate` module.

    metric = evaluate.load("metrics/sql_execution")
    metric.compute(predictions=[...], references=[...], schemas=[...])

For each row, databases are generated from the CREATE TABLE statements and the conditions of both
queries; a prediction is right when it returns what gold returns on every one of them. Test-suite
accuracy after Zhong, Yu and Klein, "Semantic Evaluation for Text-to-SQL with Distilled Test Suites"
(EMNLP 2020); the databases here are built, not distilled.
"""

import math
from collections import Counter

import datasets
import evaluate

# evaluate copies only the files that this one imports, so all have to be among them.
from .conditions import Atom
from .databases import Generator
from .dates import read_date
from .ddl import SQLITE
from .dialects import known_dialects
from .drawing import Draw
from .execution import Connection
from .finishing import finish
from .judging import Verdict, judge
from .limits import QueryError
from .mutants import mutants
from .pairs import pair_neighbours
from .parallel import judge_all
from .predicates import Predicates
from .profiles import Profile
from .queries import SHAPES
from .references import keep_references
from .schemas import Database
from .suites import DATABASES
from .unwrapping import unwrap
from .values import Values


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
        "exec_accuracy_any_order": share("right_any_order", usable),
        "exec_accuracy_with_nulls": share("right_with_nulls", usable),
        "exact_ast": share("exact", usable),
        "valid": share("valid", usable),
        "coverage": total / len(verdicts) if verdicts else math.nan,
        "rows": len(verdicts),
        "rows_scored": total,
        "by_shape": by_shape,
        "reasons": dict(Counter(verdict.reason.partition(":")[0] for verdict in verdicts if verdict.reason)),
    }


def _storable(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    return "".join("\0" if "\ud800" <= character <= "\udfff" else character for character in text)


class SqlExecution(evaluate.Metric):
    """Execution accuracy on generated databases.

    `compute(predictions, references, schemas)` takes three equally long lists of texts: predicted SQL, gold
    SQL and CREATE TABLE statements; `dialect` names what they are written in (default `sqlite`). It returns
    shares from 0 to 1 of the rows whose gold is usable: `exec_accuracy` (with its Wilson 95 % interval
    `exec_accuracy_low`, `exec_accuracy_high`), `exec_accuracy_case_sensitive`, `exec_accuracy_any_order` (of
    columns), `exec_accuracy_with_nulls`, `exact_ast`, `valid`; the share of usable rows as `coverage`; `rows`,
    `rows_scored`, `by_shape` and the counted `reasons` of what is not right. Which rows are usable depends on
    gold alone. No text makes it raise.

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

    def add_batch(self, *, predictions=None, references=None, **columns) -> None:
        """Take texts; what Arrow could not hold, such as half a pair of surrogates, becomes what no query holds."""
        columns = {name: list(map(_storable, texts)) for name, texts in columns.items()}
        predictions, references = (list(map(_storable, texts)) for texts in (predictions, references))
        super().add_batch(predictions=predictions, references=references, **columns)

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
        return summarize(judge_all(zip(predictions, references, schemas, strict=True), databases, dialect))
