"""Classifiers written into their run as MLflow models."""

from collections.abc import Callable
from pathlib import Path

from finetune.logged_models.writing.code_models import log_code_model, requirements
from finetune.logged_models.writing.onnx_export import export_onnx
from finetune.logged_models.writing.weights.merging import merge_for
from finetune.models.card import Card
from finetune.models.classifier.onnx_model import FILE
from finetune.models.restoring import MERGED

from mlflow.entities import Run
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Map


def log_classifier(run: Run, checkpoint: Path, name: str, form: str = "adapter") -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`; return its model id.

    Args:
        form: `adapter`, with a reference to the base, `merged`: one plain model that needs no base, or `model.onnx`:
            one exported file in its place.
    """
    outputs = Schema([ColSpec(Array(DataType.string), "labels"), ColSpec(Map(DataType.double), "scores")])
    # Unnamed: one text, a list or a column `text` all fit; the model itself refuses another column. Of any type: of
    # null and numbers MLflow would make texts for a column of strings, and the model could not refuse them.
    parameters = [ParamSpec("threshold", DataType.double, None), ParamSpec("batch_size", DataType.long, 32)]
    instead: dict[str, Callable[[Path], object]] = {}
    if form == FILE:
        instead = {FILE: lambda file: export_onnx(checkpoint, file.parent)}
    elif form == MERGED:
        instead = {MERGED: merge_for(run, checkpoint).write}
    return log_code_model(
        run,
        checkpoint,
        name,
        "classifier/served.py",
        ModelSignature(Schema([ColSpec(AnyType())]), outputs, ParamSchema(parameters)),
        Card.read(checkpoint).sample[:1],
        requirements(("onnxruntime",) if form == FILE else ()),
        instead,
    )
