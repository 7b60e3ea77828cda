"""How good a classifier is: thresholds chosen on rows, scores over a whole split, and its worst mistakes."""

import re

from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import decide
from metrics.unfair_tos.unfair_tos import score

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

MAIN_METRIC = {"multilabel": "macro_f1", "binary": "f1", "multiclass": "macro_f1"}
METRICS = {
    "multilabel": (
        "micro_f1", "macro_f1", "labels_micro_f1", "labels_macro_f1",
        "binary_f1", "binary_precision", "binary_recall", "binary_pr_auc",
    ),
    "binary": ("accuracy", "f1", "precision", "recall", "pr_auc"),
    "multiclass": ("accuracy", "micro_f1", "macro_f1"),
}  # fmt: skip
FOLDS, RESAMPLES = 5, 40
ODDS = np.arange(-9, 9.01, 0.125)  # log-odds that are tried as one threshold for all labels


def choose_thresholds(scores: np.ndarray, actual: np.ndarray) -> list[float]:
    """Return for each column a threshold for the best F1; 0.5 for one without positives.

    Rare labels are found at low scores: where one row in 200 is positive, few scores reach one half. The
    best threshold of a dozen positives is mostly chance, so the best ones of `RESAMPLES` bootstrap samples
    of the rows are averaged, as log-odds (bagging: Breiman 1996), and drawn towards one threshold for all labels
    (shrinkage: Efron and Morris 1975): the more, the further apart a label's samples are beside how far the labels are
    from that one. It is the one with the best mean F1 of all labels, of the same samples and averaged as they are.
    """
    if not len(scores):
        return [0.5] * scores.shape[1]
    random = np.random.default_rng(0)
    samples = [random.multinomial(len(scores), np.full(len(scores), 1 / len(scores))) for _ in range(RESAMPLES)]
    odds, spread, together = np.zeros(scores.shape[1]), np.zeros(scores.shape[1]), np.zeros((RESAMPLES, len(ODDS)))
    for label, (column, truth) in enumerate(zip(scores.T.astype(np.float64), actual.T > 0, strict=True)):
        order = np.argsort(-column, kind="stable")
        ranked, hits = column[order], truth[order]
        f1 = np.array([_f1_by_rank(hits, counts[order]) for counts in samples])
        best = [_best_threshold(ranked, one) for one in f1 if one.any()]
        if best:
            drawn = _log_odds(np.array(best))
            odds[label], spread[label] = drawn.mean(), max(drawn.var(), 1 / truth.sum())  # One row is always the cut.
            taken = np.searchsorted(-_log_odds(ranked), -ODDS, side="right")
            together += np.where(taken > 0, f1[:, taken - 1], 0)
    there = (spread > 0) & np.isfinite(odds)
    if there.sum() > 1:
        is_best = together >= together.max(axis=1, keepdims=True) - 1e-9
        common = ((is_best * ODDS).sum(axis=1) / is_best.sum(axis=1)).mean()  # the middle of those that are equal
        between = ((odds[there] - common) ** 2).mean()
        odds[there] += (common - odds[there]) * spread[there] / (spread[there] + between)
    return (1 / (1 + np.exp(-odds))).tolist()


def _log_odds(scores: np.ndarray) -> np.ndarray:
    bounded = np.clip(scores, 1e-4, 1 - 1e-4)
    return np.log(bounded / (1 - bounded))


def _f1_by_rank(truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return F1 where the first row is taken, the first two, ..., each row counted so many times."""
    hits, taken = (truth * counts).cumsum(), counts.cumsum()
    return 2 * hits / np.maximum(1, taken + hits[-1])


def _best_threshold(ranked: np.ndarray, f1: np.ndarray) -> float:
    """Return the threshold with the best F1 for falling scores."""
    f1 = f1.copy()
    f1[:-1][ranked[:-1] == ranked[1:]] = 0  # No threshold lies between equal scores.
    best = int(f1.argmax())
    return float((ranked[best] + (ranked[best + 1] if best + 1 < len(ranked) else 0)) / 2)


def decide_crossfitted(scores: np.ndarray, labels: Labels, actual: np.ndarray) -> np.ndarray:
    """Return decisions for which the thresholds of each fifth were chosen on the other four.

    A threshold that is scored on the rows it was chosen on flatters: with ten positives a label by points.
    """
    if labels.task == "multiclass":
        return decide(scores, labels, None)
    decided, fold = np.zeros(scores.shape, dtype=np.int64), np.arange(len(scores)) % FOLDS
    for held_out in range(FOLDS):
        others = fold != held_out
        decided[~others] = decide(scores[~others], labels, choose_thresholds(scores[others], actual[others]))
    return decided


def score_labels(labels: Labels, scores: np.ndarray, decided: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """Return the task's `METRICS`, and for each label `f1/NAME`, `precision/NAME`, `recall/NAME`.

    All over the whole split. `micro_f1` and `macro_f1` of a multi-label task count "none of them" as one
    more class, as LexGLUE does (Chalkidis et al., arXiv 2110.00976).
    """
    actual, per_label = actual.astype(np.int64), score_columns(decided, actual)
    if labels.task == "multilabel":
        found = score(decided, actual)
        del found["per_label"]
        found["binary_pr_auc"] = _pr_auc(actual.any(axis=1), scores.max(axis=1))
    else:
        found = {"accuracy": float((decided == actual).all(axis=1).mean())}
        if labels.task == "binary":
            one = {name: per_label[0][name] for name in ("f1", "precision", "recall")}
            return found | one | {"pr_auc": _pr_auc(actual[:, 0], scores[:, 0])}
        for average in ("micro", "macro"):
            found[f"{average}_f1"] = float(f1_score(actual, decided, average=average, zero_division=0))
    for name, values in zip(labels.names, per_label, strict=True):
        safe = re.sub(r"[^\w .:-]", "_", name)  # MLflow takes letters, digits and a few signs.
        found |= {f"{key}/{safe}": values[key] for key in ("f1", "precision", "recall")}
    return found


def score_columns(decided: np.ndarray, actual: np.ndarray) -> list[dict]:
    """Return for each column precision, recall, f1 and support, the number of its rows."""
    found = []
    for column, truth in zip(decided.T, actual.T, strict=True):
        values = precision_recall_fscore_support(truth > 0, column > 0, average="binary", zero_division=0)[:3]
        row = dict(zip(("precision", "recall", "f1"), map(float, values), strict=True))
        found.append(row | {"support": int(truth.sum())})
    return found


def _pr_auc(actual: np.ndarray, scores: np.ndarray) -> float:
    return float(average_precision_score(actual, scores)) if actual.any() else 0.0


def confident_mistakes(
    labels: Labels, texts: list[str], scores: np.ndarray, decided: np.ndarray, actual: np.ndarray, limit: int = 50
) -> list[dict]:
    """Return the wrong decisions that the scores were surest of, as rows of a table."""
    wrong = np.argwhere(decided != actual)
    if labels.task == "multiclass":  # A wrong class is one mistake, shown at the class that was chosen.
        wrong = wrong[decided[tuple(wrong.T)] == 1]
    sure = np.array([scores[r, c] if decided[r, c] else 1 - scores[r, c] for r, c in wrong])
    return [
        {
            "text": texts[row],
            "label": labels.scored[column],
            "mistake": "not there, but found" if decided[row, column] else "there, but missed",
            "score": round(float(scores[row, column]), 4),
            "actual": ", ".join(name for name, on in zip(labels.scored, actual[row], strict=True) if on) or "none",
        }
        for row, column in wrong[np.argsort(-sure, kind="stable")][:limit]
    ]
