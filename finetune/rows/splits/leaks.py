"""What validation rows share with training rows: a score on shared rows measures memory."""

import logging
import re

from finetune import InputError
from finetune.rows.loading import Rows
from finetune.rows.splits.near_texts import near_copies
from finetune.rows.splits.schema_split import schema_signature

logger = logging.getLogger(__name__)
LIMIT = 0.01


def leak_report(train: list[dict], validation: list[dict]) -> dict:
    """Return how many validation rows share their question, schema or gold SQL with a training row.

    A schema is its set of table and column names; questions and SQL are compared without letter case and
    spacing. `share` is the share of validation rows that share any of the three, from 0 to 1.
    """
    kinds = {
        "question": lambda row: _plain(row.get("question")),
        "schema": lambda row: schema_signature(str(row.get("context"))),
        "gold_sql": lambda row: _plain(row.get("answer")),
    }
    leaking: set[int] = set()
    report: dict = {"validation_rows": len(validation), "train_rows": len(train)}
    for name, key in kinds.items():
        seen = {key(row) for row in train}
        shared = {number for number, row in enumerate(validation) if key(row) in seen}
        report[f"shared_{name}"] = len(shared)
        leaking |= shared
    report["share"] = len(leaking) / len(validation) if validation else 0.0
    return report


def format_leaks(report: dict) -> str:
    """Return the report as one line."""
    kinds = ("question", "schema", "gold_sql")
    shared = ", ".join(f"{report[f'shared_{kind}']} {kind.replace('_', ' ')}" for kind in kinds)
    rows = f"of {report['validation_rows']} validation rows share with training"
    return f"Leak report: {rows}: {shared}; {report['share']:.2%} in all"


def refuse_leaks(report: dict) -> None:
    """Stop a run whose validation rows were trained on.

    Raises:
        InputError: when more than 1 % of the validation rows leak.
    """
    if report["share"] > LIMIT:
        raise InputError(
            f"{report['share']:.1%} of the validation rows share a question, a schema or the gold SQL with the"
            f" training rows ({format_leaks(report).partition(': ')[2]}); expected at most {LIMIT:.0%}, or the score"
            " measures memory. Split by schema, or give --allow-leaks where all rows are about one database."
        )


def text_leaks(rows: Rows, column: str) -> dict:
    """Return how many validation and test texts are equal or nearly equal to a training text; say so in the log.

    Texts are nearly equal that share 70 % of their words (near_texts.py). `share` is of the validation rows, 0 to 1.
    """
    train = [row[column] for row in rows.train]
    known = {_plain(text) for text in train}
    report: dict = {"train_rows": len(train)}
    for name in [name for name in rows.parts if name != "train"]:
        texts = [row[column] for row in rows.parts[name]]
        equal, near = sum(_plain(text) in known for text in texts), int(near_copies(texts, train).sum())
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


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+|[^\w\s]", str(text).lower()))
