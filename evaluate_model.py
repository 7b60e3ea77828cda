"""Score a logged model on labelled rows, the adapter against its bare base, into the model's own run.

The scorecard is printed on stdout. The rows are a file with the columns question, context (CREATE TABLE
statements) and answer (SQL); where it has a column `split`, the rows of --split are taken.
"""

import json
import logging
import sys
from pathlib import Path

from finetune import console, reports, tracking
from finetune.console import InputError, Parser
from finetune.data import check_columns, read_rows
from finetune.distractors import distract
from finetune.logged_models import load_model, open_model
from finetune.prompts import Prompt
from finetune.scorecard import Scorecard, compare, log_scorecard
from finetune.sql_cleaning import clean_rows

import mlflow

logger = logging.getLogger(__name__)
COLUMNS = ("question", "context", "answer")


def main(arguments: list[str] | None = None) -> None:
    """Load model and rows, answer with base and adapter, log and print the scorecard."""
    flags = parse(arguments)
    tracking.connect()
    rows, skipped = load(flags)
    logged = open_model(flags.uri)
    prompt = Prompt(logged.card["prompt"])
    model, tokenizer = load_model(logged, flags.base_model, flags.precision)
    sets = {flags.name: rows}
    if flags.distractor_columns:
        sets[f"{flags.name}_distractors"] = distract(rows, flags.distractor_columns, seed=0)
    cards = {name: compare(model, tokenizer, prompt, part, flags.batch_size) for name, part in sets.items()}
    if flags.log:
        log(cards, logged, rows, skipped, flags)
    for name, card in cards.items():
        console.print_result(json.dumps({"name": name} | card.metrics) if flags.json else card.format(name))
    if not any(card.changed for card in cards.values()):
        logger.error("error: the adapter changed none of the answers: it was not trained, or is not in effect.")
        sys.exit(1)


def parse(arguments: list[str] | None):
    """Return the flags, checked."""
    parser = Parser(description=__doc__)
    parser.add_argument("uri", help="runs:/<run id>/model, models:/NAME@ALIAS, or a checkpoint folder")
    parser.add_argument("--dataset", type=Path, required=True, help=".jsonl, .json, .csv or .parquet file")
    parser.add_argument("--split", default="test", help="rows to take where the file has a column `split`")
    parser.add_argument("--max-rows", type=int, help="score the first so many rows only")
    parser.add_argument("--name", default="test", help="prefix of the metrics: NAME_exec_accuracy and so on")
    parser.add_argument(
        "--distractor-columns", type=int, default=4, help="foreign columns a table in the second scorecard; 0: none"
    )
    parser.add_argument("--no-clean", dest="clean", action="store_false", help="keep rows whose gold is corrupt")
    parser.add_argument("--no-log", dest="log", action="store_false", help="print only, leave the run as it is")
    parser.add_argument("--base-model", help="folder of the base model, where it has moved since training")
    parser.add_argument("--precision", choices=("nf4", "bf16", "fp32"), help="of the base; default: as it was trained")
    parser.add_argument("--batch-size", type=int, default=16, help="questions answered together")
    parser.add_argument("--json", action="store_true", help="print one JSON object a scorecard instead of tables")
    flags = parser.parse_args(arguments)
    for name, least in (("max_rows", 1), ("distractor_columns", 0), ("batch_size", 1)):
        value = getattr(flags, name)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} {value} must be at least {least}.")
    return flags


def load(flags) -> tuple[list[dict], list[dict]]:
    """Return the rows to score, and those that cleaning left out.

    Raises:
        InputError: no such file, column or part, or nothing left to score.
    """
    rows = read_rows(flags.dataset)
    check_columns(rows, COLUMNS, f"the rows of {flags.dataset}")
    if any("split" in row for row in rows):
        parts = sorted({str(row.get("split")) for row in rows})
        rows = [row for row in rows if row.get("split") == flags.split]
        if not rows:
            raise InputError(f"{flags.dataset} has no rows of --split {flags.split}; it has {', '.join(parts)}.")
    rows = rows[: flags.max_rows]
    if not flags.clean:
        return rows, []
    cleaning = clean_rows(rows)
    logger.info(f"Cleaning: {cleaning.summary()}")
    if not cleaning.rows:
        raise InputError(f"no row of {flags.dataset} is left to score ({cleaning.summary()['dropped']}); mend its SQL.")
    return cleaning.rows, cleaning.dropped


def log(cards: dict[str, Scorecard], logged, rows: list[dict], skipped: list[dict], flags) -> None:
    """Log the scorecards into the run that the model came from, its status untouched."""
    run_id = tracking.find_run(logged.card["run_id"]).info.run_id
    dataset = tracking.log_dataset(
        run_id, rows, COLUMNS, str(flags.dataset.resolve()), f"{flags.name}_rows", "evaluation"
    )
    for name, card in cards.items():
        log_scorecard(card, name, run_id, logged.step, dataset, logged.model_id)
    if skipped:
        reports.log_table(skipped, f"scorecard/{flags.name}_skipped", run_id)
    logger.info(f"logged into run {run_id} of {mlflow.get_tracking_uri()}")


if __name__ == "__main__":
    console.run(main)
