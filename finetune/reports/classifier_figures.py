"""Figures of a classifier: per label, over all thresholds, and over the epochs."""

import matplotlib

matplotlib.use("Agg")  # No display; set before pyplot is imported.

from finetune.models.classifier.labels import Labels

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve

MAX_LABELS = 30  # More bars or curves than these cannot be told apart.


def label_bars(labels: Labels, per_label: list[dict], name: str) -> Figure:
    """Return precision and recall of each label as bars, with the number of its rows."""
    shown = list(zip(labels.scored, per_label, strict=True))[:MAX_LABELS]
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.5 * len(shown)))
    places = np.arange(len(shown))
    for offset, key in ((-0.2, "precision"), (0.2, "recall")):
        values = [row[key] for _, row in shown]
        axes.barh(places + offset, values, height=0.38, label=key)
        for place, value in zip(places, values, strict=True):
            axes.text(value + 0.01, place + offset, f"{value:.2f}", va="center", fontsize=8)
    axes.set_yticks(places, [f"{label} ({row['support']})" for label, row in shown])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.1), xlabel="at the chosen thresholds", title=f"{name}: precision and recall by label (rows)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return figure


def precision_recall_curves(labels: Labels, scores: np.ndarray, actual: np.ndarray, name: str) -> Figure:
    """Return a precision-recall curve for each label that occurs, with its average precision."""
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for label, column, truth in list(zip(labels.scored, scores.T, actual.T, strict=True))[:MAX_LABELS]:
        if truth.any():
            precision, recall, _ = precision_recall_curve(truth, column)
            axes.step(recall, precision, where="post", label=f"{label}: {average_precision_score(truth, column):.2f}")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=f"{name}: average precision")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    figure.tight_layout()
    return figure


def confusion(labels: Labels, decided: np.ndarray, actual: np.ndarray, name: str) -> Figure:
    """Return the confusion matrix of a task with one label a row."""
    if labels.task == "binary":
        truth, found = actual[:, 0].astype(int), decided[:, 0]
    else:
        truth, found = actual.argmax(axis=1), decided.argmax(axis=1)
    matrix = confusion_matrix(truth, found, labels=range(len(labels.names)))
    size = 3 + 0.5 * len(labels.names)
    figure, axes = pyplot.subplots(figsize=(size + 1, size))
    axes.imshow(matrix, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if count > matrix.max() / 2 else "black"
        axes.text(column, row, f"{count}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(labels.names)), labels.names, rotation=45, ha="right")
    axes.set_yticks(range(len(labels.names)), labels.names)
    axes.set(xlabel="found", ylabel="actual", title=f"{name}: rows")
    figure.tight_layout()
    return figure


def learning_curves(history: list[dict], metric: str) -> Figure:
    """Return the losses and the chosen metric by epoch, from `trainer.state.log_history`."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for axes, key, label in ((left, "loss", "training"), (left, "eval_loss", "validation"), (right, metric, metric)):
        points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), "-" if key == "loss" else "o-", label=label, markersize=4)
        axes.set(xlabel="epoch", title="Loss" if axes is left else metric)
        axes.set_ylim(bottom=0)
    left.legend()
    figure.tight_layout()
    return figure
