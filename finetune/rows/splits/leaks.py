"""What validation rows share with training rows: a score on shared rows measures memory."""

import logging
import re
from collections.abc import Callable

from finetune import InputError
from finetune.rows.loading import Rows
from finetune.rows.splits.near_texts import near_copies
from finetune.rows.splits.query_shapes import query_shape
from finetune.rows.splits.schema_split import schema_of_row

logger = logging.getLogger(__name__)
LIMIT = 0.01


def leak_report(
    train: list[dict],
    validation: list[dict],
    by: str = "",
    dialect: str = "sqlite",
    schema_of: Callable[[dict], str] = schema_of_row,
) -> dict:
    """Return how many validation rows share their question, schema or gold SQL with a training row.

    A schema is its set of table and column names; questions and SQL are compared without letter case and
    spacing. `share` is the share of validation rows that share any of the three, from 0 to 1; where all rows are
    about one schema, or rows were not held out by it, a shared schema is none of them, and `shared_query_shape`
    counts the validation rows whose query differs from a training row's in numbers, texts and aliases alone.

    Args:
        by: what the rows were held out by: schema, query or row; empty where the data has the parts itself.
        dialect: of the gold SQL, as sqlglot names it.
        schema_of: what tells the schemas of rows apart.
    """
    kinds: dict[str, Callable] = {
        "question": lambda row: plain(row.get("question")),
        "schema": schema_of,
        "gold_sql": lambda row: plain(row.get("answer")),
    }
    one_schema = by != "schema" and len({schema_of(row) for row in train + validation}) < 2
    by_schema = by == "schema" or (by == "" and not one_schema)
    if not by_schema:
        kinds["query_shape"] = lambda row: query_shape(str(row.get("answer")), str(row.get("context")), dialect)
    counted = ("question", "schema", "gold_sql") if by_schema else ("question", "gold_sql")
    leaking: set[int] = set()
    report: dict = {"validation_rows": len(validation), "train_rows": len(train)}
    for name, key in kinds.items():
        seen = {key(row) for row in train}
        shared = {number for number, row in enumerate(validation) if key(row) in seen}
        report[f"shared_{name}"] = len(shared)
        leaking |= shared if name in counted else set()
    report["counted"] = list(counted)
    report["share"] = len(leaking) / len(validation) if validation else 0.0
    return report


def format_leaks(report: dict) -> str:
    """Return the report as one line."""
    shared = ", ".join(f"{report[f'shared_{kind}']} {kind.replace('_', ' ')}" for kind in report["counted"])
    rows = f"of {report['validation_rows']} validation rows share with training"
    found = f"Leak report: {rows}: {shared}; {report['share']:.2%} in all"
    if "shared_query_shape" not in report:
        return found
    return f"{found}; {report['shared_query_shape']} have a query of the same shape, {_many(report)} the same schema"


def _many(report: dict) -> str:
    count = report["shared_schema"]
    return "all" if count == report["validation_rows"] else str(count)


def tell_leaks(report: dict) -> None:
    """Say what both parts have in a line; where queries of one shape stand on both sides, warn."""
    logger.info(format_leaks(report))
    shapes, rows = report.get("shared_query_shape", 0), report["validation_rows"]
    if shapes > LIMIT * rows:
        logger.warning(
            f"{shapes} of {rows} validation rows have a query that differs from a training row's in numbers, texts and"
            " aliases alone: their score measures in part what was learnt by heart. --split-by query holds out shapes"
            " of queries that nothing trains on, where no part is marked validation."
        )


def refuse_leaks(report: dict) -> None:
    """Stop a run whose validation rows were trained on.

    Raises:
        InputError: when more than 1 % of the validation rows leak.
    """
    if report["share"] <= LIMIT:
        return
    what = "a question, a schema or the gold SQL" if "schema" in report["counted"] else "a question or the gold SQL"
    raise InputError(
        f"{report['share']:.1%} of the validation rows share {what} with the training rows"
        f" ({format_leaks(report).partition(': ')[2]}); expected at most {LIMIT:.0%}, or the score measures memory."
        " Take them out of one part; or mark no part validation, and rows are held out by --split-by; or give"
        " --allow-leaks."
    )


def text_leaks(rows: Rows, column: str) -> dict:
    """Return how many validation and test texts are equal or nearly equal to a training text; say so in the log.

    Texts are nearly equal that share 70 % of their words (near_texts.py). `share` is of the validation rows, 0 to 1.
    """
    train = [row[column] for row in rows.train]
    known = {plain(text) for text in train}
    report: dict = {"train_rows": len(train)}
    for name in [name for name in rows.parts if name != "train"]:
        texts = [row[column] for row in rows.parts[name]]
        equal, near = sum(plain(text) in known for text in texts), int(near_copies(texts, train).sum())
        report[name] = {"rows": len(texts), "equal": equal, "nearly_equal": near, "share": near / len(texts)}
        found = (
            f"Leak report: of {len(texts)} {name} rows {equal} have the text of a training row, {near}"
            f" ({near / len(texts):.2%}) one that is nearly equal"
        )
        if near > LIMIT * len(texts):
            logger.warning(f"{found}. So far the scores measure memory.")
        else:
            logger.info(found)
    report["share"] = report["validation"]["share"]
    return report


def plain(text: str | None) -> str:
    """Return the words and signs of a text without letter case and spacing."""
    return " ".join(re.findall(r"\w+|[^\w\s]", str(text).lower()))
