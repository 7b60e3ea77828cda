"""One model against another on the same rows: paired tests, what they allow to say, and where the two differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from finetune import InputError
from finetune.logged_models.opening import LoggedModel
from finetune.models.card import ClassifierCard, SqlCard
from finetune.models.generation import Generation
from finetune.reports import figures
from finetune.reports.classifier_scorecard import ClassifierScorecard
from finetune.reports.paired import Paired, f1_of, paired_means, paired_scores, sentence
from finetune.reports.scorecards.on_database import NAME as ON_DATABASE
from finetune.reports.sql_scorecard import Answers, compare_verdicts, verdict_text
from finetune.runs import tracking
from metrics.rouge.rouge import score_row
from metrics.unfair_tos.unfair_tos import with_none

import mlflow
import numpy as np
from mlflow.data.dataset import Dataset

MOST_ROWS = 200  # of the table


@dataclass
class Comparison:
    """Two models on the same rows.

    Attributes:
        pairs: the scores by name, the main one first.
        unit: what the rows are.
        table: the rows that only one of the two gets right, or where they differ most.
    """

    pairs: dict[str, Paired]
    unit: str
    table: list[dict] = field(default_factory=list)

    def format(self, uri: str) -> str:
        """Return a small table for the terminal, with a last sentence on what it allows to say."""
        lines = [f"against {uri}", f"  {'':<30}{'this':>8}{'other':>8}{'delta':>8}   95 % of delta     p"]
        for name, pair in self.pairs.items():
            bounds = f"{pair.low:+.3f} to {pair.high:+.3f}"
            scores = f"{pair.first:>8.3f}{pair.second:>8.3f}{pair.difference:>+8.3f}"
            lines.append(f"  {name:<30}{scores}   {bounds}  {pair.p:.2g}")
        return "\n".join([*lines, f"  {self.conclusion}"])

    @property
    def conclusion(self) -> str:
        """The last sentence: of the main score, of the database's where there is one."""
        if not self.pairs:
            return f"No {self.unit} are scored with both, so nothing can be said."
        main = self.pairs.get(ON_DATABASE) or next(iter(self.pairs.values()))
        told = sentence(main, "the other", self.unit)
        if main.verdict == "no difference can be told":
            return f"{told[0].upper()}{told[1:]}."
        return f"This model is {told}."

    def record(self, name: str, uri: str) -> dict:
        """Return it as one JSON object."""
        scores = {score: pair.metrics() | {"verdict": pair.verdict} for score, pair in self.pairs.items()}
        return {"name": f"{name}_against", "against": uri, "scores": scores, "conclusion": self.conclusion}

    def log(self, name: str, uri: str, run_id: str, step: int, dataset: Dataset, model_id: str | None = None) -> None:
        """Log the metrics `NAME_against_...`, the other's URI as a tag, and the table scorecard/NAME_against.json."""
        metrics = {
            f"{name}_against_{score}{end}": value
            for score, pair in self.pairs.items()
            for end, value in (
                ("", pair.second), ("_difference", pair.difference), ("_low", pair.low), ("_high", pair.high),
                ("_p", pair.p),
            )
        }  # fmt: skip
        tracking.log_metrics(metrics, step, run_id, dataset, model_id)
        mlflow.MlflowClient().set_tag(run_id, f"finetune.against.{name}", uri)
        if self.table:
            figures.log_table([row | {"against": uri} for row in self.table], f"scorecard/{name}_against", run_id)


def refuse_same_or_other_task(logged: LoggedModel, other: LoggedModel, uri: str, given: str) -> None:
    """Raise InputError where two models cannot be compared: of another task, or the same one."""
    refuse_other_task(logged, other, uri, f"--against {given}")
    is_same = other.model_id == logged.model_id if logged.model_id else other.adapter == logged.adapter
    if is_same:
        raise InputError(f"--against {given} is the model {uri} itself; give another one to compare it with.")


def refuse_other_task(logged: LoggedModel, other: LoggedModel, uri: str, given: str) -> None:
    """Raise InputError where two models are not of one task."""
    if other.card.task != logged.card.task:
        raise InputError(
            f"{given} is a model for {other.card.task} and {uri} one for {logged.card.task}: the two answer"
            " other rows. Give a model of the same task."
        )


def refuse_other_dialect(
    dialect: str | None, logged: LoggedModel, other: LoggedModel, is_adopted: bool = False
) -> None:
    """Raise InputError where two models write SQL of different dialects, unless --dialect says which to read.

    Args:
        is_adopted: the first is of log_model.py --from, where --dialect says what that one writes.
    """
    assert isinstance(logged.card, SqlCard)
    assert isinstance(other.card, SqlCard)
    if not dialect and logged.card.dialect != other.card.dialect:
        hint = "compare models of one dialect" if is_adopted else "--dialect says in which both are read"
        raise InputError(
            f"the model writes SQL of {logged.card.dialect}, the one to compare it with SQL of {other.card.dialect};"
            f" {hint}."
        )


def refuse_other_values(logged: LoggedModel, other: LoggedModel) -> None:
    """Raise InputError where two models were trained with other numbers of values in the schema's text."""
    assert isinstance(logged.card, SqlCard)
    assert isinstance(other.card, SqlCard)
    ours, theirs = logged.card.sample_values or 0, other.card.sample_values or 0
    if ours != theirs:
        raise InputError(
            f"the model was trained with --values {ours}, the one to compare it with had --values {theirs},"
            " and both get the same text here; --values says how many values of each column it has."
        )


def refuse_other_labels(logged: LoggedModel, other: LoggedModel) -> None:
    """Raise InputError where two classifiers know other labels."""
    assert isinstance(logged.card, ClassifierCard)
    assert isinstance(other.card, ClassifierCard)
    ours, theirs = logged.card.labels, other.card.labels
    if ours.task != theirs.task or sorted(ours.names) != sorted(theirs.names):
        raise InputError(
            f"the model has the labels {', '.join(ours.names)} ({ours.task}), the one to compare it with has"
            f" {', '.join(theirs.names)} ({theirs.task}); expected the same."
        )


def compare_answers(rows: list[dict], ours: Answers, theirs: Answers) -> Comparison:
    """Compare which questions two models answer right, by each score that there is of both."""
    sides = {
        "exec_accuracy": (ours.verdicts, theirs.verdicts), ON_DATABASE: (ours.on_database, theirs.on_database),
    }  # fmt: skip
    pairs = {name: compare_verdicts(*side) for name, side in sides.items()}
    table = [row for number, row in enumerate(map(_question, rows)) if _add_answers(row, number, ours, theirs)]
    return Comparison({name: pair for name, pair in pairs.items() if pair.rows}, "questions", table[:MOST_ROWS])


def _question(row: dict) -> dict:
    return {"question": row["question"], "gold": row["answer"]}


def _add_answers(row: dict, number: int, ours: Answers, theirs: Answers) -> bool:
    """Add both answers and verdicts to a row; say whether only one of the two is right by any score."""
    differs = ours.verdicts[number].right != theirs.verdicts[number].right
    for side, answers in (("this", ours), ("other", theirs)):
        row |= {f"{side}_sql": answers.generations[number].text}
        row |= {f"{side}_verdict": verdict_text(answers.verdicts[number])}
        if ours.on_database and theirs.on_database and answers.on_database:
            judged = answers.on_database[number]
            row |= {f"{side}_database_verdict": "right" if judged.right else judged.reason}
    if ours.on_database and theirs.on_database:
        differs |= ours.on_database[number].right != theirs.on_database[number].right
    return differs


def _any(matrix: np.ndarray) -> np.ndarray:
    return matrix.any(axis=1, keepdims=True)


# The F1 scores of each kind of labels: what of the decisions counts, and how labels are averaged.
VIEWS: dict[str, dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]]] = {
    "multilabel": {"micro_f1": (with_none, "micro"), "macro_f1": (with_none, "macro"), "binary_f1": (_any, "micro")},
    "binary": {"f1": (np.asarray, "micro")},
    "multiclass": {"micro_f1": (np.asarray, "micro"), "macro_f1": (np.asarray, "macro")},
}


def compare_classifiers(ours: ClassifierScorecard, theirs: ClassifierScorecard) -> Comparison:
    """Compare the F1 scores of two classifiers, resampling the texts."""
    order = [theirs.labels.scored.index(name) for name in ours.labels.scored]
    decided, other, actual = ours.decided, theirs.decided[:, order], ours.actual
    task = ours.labels.task
    pairs = {name: compare_decisions(task, name, decided, other, actual) for name in VIEWS[task]}
    right, theirs_right = ((mine == actual).all(axis=1) for mine in (decided, other))
    table = [
        {
            "text": ours.texts[place],
            "actual": _names(ours.labels.scored, actual[place]),
            "this": _names(ours.labels.scored, decided[place]),
            "other": _names(ours.labels.scored, other[place]),
            "right": "this" if right[place] else "other",
        }
        for place in np.flatnonzero(right != theirs_right)
    ]
    return Comparison(pairs, "texts", table[:MOST_ROWS])


def compare_decisions(
    task: str, metric: str, ours: np.ndarray, theirs: np.ndarray, actual: np.ndarray, groups: np.ndarray | None = None
) -> Paired:
    """Compare an F1 score of two decisions for the same rows, all of 0 and 1, shape (rows, outputs).

    Args:
        groups: the number of the group of each row, from 0 on without a gap: groups are resampled, in place of rows.
    """
    view, average = VIEWS[task][metric]
    answers, truth = np.concatenate([view(ours), view(theirs)]), np.concatenate([view(actual)] * 2)
    if groups is None:
        return paired_scores(f1_of(answers, truth, average), len(actual))
    count = int(groups.max()) + 1
    both = np.concatenate([groups, groups + count])
    return paired_scores(f1_of(answers, truth, average, both), count)


def _names(names: Sequence[str], row: np.ndarray) -> str:
    return ", ".join(name for name, on in zip(names, row, strict=True) if on) or "none"


def compare_summaries(rows: list[dict], ours: list[Generation], theirs: list[Generation]) -> Comparison:
    """Compare the ROUGE-L of two summarizers, resampling the articles."""
    first, second = (
        [score_row(given.text, row["summary"])["rougeL"] for given, row in zip(side, rows, strict=True)]
        for side in (ours, theirs)
    )
    table = [
        {
            "article": row["article"], "reference": row["summary"], "this": mine.text, "other": other.text,
            "this_rougeL": one, "other_rougeL": two,
        }
        for row, mine, other, one, two in zip(rows, ours, theirs, first, second, strict=True)
        if one != two
    ]  # fmt: skip
    table.sort(key=lambda row: -abs(row["this_rougeL"] - row["other_rougeL"]))
    return Comparison({"rougeL": paired_means(first, second)}, "articles", table[:MOST_ROWS])
