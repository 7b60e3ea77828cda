"""What a run trained on, where a score on it would measure memory."""

import glob
import json
import logging
import os
from argparse import Namespace
from pathlib import Path

from finetune import InputError
from finetune.models.files.schemas import NUMBER, check
from finetune.rows.loading import files_of, part_of
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
    """Raise InputError where --dataset is a file of the training, and nothing says that its rows were held out."""
    is_marked = any("split" in row for row in rows) and part_of({"split": flags.split}, "--split") != "train"
    if not is_marked and flags.dataset.resolve() in _files(run):
        raise InputError(
            f"--dataset {flags.dataset} is the file that the run trained on; give rows that it never saw: a file of"
            " their own, or rows with a column `split` that says test."
        )


def _files(run: Run) -> set[Path]:
    """Return the files that a run's training rows came from: of a folder those for training, of a pattern all."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    found = [json.loads(one.dataset.source).get("uri", "") for one in inputs if one.dataset.name.startswith("train")]
    # Of equal rows an experiment has one data set, with the file that was first: the parameter has the run's own.
    found += [source for source in run.data.params.get("data.source", "").split(" + ") if os.path.isabs(source)]
    sources = {Path(uri.removeprefix("file://")) for uri in found if uri}
    files = {file for one in sources for file in (files_of(one, "train") if one.is_dir() else [one])}
    files |= {Path(name) for one in sources if not os.path.exists(one) for name in glob.glob(str(one), recursive=True)}
    return {file.resolve() for file in files}
