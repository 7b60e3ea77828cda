"""A checkpoint as a model of its run in MLflow, whatever its task."""

from pathlib import Path

from finetune.logged_models.writing.classifier_models import log_classifier
from finetune.logged_models.writing.sql_models import log_adapter
from finetune.logged_models.writing.summarizer_models import log_summarizer
from finetune.models.card import Card

from mlflow.entities import Run


def log_checkpoint(
    run: Run, folder: Path, name: str, form: str = "adapter", skeleton=None, quantized: Path | None = None
) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`; return its model id.

    Args:
        form: one that the checkpoint's kind of model has: `forms` of its class.
        quantized: folder with the base of a decoder in 4 bits, to refer to in place of the base.
        skeleton: of a decoder, built before; only the main thread may build one.
    """
    match task := Card.read(folder).task:
        case "text-to-sql":
            return log_adapter(run, folder, name, form, skeleton, quantized)
        case "classification":
            return log_classifier(run, folder, name, form)
        case "summarization":
            return log_summarizer(run, folder, name, form)
    raise AssertionError(f"no model card has the task {task}")
