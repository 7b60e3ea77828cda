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
MAX_WEIGHTS = 10_000_000  # terms x outputs: 40 MB in each checkpoint
MAX_OUTPUTS = 300  # more take many minutes, here and in each evaluation
MAX_CHARACTERS = 40_000_000  # of texts, where outputs are few: about a minute of one core
LIKE_COUNTING = 20  # outputs that take as long as counting the words
LONGEST_TERM = 100  # characters: longer ones are no words, and the file's list of terms has a limit


def takes(outputs: int) -> bool:
    """Say whether an SVM is fitted for so many outputs; warn where it is not."""
    if outputs > MAX_OUTPUTS:
        logger.warning(
            f"no linear SVM is fitted beside the model: it takes at most {MAX_OUTPUTS} labels, and these are {outputs}."
        )
    return outputs <= MAX_OUTPUTS


def fit_svm(rows: LabelledTexts, kept: np.ndarray | None = None) -> TfidfSvm:
    """Return the SVM of training rows: one against the rest for each output.

    Args:
        kept: the numbers of those that are read, of `some_of`; None for all of them.
    """
    start, kept = time.monotonic(), np.arange(len(rows.texts)) if kept is None else kept
    texts, actual = [rows.texts[row] for row in kept], rows.actual[kept] > 0
    outputs = actual.shape[1]
    logger.info(f"fitting a linear SVM on TF-IDF beside the model: {len(texts)} training texts, outputs: {outputs}")
    counter = _counter(min(MAX_TERMS, MAX_WEIGHTS // outputs))
    try:
        known = counter.fit_transform(texts)
    except ValueError:  # None of the texts has a word of two letters.
        none = np.zeros((0, outputs), np.float32)
        return TfidfSvm([], np.zeros(0, np.float32), none, np.zeros(outputs, np.float32))
    fitted = [fit_column(known, column) for column in actual.T]
    weights, intercepts = (np.stack(part, axis=-1).astype(np.float32) for part in zip(*fitted, strict=True))
    terms = counter.get_feature_names_out().tolist()
    logger.info(f"a linear SVM on TF-IDF of {len(terms)} terms, fitted in {time.monotonic() - start:.1f} s")
    return TfidfSvm(terms, counter.idf_.astype(np.float32), weights, intercepts)


def _counter(terms: int) -> TfidfVectorizer:
    """Return what counts the most frequent terms of texts, so many at most, none longer than `LONGEST_TERM`."""
    split = TfidfVectorizer(ngram_range=NGRAMS).build_analyzer()

    def short(text: str) -> list[str]:
        return [term for term in split(text) if len(term) <= LONGEST_TERM]

    return TfidfVectorizer(analyzer=short, sublinear_tf=True, max_features=terms)


def some_of(texts: list[str], outputs: int, seed: int = 0) -> np.ndarray:
    """Return the numbers of as many texts as about a minute is enough for, in their order: all where they are few.

    At least one, drawn by the seed. A warning says how many, where they are not all.
    """
    most = MAX_CHARACTERS / (1 + outputs / LIKE_COUNTING)
    order = np.random.default_rng(seed).permutation(len(texts))
    before = np.cumsum([0, *(len(texts[row]) for row in order[:-1])])
    kept = np.sort(order[before < most])
    if len(kept) < len(texts):
        logger.warning(f"the linear SVM reads {len(kept)} of {len(texts)} training texts, as many as are quick.")
    return kept


def fit_column(known: csr_matrix, truth: np.ndarray) -> tuple[np.ndarray, np.float64]:
    """Return weights and intercept of one output; where all rows or none have it, the same distance for every text."""
    if truth.all() or not truth.any():
        return np.zeros(known.shape[1]), np.float64(1 if truth.all() else -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # Near enough is enough.
        # The dual problem, which has few unknowns where there are more terms than texts.
        fitted = LinearSVC(random_state=0, dual=True).fit(known, truth)
    return fitted.coef_[0], fitted.intercept_[0]


def warn_of_unknown(svm: TfidfSvm, distances: np.ndarray) -> None:
    """Warn where most held-out texts have no term that the SVM knows: of those it says nothing.

    Args:
        distances: of the texts, shape (texts, outputs).
    """
    unknown = int((distances == svm.intercepts).all(axis=1).sum())
    if unknown > len(distances) / 2 and (svm.weights.any() or not svm.terms):
        logger.warning(
            f"{unknown} of {len(distances)} validation texts have no word that the linear SVM knows, so that it is no"
            " measure for the model: its words are what stands between blanks and signs, and Chinese, Japanese and"
            " Thai are written without blanks."
        )
