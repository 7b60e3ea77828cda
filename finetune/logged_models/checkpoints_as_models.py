"""A checkpoint as a model of its run in MLflow, whatever its task."""

from collections.abc import Sequence
from pathlib import Path

from finetune.logged_models.opening import CLASSIFICATION, SUMMARIZATION, log_adapter
from finetune.models.classifier.classifier import log_classifier
from finetune.models.summarizer.summarizer import log_summarizer
from finetune.runs import trackers
from finetune.runs.checkpoints import load_card

import mlflow
from mlflow.entities import Metric, Run


def log_checkpoint(run: Run, folder: Path, name: str, skeleton=None) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`; return its model id.

    Args:
        skeleton: of a decoder, built before; only the main thread may build one.
    """
    task = load_card(folder)["task"]
    if task == CLASSIFICATION:
        return log_classifier(run, folder, name)
    if task == SUMMARIZATION:
        return log_summarizer(run, folder, name)
    return log_adapter(run, folder, name, skeleton)


def link_scores(run: Run, folder: Path, model_id: str, loss: Metric, dataset: Sequence[str]) -> None:
    """Log what a checkpoint scored on its validation rows, linked to its model and to these rows.

    MLflow links the metrics of the step by itself, but without the rows, and not a second time: these are named
    `validation_...`.

    Args:
        loss: the run's `eval_loss` at the checkpoint's step.
        dataset: name and digest of the rows.
    """
    found = {"loss": loss.value} | load_card(folder).get("metrics", {})
    values = [
        Metric(f"validation_{name}", value, loss.timestamp, loss.step, model_id, *dataset, run.info.run_id)
        for name, value in found.items()
    ]
    mlflow.MlflowClient().log_batch(run.info.run_id, metrics=values)
    trackers.show_metrics({metric.key: metric.value for metric in values}, loss.step, run.info.run_id)
