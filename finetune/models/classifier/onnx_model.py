"""An exported classifier, run by ONNX Runtime in place of base and adapter."""

from pathlib import Path
from types import SimpleNamespace

from finetune import InputError

import numpy as np
import torch

FILE = "model.onnx"


class OnnxModel:
    """An exported classifier that is called like the trained one."""

    device, training = torch.device("cpu"), False

    def __init__(self, file: Path):
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                "this model needs ONNX Runtime: pip install -r requirements-onnx.txt, or onnxruntime alone."
            ) from error
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]

    def __call__(self, **batch: torch.Tensor) -> SimpleNamespace:
        """Return logits of shape (texts, outputs)."""
        (logits,) = self.session.run(None, {name: batch[name].numpy().astype(np.int64) for name in self.inputs})
        return SimpleNamespace(logits=torch.from_numpy(logits))

    def eval(self) -> None:
        """There is nothing to switch off."""

    def train(self, mode: bool) -> None:
        """There is nothing to switch on."""
