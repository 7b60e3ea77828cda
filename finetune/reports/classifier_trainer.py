"""A training of a classifier, measured as the logged model predicts: at each evaluation, and on test at its end."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.models.card import ClassifierCard
from finetune.models.classifier.classifier import Classifier
from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import compute_logits, join_pieces, to_scores
from finetune.reports import classifier_figures, figures
from finetune.reports.classifier_scorecard import ClassifierScorecard, classifier_scorecard
from finetune.reports.classifier_scores import MAIN_METRIC, METRICS, choose_thresholds, decide_crossfitted, score_labels
from finetune.reports.curves.row_scores import RowScores
from finetune.rows.labelled_texts import LabelledTexts
from finetune.runs import tracking
from finetune.runs.checkpoints import checkpoints_in, final_step
from finetune.screen import in_full

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import Trainer, TrainerControl

logger = logging.getLogger(__name__)


class ClassifierTrainer(Trainer):
    """Trainer that evaluates as the logged model predicts: whole texts, one score over the whole split.

    Args:
        validation: rows with their `labels`, in place of the Trainer's `eval_dataset`.
        others: of the Trainer.

    Attributes:
        found: thresholds and metrics of the last evaluation, for the card of the checkpoint that follows.
    """

    control: TrainerControl

    def __init__(self, *args, validation: LabelledTexts, labels: Labels, **others):
        super().__init__(*args, **others)
        self.validation, self.labels = validation, labels
        self.found: dict = {}

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Return `eval_loss` and the task's metrics, with thresholds that were not chosen on the rows they decide."""
        pieces, share = self.validation.encoded.pieces, slice(self.args.process_index, None, self.args.world_size)
        model = self.accelerator.unwrap_model(self.model)
        with without_autocast(model):
            part = compute_logits(model, self.processing_class, pieces[share], self.args.per_device_eval_batch_size)
        logits = np.empty((len(pieces), self.labels.outputs), dtype=np.float32)
        for rank, rows in gather_object([(self.args.process_index, part)]):
            logits[rank :: self.args.world_size] = rows
        logits = join_pieces(logits, self.validation.encoded.owners, self.labels)
        actual, scores = self.validation.actual, to_scores(logits, self.labels)
        loss = self.compute_loss_func({"logits": torch.from_numpy(logits)}, torch.from_numpy(actual))
        found = score_labels(self.labels, scores, decide_crossfitted(scores, self.labels, actual), actual)
        thresholds = None if self.labels.task == "multiclass" else choose_thresholds(scores, actual)
        self.found = {"thresholds": thresholds, "metrics": found}
        metrics = {"eval_loss": loss.item()} | {f"eval_{name}": found[name] for name in METRICS[self.labels.task]}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


@contextmanager
def without_autocast(model: torch.nn.Module) -> Iterator[None]:
    """Let a model compute as the logged one will: accelerate has put autocast around the `forward` of this object."""
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.__dict__["forward"] = wrapped


def finish(trainer: ClassifierTrainer, card: ClassifierCard, splits: dict, datasets: dict) -> None:
    """Score the best model on validation, the best and the last on test; log scores, figures, reload check."""
    with without_autocast(trainer.accelerator.unwrap_model(trainer.model)):
        score_parts(trainer, card, splits, datasets)


def score_parts(trainer: ClassifierTrainer, card: ClassifierCard, splits: dict, datasets: dict) -> None:
    """Do what `finish` does, with a model that computes as the logged one."""
    state, labels, run_id = trainer.state, trainer.labels, card.run_id
    figure = classifier_figures.learning_curves(state.log_history, f"eval_{MAIN_METRIC[labels.task]}")
    figures.log_figure(figure, "learning_curves")
    checkpoints = checkpoints_in(Path(trainer.args.output_dir))
    last = max(checkpoints)
    best = final_step(trainer)
    cards = {step: ClassifierCard.read(checkpoints[step]) for step in (best, last)}
    model = trainer.accelerator.unwrap_model(trainer.model)
    classifier = Classifier(model, trainer.processing_class, cards[best])
    expected = classifier.score([row["text"] for row in card.sample]).tolist()
    figures.log_reload_check(best, scores=expected)
    if thresholds := cards[best].thresholds:
        tracking.log_dict(dict(zip(labels.scored, thresholds, strict=True)), "thresholds.json")

    scorecard = classifier_scorecard(classifier, splits["validation"])
    scorecard.show("validation", run_id)
    decided = decide_crossfitted(scorecard.scores, labels, scorecard.actual)
    RowScores.of_labels(labels, decided, scorecard.actual.astype(int)).log(run_id)
    tell(scorecard, f"validation, step {best}, at the thresholds chosen on it")
    logger.info(f"with thresholds chosen on other rows: eval_{trainer.args.metric_for_best_model.removeprefix('eval_')}"
                f" {state.best_metric}")  # fmt: skip
    if "test" not in splits:
        return
    scorecard = classifier_scorecard(classifier, splits["test"])
    scorecard.log("test", run_id, best, datasets["test"])
    tell(scorecard, f"test, best model (step {best})")
    if last != best:
        scorecard = classifier_scorecard(Classifier.load(checkpoints[last]), splits["test"])
    scorecard.log("test_last", run_id, last, datasets["test"])
    tell(scorecard, f"test, last model (step {last})")


def tell(scorecard: ClassifierScorecard, title: str) -> None:
    """Show a scorecard in a line, and in full in the run."""
    logger.info(scorecard.headline(title), extra=in_full(scorecard.format(title)))
