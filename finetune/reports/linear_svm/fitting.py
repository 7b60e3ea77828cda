"""A linear SVM on TF-IDF, fitted on the rows that the classifier is trained on."""

import logging
import time
import warnings

from finetune.models.classifier.tfidf import NGRAMS, TfidfSvm
from finetune.rows.labelled_texts import LabelledTexts

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

logger = logging.getLogger(__name__)
MAX_TERMS = 50_000  # the most frequent: benchmarks/LOG.md
MAX_CHARACTERS = 10_000_000  # of texts: more take minutes and gigabytes


def fit_svm(rows: LabelledTexts, seed: int = 0) -> TfidfSvm:
    """Return the SVM of training rows: one against the rest for each output.

    Args:
        seed: chooses the texts where there are more than `MAX_CHARACTERS`.
    """
    start, kept = time.monotonic(), some_of(rows.texts, seed)
    if len(kept) < len(rows.texts):
        logger.warning(f"the linear SVM reads {len(kept)} of {len(rows.texts)} training texts, as many as are quick.")
    texts, actual = [rows.texts[row] for row in kept], rows.actual[kept] > 0
    counter = TfidfVectorizer(ngram_range=NGRAMS, sublinear_tf=True, max_features=MAX_TERMS)
    try:
        known = counter.fit_transform(texts)
    except ValueError:  # None of the texts has a word of two letters.
        outputs = actual.shape[1]
        none = np.zeros((0, outputs), np.float32)
        return TfidfSvm([], np.zeros(0, np.float32), none, np.zeros(outputs, np.float32))
    fitted = [fit_column(known, column) for column in actual.T]
    weights, intercepts = (np.stack(part, axis=-1).astype(np.float32) for part in zip(*fitted, strict=True))
    terms = counter.get_feature_names_out().tolist()
    logger.info(f"a linear SVM on TF-IDF of {len(terms)} terms, fitted in {time.monotonic() - start:.1f} s")
    return TfidfSvm(terms, counter.idf_.astype(np.float32), weights, intercepts)


def some_of(texts: list[str], seed: int) -> np.ndarray:
    """Return the numbers of as many texts as have `MAX_CHARACTERS` together, in their order: all where they have not.

    At least one, drawn by the seed.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    before = np.cumsum([0, *(len(texts[row]) for row in order[:-1])])
    return np.sort(order[before < MAX_CHARACTERS])


def fit_column(known: csr_matrix, truth: np.ndarray) -> tuple[np.ndarray, np.float64]:
    """Return weights and intercept of one output; where all rows or none have it, the same distance for every text."""
    if truth.all() or not truth.any():
        return np.zeros(known.shape[1]), np.float64(1 if truth.all() else -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # Near enough is enough.
        # The dual problem, which has few unknowns where there are more terms than texts.
        fitted = LinearSVC(random_state=0, dual=True).fit(known, truth)
    return fitted.coef_[0], fitted.intercept_[0]
