"""Trained classifiers: one written into its run as an MLflow model, and read back from a URI."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from finetune.base_models import load_encoder, load_tokenizer
from finetune.checkpoints import CARD, load_card
from finetune.classification import Encoded, compute_logits, decide, encode_texts, join_pieces, to_scores
from finetune.console import InputError
from finetune.encoders import EncoderClassifier
from finetune.labels import Labels
from finetune.logged_models import METADATA_KEY, find_base, fingerprint, requirements
from finetune.onnx_model import FILE, OnnxModel
from finetune.quantization import from_record

import mlflow
import numpy as np
from mlflow.entities import Run
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map
from peft import PeftModel

# What a checkpoint needs to predict; the optimiser's state stays behind.
SERVED_FILES = ("adapter_*", "*token*", "vocab*", "merges.txt", "*.model", "*.json")
PACKAGE = Path(__file__).parent


@dataclass
class Classifier:
    """A model that takes texts as they are and returns labels with scores.

    Attributes:
        model: an EncoderClassifier with its adapter, or anything that is called like one.
        card: what was recorded in training: labels, thresholds, longest text.
    """

    model: Any
    tokenizer: Any
    card: dict

    @property
    def labels(self) -> Labels:
        """The task and its names."""
        return Labels(self.card["labels"]["task"], tuple(self.card["labels"]["names"]))

    def encode(self, texts: list[str]) -> Encoded:
        """Return the texts as pieces, cut or windowed as in training."""
        return encode_texts(self.tokenizer, texts, self.card["max_length"], self.card["long_texts"] == "window")

    def score(self, texts: list[str] | Encoded, batch_size: int = 32) -> np.ndarray:
        """Return probabilities, shape (texts, outputs)."""
        encoded = texts if isinstance(texts, Encoded) else self.encode(texts)
        logits = compute_logits(self.model, self.tokenizer, encoded.pieces, batch_size)
        return to_scores(join_pieces(logits, encoded.owners, self.labels), self.labels)

    def decide(self, scores: np.ndarray, threshold: float | None = None) -> np.ndarray:
        """Return 0 and 1 for each score, by the stored thresholds or by one for all labels.

        Raises:
            InputError: for a threshold outside of [0, 1], or where classes exclude each other.
        """
        if threshold is not None and self.labels.task == "multiclass":
            raise InputError("threshold: this model chooses the best of several classes; it has no threshold.")
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold {threshold:g} must lie between 0 and 1.")
        thresholds = self.card["thresholds"] if threshold is None else [threshold] * self.labels.outputs
        return decide(scores, self.labels, thresholds)

    def name(self, scores: np.ndarray, decided: np.ndarray) -> list[dict]:
        """Return for each text {"labels": names, "scores": {name: score}}."""
        labels = self.labels
        found = []
        for row, chosen in zip(scores, decided, strict=True):
            if labels.task == "binary":
                names = [labels.names[int(chosen[0])]]
            else:
                names = [name for name, on in zip(labels.names, chosen, strict=True) if on]
            found.append({"labels": names, "scores": dict(zip(labels.scored, map(float, row), strict=True))})
        return found


def load_classifier(checkpoint: Path, base_model: str | None = None, precision: str | None = None) -> Classifier:
    """Return the classifier of a checkpoint's folder, its base restored as it was trained.

    Args:
        base_model: folder or Hub id in place of the recorded base.
        precision: `fp32` for an unquantised base.

    Raises:
        InputError: when the base is gone or is not the one the adapter was trained on.
    """
    card = load_card(checkpoint)
    tokenizer = load_tokenizer(str(checkpoint), kind="encoder")
    if (checkpoint / FILE).is_file():
        return Classifier(OnnxModel(checkpoint / FILE), tokenizer, card)
    source, revision = find_base(card, base_model)
    if precision == "bf16":
        raise InputError("--precision bf16: a classifier's base is nf4 or fp32.")
    if precision == "nf4" and card["quantization"] is None:
        raise InputError("--precision nf4: this adapter was trained on an unquantised base; leave the flag out.")
    encoder = load_encoder(source, revision, None if precision == "fp32" else from_record(card["quantization"]))
    labels = card["labels"]
    outputs = Labels(labels["task"], tuple(labels["names"])).outputs
    try:
        model = PeftModel.from_pretrained(EncoderClassifier(encoder, outputs, card["pooling"]), checkpoint)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the base model {source} does not match the adapter ({str(error).splitlines()[0][:200]})."
            " Give the right base with --base-model."
        ) from error
    return Classifier(model.eval(), tokenizer, card)


def log_classifier(run: Run, checkpoint: Path, name: str, exported: Path | None = None) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`, with a reference to its base; return its model id.

    The model is a pyfunc from code: `served_classifier.py` and this package travel with it.

    Args:
        exported: an ONNX file to log in place of the adapter.
    """
    card = load_card(checkpoint)
    step = int(checkpoint.name.split("-")[1])
    card["step"] = step
    base = Path(card["base_model"])
    if base.is_dir():
        card["base_fingerprint"] = fingerprint(base)
    # The model belongs to the active experiment, and is not found by its run in another.
    mlflow.set_experiment(experiment_id=run.info.experiment_id)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        folder.mkdir()
        for path in (path for pattern in SERVED_FILES for path in checkpoint.glob(pattern)):
            if path.name != "trainer_state.json" and not (exported and path.match("adapter_*")):
                shutil.copy(path, folder)
        if exported:
            shutil.copy(exported, folder / FILE)
        (folder / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
        # mlflow.pyfunc.log_model is this without run_id: it would reopen a finished run.
        # MLflow would load the base to try the example out.
        with patch("mlflow.models.utils._validate_serving_input"):
            info = Model.log(
                artifact_path=None,
                name=name,
                flavor=mlflow.pyfunc,
                run_id=run.info.run_id,
                step=step,
                python_model=str(PACKAGE / "served_classifier.py"),
                artifacts={"checkpoint": str(folder)},
                code_paths=[str(PACKAGE)],
                model_config={"base_model": None, "precision": None},
                signature=_signature(),
                input_example=card["sample"][:1],
                pip_requirements=requirements(("onnxruntime",) if exported else ()),
                metadata={METADATA_KEY: json.dumps({k: v for k, v in card.items() if k != "sample"})},
                tags={"epoch": f"{card['epoch']:g}"},
            )
    return info.model_id


def _signature() -> ModelSignature:
    outputs = Schema([ColSpec(Array(DataType.string), "labels"), ColSpec(Map(DataType.double), "scores")])
    # Unnamed: one text, a list or a column `text` all fit; the model itself refuses another column.
    parameters = [ParamSpec("threshold", DataType.double, None), ParamSpec("batch_size", DataType.long, 32)]
    return ModelSignature(Schema([ColSpec(DataType.string)]), outputs, ParamSchema(parameters))
