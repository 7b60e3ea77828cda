"""The rows of a text-to-SQL training: with their schemas, split, cleaned, some with foreign columns."""

import logging

from finetune.databases.database import Database
from finetune.rows.files.columns import QUESTIONS, parse_columns
from finetune.rows.loading import Rows, load_rows
from finetune.rows.splits.leaks import leak_report, refuse_leaks, tell_leaks
from finetune.rows.splits.question_split import QuestionSplit
from finetune.rows.sql.cleaning import clean_parts, tell_cleaning
from finetune.rows.sql.distractors import distract
from finetune.rows.sql.running import GoldOnDatabase

logger = logging.getLogger(__name__)


def load_questions(flags, seed: int, database: Database | None = None) -> tuple[Rows, dict]:
    """Return the cleaned rows, training rows with distractors among them, and what was found on the way.

    Args:
        flags: of train_sql_generator.py.
        database: that the rows without a context are about.

    Raises:
        InputError: unreadable data, nothing left after cleaning, no SQL that runs on the database, or a leak between
            the parts.
    """
    given = parse_columns(flags.column, QUESTIONS)
    split, hold_out = (flags.validation_fraction, seed), QuestionSplit(flags.split_by, flags.dialect)
    fill = GoldOnDatabase(database, flags.clean, flags.clean, flags.rows) if database else None
    if database:
        database.dialect = flags.dialect
    rows = load_rows(flags.dataset, QUESTIONS, *split, flags.encoding, given, hold_out, fill)
    findings = clean_parts(rows, flags.dialect) if flags.clean else {"cleaning": {}, "skipped": []}
    tell_cleaning(findings["cleaning"])
    if fill:
        findings["skipped"] += fill.failed
        fill.tell("skipped_rows.json of the run")
    if flags.split_by != "auto" and not hold_out.used:
        logger.warning(f"--split-by {flags.split_by} has no effect: the data has a validation part ({rows.split_by}).")
    findings["leaks"] = leak_report(rows.train, rows.parts["validation"], hold_out.used, flags.dialect)
    tell_leaks(findings["leaks"])
    if not flags.allow_leaks:
        refuse_leaks(findings["leaks"])
    rows.train = distract(rows.train, flags.distractor_columns, seed, share=0.5, dialect=flags.dialect)
    return rows, findings | {"database": database}
