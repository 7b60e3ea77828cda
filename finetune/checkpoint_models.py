"""A checkpoint as a model of its run in MLflow, whatever its task."""

from collections.abc import Sequence
from pathlib import Path

from finetune import trackers
from finetune.checkpoints import load_card
from finetune.classifiers import log_classifier
from finetune.logged_models import CLASSIFICATION, SUMMARIZATION, log_adapter
from finetune.summarizers import log_summarizer

import mlflow
from mlflow.entities import Metric, Run


def log_checkpoint(
    run: Run, folder: Path, name: str, metrics: Sequence[Metric] = (), dataset: Sequence | None = None, skeleton=None
) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`; return its model id.

    Args:
        metrics: of the run at the checkpoint's step.
        dataset: name and digest of the rows that they are about: linked to the model as `validation_...`.
        skeleton: of a decoder, built before; only the main thread may build one.
    """
    card, linked = load_card(folder), []
    # MLflow links the metrics of the step by itself, but without the rows that they are about, and not twice.
    for metric in metrics:
        if metric.key == "eval_loss":
            found = {"loss": metric.value} | card.get("metrics", {})
            linked = [
                Metric(f"validation_{name}", value, metric.timestamp, metric.step) for name, value in found.items()
            ]
    if card["task"] == CLASSIFICATION:
        model_id = log_classifier(run, folder, name)
    elif card["task"] == SUMMARIZATION:
        model_id = log_summarizer(run, folder, name)
    else:
        model_id = log_adapter(run, folder, name, skeleton)
    if linked:
        rows, digest = dataset
        values = [Metric(m.key, m.value, m.timestamp, m.step, model_id, rows, digest, run.info.run_id) for m in linked]
        mlflow.MlflowClient().log_batch(run.info.run_id, metrics=values)
        trackers.show_metrics({m.key: m.value for m in values}, values[0].step, run.info.run_id)
    return model_id
