"""A classifier written as one ONNX file, base and adapter merged in full precision."""

import logging
import warnings
from pathlib import Path

from finetune import InputError
from finetune.models.card import ClassifierCard
from finetune.models.classifier.classifier import Classifier
from finetune.models.classifier.onnx_model import FILE
from finetune.models.restoring import Loading

import bitsandbytes as bnb
import torch
from transformers.pytorch_utils import Conv1D

logger = logging.getLogger(__name__)
SVM_OUTSIDE = (
    "the model's thresholds are for those and a share of its linear SVM, which predict.py and MLflow add; a program"
    " that runs the file by itself finds other labels. Train with --tfidf none for such a program."
)


def check_packages() -> None:
    """Raise InputError where a package that writes or runs ONNX is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"--export onnx needs {error.name}: pip install -r requirements-onnx.txt.") from error


def export_onnx(checkpoint: Path, folder: Path) -> Path:
    """Write the classifier of a checkpoint as `model.onnx` into a folder and return the file.

    Merging into the NF4 weights would round the adapter away. So the weights are what NF4 stands for, in
    float32, and the adapter is added to those: the scores are those of the trained model.
    """
    if ClassifierCard.read(checkpoint).tfidf:
        logger.warning(f"{FILE} has the adapter's logits alone: {SVM_OUTSIDE}")
    trained, plain = Classifier.load(checkpoint), Classifier.load(checkpoint, Loading(precision="fp32"))
    for name, module in trained.model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            weight = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            layer = plain.model.get_submodule(name)
            layer.weight.data = (weight.T if isinstance(layer, Conv1D) else weight).float().to("cpu")
    merged = plain.model.cpu().merge_and_unload().eval()
    example = plain.tokenizer(["one text", "another text that is longer"], padding=True, return_tensors="pt")
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    names = list(example)
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # no torchvision here
    with warnings.catch_warnings():
        # All inputs have the same two axes, which the exporter finds worth a warning each.
        warnings.filterwarnings("ignore", message=".*axis name: (batch|length) will not be used")
        torch.onnx.export(
            merged,
            (),
            folder / FILE,
            kwargs=dict(example),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes={name: {0: batch, 1: length} for name in names},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return folder / FILE
