"""Trained classifiers: one written into its run as an MLflow model, and read back from a URI."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune import InputError
from finetune.models.bases.loading import load_encoder, load_tokenizer
from finetune.models.bases.quantization import DTYPES, prediction_dtype
from finetune.models.bases.tokenizers import fit_to_vocabulary
from finetune.models.card import ClassifierCard, Long
from finetune.models.classifier.encoder import EncoderClassifier
from finetune.models.classifier.labels import Labels
from finetune.models.classifier.onnx_model import FILE, OnnxModel
from finetune.models.classifier.scoring import Encoded, compute_logits, decide, encode_texts, join_pieces, to_scores
from finetune.models.parameters import check_parameters
from finetune.models.restoring import attach_adapter, find_base, restored_quantization

import numpy as np


@dataclass
class Classifier:
    """A model that takes texts as they are and returns labels with scores.

    Attributes:
        model: an EncoderClassifier with its adapter, or anything that is called like one.
        card: what was recorded in training: labels, thresholds, longest text.
    """

    model: Any
    tokenizer: Any
    card: ClassifierCard

    @property
    def labels(self) -> Labels:
        """The task and its names."""
        return self.card.labels

    def encode(self, texts: list[str]) -> Encoded:
        """Return the texts as pieces, cut or windowed as in training."""
        return encode_texts(self.tokenizer, texts, self.card.max_length, self.card.long_texts == "window")

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
        check_threshold(self.card, threshold)
        thresholds = self.card.thresholds if threshold is None else [threshold] * self.labels.outputs
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


def check_threshold(card: ClassifierCard, threshold: float | None) -> None:
    """Raise InputError for a threshold outside of [0, 1], or where the model's classes exclude each other."""
    if threshold is not None and card.labels.task == "multiclass":
        raise InputError("threshold: this model chooses the best of several classes; it has no threshold.")
    if threshold is None and card.labels.task != "multiclass" and card.thresholds is None:
        raise InputError("this checkpoint was saved before its first evaluation: it has no thresholds; give one.")
    check_parameters({} if threshold is None else {"threshold": threshold}, {"threshold": None})


def load_classifier(
    checkpoint: Path,
    base_model: str | None = None,
    precision: str | None = None,
    compute_dtype: str = "recorded",
    long_texts: Long | None = None,
) -> Classifier:
    """Return the classifier of a checkpoint's folder, its base restored as it was trained.

    Args:
        base_model: folder or Hub id in place of the recorded base.
        precision: `fp32` for an unquantised base.
        compute_dtype: one of `PREDICTION_DTYPES`: of the 4-bit layers; what is not quantised is in float32.
        long_texts: `truncate` or `window` in place of what training did with a text that is too long.

    Raises:
        InputError: when the base is gone or is not the one the adapter was trained on.
    """
    card = ClassifierCard.read(checkpoint)
    card = replace(card, long_texts=long_texts or card.long_texts)
    tokenizer = load_tokenizer(str(checkpoint), kind="encoder")
    if (checkpoint / FILE).is_file():
        if compute_dtype in DTYPES:
            raise InputError(f"--compute-dtype {compute_dtype}: an ONNX model is in float32; leave the flag out.")
        return Classifier(OnnxModel(checkpoint / FILE), tokenizer, card)
    source, revision = find_base(card, base_model)
    if precision == "bf16":
        raise InputError("--precision bf16: a classifier's base is nf4 or fp32.")
    quantization = restored_quantization(card, precision, prediction_dtype(card, compute_dtype))
    encoder = load_encoder(source, revision, quantization)
    fit_to_vocabulary(tokenizer, encoder.config, str(checkpoint))
    model = attach_adapter(EncoderClassifier(encoder, card.labels.outputs, card.pooling), checkpoint, source)
    return Classifier(model.eval(), tokenizer, card)
