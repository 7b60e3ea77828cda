"""Summarizers written into their run as MLflow models, with their base by reference or merged."""

import tempfile
from pathlib import Path

from finetune.logged_models.writing.code_models import log_code_model, requirements
from finetune.models.bases.loading import load_encoder_decoder, load_tokenizer
from finetune.models.bases.quantization import recorded_dtype
from finetune.models.card import SummarizerCard
from finetune.models.generation import DEFAULTS
from finetune.models.restoring import attach_adapter, find_base, restored_quantization
from finetune.models.summarizer.summarizer import MERGED

import pandas as pd
from mlflow.entities import Run
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

TYPES = {bool: DataType.boolean, int: DataType.long, float: DataType.double}


def merge(checkpoint: Path, folder: Path) -> Path:
    """Write base and adapter of a checkpoint as one plain model into a folder and return it.

    Merging into the NF4 weights would round the adapter away, and the unquantised base is not the one that was
    trained on. So the weights are what NF4 stands for, in float32, and the adapter is added to those.
    """
    card = SummarizerCard.read(checkpoint)
    source, revision = find_base(card, None)
    base = load_encoder_decoder(source, revision, restored_quantization(card, None, recorded_dtype(card)))
    if card.quantization:
        base = base.dequantize().float()
    merged = attach_adapter(base, checkpoint, source).merge_and_unload()
    merged.save_pretrained(folder)
    load_tokenizer(str(checkpoint), kind="encoder-decoder").save_pretrained(folder)
    return folder


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
    with tempfile.TemporaryDirectory() as scratch:
        return log_code_model(
            run,
            checkpoint,
            name,
            "summarizer/served.py",
            signature,
            pd.DataFrame({"article": [card.sample[0]["article"]]}),
            requirements(("datasets", "nupunkt", "beautifulsoup4")),
            {MERGED: merge(checkpoint, Path(scratch) / MERGED)} if form == MERGED else None,
        )
