"""A training of a classifier, measured as the logged model predicts: at each evaluation, and on test at its end."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.models.card import ClassifierCard
from finetune.models.classifier.classifier import Classifier
from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import compute_logits, join_pieces
from finetune.models.classifier.tfidf import FILE, TfidfSvm
from finetune.reports import classifier_figures, figures
from finetune.reports.classifier_scorecard import ClassifierScorecard, classifier_scorecard
from finetune.reports.classifier_scores import MAIN_METRIC, METRICS, score_labels
from finetune.reports.curves.row_scores import RowScores
from finetune.reports.linear_svm.comparing import BesideSvm, beside_svm
from finetune.reports.linear_svm.fitting import fit_svm, some_of, takes, warn_of_unknown
from finetune.reports.linear_svm.mixing import Mixture, choose
from finetune.rows.labelled_texts import LabelledTexts
from finetune.runs import tracking
from finetune.runs.checkpoints import checkpoints_in, final_step
from finetune.screen import in_full

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from mlflow.data.dataset import Dataset
from transformers import Trainer, TrainerControl

logger = logging.getLogger(__name__)


class ClassifierTrainer(Trainer):
    """Trainer that evaluates as the logged model predicts: whole texts, one score over the whole split.

    Args:
        validation: rows with their `labels`, which are the Trainer's `eval_dataset` too.
        texts: the training rows, for a linear SVM that the model is compared with; None for no SVM.
        with_svm: whether the SVM becomes a part of the model, in the share that serves the validation rows best.
        others: of the Trainer.

    Attributes:
        found: thresholds, metrics and share of the SVM of the last evaluation, for the card of the checkpoint that
            follows.
        svm: of the first process.
        svm_texts: how many training texts it has read, and of how many.
        distances: of the validation rows from it.
    """

    control: TrainerControl

    def __init__(
        self, *args, validation: LabelledTexts, labels: Labels, texts: LabelledTexts | None = None,
        with_svm: bool = False, **others,
    ):  # fmt: skip
        super().__init__(*args, **{"eval_dataset": validation.dataset()} | others)
        self.validation, self.labels, self.texts, self.with_svm = validation, labels, texts, with_svm
        self.found: dict = {}
        self.svm: TfidfSvm | None = None
        self.svm_texts = 0, 0
        self.distances: np.ndarray | None = None

    def train(self, *args, **kwargs):
        """Fit the SVM in the first process, then train; one that goes on fits the same one again."""
        if self.texts and self.is_world_process_zero() and takes(self.labels.outputs):
            kept = some_of(self.texts.texts, self.labels.outputs)
            self.svm, self.svm_texts = fit_svm(self.texts, kept), (len(kept), len(self.texts.texts))
            self.distances = self.svm.distances(self.validation.texts)
            warn_of_unknown(self.svm, self.distances)
        (self.distances,) = broadcast_object_list([self.distances])
        return super().train(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and the SVM where it is a part of it."""
        super().save_model(output_dir, _internal_call)
        if self.svm and self.found.get("tfidf"):
            (Path(output_dir or str(self.args.output_dir)) / FILE).write_bytes(self.svm.data)

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
        actual = self.validation.actual
        loss = self.compute_loss_func({"logits": torch.from_numpy(logits)}, torch.from_numpy(actual))
        chosen = choose(logits, self.labels, actual, self.distances if self.with_svm else None)
        found = score_labels(self.labels, chosen.scores, chosen.decided, actual)
        tfidf = {"share": chosen.share, "digest": self.svm.digest} if self.svm and chosen.share else None
        self.found = {"thresholds": chosen.thresholds, "metrics": found, "tfidf": tfidf}
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
    """Score the model that training ends with; log scores, figures, reload check."""
    with without_autocast(trainer.accelerator.unwrap_model(trainer.model)):
        score_parts(trainer, card, splits, datasets)


def score_parts(trainer: ClassifierTrainer, card: ClassifierCard, splits: dict, datasets: dict) -> None:
    """Do what `finish` does, with a model that computes as the logged one."""
    state, labels, run_id = trainer.state, trainer.labels, card.run_id
    figure = classifier_figures.learning_curves(state.log_history, f"eval_{MAIN_METRIC[labels.task]}")
    figures.log_figure(figure, "learning_curves")
    checkpoints = checkpoints_in(Path(trainer.args.output_dir))
    last = max(checkpoints)
    final = final_step(trainer)
    cards = {step: ClassifierCard.read(checkpoints[step]) for step in (final, last)}
    model = trainer.accelerator.unwrap_model(trainer.model)
    svm = TfidfSvm.of(checkpoints[final], cards[final])
    classifier = Classifier(model, trainer.processing_class, cards[final], svm)
    expected = classifier.score([row["text"] for row in card.sample]).tolist()
    figures.log_reload_check(final, scores=expected)
    if thresholds := cards[final].thresholds:
        tracking.log_dict(dict(zip(labels.scored, thresholds, strict=True)), "thresholds.json")

    scorecard = classifier_scorecard(classifier, splits["validation"])
    scorecard.show("validation", run_id)
    actual = trainer.validation.actual
    chosen = choose(scorecard.logits, labels, actual, trainer.distances if trainer.with_svm else None)
    RowScores.of_labels(labels, chosen.decided, actual.astype(int)).log(run_id)
    beside = beside_validation(trainer, chosen)
    if beside:
        share = {"svm_share": (cards[final].tfidf or {"share": 0.0})["share"]}
        counts = {"svm_train_texts": float(trainer.svm_texts[0])}
        tracking.log_metrics(beside.metrics() | share | counts, final, run_id, datasets["validation"])
    tell(scorecard, f"validation, step {final}, at the thresholds chosen on it", beside)
    metric = MAIN_METRIC[labels.task]
    logger.info(f"with thresholds chosen on other rows: eval_{metric} {cards[final].metrics[metric]:.3f}")
    if "test" in splits:
        beside = score_test(trainer, classifier, splits["test"], checkpoints, datasets["test"], run_id)
    if beside:
        logger.log(logging.INFO if beside.is_better else logging.WARNING, beside.sentence(*trainer.svm_texts))


def beside_validation(trainer: ClassifierTrainer, ours: Mixture) -> BesideSvm | None:
    """Compare the final model with the SVM on validation: what decides a row was chosen on others, for both of them."""
    if trainer.distances is None:
        return None
    return beside_svm("validation", trainer.labels, trainer.validation, ours.decided, trainer.distances)


def score_test(
    trainer: ClassifierTrainer, final: Classifier, rows: LabelledTexts, checkpoints: dict, dataset: Dataset, run_id: str
) -> BesideSvm | None:
    """Score the final model on test, and the last where that is another; return the final one beside the SVM."""
    step, last, beside = final_step(trainer), max(checkpoints), None
    scorecard = classifier_scorecard(final, rows)
    scorecard.log("test", run_id, step, dataset)
    if trainer.svm is not None and trainer.distances is not None:
        limits = choose(trainer.distances, trainer.labels, trainer.validation.actual).thresholds
        distances = trainer.svm.distances(rows.texts)
        beside = beside_svm("test", trainer.labels, rows, scorecard.decided, distances, limits)
        tracking.log_metrics(beside.metrics(), step, run_id, dataset)
    tell(scorecard, f"test, {'last' if last == step else 'best'} model (step {step})", beside)
    if last != step:
        scorecard = classifier_scorecard(Classifier.load(checkpoints[last]), rows)
        tell(scorecard, f"test, last model (step {last})")
    scorecard.log("test_last", run_id, last, dataset)
    return beside


def tell(scorecard: ClassifierScorecard, title: str, beside: BesideSvm | None = None) -> None:
    """Show a scorecard in a line, and in full in the run, with what an SVM has on the same rows."""
    whole = [scorecard.format(title), *([beside.format()] if beside else [])]
    logger.info(scorecard.headline(title), extra=in_full("\n".join(whole)))
