"""The rows of a text-to-SQL training: with their schemas, split, cleaned, some with foreign columns."""

import logging
from collections.abc import Callable

from finetune.databases.contexts import choose_contexts
from finetune.databases.database import Database
from finetune.rows.corrections import is_experiment
from finetune.rows.files.columns import QUESTIONS, parse_columns
from finetune.rows.loading import Rows, load_rows, load_training_rows
from finetune.rows.mixing import join, mix, parse_sets
from finetune.rows.splits.leaks import leak_report, plain, refuse_leaks, tell_leaks
from finetune.rows.splits.question_split import ANY_SIZE, QuestionSplit
from finetune.rows.splits.schema_split import schema_of_row
from finetune.rows.splits.shares import take_percent
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
    if database:
        database.dialect = flags.dialect
    measured, *others = sets = parse_sets(flags.dataset)
    fills = [_fill(one.dataset, flags, database) for one in sets]
    rows = load_rows(measured.dataset, QUESTIONS, *split, flags.encoding, given, hold_out, fills[0])
    schemas = {schema_of_row(row) for part in (rows.train, rows.validation or []) for row in part}
    if others:
        more = zip(others, fills[1:], strict=True)
        join(rows, [_training_rows(one.dataset, rows, hold_out, flags, fill) for one, fill in more])
    findings = clean_parts(rows, flags.dialect) if flags.clean else {"cleaning": {}, "skipped": []}
    findings["schema"] = {"facts": database.facts, "sql": database.statements} if database else {}
    tell_cleaning(findings["cleaning"])
    for fill in filter(None, fills):
        findings["skipped"] += fill.left_out
        fill.tell("skipped_rows.json of the run")
    if fills[0]:  # Others are mixed in for their own schemas.
        fills[0].tell_own()
    if flags.split_by not in ("auto", ANY_SIZE) and not hold_out.used:
        logger.warning(f"--split-by {flags.split_by} has no effect: the data has a validation part ({rows.split_by}).")
    # Of several sets the measured one alone says whether its schema tells anything.
    by = hold_out.used or ("row" if others and len(schemas) < 2 else "")
    findings["leaks"] = leak_report(rows.train, rows.parts["validation"], by, flags.dialect)
    tell_leaks(findings["leaks"])
    if not flags.allow_leaks:
        refuse_leaks(findings["leaks"])
    for name, part in rows.parts.items():
        setattr(rows, name, choose_contexts(part, database, f"{name} rows", seed if name == "train" else None))
    take_percent(rows, flags.train_percent, seed)
    if others:
        mix(rows, sets, flags.max_train_rows, seed)
    rows.train = distract(rows.train, flags.distractor_columns, seed, share=0.5, dialect=flags.dialect)
    return rows, findings | {"database": database}


def _fill(dataset: str, flags, database: Database | None) -> GoldOnDatabase | None:
    return GoldOnDatabase(database, flags.clean, flags.clean, flags.rows, dataset) if database else None


def _training_rows(dataset: str, measured: Rows, hold_out: QuestionSplit, flags, fill: Callable | None) -> Rows:
    """Return the rows of a further set, which trains only: none of them is a held-out question over again."""
    rows, left_out = load_training_rows(
        dataset, QUESTIONS, flags.encoding, parse_columns(flags.column, QUESTIONS), fill
    )
    if left_out:
        logger.info(f"{dataset}: {left_out} of its rows are marked validation or test, and are left out.")
    held_out = [*(measured.validation or []), *(measured.test or [])]
    apart = hold_out.apart(rows.train, held_out)
    if is_experiment(dataset):  # What people ask is often what is held out.
        asked = {plain(row["question"]) for row in held_out}
        apart = [row for row in apart if plain(row["question"]) not in asked]
    if len(apart) < len(rows.train):
        logger.info(
            f"{dataset}: {len(rows.train) - len(apart)} of its rows are held-out questions in other words or"
            " with other values, and are left out."
        )
    rows.train = apart
    return rows
