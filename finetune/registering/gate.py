"""The new model against the one that has the alias, on the same rows: better by a paired test, or refused."""

import logging
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

from finetune import InputError
from finetune.logged_models.opening import LoggedModel, open_model
from finetune.models.bases.memory import clear_memory
from finetune.predicting.flags import add_loading_flags
from finetune.registering.trained_on import leaks_of, refuse_rows_of_training
from finetune.reports.paired import sentence
from finetune.reports.scorecards.against import Comparison, refuse_other_task
from finetune.reports.scorecards.evaluations import Evaluation, evaluation_of
from finetune.reports.scorecards.flags import add_reading_flags, add_row_flags, add_score_flags, check_score_flags
from finetune.reports.scorecards.scored_rows import load, log_rows, name_columns

from mlflow.entities import Run

logger = logging.getLogger(__name__)
NAME = "gate"  # of the metrics


@dataclass
class Gate:
    """What has to hold before the alias moves.

    Attributes:
        flags: those of evaluate_model.py.
        holder: the model that has the alias, as `uri`; None where none has it.
    """

    metric: str
    flags: Namespace
    evaluation: Evaluation
    rows: list[dict]
    run: Run
    uri: str | None
    holder: LoggedModel | None

    def judge(self, model_id: str) -> tuple[bool, str]:
        """Say whether a logged model may have the alias, and why.

        Raises:
            InputError: one of the two cannot be loaded, or the comparison cannot be logged.
        """
        if leaks := leaks_of(self.run.info.run_id):
            return False, leaks
        if self.holder is None:
            return True, "no version had the alias"
        comparison = self._compare(model_id, self.holder)
        pair = comparison.pairs.get(self.metric)
        if pair is None:
            return False, f"{self.metric}: {comparison.conclusion}"
        told = sentence(pair, str(self.uri), comparison.unit)
        scores = f"{self.metric} {pair.first:.3f} against {pair.second:.3f} of {self.uri}"
        bounds = f"{pair.difference:+.3f}, 95 % interval {pair.low:+.3f} to {pair.high:+.3f}"
        return pair.verdict == "better", f"{scores} ({bounds}): {told}"

    def _compare(self, model_id: str, holder: LoggedModel) -> Comparison:
        """Let both models answer the rows, one after the other; show and log what came of it."""
        logged, rows = open_model(f"models:/{model_id}"), self.rows
        logger.info(f"comparing models:/{model_id} with {self.uri} on {len(rows)} rows of {self.flags.dataset}")
        ours = self.evaluation.answers(logged, rows)
        clear_memory()
        theirs = self.evaluation.answers(holder, rows)
        clear_memory()
        found = self.evaluation.pair(rows, ours, theirs)
        logger.info(found.format(str(self.uri)))
        with log_rows(self.flags, rows, self.evaluation.logged_columns(rows)) as (run_id, dataset):
            found.log(NAME, str(self.uri), run_id, logged.step, dataset, model_id)
        return found


def set_up(flags: Namespace, run: Run, checkpoint: Path, uri: str | None) -> Gate:
    """Return what --if-better asks for: the rows read, the holder of the alias found good for it.

    Args:
        flags: of log_model.py.
        uri: of the holder, None where none has the alias.

    Raises:
        InputError: the rows, the metric or the holder are not good for it.
    """
    scoring = scoring_flags(flags, run)
    rows, logged, evaluation = _read(scoring, checkpoint, flags.if_better)
    refuse_rows_of_training(scoring, rows, run)
    rows = evaluation.prepare(name_columns(rows, evaluation.columns, scoring, logged))
    holder = _open_holder(evaluation, logged, uri) if uri else None
    return Gate(flags.if_better, scoring, evaluation, rows, run, uri, holder)


def check_rows(flags: Namespace, checkpoint: Path) -> None:
    """Raise InputError where rows, metric or database are not good for a checkpoint that has no run yet."""
    scoring = scoring_flags(flags, None)
    rows, logged, evaluation = _read(scoring, checkpoint, flags.if_better)
    name_columns(rows, evaluation.columns, scoring, logged)


def _read(scoring: Namespace, checkpoint: Path, metric: str | None) -> tuple[list[dict], LoggedModel, Evaluation]:
    """Return the rows, the checkpoint and what scores it, which has the metric."""
    rows, logged = load(scoring), open_model(str(checkpoint))
    evaluation = evaluation_of(logged.card.task)(scoring, logged)
    if metric is not None and metric not in evaluation.scores:
        raise InputError(
            f"--if-better {metric}: models for {logged.card.task} are compared by {', '.join(evaluation.scores)};"
            " expected one of these."
        )
    return rows, logged, evaluation


def _open_holder(evaluation: Evaluation, logged: LoggedModel, uri: str) -> LoggedModel:
    try:
        holder = open_model(uri)
        refuse_other_task(logged, holder, "the model", uri)
        evaluation.check_other(holder)
    except InputError as error:
        raise InputError(f"--if-better: {error} Without --if-better the alias moves without a comparison.") from error
    return holder


def scoring_flags(flags: Namespace, run: Run | None) -> Namespace:
    """Return flags as evaluate_model.py has them, with the rows of log_model.py's; none of --database is logged."""
    rows, parser = ArgumentParser(), ArgumentParser()
    add_row_flags(rows, required=False)
    for add in (add_score_flags, add_loading_flags, add_reading_flags):
        add(parser)
    given = {name: getattr(flags, name) for name in vars(rows.parse_args([]))}
    found = Namespace(**vars(parser.parse_args([])), **given, name=NAME, log=True, against=None, run=run)
    found.source = flags.source
    found.dialect = None if flags.source else flags.dialect  # That of --from is in its card.
    found.rows = not found.database  # There is no --no-rows here, and a registry is for more eyes than a run.
    check_score_flags(found)
    return found
