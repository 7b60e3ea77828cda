"""A training of text-to-SQL, measured: by its answers at each evaluation, and against the base at its end."""

import logging
from collections.abc import Sequence

from finetune import InputError
from finetune.databases.database import Database
from finetune.models.bases.quantization import is_sharded
from finetune.models.card import SqlCard
from finetune.models.generation import margins
from finetune.models.sql_writer import SqlWriter
from finetune.reports import figures
from finetune.reports.curves.row_scores import RowScores
from finetune.reports.scorecards.on_database import NAME as ON_DATABASE
from finetune.reports.scorecards.on_database import OnDatabase, judge_on_database
from finetune.reports.sql_scorecard import Scorecard, answer_rows, check_gold, compare, log_scorecard, why_unscored
from finetune.rows.sql.distractors import distract
from finetune.runs.checkpoints import final_step
from finetune.screen import in_full
from finetune.training.packs import PackTrainer
from metrics.sql_execution.sql_execution import summarize

from mlflow.data.dataset import Dataset

logger = logging.getLogger(__name__)


class SqlTrainer(PackTrainer):
    """Trainer of packs that can select the best checkpoint by answering held-out questions.

    With `--metric-for-best-model exec_accuracy`, every evaluation answers `score_rows` greedily, shared out
    over the processes.

    Args:
        card: of the model; its prompt and dialect are those of the questions in `score_rows`.
        database: that these are about, for the scorecard at the end.
        others: of the Trainer.
    """

    def __init__(
        self,
        *args,
        card: SqlCard | None = None,
        score_rows: Sequence[dict] = (),
        database: Database | None = None,
        **others,
    ):
        super().__init__(*args, **others)
        self.card, self.score_rows, self.database = card, list(score_rows), database

    @property
    def writer(self) -> SqlWriter:
        """The model as it is by now, to be asked."""
        assert self.card is not None  # Whoever asks has given it.
        return SqlWriter(self.accelerator.unwrap_model(self.model), self.processing_class, self.card)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Return the losses and, where the best checkpoint goes by it, `eval_exec_accuracy`."""
        metrics = super().evaluate(*args, **kwargs)
        if (self.args.metric_for_best_model or "").removeprefix("eval_") == "exec_accuracy":
            writer = self.writer
            verdicts = answer_rows(writer, self.score_rows, dialect=writer.card.dialect).verdicts
            score = {"eval_exec_accuracy": summarize(verdicts)["exec_accuracy"]}
            self.log(score)
            metrics |= score
        return metrics


def check_scores(trainer: SqlTrainer, for_curve: bool) -> None:
    """Warn where no held-out row can be scored.

    Args:
        for_curve: a learning curve is asked for.

    Raises:
        InputError: the scores are needed, for the choice of the best checkpoint or for a learning curve.
    """
    assert trainer.card is not None  # Whoever asks has given it.
    rows, dialect, database = trainer.score_rows, trainer.card.dialect, trainer.database
    found = why_unscored(rows, dialect) if for_curve else ""
    if found and database:
        judged = judge_on_database([str(row["answer"]) for row in rows], rows, database, with_rows=False)
        found = "" if any(verdict.usable for verdict in judged) else found
    if found:
        raise InputError(
            f"{found}, and --learning-curve is drawn of their scores; give the dialect that they are in with --dialect."
        )
    check_gold(rows, dialect, (trainer.args.metric_for_best_model or "").endswith("exec_accuracy"))


def score(
    trainer: SqlTrainer, distractor_columns: int, with_rows: bool = True, candidates: int | None = None
) -> dict[str, Scorecard]:
    """Return scorecards of base and adapter on the held-out rows, as they are and with distractors.

    Args:
        with_rows: the first rows of results on the trainer's database, where they differ, are among them.
        candidates: SQL a question that is tried on it; 1 by default.
    """
    rows = trainer.score_rows
    if is_sharded() and rows:
        logger.info(
            "no scorecards: a base that FSDP has cut up cannot generate; evaluate_model.py does it, on one GPU."
        )
        return {}
    writer = trainer.writer
    distracted = distract(rows, distractor_columns, trainer.args.seed, dialect=writer.card.dialect)
    sets = {"validation": rows, "validation_distractors": distracted}
    if not distractor_columns:
        sets.pop("validation_distractors")
    database = trainer.database  # Schemas with foreign columns are none of it.
    on = {"validation": OnDatabase(database, with_rows, candidates or 1)} if database else {}
    return {
        name: compare(writer, questions, dialect=writer.card.dialect, on=on.get(name))
        for name, questions in sets.items()
        if questions
    }


def row_scores(card: Scorecard) -> RowScores:
    """Return which rows the adapter answers right, on the database that they are about where there is one."""
    on_database = card.adapter.on_database if card.on_database else None
    name, verdicts = (ON_DATABASE, on_database) if on_database else ("exec_accuracy", card.adapter.verdicts)
    return RowScores(name, [float(verdict.right) if verdict.usable else None for verdict in verdicts])


def finish(trainer: SqlTrainer, card: SqlCard, validation: Dataset, scorecards: dict[str, Scorecard]) -> None:
    """Log the loss curve, what log_model.py checks the reloaded model with, and the scorecards."""
    figures.log_figure(figures.loss_curve(trainer.state.log_history), "loss_curve")
    if not is_sharded():
        prompts = [row["prompt_ids"] for row in card.sample]
        written = SqlWriter(trainer.model, trainer.processing_class, card).write(prompts)
        expected = [answer.token_ids for answer in written]
        lead = [margins(trainer.model, *pair) for pair in zip(prompts, expected, strict=True)]
        figures.log_reload_check(final_step(trainer), token_ids=expected, margins=lead)
    if held_out := scorecards.get("validation"):
        row_scores(held_out).log(card.run_id)
    for name, scorecard in scorecards.items():
        log_scorecard(scorecard, name, card.run_id, trainer.state.global_step, validation)
        logger.info(scorecard.headline(name), extra=in_full(scorecard.format(name)))
        if not scorecard.changed:
            logger.error("the adapter changed none of the answers: the run was too short, or its rate too low.")
