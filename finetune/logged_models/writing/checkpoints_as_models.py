"""A checkpoint as a model of its run in MLflow, whatever its task."""

from pathlib import Path

from finetune.logged_models.writing.classifier_models import log_classifier
from finetune.logged_models.writing.sql_models import log_adapter
from finetune.logged_models.writing.summarizer_models import log_summarizer
from finetune.models.card import CLASSIFICATION, SUMMARIZATION, Card

from mlflow.entities import Run


def log_checkpoint(run: Run, folder: Path, name: str, skeleton=None) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`; return its model id.

    Args:
        skeleton: of a decoder, built before; only the main thread may build one.
    """
    task = Card.read(folder).task
    if task == CLASSIFICATION:
        return log_classifier(run, folder, name)
    if task == SUMMARIZATION:
        return log_summarizer(run, folder, name)
    return log_adapter(run, folder, name, skeleton)
