"""Summarizers written into their run as MLflow models, with their base by reference or merged."""

from pathlib import Path

from finetune.logged_models.writing.code_models import log_code_model, requirements
from finetune.logged_models.writing.weights.merging import merge_for
from finetune.models.card import SummarizerCard
from finetune.models.generation import DEFAULTS
from finetune.models.restoring import MERGED

import pandas as pd
from mlflow.entities import Run
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

TYPES = {bool: DataType.boolean, int: DataType.long, float: DataType.double}


def log_summarizer(run: Run, checkpoint: Path, name: str, form: str = "adapter") -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`; return its model id.

    Args:
        form: `adapter`, with a reference to the base, or `merged`: one plain model that needs no base.
    """
    card = SummarizerCard.read(checkpoint)
    parameters = DEFAULTS | card.generation | {"batch_size": 16}
    signature = ModelSignature(
        # Of any type: see `log_classifier`.
        Schema([ColSpec(AnyType(), "article")]),
        Schema([ColSpec(DataType.string, "summary")]),
        ParamSchema([ParamSpec(name, TYPES[type(value)], value) for name, value in parameters.items()]),
    )
    return log_code_model(
        run,
        checkpoint,
        name,
        "summarizer/served.py",
        signature,
        pd.DataFrame({"article": [card.sample[0]["article"]]}),
        requirements(("datasets", "nupunkt", "beautifulsoup4")),
        {MERGED: merge_for(run, checkpoint).write} if form == MERGED else None,
    )
