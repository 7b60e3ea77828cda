"""A linear SVM on TF-IDF beside a classifier: its distances are added to the classifier's logits, in a chosen share.

It counts as scikit-learn's `TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True)` and `LinearSVC` do, but without
scikit-learn, which a served model need not have; one safetensors file holds it.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from finetune import InputError
from finetune.models.card import ClassifierCard
from finetune.models.files.schemas import listed, reason, text

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

FILE = "tfidf.safetensors"
NGRAMS = (1, 3)  # words
WORD = re.compile(r"\b\w\w+\b")  # of TfidfVectorizer
MEND = "take another checkpoint, or log the model again with log_model.py"
TERMS = listed(text(least=1), 0, 10**7)
ROWS = {"idf": ("terms",), "weights": ("terms", "outputs"), "intercepts": ("outputs",)}


@dataclass(frozen=True)
class TfidfSvm:
    """What was learned: terms of one to three words, their inverse document frequencies, and a weight for each output.

    `idf` has the shape (terms,), `weights` (terms, outputs), `intercepts` (outputs,); all float32.
    """

    terms: list[str]
    idf: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray

    @cached_property
    def places(self) -> dict[str, int]:
        """The number of each term."""
        return {term: place for place, term in enumerate(self.terms)}

    def distances(self, texts: list[str]) -> np.ndarray:
        """Return the signed distances of whole texts, however long, shape (texts, outputs), float32."""
        found = np.empty((len(texts), len(self.intercepts)), dtype=np.float32)
        for row, given in enumerate(texts):
            found[row] = self._distance(given)
        return found

    def _distance(self, given: str) -> np.ndarray:
        words = WORD.findall(given.lower())
        counts = Counter(
            " ".join(words[start : start + size])
            for size in range(NGRAMS[0], NGRAMS[1] + 1)
            for start in range(len(words) - size + 1)
        )
        known = sorted((self.places[term], count) for term, count in counts.items() if term in self.places)
        if not known:
            return self.intercepts
        places, often = np.array(known).T
        values = (1 + np.log(often)) * self.idf[places].astype(np.float64)
        return values / np.linalg.norm(values) @ self.weights[places] + self.intercepts

    @cached_property
    def data(self) -> bytes:
        """The file."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ROWS}
        return safetensors.numpy.save(arrays, {"terms": json.dumps(self.terms, ensure_ascii=False)})

    @cached_property
    def digest(self) -> str:
        """The SHA-256 digest of the file."""
        return hashlib.sha256(self.data).hexdigest()

    @classmethod
    def of(cls, folder: Path, card: ClassifierCard) -> "TfidfSvm | None":
        """Return the SVM that a card says is in its folder; None where the adapter stands alone."""
        return cls.read(folder, card.tfidf["digest"], card.labels.outputs) if card.tfidf else None

    @classmethod
    def read(cls, folder: Path, digest: str, outputs: int) -> "TfidfSvm":
        """Return what the file in a folder holds.

        Raises:
            InputError: it is missing, is not what the card's digest is of, or does not fit.
        """
        path = folder / FILE
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise InputError(f"{path} is not what was saved: its digest is another one than the card says; {MEND}.")
            with safe_open(path, "np") as file:
                terms = json.loads((file.metadata() or {}).get("terms", ""))
                arrays = {name: file.get_tensor(name) for name in ROWS}
        except (OSError, ValueError, SafetensorError, RecursionError) as error:
            raise InputError(f"{path} cannot be read: {reason(error)}; {MEND}.") from error
        if not TERMS[1](terms) or len(set(terms)) != len(terms):
            raise InputError(f"{path} is damaged: its terms are no list of different texts; {MEND}.")
        sizes = {"terms": len(terms), "outputs": outputs}
        for name, shape in ROWS.items():
            expected, found = tuple(sizes[size] for size in shape), arrays[name]
            if found.shape != expected or found.dtype != np.float32 or not np.isfinite(found).all():
                raise InputError(
                    f"{path} is damaged: {name} is {found.dtype} of shape {found.shape}; expected finite float32 of"
                    f" shape {expected}; {MEND}."
                )
        return cls(terms, **arrays)
