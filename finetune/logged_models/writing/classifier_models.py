"""Classifiers written into their run as MLflow models."""

from pathlib import Path

from finetune.logged_models.writing.code_models import log_code_model, requirements
from finetune.models.card import Card
from finetune.models.classifier.onnx_model import FILE

from mlflow.entities import Run
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Map


def log_classifier(run: Run, checkpoint: Path, name: str, exported: Path | None = None) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`, with a reference to its base; return its model id.

    Args:
        exported: an ONNX file to log in place of the adapter.
    """
    outputs = Schema([ColSpec(Array(DataType.string), "labels"), ColSpec(Map(DataType.double), "scores")])
    # Unnamed: one text, a list or a column `text` all fit; the model itself refuses another column. Of any type: of
    # null and numbers MLflow would make texts for a column of strings, and the model could not refuse them.
    parameters = [ParamSpec("threshold", DataType.double, None), ParamSpec("batch_size", DataType.long, 32)]
    return log_code_model(
        run,
        checkpoint,
        name,
        "classifier/served.py",
        ModelSignature(Schema([ColSpec(AnyType())]), outputs, ParamSchema(parameters)),
        [row["text"] for row in Card.read(checkpoint).sample[:1]],
        requirements(("onnxruntime",) if exported else ()),
        {FILE: exported} if exported else None,
    )
