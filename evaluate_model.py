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

from finetune import InputError, console
from finetune.console import Parser
from finetune.logged_models.opening import LoggedModel, open_model
from finetune.logged_models.refusals import check_rights
from finetune.logged_models.uris import name_last
from finetune.models.bases.memory import clear_memory
from finetune.predicting.flags import add_loading_flags
from finetune.reports.explaining.description import describe
from finetune.reports.scorecards.against import Comparison, refuse_same_or_other_task
from finetune.reports.scorecards.evaluations import Evaluation, evaluation_of
from finetune.reports.scorecards.flags import add_reading_flags, add_row_flags, add_score_flags, check_score_flags
from finetune.reports.scorecards.scored_rows import load, log_rows, name_columns
from finetune.runs import tracking

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
    score(evaluation_of(logged.card.task), flags, logged, rows)


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
    clear_memory()
    found = evaluation.compare(cards, other, rows)
    record = json.dumps(found.record(flags.name, flags.against))
    console.print_result(record if flags.json else found.format(flags.against))
    return found


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
    add_row_flags(data)
    run.add_argument("--name", default="test", help="prefix of the metrics, as NAME_macro_f1")
    add_score_flags(score)
    score.add_argument("--against", metavar="URI", help="another model, for the same rows: is it better?")
    run.add_argument("--no-log", dest="log", action="store_false", help="print only, leave the run as it is")
    add_loading_flags(model)
    add_reading_flags(model)
    run.add_argument("--json", action="store_true", help="print one JSON object a scorecard instead of tables")
    flags = parser.parse_args(arguments)
    check_score_flags(flags)
    if not NAME.fullmatch(flags.name) or flags.name.endswith(" "):
        raise InputError(
            f"--name {flags.name!r} begins the names of metrics and files; expected at most 100 letters, digits, _, -,"
            " dots, colons and spaces, the first a letter or digit."
        )
    return flags


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


if __name__ == "__main__":
    console.run(main)
