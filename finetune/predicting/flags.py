"""Flags of predict.py that do not go together, or not with the task of the model."""

from argparse import Namespace

from finetune import InputError
from finetune.models.card import CLASSIFICATION, SUMMARIZATION, TEXT_TO_SQL
from finetune.models.documents import SUFFIXES as DOCUMENTS


def check_spark_flags(flags: Namespace) -> None:
    """Raise InputError for flags that do not go with --engine spark."""
    if flags.input is None or flags.output is None:
        raise InputError("--engine spark needs --input and --output.")
    names = ("question", "context", "database", "tables", "execute", "interactive", "csv", "csv_safe", "trust_role",
             "column", "text", "split_sentences",
             "report", "long_texts", "no_adapter", "token_ids", "json", "merge")  # fmt: skip
    if given := [name for name in names if getattr(flags, name)]:
        raise InputError(
            f"--{given[0].replace('_', '-')} does not go with --engine spark, which takes rows as they are."
        )
    if not flags.uri.startswith(("runs:/", "models:/")):
        raise InputError(
            f"--engine spark needs a logged model such as runs:/<run id>/model, not the folder {flags.uri}."
        )


# What a model of each task does, and the flags that are for it alone.
TASK_FLAGS = {
    TEXT_TO_SQL: (
        "writes SQL",
        (
            "question",
            "context",
            "database",
            "tables",
            "execute",
            "interactive",
            "csv",
            "csv_safe",
            "trust_role",
            "merge",
        ),
    ),
    CLASSIFICATION: ("classifies texts", ("split_sentences", "report")),
    SUMMARIZATION: ("summarises articles", ()),
}


def check_task_flags(flags: Namespace, task: str) -> None:
    """Raise InputError for a flag that the model's task does not have."""
    foreign = [name for other, (_, names) in TASK_FLAGS.items() if other != task for name in names]
    foreign += ["text", "long_texts"] if task == TEXT_TO_SQL else []
    foreign += ["no_adapter", "token_ids"] if task == CLASSIFICATION else []
    for name in foreign:
        if getattr(flags, name):
            does = TASK_FLAGS[task][0]
            raise InputError(f"--{name.replace('_', '-')}: the model {flags.uri} {does}; it has no such flag.")
    if flags.engine == "spark":  # Its paths are Spark's to look at.
        return
    if flags.split_sentences and flags.input is None:
        raise InputError("--split-sentences needs --input with a document, .txt or .html.")
    if flags.report and not flags.split_sentences:
        raise InputError("--report is for a document; it needs --split-sentences.")
    if flags.text is not None and flags.input is not None:
        raise InputError("give --text or --input, not both.")
    classifies = task == CLASSIFICATION
    if classifies and flags.input and not flags.split_sentences and flags.input.suffix.lower() in DOCUMENTS:
        raise InputError(f"--input {flags.input} is a document; search its sentences with --split-sentences.")


def check_database_flags(flags: Namespace) -> None:
    """Raise InputError for flags of --database that do not go together."""
    if flags.database is None:
        names = ("tables", "execute", "interactive", "csv", "csv_safe", "trust_role")
        given = [name for name in names if getattr(flags, name)]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} needs --database with the URL or file of a database.")
    elif flags.context is not None:
        raise InputError("give --context or --database, not both: the database brings its schema.")
    if (flags.execute or flags.interactive) and (flags.input or flags.output):
        raise InputError("--execute and --interactive take --question or questions on stdin, not --input or --output.")
    if (flags.csv or flags.csv_safe) and not flags.execute:
        raise InputError("--csv is for the rows of a result; it needs --execute.")
    if flags.trust_role and not flags.execute:
        raise InputError("--trust-role is for the role that SQL runs as; it needs --execute.")
    if not 0 < flags.timeout <= 3600:
        raise InputError(f"--timeout {flags.timeout:g} must lie between 0 and 3600 seconds.")
