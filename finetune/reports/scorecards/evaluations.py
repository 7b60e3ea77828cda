"""What `evaluate_model.py` does for each task alone: rows made ready, answered and scored, two models compared."""

import logging
from argparse import Namespace
from typing import Any, ClassVar, Protocol

from finetune import InputError
from finetune.databases.contexts import choose_contexts
from finetune.logged_models.opening import LoggedModel
from finetune.models.card import ClassifierCard, SqlCard
from finetune.models.generation import Generation
from finetune.models.restoring import Loading
from finetune.reports import figures
from finetune.reports.classifier_scorecard import ClassifierScorecard, classifier_scorecard
from finetune.reports.scorecards.against import (
    VIEWS,
    Comparison,
    compare_answers,
    compare_classifiers,
    compare_summaries,
    refuse_other_dialect,
    refuse_other_labels,
    refuse_other_values,
)
from finetune.reports.scorecards.on_database import NAME as ON_DATABASE
from finetune.reports.scorecards.on_database import OnDatabase
from finetune.reports.sql_scorecard import Answers, Scorecard, answer_rows, compare, log_scorecard
from finetune.reports.summary_scorecard import SummaryScorecard, summary_scorecard
from finetune.rows.files.columns import QUESTIONS, SUMMARIES, TEXTS
from finetune.rows.labelled_texts import LabelledTexts
from finetune.rows.labels import spell_out
from finetune.rows.loading import complete_rows
from finetune.rows.sql.cleaning import clean_rows, refuse_nothing_left, tell_cleaning
from finetune.rows.sql.distractors import distract
from finetune.rows.sql.running import GoldOnDatabase
from finetune.training.flags.database_flags import distractors, read_database

from mlflow.data.dataset import Dataset

logger = logging.getLogger(__name__)


class Evaluation(Protocol):
    """How the models of a task are scored."""

    columns: ClassVar[tuple[str, ...]]

    def __init__(self, flags: Namespace, logged: LoggedModel): ...

    def prepare(self, rows: list[dict]) -> list[dict]:
        """Return the rows to score, cleaned."""
        ...

    def logged_columns(self, rows: list[dict]) -> tuple[str, ...]:
        """Return the columns that the data set of the rows has in the run."""
        ...

    def score(self, rows: list[dict]) -> dict[str, Any]:
        """Return the scorecards by name, with `metrics`, `format` and `headline`."""
        ...

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of what two models are compared by, the main one first."""
        ...

    def answers(self, logged: LoggedModel, rows: list[dict]) -> Any:
        """Return what a model makes of the rows, without its base."""
        ...

    def pair(self, rows: list[dict], ours: Any, theirs: Any) -> Comparison:
        """Compare the answers of two models."""
        ...

    def compare(self, cards: dict[str, Any], other: LoggedModel, rows: list[dict]) -> Comparison:
        """Return the first scorecard beside what another model answers."""
        ...

    def check_other(self, other: LoggedModel) -> None:
        """Raise InputError for another model that cannot be compared."""
        ...

    def log(self, cards: dict[str, Any], run_id: str, dataset: Dataset) -> None:
        """Log the scorecards into a run."""
        ...

    def changed(self, cards: dict[str, Any]) -> list[float] | None:
        """Return the shares of answers that the adapter changes; None where no base was asked."""
        ...


def loading(flags: Namespace) -> Loading:
    """Return how a model is restored."""
    return Loading(flags.base_model, flags.precision, flags.compute_dtype, long_texts=flags.long_texts)


def refuse_sql_flags(flags: Namespace) -> None:
    """Raise InputError for flags that other tasks than text-to-SQL do not have."""
    names = ("database", "tables", "values", "trust_role", "candidates", "distractor_columns", "dialect", "unwrap")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(flags, name)]
    given += [flag for flag, kept in (("--no-rows", flags.rows), ("--no-clean", flags.clean)) if not kept]
    if given:
        verb = "is" if len(given) == 1 else "are"
        raise InputError(f"{', '.join(given)} {verb} for text-to-SQL only, and this model is not for that.")


class SqlEvaluation:
    """Questions answered with base and adapter, as they are and with foreign columns in their schemas."""

    columns: ClassVar[tuple[str, ...]] = QUESTIONS

    def __init__(self, flags: Namespace, logged: LoggedModel):
        self.flags, self.logged = flags, logged
        if flags.long_texts:
            raise InputError("--long-texts is for classifiers and summarizers, not for text-to-SQL.")
        assert isinstance(logged.card, SqlCard)  # Asked by who chooses the class.
        self.dialect = flags.dialect or logged.card.dialect
        self.database = read_database(flags, logged.card.sample_values or 0)
        if self.database:
            self.database.dialect = self.dialect
        self.skipped: list[dict] = []
        self.on = OnDatabase(self.database, flags.rows, flags.candidates or 1) if self.database else None

    def prepare(self, rows: list[dict]) -> list[dict]:
        """Return the rows to score: those of --database with their context, without corrupt gold."""
        flags, what = self.flags, f"the rows of {self.flags.dataset}"
        where = f"scorecard/{flags.name}_skipped.json of the run" if flags.log else "--verbose says why"
        if self.database:
            gold = GoldOnDatabase(self.database, flags.clean, flags.clean, flags.rows, str(flags.dataset))
            rows = gold(rows)
            gold.tell(where)
            gold.tell_own()
            self.skipped += gold.left_out
        rows = complete_rows(rows, QUESTIONS, what)
        if flags.clean:
            cleaning = clean_rows(rows, self.dialect)
            tell_cleaning({flags.name: cleaning.summary()}, where)
            refuse_nothing_left(cleaning, f"row of {flags.dataset}", self.dialect)
            self.skipped += cleaning.dropped
            rows = cleaning.rows
        return choose_contexts(rows, self.database, flags.name)

    def logged_columns(self, rows: list[dict]) -> tuple[str, ...]:
        """Return question, context and answer."""
        return QUESTIONS

    def score(self, rows: list[dict]) -> dict[str, Scorecard]:
        """Return the scorecards of base and adapter."""
        flags, name = self.flags, self.flags.name
        writer = self.logged.load(loading(flags))
        options = flags.batch_size, self.dialect, flags.unwrap
        cards = {name: compare(writer, rows, *options, self.on)}
        if columns := distractors(flags):
            distracted = distract(rows, columns, seed=0, dialect=self.dialect)
            cards[f"{name}_distractors"] = compare(writer, distracted, *options)
        return cards

    def check_other(self, other: LoggedModel) -> None:
        """Raise InputError for a model of another dialect, or one that was trained with other values in its prompt."""
        assert isinstance(other.card, SqlCard)
        is_adopted = bool(getattr(self.flags, "source", None))
        refuse_other_dialect(self.flags.dialect, self.logged, other, is_adopted)
        if self.database and self.flags.values is None:
            refuse_other_values(self.logged, other)

    @property
    def scores(self) -> tuple[str, ...]:
        """Right by generated databases, and by the rows' own where there is one."""
        return ("exec_accuracy", ON_DATABASE) if self.database else ("exec_accuracy",)

    def answers(self, logged: LoggedModel, rows: list[dict]) -> Answers:
        """Let a model answer the rows as they are."""
        flags = self.flags
        options = flags.batch_size, self.dialect, flags.unwrap, self.on
        return answer_rows(logged.load(loading(flags)), rows, *options)

    def pair(self, rows: list[dict], ours: Answers, theirs: Answers) -> Comparison:
        """Compare which questions two models answer right."""
        return compare_answers(rows, ours, theirs)

    def compare(self, cards: dict[str, Scorecard], other: LoggedModel, rows: list[dict]) -> Comparison:
        """Let the other model answer the rows as they are."""
        return self.pair(rows, cards[self.flags.name].adapter, self.answers(other, rows))

    def log(self, cards: dict[str, Scorecard], run_id: str, dataset: Dataset) -> None:
        """Log the scorecards, and the rows that were left out."""
        for name, card in cards.items():
            log_scorecard(card, name, run_id, self.logged.step, dataset, self.logged.model_id)
        if self.skipped:
            figures.log_table(self.skipped, f"scorecard/{self.flags.name}_skipped", run_id)

    def changed(self, cards: dict[str, Scorecard]) -> list[float] | None:
        """Return the share of each scorecard."""
        return [card.changed for card in cards.values()]


class ClassifierEvaluation:
    """Labels of texts at the stored thresholds."""

    columns: ClassVar[tuple[str, ...]] = TEXTS

    def __init__(self, flags: Namespace, logged: LoggedModel):
        refuse_sql_flags(flags)
        assert isinstance(logged.card, ClassifierCard)  # Asked by who chooses the class.
        self.flags, self.logged, self.names = flags, logged, list(logged.card.labels.names)

    def prepare(self, rows: list[dict]) -> list[dict]:
        """Return the rows with their labels."""
        names, what = self.names, f"the rows of {self.flags.dataset}"
        columns = names if not {"labels", "label"} & set(rows[0]) and set(names) <= set(rows[0]) else None
        return spell_out(complete_rows(rows, ("text",), what), names, columns, what)[0]

    def logged_columns(self, rows: list[dict]) -> tuple[str, ...]:
        """Return the text and its labels."""
        return "text", "labels" if "labels" in rows[0] else "label"

    def score(self, rows: list[dict]) -> dict[str, ClassifierScorecard]:
        """Return the scorecard."""
        return {self.flags.name: self.answers(self.logged, rows)}

    @property
    def scores(self) -> tuple[str, ...]:
        """The F1 scores of the kind of labels."""
        assert isinstance(self.logged.card, ClassifierCard)
        return tuple(VIEWS[self.logged.card.labels.task])

    def answers(self, logged: LoggedModel, rows: list[dict]) -> ClassifierScorecard:
        """Let a model label the texts."""
        classifier = logged.load(loading(self.flags))
        limits = classifier.card.max_length, classifier.card.long_texts == "window"
        source = str(self.flags.dataset)
        texts = LabelledTexts.encode(rows, classifier.labels, classifier.tokenizer, *limits, source)
        return classifier_scorecard(classifier, texts, self.flags.batch_size)

    def pair(self, rows: list[dict], ours: ClassifierScorecard, theirs: ClassifierScorecard) -> Comparison:
        """Compare the F1 scores of two models."""
        return compare_classifiers(ours, theirs)

    def check_other(self, other: LoggedModel) -> None:
        """Raise InputError for a model of other labels."""
        refuse_other_labels(self.logged, other)

    def compare(self, cards: dict[str, ClassifierScorecard], other: LoggedModel, rows: list[dict]) -> Comparison:
        """Let the other model label the texts."""
        return self.pair(rows, cards[self.flags.name], self.answers(other, rows))

    def log(self, cards: dict[str, ClassifierScorecard], run_id: str, dataset: Dataset) -> None:
        """Log the scorecard."""
        for name, card in cards.items():
            card.log(name, run_id, self.logged.step, dataset, self.logged.model_id)

    def changed(self, cards: dict[str, ClassifierScorecard]) -> list[float] | None:
        """A classifier has no base that answers."""
        return None


class SummaryEvaluation:
    """Summaries by base and adapter."""

    columns: ClassVar[tuple[str, ...]] = SUMMARIES

    def __init__(self, flags: Namespace, logged: LoggedModel):
        refuse_sql_flags(flags)
        self.flags, self.logged = flags, logged

    def prepare(self, rows: list[dict]) -> list[dict]:
        """Return the rows that have an article and a summary."""
        return complete_rows(rows, SUMMARIES, f"the rows of {self.flags.dataset}")

    def logged_columns(self, rows: list[dict]) -> tuple[str, ...]:
        """Return article and summary."""
        return SUMMARIES

    def score(self, rows: list[dict]) -> dict[str, SummaryScorecard]:
        """Return the scorecard."""
        summarizer = self.logged.load(loading(self.flags))
        return {self.flags.name: summary_scorecard(summarizer, rows, self.flags.batch_size)}

    @property
    def scores(self) -> tuple[str, ...]:
        """ROUGE-L alone."""
        return ("rougeL",)

    def answers(self, logged: LoggedModel, rows: list[dict]) -> list[Generation]:
        """Let a model summarise the articles, without its base."""
        summarizer = logged.load(loading(self.flags))
        return summary_scorecard(summarizer, rows, self.flags.batch_size, with_base=False).adapter

    def pair(self, rows: list[dict], ours: list[Generation], theirs: list[Generation]) -> Comparison:
        """Compare the ROUGE-L of two models."""
        return compare_summaries(rows, ours, theirs)

    def check_other(self, other: LoggedModel) -> None:
        """Any summarizer can be compared."""

    def compare(self, cards: dict[str, SummaryScorecard], other: LoggedModel, rows: list[dict]) -> Comparison:
        """Let the other model summarise the articles, without its base."""
        return self.pair(rows, cards[self.flags.name].adapter, self.answers(other, rows))

    def log(self, cards: dict[str, SummaryScorecard], run_id: str, dataset: Dataset) -> None:
        """Log the scorecard."""
        for name, card in cards.items():
            card.log(name, run_id, self.logged.step, dataset, self.logged.model_id)

    def changed(self, cards: dict[str, SummaryScorecard]) -> list[float] | None:
        """Return the share of the scorecard."""
        return [card.changed for card in cards.values()]


def evaluation_of(task: str) -> type[Evaluation]:
    """Return the class that scores the models of a task."""
    match task:
        case "text-to-sql":
            return SqlEvaluation
        case "classification":
            return ClassifierEvaluation
        case "summarization":
            return SummaryEvaluation
    raise AssertionError(f"no model card has the task {task}")
