"""Trained classifiers: texts to labels with scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from finetune import InputError
from finetune.models.bases.loading import load_encoder, load_tokenizer
from finetune.models.bases.quantization import DTYPES, prediction_dtype
from finetune.models.bases.tokenizers import fit_to_vocabulary
from finetune.models.card import Card, ClassifierCard
from finetune.models.classifier.encoder import EncoderClassifier, load_merged
from finetune.models.classifier.labels import Labels
from finetune.models.classifier.onnx_model import FILE, OnnxModel
from finetune.models.classifier.scoring import (
    Encoded,
    add_distances,
    compute_logits,
    decide,
    encode_texts,
    join_pieces,
    to_scores,
)
from finetune.models.classifier.tfidf import TfidfSvm
from finetune.models.parameters import check_parameters
from finetune.models.restoring import (
    AS_TRAINED,
    MERGED,
    Loading,
    attach_adapter,
    find_base,
    recorded,
    refuse_base,
    restored_quantization,
)

import numpy as np


@dataclass
class Classifier:
    """A model that takes texts as they are and returns labels with scores.

    Attributes:
        model: an EncoderClassifier with its adapter, or anything that is called like one.
        card: what was recorded in training: labels, thresholds, longest text.
        svm: whose distances are added to the logits, in the card's share; None for the adapter alone.
    """

    model: Any
    tokenizer: Any
    card: ClassifierCard
    svm: TfidfSvm | None = None

    columns: ClassVar[tuple[str, ...]] = ("text",)
    parameters: ClassVar[dict] = {"threshold": None}
    forms: ClassVar[tuple[str, ...]] = ("adapter", MERGED, FILE)
    checked_by: ClassVar[str] = "scores"
    by_epoch: ClassVar[bool] = True

    @classmethod
    def load(cls, folder: Path, loading: Loading = AS_TRAINED, card: Card | None = None) -> "Classifier":
        """Return the classifier of a folder, as `SqlWriter.load` does; what is not quantised computes in float32."""
        card = card or ClassifierCard.read(folder)
        assert isinstance(card, ClassifierCard)  # `kind_of` has asked.
        card = recorded(card, loading)
        tokenizer = load_tokenizer(str(folder), kind="encoder")
        svm = TfidfSvm.of(folder, card)
        if (folder / FILE).is_file():
            if loading.compute_dtype in DTYPES:
                asked = f"--compute-dtype {loading.compute_dtype}"
                raise InputError(f"{asked}: an ONNX model is in float32; leave the flag out.")
            return cls(OnnxModel(folder / FILE), tokenizer, card, svm)
        if (folder / MERGED).is_dir():
            refuse_base(loading)
            if loading.compute_dtype in DTYPES:
                raise InputError("a merged classifier is in float32; leave out --compute-dtype.")
            return cls(load_merged(folder / MERGED, card.labels.outputs, card.pooling), tokenizer, card, svm)
        source, revision = find_base(card, loading.base_model)
        if loading.precision == "bf16":
            raise InputError("--precision bf16: a classifier's base is nf4 or fp32.")
        computed = prediction_dtype(card, loading.compute_dtype)
        encoder = load_encoder(source, revision, restored_quantization(card, loading.precision, computed))
        fit_to_vocabulary(tokenizer, encoder.config, str(folder))
        model = attach_adapter(EncoderClassifier(encoder, card.labels.outputs, card.pooling), folder, source)
        return cls(model.eval(), tokenizer, card, svm)

    @property
    def labels(self) -> Labels:
        """The task and its names."""
        return self.card.labels

    def encode(self, rows: list[dict]) -> Encoded:
        """Return the texts of rows as pieces, cut or windowed as in training."""
        texts = [row["text"] for row in rows]
        return encode_texts(self.tokenizer, texts, self.card.max_length, self.card.long_texts == "window")

    def score(self, texts: list[str] | Encoded, batch_size: int = 32) -> np.ndarray:
        """Return probabilities, shape (texts, outputs)."""
        encoded = texts if isinstance(texts, Encoded) else self.encode([{"text": text} for text in texts])
        return self.to_scores(self.logits(encoded, batch_size), encoded.texts)

    def logits(self, encoded: Encoded, batch_size: int = 32) -> np.ndarray:
        """Return the logits of encoder and adapter alone, shape (texts, outputs)."""
        logits = compute_logits(self.model, self.tokenizer, encoded.pieces, batch_size)
        return join_pieces(logits, encoded.owners, self.labels)

    def to_scores(self, logits: np.ndarray, texts: list[str]) -> np.ndarray:
        """Return probabilities from such logits of texts, with the SVM's share where there is one."""
        if self.svm and self.card.tfidf:
            logits = add_distances(logits, self.svm.distances(texts), self.card.tfidf["share"])
        return to_scores(logits, self.labels)

    def answer(self, encoded: Encoded, batch_size: int = 32, threshold: float | None = None) -> list[dict]:
        """Return for each text {"labels": names, "scores": {name: score}}; see `decide`."""
        scores = self.score(encoded, batch_size)
        return self.name(scores, self.decide(scores, threshold))

    def line(self, answer: dict) -> str:
        """Return the labels with their scores in one line."""
        scores = answer["scores"]
        shown = [f"{name} {scores[name]:.2f}" if name in scores else name for name in answer["labels"]]
        return ", ".join(shown) or "none"

    def finds(self, answer: dict) -> bool:
        """Say whether a text has a label; of two that exclude each other, the second."""
        labels = self.labels
        return labels.names[1] in answer["labels"] if labels.task == "binary" else bool(answer["labels"])

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
