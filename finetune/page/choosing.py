"""The models of the tracking store, to choose from, and where a run is seen in MLflow."""

import math
import shlex
from datetime import UTC, datetime

from finetune import InputError
from finetune.logged_models.checkpoint_files import TASK_TAG
from finetune.models.files.schemas import reason
from finetune.redaction import redact
from finetune.reports.scorecards.on_database import NAME as DATABASE
from finetune.runs.stores import is_server

import mlflow
from mlflow.entities import LoggedModelStatus, Run
from mlflow.exceptions import MlflowException

SHOWN = 50


def ready_models() -> list[dict]:
    """Return the newest models of the store that were logged to their end, each with its run and its scores.

    Raises:
        InputError: the store cannot be read.
    """
    try:
        experiments = {one.experiment_id: one.name for one in mlflow.search_experiments()}
        models = mlflow.search_logged_models(
            list(experiments), order_by=[{"field_name": "creation_timestamp", "ascending": False}],
            max_results=SHOWN, output_format="list",
        ) if experiments else []  # fmt: skip
        runs: dict[str, Run | None] = {}
        found = []
        for model in models:
            if model.status != LoggedModelStatus.READY or not model.source_run_id:
                continue
            run = runs.setdefault(model.source_run_id, _run(model.source_run_id))
            if run is None or TASK_TAG not in run.data.tags:  # Of somebody else, or deleted.
                continue
            begun = datetime.fromtimestamp(model.creation_timestamp / 1000, UTC)
            found.append(
                {
                    "uri": f"models:/{model.model_id}", "name": model.name, "run": run.info.run_name,
                    "experiment": experiments[model.experiment_id], "task": run.data.tags[TASK_TAG],
                    "logged": f"{begun:%Y-%m-%d %H:%M} UTC", "scores": scores(run),
                }
            )  # fmt: skip
        return found
    except MlflowException as error:
        raise InputError(f"the models of {mlflow.get_tracking_uri()} cannot be read: {reason(error)}.") from error


def _run(run_id: str) -> Run | None:
    try:
        run = mlflow.get_run(run_id)
    except MlflowException:
        return None
    return run if run.info.lifecycle_stage == "active" else None


def scores(run: Run) -> dict[str, float]:
    """Return the metrics of a run that say how good it is."""
    wanted = ("exec_accuracy", DATABASE, "macro_f1", "micro_f1", "rougeL", "accuracy", "eval_loss")
    # Of what it was compared with.
    measures = (*wanted, "labels_macro_f1", "labels_micro_f1")
    others = tuple(f"_{other}_{measure}" for other in ("against", "svm", "lead") for measure in measures)
    metrics = sorted((n, v) for n, v in run.data.metrics.items() if math.isfinite(v))
    found = {n: v for n, v in metrics if n.endswith(wanted) and not n.endswith(others)}
    return dict(list(found.items())[:6])


def page_of_run(run_id: str) -> dict:
    """Return where a run is seen in MLflow: its address on a server, or the command that starts one."""
    uri = mlflow.get_tracking_uri()
    if not run_id:
        return {}
    if is_server(uri):
        return {"id": run_id, "href": f"{uri.rstrip('/')}/#/runs/{run_id}"}
    return {"id": run_id, "command": f"mlflow ui --backend-store-uri {shlex.quote(redact(uri))}"}
