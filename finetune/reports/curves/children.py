"""The trainings of a learning curve in the store: which there are, what rows they are scored on, whose they are."""

from collections.abc import Iterable

from finetune import InputError
from finetune.runs.checkpoints import CURVE_TAG, PERCENT_TAG, STOPPED_TAG

import mlflow
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

ROWS = "validation_rows"  # the data set of a training that its points are about


def children_of(run_id: str) -> dict[int, Run]:
    """Return the newest training of each share of a curve."""
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'",
        order_by=["attributes.start_time ASC"],
        output_format="list",
    )
    return {int(run.data.tags[PERCENT_TAG]): run for run in runs if run.data.tags.get(PERCENT_TAG, "").isdecimal()}


def is_finished(run: Run) -> bool:
    """Say whether a run has come to its own end."""
    return run.info.status == "FINISHED" and STOPPED_TAG not in run.data.tags


def rows_of(run: Run) -> str | None:
    """Return the digest of the validation rows of a training; None for one that was cut off before it had them."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return next((one.dataset.digest for one in inputs if one.dataset.name == ROWS), None)


def refuse_other_rows(runs: Iterable[Run]) -> None:
    """Raise InputError where trainings do not have the same validation rows: no score is paired with another's."""
    by_rows = {digest: run for run in runs if (digest := rows_of(run))}
    if len(by_rows) > 1:
        shown = " and ".join(f"run {run.info.run_id} (digest {digest})" for digest, run in sorted(by_rows.items()))
        raise InputError(
            f"the shares of the learning curve have different validation rows: {shown}. The data has changed between"
            " them: start a new curve, or delete the runs on the rows that you do not want and go on with this one."
        )


def rows_of_curve(run_id: str) -> dict[str, str]:
    """Return the digest of the validation rows by their name, as the trainings of a curve have it.

    Empty where there is none yet, where the run is no curve, and where the store does not say.
    """
    try:
        if CURVE_TAG not in mlflow.get_run(run_id).data.tags:
            return {}
        found = [digest for run in children_of(run_id).values() if (digest := rows_of(run))]
    except MlflowException:
        return {}
    return {ROWS: found[0]} if found else {}


def unfinished_curve_of(run: Run) -> Run | None:
    """Return the curve that a run is a training of, where that has more to do."""
    parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    if not parent or PERCENT_TAG not in run.data.tags:
        return None
    try:
        curve = mlflow.get_run(parent)
    except MlflowException:
        return None
    is_there = CURVE_TAG in curve.data.tags and curve.info.lifecycle_stage == LifecycleStage.ACTIVE
    return curve if is_there and not is_finished(curve) else None
