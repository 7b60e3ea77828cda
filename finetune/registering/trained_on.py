"""What a run trained on, where a score on it would measure memory."""

import json
import logging
from argparse import Namespace
from pathlib import Path

from finetune import InputError
from finetune.models.files.schemas import NUMBER, check
from finetune.rows.splits.leaks import LIMIT
from finetune.runs import tracking

from mlflow.entities import Run

logger = logging.getLogger(__name__)
REPORT = "leak_report.json"


def leaks_of(run_id: str) -> str | None:
    """Return what the leak report of a run has against its scores, None where that is nothing.

    Raises:
        InputError: the report is damaged.
    """
    report = tracking.load_artifact_json(run_id, REPORT)
    if report is None:
        logger.warning(f"run {run_id} has no {REPORT}: whether its rows leak was not looked at.")
        return None
    found = check(report, {"share": NUMBER}, f"{REPORT} of run {run_id}", "train again", others=lambda *_: True)
    if found["share"] <= LIMIT:
        return None
    return (
        f"{found['share']:.1%} of the run's validation rows are training rows too ({REPORT} of the run; at most"
        f" {LIMIT:.0%} is taken), so its scores measure memory"
    )


def refuse_rows_of_training(flags: Namespace, rows: list[dict], run: Run) -> None:
    """Raise InputError where --dataset is the file of the training, and nothing says that its rows were held out."""
    is_marked = any("split" in row for row in rows) and flags.split != "train"
    if not is_marked and str(flags.dataset.resolve()) in _sources(run):
        raise InputError(
            f"--dataset {flags.dataset} is the file that the run trained on; give rows that it never saw: a file of"
            " their own, or rows with a column `split` that says test."
        )


def _sources(run: Run) -> set[str]:
    """Return the files that a run's rows came from."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    found = [json.loads(one.dataset.source).get("uri", "") for one in inputs if one.dataset.name.startswith("train")]
    return {str(Path(uri.removeprefix("file://")).resolve()) for uri in found if uri}
