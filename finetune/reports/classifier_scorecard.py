"""The scorecard of a classifier on labelled texts: what it says, what is right, and what a run shows of it."""

from dataclasses import dataclass

from finetune.models.classifier.classifier import Classifier
from finetune.models.classifier.labels import Labels
from finetune.progress_line import Progress
from finetune.reports import classifier_figures, figures
from finetune.reports.classifier_scores import METRICS, confident_mistakes, score_columns, score_labels
from finetune.rows.labelled_texts import LabelledTexts
from finetune.runs import tracking

import numpy as np
from mlflow.data.dataset import Dataset


@dataclass
class ClassifierScorecard:
    """Scores and decisions for labelled texts, arrays of shape (texts, outputs); logits are the adapter's alone."""

    labels: Labels
    texts: list[str]
    scores: np.ndarray
    decided: np.ndarray
    actual: np.ndarray
    logits: np.ndarray

    @property
    def metrics(self) -> dict[str, float]:
        """All scores over the whole split; see `score_labels`."""
        return score_labels(self.labels, self.scores, self.decided, self.actual)

    @property
    def per_label(self) -> list[dict]:
        """For each label its precision, recall, F1 and the number of its rows."""
        return score_columns(self.decided, self.actual)

    def headline(self, title: str) -> str:
        """Return the scorecard in a line."""
        found = [f"{name} {self.metrics[name]:.3f}" for name in METRICS[self.labels.task][:3]]
        return f"{title}: {', '.join(found)} on {len(self.texts)} texts"

    def format(self, title: str) -> str:
        """Return the scorecard as a table for the terminal."""
        metrics = self.metrics
        lines = [f"{title}: {len(self.texts)} texts, {int(self.actual.any(axis=1).sum())} with a label"]
        lines += [f"  {name:<30}{metrics[name]:>8.3f}" for name in METRICS[self.labels.task]]
        width = max(30, *(len(name) + 2 for name in self.labels.scored))
        lines.append(f"  {'':<{width}}{'rows':>6}{'precision':>11}{'recall':>8}{'F1':>8}")
        for name, row in zip(self.labels.scored, self.per_label, strict=True):
            numbers = f"{row['support']:>6}{row['precision']:>11.3f}{row['recall']:>8.3f}{row['f1']:>8.3f}"
            lines.append(f"  {name:<{width}}{numbers}")
        return "\n".join(lines)

    def log(self, name: str, run_id: str, step: int, dataset: Dataset, model_id: str | None = None) -> None:
        """Log metrics `NAME_...`, figures and the table of mistakes into a run.

        Args:
            dataset, model_id: the data set and the logged model that the metrics are about.
        """
        metrics = {f"{name}_{key}": value for key, value in self.metrics.items()}
        tracking.log_metrics(metrics, step, run_id, dataset, model_id)
        self.show(name, run_id)

    def show(self, name: str, run_id: str) -> None:
        """Log the figures and the table of the most confident mistakes."""
        figures.log_figure(classifier_figures.label_bars(self.labels, self.per_label, name), f"{name}_by_label", run_id)
        curves = classifier_figures.precision_recall_curves(self.labels, self.scores, self.actual, name)
        figures.log_figure(curves, f"{name}_precision_recall", run_id)
        if self.labels.task != "multilabel":
            matrix = classifier_figures.confusion(self.labels, self.decided, self.actual, name)
            figures.log_figure(matrix, f"{name}_confusion", run_id)
        mistakes = confident_mistakes(self.labels, self.texts, self.scores, self.decided, self.actual)
        if mistakes:
            figures.log_table(mistakes, f"mistakes/{name}", run_id)


def classifier_scorecard(classifier: Classifier, texts: LabelledTexts, batch_size: int = 32) -> ClassifierScorecard:
    """Return the scorecard of a classifier on labelled texts, at its own thresholds."""
    with Progress("texts", len(texts.encoded.pieces), "scored"):
        logits = classifier.logits(texts.encoded, batch_size)
    scores = classifier.to_scores(logits, texts.texts)
    return ClassifierScorecard(classifier.labels, texts.texts, scores, classifier.decide(scores), texts.actual, logits)
