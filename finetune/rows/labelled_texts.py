"""Labelled texts: read from rows, those without a text left out, and encoded."""

from dataclasses import dataclass

from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import Encoded, encode_texts, warn_of_long_texts

import numpy as np
from datasets import Dataset


@dataclass
class LabelledTexts:
    """Texts, their labels as 0 and 1 of shape (texts, outputs), and their token ids.

    `documents` names what each text is a part of, where all rows have a column `document`.
    """

    texts: list[str]
    actual: np.ndarray
    encoded: Encoded
    documents: list[str] | None = None

    @classmethod
    def encode(cls, rows: list[dict], labels: Labels, tokenizer, max_length: int, window: bool, what: str):
        """Return rows with `text` and labels, encoded; texts longer than `max_length` are counted in the log."""
        texts = [row["text"] for row in rows]
        encoded = encode_texts(tokenizer, texts, max_length, window)
        warn_of_long_texts(encoded.long_texts, len(texts), max_length, window, what)
        documents = [str(row["document"]) for row in rows if row.get("document") is not None]
        return cls(texts, labels.encode(rows, what), encoded, documents if len(documents) == len(rows) else None)

    def take(self, indices: list[int]) -> "LabelledTexts":
        """Return some of the texts; for a part without windows."""
        pieces = [self.encoded.pieces[index] for index in indices]
        texts = [self.texts[index] for index in indices]
        encoded = Encoded(pieces, np.arange(len(pieces)), self.encoded.long_texts, texts)
        documents = [self.documents[index] for index in indices] if self.documents else None
        return LabelledTexts(texts, self.actual[indices], encoded, documents)

    def dataset(self) -> Dataset:
        """Return the pieces with the labels of their texts, for the Trainer."""
        targets = self.actual[self.encoded.owners].tolist()
        return Dataset.from_list(
            [piece | {"labels": target} for piece, target in zip(self.encoded.pieces, targets, strict=True)]
        )
