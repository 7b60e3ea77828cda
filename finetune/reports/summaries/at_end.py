"""The end of a summarizer's training: base, adapter and the first sentences on the same rows, and what is logged."""

import logging

from finetune.models.card import SummarizerCard
from finetune.models.summarizer.summarizer import Summarizer
from finetune.reports import figures
from finetune.reports.curves.row_scores import RowScores
from finetune.reports.summaries.lead import Lead
from finetune.reports.summary_scorecard import MAIN_METRIC, SummaryScorecard, summary_scorecard
from finetune.runs.checkpoints import final_step
from finetune.screen import in_full

from transformers import Seq2SeqTrainer

logger = logging.getLogger(__name__)


def score(
    trainer: Seq2SeqTrainer, card: SummarizerCard, parts: dict[str, list[dict]], limit: int, lead: int
) -> tuple[Summarizer, dict[str, SummaryScorecard]]:
    """Return the trained summarizer, and scorecards of base and adapter on the first rows of each part.

    Args:
        lead: first sentences of an article that they are compared with.
    """
    trainer.model.generation_config.max_length = None  # The Trainer's evaluations leave one behind.
    summarizer = Summarizer(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, card)
    batch_size = trainer.args.per_device_eval_batch_size
    parts = {name: rows[:limit] for name, rows in parts.items() if rows[:limit]}
    return summarizer, {
        name: summary_scorecard(summarizer, rows, batch_size, lead=Lead(lead)) for name, rows in parts.items()
    }


def finish(
    trainer: Seq2SeqTrainer, summarizer: Summarizer, scorecards: dict[str, SummaryScorecard], datasets: dict
) -> None:
    """Log the loss curve, what log_model.py checks the reloaded model with, and the scorecards."""
    figures.log_figure(figures.loss_curve(trainer.state.log_history), "loss_curve")
    step, batch_size = final_step(trainer), trainer.args.per_device_eval_batch_size
    expected = summarizer.summarize([row["article"] for row in summarizer.card.sample], batch_size)
    figures.log_reload_check(step, token_ids=[summary.token_ids for summary in expected])
    if held_out := scorecards.get("validation"):
        RowScores(MAIN_METRIC, held_out.by_row(held_out.texts)).log()
    for name, scorecard in scorecards.items():
        scorecard.log(name, summarizer.card.run_id, step, datasets[name])
        title = f"{name}, step {step}"
        logger.info(scorecard.headline(title), extra=in_full(scorecard.format(title)))
        if not scorecard.changed:
            logger.error("the adapter changed none of the summaries: the run was too short, or its rate too low.")
    for name, scorecard in list(scorecards.items())[-1:]:  # Test where there is one.
        for sentence in scorecard.not_better:
            logger.warning(f"{name}: {sentence}")
