"""The rows of a text-to-SQL training: with their schemas, split, cleaned, some with foreign columns."""

import logging

from finetune.databases.contexts import choose_contexts, fill_contexts
from finetune.databases.database import Database
from finetune.rows.files.columns import QUESTIONS, parse_columns
from finetune.rows.loading import Rows, load_rows
from finetune.rows.splits.leaks import format_leaks, leak_report, refuse_leaks
from finetune.rows.splits.schema_split import split_by_schema
from finetune.rows.sql.cleaning import clean_parts, tell_cleaning
from finetune.rows.sql.distractors import distract

logger = logging.getLogger(__name__)


def load_questions(flags, seed: int, database: Database | None = None) -> tuple[Rows, dict]:
    """Return the cleaned rows, training rows with distractors among them, and what was found on the way.

    Args:
        flags: of train_sql_generator.py.
        database: that the rows without a context are about.

    Raises:
        InputError: unreadable data, nothing left after cleaning, or a leak between the parts.
    """
    given = parse_columns(flags.column, QUESTIONS)
    split = flags.validation_fraction, seed
    fill = (lambda rows: fill_contexts(rows, database)) if database else None
    rows = load_rows(flags.dataset, QUESTIONS, *split, flags.encoding, given, split_by_schema, fill)
    findings = clean_parts(rows, flags.dialect) if flags.clean else {"cleaning": {}, "skipped": []}
    findings["schema"] = {"facts": database.facts, "sql": database.statements} if database else {}
    findings["leaks"] = leak_report(rows.train, rows.parts["validation"])
    tell_cleaning(findings["cleaning"])
    logger.info(format_leaks(findings["leaks"]))
    if not flags.allow_leaks:
        refuse_leaks(findings["leaks"])
    for name, part in rows.parts.items():
        setattr(rows, name, choose_contexts(part, database, f"{name} rows", seed if name == "train" else None))
    rows.train = distract(rows.train, flags.distractor_columns, seed, share=0.5, dialect=flags.dialect)
    return rows, findings
