"""Before training: what the base, and an adapter that training goes on with, answer to rows like those to be learnt."""

import logging
from contextlib import nullcontext

from finetune.models.bases.quantization import is_sharded
from finetune.progress_line import Progress
from finetune.reports.scorecards.on_database import NAME as ON_DATABASE
from finetune.reports.scorecards.on_database import OnDatabase
from finetune.reports.sharing import own_share
from finetune.reports.sql_scorecard import Answers, answer_rows
from finetune.reports.sql_trainer import SqlTrainer
from finetune.runs.sending import journal
from finetune.training.progress import get_random_state, set_random_state
from metrics.sql_execution.sql_execution import wilson

import torch
from peft import PeftModel

logger = logging.getLogger(__name__)
ROWS = 10


def ask_beforehand(trainer: SqlTrainer, is_resumed: bool = False) -> None:
    """Say and log what the base answers to up to ten held-out rows, and the adapter where it already has an effect.

    Weights and random state are as before afterwards: training is the same without.

    Args:
        is_resumed: the run was begun before, and has these lines.
    """
    rows = trainer.score_rows[:ROWS]
    if not rows or is_sharded() or is_resumed:
        return
    model, state = trainer.accelerator.unwrap_model(trainer.model), get_random_state()
    was_training = model.training
    sides = {"base": model.disable_adapter()}
    if has_effect(model):
        sides["adapter"] = nullcontext()
    on = OnDatabase(trainer.database, with_rows=False) if trainer.database else None
    try:
        with Progress("questions, before training", len(sides) * own_share(rows), "answered"):
            for side, context in sides.items():
                with context:
                    tell(side, answer_rows(trainer.writer, rows, dialect=trainer.writer.card.dialect, on=on), trainer)
    finally:
        model.train(was_training)
        set_random_state(state)


def has_effect(model: PeftModel) -> bool:
    """Say whether an adapter changes what its base computes: a fresh one does not, its second matrices are 0."""
    seconds = [weight for name, weight in model.named_parameters() if "lora_B." in name or "lora_embedding_B." in name]
    return any(bool(torch.count_nonzero(weight.detach())) for weight in seconds)


def tell(side: str, answers: Answers, trainer: SqlTrainer) -> None:
    """Say how many of the questions a side answers right, and log the share of step 0."""
    scores = answers.scores
    name = ON_DATABASE if scores.get(f"{ON_DATABASE}_rows") else "exec_accuracy"
    rows = int(scores[f"{name}_rows"] if name == ON_DATABASE else scores["rows_scored"])
    if not rows:
        return
    right = round(scores[name] * rows)
    low, high = wilson(right, rows)
    where = " on the database" if name == ON_DATABASE else ""
    logger.info(
        f"Before training the {side} answers {right} of {rows} held-out questions right{where} ({low:.0%} to"
        f" {high:.0%})"
    )
    running = journal.active_journal()
    if running and trainer.args.process_index == 0:
        end = "" if side == "adapter" else "_base"
        running.metrics({f"before_training_{name}{end}": scores[name]}, 0)
