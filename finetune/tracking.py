"""The MLflow run of a model: where it is stored, what it holds, and how it ends."""

import hashlib
import json
import logging
import os
import subprocess
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from finetune import trackers
from finetune.checkpoints import TASK_TAG
from finetune.console import InputError
from finetune.data import Rows

import mlflow
import pandas as pd
import requests
from mlflow.data.dataset import Dataset
from mlflow.data.huggingface_dataset_source import HuggingFaceDatasetSource
from mlflow.entities import DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from peft import LoraConfig
from transformers import TrainingArguments

logger = logging.getLogger(__name__)
FOLDER = Path(__file__).parent.parent
MAX_PARAMETER_LENGTH = mlflow.utils.validation.MAX_PARAM_VAL_LENGTH


def connect() -> None:
    """Use MLFLOW_TRACKING_URI, or sqlite:///mlflow.db beside the scripts.

    Raises:
        InputError: when a tracking server does not answer within 10 seconds.
    """
    uri = os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{FOLDER / 'mlflow.db'}")
    if uri.startswith(("http://", "https://")):
        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=10)
        except requests.RequestException as error:
            raise InputError(
                f"the MLflow tracking server {uri} does not answer ({type(error).__name__}); start it, or correct"
                " or unset MLFLOW_TRACKING_URI."
            ) from error
    mlflow.set_tracking_uri(uri)


@contextmanager
def run(experiment: str, resume: str | None = None, report_to: Sequence[str] = ()) -> Iterator[str]:
    """Start a run, or go on with the run `resume`, yield its id, and end it as it went.

    Where `report_to` names wandb, a W&B run of the same id goes with it.

    A run ends FINISHED, FAILED (any exception) or KILLED (a signal).

    Call it on the main process only. Parameters, metrics and artifacts go to the active run.
    """
    if mlflow.get_experiment_by_name(experiment) is None:
        # Without a place of its own, SQLite puts the artifacts into the folder the script is called from.
        local = mlflow.get_tracking_uri().startswith("sqlite:")
        mlflow.create_experiment(experiment, artifact_location=(FOLDER / "mlartifacts").as_uri() if local else None)
    mlflow.set_experiment(experiment)
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "5")
    active = mlflow.start_run(run_id=resume, log_system_metrics=True, tags=None if resume else _git_tags())
    run_id, status = active.info.run_id, "FAILED"
    try:
        if "wandb" in report_to:
            trackers.start_wandb(run_id, experiment)
        yield run_id
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except Exception:
        mlflow.log_text(traceback.format_exc(), "error.txt")
        raise
    finally:
        # The Trainer's callback logs asynchronously; nothing may be on its way when the run ends.
        mlflow.flush_async_logging()
        mlflow.end_run(status)
        trackers.finish_wandb(failed=status != "FINISHED")


def _git_tags() -> dict[str, str]:
    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(FOLDER), *command], capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"mlflow.source.git.commit": commit, "git.modified": str(bool(git("status", "--porcelain"))).lower()}


def log_parameters(groups: dict[str, dict], training: dict) -> None:
    """Log nested settings as `group.name` parameters, and all of them as parameters.json.

    A value too long for a parameter is cut there and stands whole in the artifact: none is dropped.

    Args:
        training: the Trainer's arguments, which its own callback logs as parameters.
    """
    values = {
        f"{group}.{name}": str(sorted(value) if isinstance(value, set) else value)
        for group, settings in groups.items()
        for name, value in settings.items()
    }
    # A run that goes on has them already; MLflow refuses a second value.
    known = mlflow.get_run(mlflow.active_run().info.run_id).data.params
    new = {name: value[:MAX_PARAMETER_LENGTH] for name, value in values.items() if name not in known}
    mlflow.log_params(new)
    trackers.show_settings(groups)
    mlflow.log_dict(json.loads(json.dumps(groups | {"training": training}, default=str)), "parameters.json")


def log_dataset(
    run_id: str,
    rows: list[dict],
    columns: tuple[str, ...],
    source: str,
    name: str,
    context: str,
    from_hub: bool = False,
) -> Dataset:
    """Log rows as a data set input of a run, with a digest of all of them (MLflow's covers the first 10,000).

    Return the data set, for metrics to refer to.
    """
    text = "\n".join(json.dumps(row, sort_keys=True, default=str) for row in rows)
    dataset = mlflow.data.from_pandas(
        pd.DataFrame([{column: row[column] for column in columns} for row in rows]),
        source=HuggingFaceDatasetSource(path=source) if from_hub else source,
        name=name,
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
    )
    # By the client: fluent logging would reopen a finished run and change its status.
    tags = [InputTag(MLFLOW_DATASET_CONTEXT, context)]
    mlflow.MlflowClient().log_inputs(run_id, [DatasetInput(dataset._to_mlflow_entity(), tags)])
    return dataset


def log_metrics(
    metrics: dict[str, float], step: int, run_id: str, dataset: Dataset, model_id: str | None = None
) -> None:
    """Log metrics into a run, linked to the data set and to the model that they are about."""
    mlflow.log_metrics(metrics, step=step, run_id=run_id, model_id=model_id, dataset=dataset)
    trackers.show_metrics(metrics, step, run_id)


def log_setup(
    run_id: str, args: TrainingArguments, flags, lora: LoraConfig, card: dict, source: Rows,
    parts: dict[str, list[dict]], columns: tuple[str, ...], data: dict,
) -> dict[str, Dataset]:  # fmt: skip
    """Log what a training is made of: parameters, task, and the rows of each part as data sets; return these.

    Args:
        source: where the rows come from and how they were split.
        parts: the rows that are used, by part.
        data: what else is to be known of the data, as parameters.
    """
    sizes = {f"{name}_rows": len(rows) for name, rows in parts.items()}
    groups = {
        "script": asdict(flags),
        "lora": lora.to_dict(),
        "quantization": card["quantization"] or {},
        "data": {"source": source.source, "split_by": source.split_by, **sizes, **data},
        "base": {"revision": card["base_revision"]},
    }
    log_parameters(groups, training=args.to_dict())
    mlflow.set_tag(TASK_TAG, card["task"])
    contexts = {"train": "training", "validation": "validation", "test": "test"}
    return {
        name: log_dataset(run_id, rows, columns, source.source, f"{name}_rows", contexts[name], source.from_hub)
        for name, rows in parts.items()
    }


def find_run(reference: str) -> Run:
    """Return the run named by `<id>` or `runs:/<id>[/...]`.

    Raises:
        InputError: when the tracking store has no such run.
    """
    run_id = reference.removeprefix("runs:/").split("/")[0]
    try:
        return mlflow.get_run(run_id)
    except MlflowException as error:
        raise InputError(
            f"there is no run {run_id} in {mlflow.get_tracking_uri()}; give the id that training printed, and set"
            " MLFLOW_TRACKING_URI where it was tracked elsewhere."
        ) from error


def load_artifact_json(run_id: str, path: str) -> dict | None:
    """Return a JSON artifact of a run, or None when it has none of that name."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder)
            return json.loads(Path(file).read_text(encoding="utf-8"))
    except (MlflowException, OSError):
        return None
