"""What a run in MLflow holds: through the journal of the training in this process, or directly after it."""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from finetune import PACKAGE, InputError, screen
from finetune.logged_models.checkpoint_files import TASK_TAG
from finetune.logged_models.refusals import is_refused, why_deleted
from finetune.models.card import Card
from finetune.models.files.schemas import reason
from finetune.redaction import redact, redact_values, shorten
from finetune.rows.loading import Rows
from finetune.runs import stores, trackers
from finetune.runs.sending import delivery, journal

import mlflow
import pandas as pd
from mlflow import entities
from mlflow.data.dataset import Dataset
from mlflow.data.huggingface_dataset_source import HuggingFaceDatasetSource
from mlflow.entities import DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from peft import LoraConfig
from transformers import TrainingArguments

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)
FOLDER = PACKAGE.parent
MAX_PARAMETER_LENGTH = mlflow.utils.validation.MAX_PARAM_VAL_LENGTH


def connect(offline_ok: bool = False) -> bool:
    """Use MLFLOW_TRACKING_URI, or sqlite:///mlflow.db beside the scripts; return whether it answers.

    Args:
        offline_ok: do without a server that does not answer.

    Raises:
        InputError: when a server or database does not answer within 10 seconds, or does not let us in.
    """
    stores.check_variables()
    uri = stores.given_uri(f"sqlite:///{FOLDER / 'mlflow.db'}")
    os.environ[stores.VARIABLE] = uri
    # A thread of its own sends what training logs, and tries again for as long as it takes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    answers = True
    if stores.is_server(uri):
        answers = stores.reach_server(uri, offline_ok)
    else:
        stores.open_store(uri)
    mlflow.set_tracking_uri(uri)
    return answers


def log_params(values: dict[str, str]) -> None:
    """Log parameters of the run in training, without secrets."""
    if running := journal.active_journal():
        running.write("params", values=redact_values(values))


def log_file(name: str, save: Callable[[Path], object], run_id: str | None = None) -> None:
    """Log a file as an artifact of a run, by default the one in training.

    Args:
        name: path among the artifacts.
        save: writes the file to the path that it is given.
    """
    if running := journal.active_journal(run_id):
        running.file(name, save)
        return
    folder = str(PurePosixPath(name).parent)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / PurePosixPath(name).name
        save(path)
        mlflow.MlflowClient().log_artifact(run_id, str(path), None if folder == "." else folder)


def log_text(text: str, name: str, run_id: str | None = None) -> None:
    """Log a text as an artifact of a run, by default the one in training."""
    log_file(name, lambda path: path.write_text(text, encoding="utf-8"), run_id)


def log_dict(values: dict, name: str, run_id: str | None = None) -> None:
    """Log values as a JSON artifact of a run, by default the one in training, without secrets."""
    log_text(json.dumps(redact_values(values), indent=2, default=str), name, run_id)


def log_messages(run_id: str | None = None) -> None:
    """Log what this process has said so far, in full, into a run, by default the one in training."""
    if text := screen.kept():
        log_text(text, screen.kept_name(), run_id)


def set_tag(name: str, value: str) -> None:
    """Set a tag of the run in training, without secrets."""
    if running := journal.active_journal():
        running.write("tags", values={name: redact(value)})


def delete_tag(name: str) -> None:
    """Delete a tag of the run in training, if it has one of this name."""
    if running := journal.active_journal():
        running.write("untag", name=name)


def log_parameters(groups: dict[str, dict], training: dict) -> None:
    """Log nested settings as `group.name` parameters, and all of them as parameters.json.

    A value too long for a parameter is cut there and stands whole in the artifact: none is dropped.

    Args:
        training: the Trainer's arguments, which its own callback logs as parameters.
    """
    groups = redact_values(groups)
    values = {
        f"{group}.{name}": str(sorted(value) if isinstance(value, set) else value)
        for group, settings in groups.items()
        for name, value in settings.items()
    }
    for group, settings in (groups | {"training": redact_values(training)}).items():
        logger.info(f"Parameters, {group}: {json.dumps(settings, default=str)}", extra=screen.DETAIL)
    log_params({name: value[:MAX_PARAMETER_LENGTH] for name, value in values.items()})
    trackers.show_settings(groups)
    log_dict(groups | {"training": training}, "parameters.json")


def log_dataset(
    run_id: str,
    rows: list[dict],
    columns: tuple[str, ...],
    source: str,
    name: str,
    context: str,
    from_hub: bool = False,
    database: str | None = None,
) -> Dataset:
    """Log rows as a data set input of a run, with a digest of all of them (MLflow's covers the first 10,000).

    Return the data set, for metrics to refer to.

    Args:
        database: that the rows' contexts are of, to be named where rows are not what they were.
    """
    source = redact(source)
    text = "\n".join(json.dumps(row, sort_keys=True, default=str) for row in rows)
    dataset = mlflow.data.from_pandas(
        pd.DataFrame([{column: row[column] for column in columns} for row in rows]),
        source=HuggingFaceDatasetSource(path=source) if from_hub else source,
        name=name,
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
    )
    entity = entities.Dataset(**dataset.to_dict())
    if running := journal.active_journal(run_id):
        known = running.known_digests.get(name, dataset.digest)
        if known != dataset.digest:
            about = (
                f" They are also what --database {redact(database)} makes of them: values that changed there (--values,"
                " types guessed from rows) or SQL that runs no longer, or not in time, make other rows."
                if database
                else ""
            )
            raise InputError(
                f"run {run_id} cannot go on: its {name.replace('_', ' ')} are not those that {running.known_of}"
                f" (digest {known}, now {dataset.digest}); give the same data with --dataset.{about}"
            )
        running.digests[name] = dataset.digest
        running.write("input", dataset=entity.to_dictionary(), context=context)
        return dataset
    # By the client: fluent logging would reopen a finished run and change its status.
    tags = [InputTag(MLFLOW_DATASET_CONTEXT, context)]
    mlflow.MlflowClient().log_inputs(run_id, [DatasetInput(entity, tags)])
    return dataset


def log_metrics(
    metrics: dict[str, float], step: int, run_id: str, dataset: Dataset, model_id: str | None = None
) -> None:
    """Log metrics into a run, linked to the data set and to the model that they are about."""
    if running := journal.active_journal(run_id):
        running.metrics(metrics, step, dataset=[dataset.name, dataset.digest])
    else:
        mlflow.log_metrics(metrics, step=step, run_id=run_id, model_id=model_id, dataset=dataset)
    trackers.show_metrics(metrics, step, run_id)


def log_begin(
    run_id: str, args: TrainingArguments, flags: "DataclassInstance", lora: LoraConfig, card: Card, source: Rows,
    parts: dict[str, list[dict]], columns: tuple[str, ...], data: dict,
) -> dict[str, Dataset]:  # fmt: skip
    """Log what a training is made of: parameters, task, and the rows of each part as data sets; return these.

    Args:
        source: where the rows come from and how they were split.
        parts: the rows that are used, by part.
        data: what else is to be known of the data, as parameters.
    """
    sizes = {f"{name}_rows": len(rows) for name, rows in parts.items()}
    mixed = " + ".join(one.source for one in source.sets)
    groups = {
        "script": {name: value for name, value in asdict(flags).items() if name != "verbose"},
        "lora": lora.to_dict(),
        "quantization": card.quantization or {},
        "data": {"source": mixed or source.source, "split_by": source.split_by, **sizes, **data},
        "base": {"revision": card.base_revision},
    }
    contexts = {"train": "training", "validation": "validation", "test": "test"}
    database = getattr(flags, "database", None)
    datasets = {
        name: log_dataset(run_id, rows, columns, one.source, f"{name}_rows", contexts[name], one.from_hub, database)
        for name, rows in parts.items()
        for one in [replace(source, source=mixed, from_hub=False) if mixed and name == "train" else source]
    }
    for number, one in enumerate(source.sets, start=1):
        name = f"train_rows_of_set_{number}"
        log_dataset(run_id, one.train, columns, one.source, name, contexts["train"], one.from_hub, database)
    log_parameters(groups, training=args.to_dict())
    set_tag(TASK_TAG, card.task)
    return datasets


def find_run(reference: str) -> Run:
    """Return the run named by `<id>`, `runs:/<id>[/...]`, or the id that it had offline.

    Raises:
        InputError: when the tracking store has no such run, or it was deleted.
    """
    run_id = reference.strip().removeprefix("runs:/").strip("/").split("/")[0]
    if not run_id:
        raise InputError("no run is named; give the id that training printed.")
    if re.fullmatch(f"{journal.OFFLINE}[0-9a-f]+", run_id):
        query = f"tags.`{delivery.OFFLINE_TAG}` = '{run_id}'"
        found = mlflow.search_runs(search_all_experiments=True, filter_string=query, output_format="list")
        if found:
            return found[0]
        raise InputError(
            f"run {run_id} is not in MLflow yet; run `python log_model.py {run_id} --sync OUTPUT_DIR/{run_id}`, which"
            " prints its id."
        )
    try:
        run = mlflow.get_run(run_id)
        deleted = why_deleted(run)
    except MlflowException as error:
        if is_refused(error):
            raise InputError(
                f"run {run_id} of {mlflow.get_tracking_uri()} may not be read: {reason(error)}."
            ) from error
        shown = run_id if reference.strip().startswith("runs:/") else shorten(reference)
        raise InputError(
            f"there is no run {shown} in {mlflow.get_tracking_uri()}; give the id that training printed, and set"
            " MLFLOW_TRACKING_URI where it was tracked elsewhere."
        ) from error
    if deleted:
        raise InputError(deleted)
    return run


def load_artifact_json(run_id: str, path: str) -> dict | None:
    """Return a JSON artifact of a run, or None when it has none of that name."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder)
            return json.loads(Path(file).read_text(encoding="utf-8"))
    except (MlflowException, OSError):
        return None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the artifact {path} of run {run_id} is damaged: {reason(error)}.") from error
