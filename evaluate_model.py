"""Score a logged model on labelled rows, into the model's own run.

The scorecard is printed on stdout. For text-to-SQL the rows are a file with the columns question, context
(CREATE TABLE statements) and answer (SQL), and the adapter is compared with its bare base; for a classifier
they have text, and labels or label; for a summarizer article and summary, and adapter and base are compared.
Where there is a column `split`, the rows of --split are taken.
"""

import gc
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune import InputError, console
from finetune.console import Parser
from finetune.logged_models.opening import LoggedModel, open_model
from finetune.logged_models.refusals import check_rights, logging_into
from finetune.logged_models.uris import name_last
from finetune.models.generation import BATCH_SIZE
from finetune.predicting.flags import add_loading_flags
from finetune.reports.explaining.description import describe
from finetune.reports.scorecards.against import Comparison, refuse_same_or_other_task
from finetune.reports.scorecards.evaluations import ClassifierEvaluation, Evaluation, SqlEvaluation, SummaryEvaluation
from finetune.rows.files.columns import parse_columns, read_columns
from finetune.rows.files.reading import read_rows
from finetune.rows.loading import part_of
from finetune.rows.sql.cleaning import check_dialect
from finetune.runs import tracking
from finetune.training.flags.database_flags import TABLES, TRUST_ROLE, VALUES

import mlflow
import torch
from mlflow.data.dataset import Dataset
from mlflow.entities import Run

logger = logging.getLogger(__name__)
NO_LOG = "--no-log prints them only."
NAME = re.compile(r"\w[\w .:-]{0,99}")  # begins names of metrics, figures and tables


def main(arguments: list[str] | None = None) -> None:
    """Load rows and model, and score the model for what it was trained to do."""
    flags = parse(arguments)
    tracking.connect()
    rows = load(flags)
    logged = open_model(name_last(flags.uri))
    match logged.card.task:
        case "text-to-sql":
            score(SqlEvaluation, flags, logged, rows)
        case "classification":
            score(ClassifierEvaluation, flags, logged, rows)
        case "summarization":
            score(SummaryEvaluation, flags, logged, rows)


def score(kind: type[Evaluation], flags, logged: LoggedModel, rows: list[dict]) -> None:
    """Score a model by its task's own class, once rows and run are known to be good for it; print and log it all."""
    rows = name_columns(rows, kind.columns, flags, logged)
    evaluation = kind(flags, logged)
    other = open_other(flags, logged, evaluation)
    flags.run = run_of(logged) if flags.log else None
    rows = evaluation.prepare(rows)
    cards = evaluation.score(rows)
    for name, card in cards.items():
        found = {"name": name, "rows": len(rows)} | card.metrics
        console.print_result(json.dumps(found) if flags.json else card.format(name))
    found = compare(evaluation, cards, other, flags, rows) if other else None
    if flags.log:
        with log_rows(flags, rows, evaluation.logged_columns(rows)) as (run_id, dataset):
            evaluation.log(cards, run_id, dataset)
            if found:
                found.log(flags.name, flags.against, run_id, logged.step, dataset, logged.model_id)
            describe(run_id)
    refuse_no_change(evaluation.changed(cards))


def open_other(flags, logged: LoggedModel, evaluation: Evaluation) -> LoggedModel | None:
    """Return the model of --against, if there is one and it can be compared."""
    if not flags.against:
        return None
    other = open_model(name_last(flags.against))
    refuse_same_or_other_task(logged, other, flags.uri, flags.against)
    evaluation.check_other(other)
    return other


def compare(evaluation: Evaluation, cards: dict, other: LoggedModel, flags, rows: list[dict]) -> Comparison:
    """Return and print what the other model makes of the rows, beside this one, which is out of memory by now."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    found = evaluation.compare(cards, other, rows)
    record = json.dumps(found.record(flags.name, flags.against))
    console.print_result(record if flags.json else found.format(flags.against))
    return found


def name_columns(rows: list[dict], required: tuple[str, ...], flags, logged: LoggedModel) -> list[dict]:
    """Return the rows under the names that the model's task has for their columns."""
    given, trained = parse_columns(flags.column, required), logged.card.columns
    needed = tuple(name for name in required if name != "context" or not flags.database)
    return read_columns(rows, required, given, f"the rows of {flags.dataset}", trained, needed)[0]


def refuse_no_change(shares: list[float] | None) -> None:
    """Exit with status 1 where the adapter has no effect on any answer."""
    if shares is not None and not any(shares):
        logger.error("error: the adapter changed none of the answers: it was not trained, or is not in effect.")
        sys.exit(1)


def parse(arguments: list[str] | None):
    """Return the flags, checked."""
    parser = Parser(usage="%(prog)s URI --dataset FILE [flags]", description=__doc__)
    parser.add_argument("uri", help="runs:/<run id or last>/model, models:/NAME@ALIAS, or a checkpoint folder")
    data = parser.add_argument_group("data")
    score = parser.add_argument_group("score")
    model = parser.add_argument_group("model")
    run = parser.add_argument_group("run and output")
    data.add_argument("--dataset", type=Path, required=True, help=".jsonl, .json, .csv or .parquet file")
    data.add_argument(
        "--column", nargs="+", action="extend", metavar="NAME=COLUMN", help="what the file calls the model's columns"
    )
    data.add_argument("--encoding", default="utf-8", help="encoding of the file")
    data.add_argument("--split", default="test", help="rows to take where the file has a column `split`")
    data.add_argument("--max-rows", type=int, help="score this many rows only, the first ones")
    run.add_argument("--name", default="test", help="prefix of the metrics, as NAME_macro_f1")
    data.add_argument("--database", metavar="URL", help="your own database, for rows without a context: URL or file")
    data.add_argument("--tables", nargs="+", metavar="T", help=TABLES)
    data.add_argument("--values", type=int, metavar="N", help=f"{VALUES}; default: as trained")
    data.add_argument("--trust-role", action="store_true", help=TRUST_ROLE)
    score.add_argument(
        "--distractor-columns",
        type=int,
        help="foreign columns a table in a second scorecard [4; 0 with --database]; 0: none",
    )
    score.add_argument("--no-clean", dest="clean", action="store_false", help="keep rows whose right SQL is corrupt")
    score.add_argument("--dialect", help="SQL of rows and answers, such as postgres; default: as trained")
    score.add_argument(
        "--no-rows",
        dest="rows",
        action="store_false",
        help="log no rows of --database beside failing questions",
    )
    score.add_argument("--against", metavar="URI", help="another model, for the same rows: is it better?")
    score.add_argument("--unwrap", action="store_true", help="score the SQL in ``` fences and behind `SQL:`")
    run.add_argument("--no-log", dest="log", action="store_false", help="print only, leave the run as it is")
    add_loading_flags(model)
    model.add_argument(
        "--long-texts",
        choices=("truncate", "window"),
        help="read the beginning of a long text, or all of it in pieces (not of SQL)",
    )
    model.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="rows predicted together")
    run.add_argument("--json", action="store_true", help="print one JSON object a scorecard instead of tables")
    flags = parser.parse_args(arguments)
    for name, least in (("max_rows", 1), ("distractor_columns", 0), ("batch_size", 1)):
        value = getattr(flags, name)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} {value} must be at least {least}.")
    if not NAME.fullmatch(flags.name) or flags.name.endswith(" "):
        raise InputError(
            f"--name {flags.name!r} begins the names of metrics and files; expected at most 100 letters, digits, _, -,"
            " dots, colons and spaces, the first a letter or digit."
        )
    if flags.dialect:
        check_dialect(flags.dialect)
    return flags


def load(flags) -> list[dict]:
    """Return the rows of the part to score.

    Raises:
        InputError: no such file or part.
    """
    split = [item for item in flags.column or () if item.startswith("split=")]
    flags.column = [item for item in flags.column or () if item not in split]
    what, given = f"the rows of {flags.dataset}", dict(item.split("=", 1) for item in split)
    rows, _ = read_columns(read_rows(flags.dataset, flags.encoding), (), given, what)
    if any("split" in row for row in rows):
        wanted = part_of({"split": flags.split}, "--split")
        parts = [part_of(row, f"row {number} of {flags.dataset}") for number, row in enumerate(rows, start=1)]
        rows = [row for row, part in zip(rows, parts, strict=True) if part == wanted]
        if not rows:
            raise InputError(f"{flags.dataset} has no rows of --split {flags.split}; it has {', '.join(set(parts))}.")
    return rows[: flags.max_rows]


def run_of(logged: LoggedModel) -> Run:
    """Return the run that the model came from, to log into.

    Raises:
        InputError: it is not in this store, was deleted, or may not be written.
    """
    if not logged.card.run_id:
        raise InputError(f"the model does not say of which run it is, to log the scores there. {NO_LOG}")
    try:
        run = tracking.find_run(logged.card.run_id)
    except InputError as error:
        raise InputError(f"the scores cannot be logged: {error} {NO_LOG}") from error
    check_rights(run, f" {NO_LOG}")
    return run


@contextmanager
def log_rows(flags, rows: list[dict], columns: tuple[str, ...]) -> Iterator[tuple[str, Dataset]]:
    """Log the rows as a data set of the run that the model came from, its status untouched; yield its id and the set.

    Raises:
        InputError: what is logged of them meanwhile is refused; the scores are printed by then.
    """
    run_id, source, name = flags.run.info.run_id, str(flags.dataset.resolve()), f"{flags.name}_rows"
    logger.info(f"logging into run {run_id} of {mlflow.get_tracking_uri()}")
    with logging_into(flags.run, " The scores are those printed above."):
        yield run_id, tracking.log_dataset(run_id, rows, columns, source, name, "evaluation")
        tracking.log_messages(run_id)


if __name__ == "__main__":
    console.run(main)
