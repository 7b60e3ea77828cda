"""Score a logged model on labelled rows, into the model's own run.

The scorecard is printed on stdout. For text-to-SQL the rows are a file with the columns question, context
(CREATE TABLE statements) and answer (SQL), and the adapter is compared with its bare base; for a classifier
they have text, and labels or label; for a summarizer article and summary, and adapter and base are compared.
Where there is a column `split`, the rows of --split are taken.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune import InputError, console
from finetune.console import Parser
from finetune.databases.contexts import choose_contexts, fill_contexts
from finetune.logged_models.opening import LoggedModel, open_model
from finetune.logged_models.refusals import check_rights, logging_into
from finetune.logged_models.uris import name_last
from finetune.models.card import ClassifierCard, SqlCard
from finetune.models.generation import BATCH_SIZE
from finetune.models.restoring import Loading
from finetune.predicting.flags import add_loading_flags
from finetune.reports import figures
from finetune.reports.classifier_scorecard import classifier_scorecard
from finetune.reports.sql_scorecard import compare, log_scorecard
from finetune.reports.summary_scorecard import summary_scorecard
from finetune.rows.files.columns import QUESTIONS, SUMMARIES, TEXTS, parse_columns, read_columns
from finetune.rows.files.reading import read_rows
from finetune.rows.labelled_texts import LabelledTexts
from finetune.rows.labels import spell_out
from finetune.rows.loading import complete_rows, part_of
from finetune.rows.sql.cleaning import check_dialect, clean_rows, refuse_nothing_left, tell_cleaning
from finetune.rows.sql.distractors import distract
from finetune.runs import tracking
from finetune.training.flags.database_flags import TABLES, VALUES, distractors, read_database

import mlflow
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
            score(score_sql, QUESTIONS, flags, logged, rows)
        case "classification":
            score(score_classifier, TEXTS, flags, logged, rows)
        case "summarization":
            score(score_summarizer, SUMMARIES, flags, logged, rows)


def score(score_rows: Callable, columns: tuple[str, ...], flags, logged: LoggedModel, rows: list[dict]) -> None:
    """Score a model by its task's own function, once rows and run are known to be good for it."""
    rows = name_columns(rows, columns, flags, logged)
    flags.opened = read_database(flags, getattr(logged.card, "sample_values", None) or 0)
    if flags.opened:
        flags.opened.dialect = flags.dialect or getattr(logged.card, "dialect", flags.opened.dialect)
        rows = fill_contexts(rows, flags.opened)
    flags.run = run_of(logged) if flags.log else None
    score_rows(flags, logged, rows)


def score_classifier(flags, logged: LoggedModel, rows: list[dict]) -> None:
    """Find the labels of the texts at the stored thresholds; log and print the scorecard."""
    refuse_sql_flags(flags)
    assert isinstance(logged.card, ClassifierCard)  # Asked above.
    what, names = f"the rows of {flags.dataset}", list(logged.card.labels.names)
    columns = names if not {"labels", "label"} & set(rows[0]) and set(names) <= set(rows[0]) else None
    rows, _ = spell_out(complete_rows(rows, ("text",), what), names, columns, what)
    classifier = logged.load(loading(flags))
    limits = classifier.card.max_length, classifier.card.long_texts == "window"
    texts = LabelledTexts.encode(rows, classifier.labels, classifier.tokenizer, *limits, str(flags.dataset))
    scorecard = classifier_scorecard(classifier, texts, flags.batch_size)
    result = {"name": flags.name, "rows": len(rows)} | scorecard.metrics
    console.print_result(json.dumps(result) if flags.json else scorecard.format(flags.name))
    if flags.log:
        with log_rows(flags, rows, ("text", "labels" if "labels" in rows[0] else "label")) as (run_id, dataset):
            scorecard.log(flags.name, run_id, logged.step, dataset, logged.model_id)


def score_summarizer(flags, logged: LoggedModel, rows: list[dict]) -> None:
    """Summarise the articles with base and adapter; log and print the scorecard."""
    refuse_sql_flags(flags)
    full = complete_rows(rows, SUMMARIES, f"the rows of {flags.dataset}")
    summarizer = logged.load(loading(flags))
    scorecard = summary_scorecard(summarizer, full, flags.batch_size)
    result = {"name": flags.name, "rows": len(full)} | scorecard.metrics
    console.print_result(json.dumps(result) if flags.json else scorecard.format(flags.name))
    if flags.log:
        with log_rows(flags, full, ("article", "summary")) as (run_id, dataset):
            scorecard.log(flags.name, run_id, logged.step, dataset, logged.model_id)
    refuse_no_change([scorecard.changed])


def score_sql(flags, logged: LoggedModel, rows: list[dict]) -> None:
    """Answer the questions with base and adapter; log and print the scorecards."""
    distractor_columns = distractors(flags)
    if flags.long_texts:
        raise InputError("--long-texts is for classifiers and summarizers, not for text-to-SQL.")
    assert isinstance(logged.card, SqlCard)  # Asked above.
    dialect = flags.dialect or logged.card.dialect
    rows, skipped = clean(rows, flags, dialect)
    rows = choose_contexts(rows, flags.opened, flags.name)
    writer = logged.load(loading(flags))
    sets = {flags.name: rows}
    if distractor_columns:
        sets[f"{flags.name}_distractors"] = distract(rows, distractor_columns, seed=0, dialect=dialect)
    options = flags.batch_size, dialect, flags.unwrap
    cards = {name: compare(writer, part, *options) for name, part in sets.items()}
    for name, card in cards.items():
        console.print_result(json.dumps({"name": name} | card.metrics) if flags.json else card.format(name))
    if flags.log:
        with log_rows(flags, rows, QUESTIONS) as (run_id, dataset):
            for name, card in cards.items():
                log_scorecard(card, name, run_id, logged.step, dataset, logged.model_id)
            if skipped:
                figures.log_table(skipped, f"scorecard/{flags.name}_skipped", run_id)
    refuse_no_change([card.changed for card in cards.values()])


def loading(flags) -> Loading:
    """Return how the model is restored."""
    return Loading(flags.base_model, flags.precision, flags.compute_dtype, long_texts=flags.long_texts)


def name_columns(rows: list[dict], required: tuple[str, ...], flags, logged: LoggedModel) -> list[dict]:
    """Return the rows under the names that the model's task has for their columns."""
    given, trained = parse_columns(flags.column, required), logged.card.columns
    needed = tuple(name for name in required if name != "context" or not flags.database)
    return read_columns(rows, required, given, f"the rows of {flags.dataset}", trained, needed)[0]


def refuse_sql_flags(flags) -> None:
    """Raise InputError for flags that other tasks than text-to-SQL do not have."""
    if flags.distractor_columns or not flags.clean or flags.dialect or flags.unwrap or flags.database or flags.values:
        raise InputError(
            "--database, --values, --distractor-columns, --no-clean, --dialect and --unwrap are for text-to-SQL only."
        )


def refuse_no_change(shares: list[float]) -> None:
    """Exit with status 1 where the adapter has no effect on any answer."""
    if not any(shares):
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
    run.add_argument("--name", default="test", help="prefix of the metrics: NAME_exec_accuracy, NAME_macro_f1")
    data.add_argument("--database", metavar="URL", help="your own database, for rows without a context: URL or file")
    data.add_argument("--tables", nargs="+", metavar="T", help=TABLES)
    data.add_argument("--values", type=int, metavar="N", help=f"{VALUES}; default: as trained")
    score.add_argument(
        "--distractor-columns",
        type=int,
        help="columns of other tables to add to each table in a second scorecard of SQL [4; with --database 0]; 0:"
        " no second one",
    )
    score.add_argument(
        "--no-clean", dest="clean", action="store_false", help="keep rows whose gold, the right SQL, is corrupt"
    )
    score.add_argument("--dialect", help="SQL of rows and answers: sqlite, postgres, ...; default: as in training")
    score.add_argument("--unwrap", action="store_true", help="score the SQL inside ``` fences and behind `SQL:`")
    run.add_argument("--no-log", dest="log", action="store_false", help="print only, leave the run as it is")
    add_loading_flags(model)
    model.add_argument(
        "--long-texts",
        choices=("truncate", "window"),
        help="read the beginning of a long text, or all of it piece by piece (not of SQL); default: as in training",
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


def clean(rows: list[dict], flags, dialect: str) -> tuple[list[dict], list[dict]]:
    """Return the questions to score, and those that cleaning left out.

    Raises:
        InputError: no such column, or nothing left to score.
    """
    rows = complete_rows(rows, QUESTIONS, f"the rows of {flags.dataset}")
    if not flags.clean:
        return rows, []
    cleaning = clean_rows(rows, dialect)
    where = f"scorecard/{flags.name}_skipped.json of the run" if flags.log else "--verbose says why"
    tell_cleaning({flags.name: cleaning.summary()}, where)
    refuse_nothing_left(cleaning, f"row of {flags.dataset}", dialect)
    return cleaning.rows, cleaning.dropped


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
