"""Flags of predict.py that do not go together, or not with the task of the model."""

from argparse import Namespace

from finetune import InputError
from finetune.databases.candidates import check_candidates
from finetune.databases.schema.samples import check_values
from finetune.models.bases.quantization import PREDICTION_DTYPES
from finetune.models.documents import SUFFIXES as DOCUMENTS
from finetune.predicting.tasks import Task


def add_loading_flags(parser) -> None:
    """Declare how a model is restored, where not all is to be as in training: the first three fields of `Loading`."""
    parser.add_argument("--base-model", metavar="FOLDER", help="folder of the base model, where it has moved")
    parser.add_argument(
        "--precision",
        choices=("nf4", "bf16", "fp32"),
        metavar="TYPE",
        help="weights: nf4, bf16, fp32; default: as trained",
    )
    parser.add_argument(
        "--compute-dtype",
        choices=PREDICTION_DTYPES,
        default="auto",
        metavar="TYPE",
        help="bf16, fp16, fp32; auto: what is fast here; recorded: as trained",
    )


def check_spark_flags(flags: Namespace) -> None:
    """Raise InputError for flags that do not go with --engine spark."""
    if flags.input is None or flags.output is None:
        raise InputError("--engine spark needs --input and --output.")
    names = (
        "question", "context", "database", "tables", "values", "execute", "interactive", "csv", "csv_safe",
        "trust_role", "column", "text", "split_sentences", "report", "long_texts", "no_adapter", "token_ids", "json",
        "merge",
    )  # fmt: skip
    if given := [name for name in names if getattr(flags, name)]:
        raise InputError(
            f"--{given[0].replace('_', '-')} does not go with --engine spark, which takes rows as they are."
        )
    if not flags.uri.startswith(("runs:/", "models:/")):
        raise InputError(
            f"--engine spark needs a logged model such as runs:/<run id>/model, not the folder {flags.uri}."
        )


# Flags that not every task has.
TASK_FLAGS = (
    "question", "context", "database", "tables", "values", "execute", "interactive", "csv", "csv_safe", "trust_role",
    "candidates", "merge", "split_sentences", "report", "text", "long_texts", "no_adapter", "token_ids",
)  # fmt: skip


def check_task_flags(flags: Namespace, task: Task) -> None:
    """Raise InputError for a flag that the model's task does not have."""
    for name in TASK_FLAGS:
        if name not in task.own and getattr(flags, name):
            raise InputError(f"--{name.replace('_', '-')}: the model {flags.uri} {task.does}; it has no such flag.")
    if flags.engine == "spark":  # Its paths are Spark's to look at.
        return
    if flags.split_sentences and flags.input is None:
        raise InputError("--split-sentences needs --input with a document, .txt or .html.")
    if flags.report and not flags.split_sentences:
        raise InputError("--report is for a document; it needs --split-sentences.")
    if flags.text is not None and flags.input is not None:
        raise InputError("give --text or --input, not both.")
    by_sentences = "split_sentences" in task.own and not flags.split_sentences
    if by_sentences and flags.input and flags.input.suffix.lower() in DOCUMENTS:
        raise InputError(f"--input {flags.input} is a document; search its sentences with --split-sentences.")


def check_database_flags(flags: Namespace) -> None:
    """Raise InputError for flags of --database that do not go together."""
    check_values(flags.values)
    check_candidates(flags.candidates)
    if flags.database is None:
        names = ("tables", "values", "execute", "interactive", "csv", "csv_safe", "trust_role", "candidates")
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
    if flags.candidates and not flags.execute:
        raise InputError("--candidates are tried on the database; that needs --execute.")
    if not 0 < flags.timeout <= 3600:
        raise InputError(f"--timeout {flags.timeout:g} must lie between 0 and 3600 seconds.")
