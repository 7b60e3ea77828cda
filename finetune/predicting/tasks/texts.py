"""Texts to a classifier: which flags and rows they come from, and what is said of them."""

import logging
from collections.abc import Iterator
from dataclasses import asdict

from finetune.logged_models.opening import LoggedModel
from finetune.models.card import ClassifierCard
from finetune.models.classifier.classifier import Classifier, check_threshold
from finetune.models.classifier.scoring import Encoded, warn_of_long_texts
from finetune.models.documents import Sentence, read_document, split_sentences
from finetune.predicting.clause_report import clause_report
from finetune.predicting.input_rows import read_texts
from finetune.predicting.tasks import Pairs, Served
from finetune.rows.files.columns import TEXTS

import pyarrow as pa

logger = logging.getLogger(__name__)


class Texts:
    """Texts of --text, --input or stdin, or with --split-sentences the sentences of a document: those with a label.

    Attributes:
        document: its sentences as rows; None for other texts.
    """

    does, words = "classifies texts", ("texts", "read")
    own: tuple[str, ...] = ("text", "split_sentences", "report", "long_texts")
    columns: tuple[str, ...] = TEXTS
    needed = Classifier.columns

    def __init__(self, flags, logged: LoggedModel):
        assert isinstance(logged.card, ClassifierCard)  # Its task was asked for.
        self.flags, self.card = flags, logged.card
        self.document: list[dict] | None = None
        self.blank = asdict(Sentence("", 0, 0, 1)) if flags.split_sentences else {"text": ""}
        self.flagged: list[dict] = []
        self.long_texts = 0

    def check(self, parameters: dict) -> None:
        """Raise InputError for a document that cannot be read, or a threshold that the labels cannot have."""
        if self.flags.split_sentences:
            self.page = read_document(self.flags.input)
        check_threshold(self.card, parameters["threshold"])
        if self.flags.split_sentences:
            self.document = [asdict(sentence) for sentence in split_sentences(self.page)]

    def rows(self) -> Iterator[dict]:
        """Yield the rows, checked; from the start at each call where they are in a file."""
        return read_texts(self.flags, "text")

    def read(self, row: dict) -> dict:
        """Return what the model reads of a row."""
        return self.flags.names.read(row)

    def predicted(self, classifier: Classifier) -> pa.Schema:
        """Return names and types of what a row gets."""
        scores = pa.struct([(name, pa.float64()) for name in classifier.labels.scored])
        return pa.schema({"labels": pa.list_(pa.string()), "scores": scores})

    def look_at(self, classifier: Classifier, encoded: Encoded, parameters: dict) -> None:
        """Count the texts that are longer than the model reads at once."""
        self.long_texts += encoded.long_texts

    def keep(self, classifier: Classifier, pairs: Pairs) -> Pairs:
        """Return the rows that are written, with their answers: of a document those with a label."""
        if self.document is None:
            return pairs
        found = [pair for pair in pairs if classifier.finds(pair[1])]
        self.flagged += [row | answer for row, answer in found]
        return found

    def end(self, classifier: Classifier, seen: int) -> None:
        """Say how many texts were long, and how many sentences have a label; write the report."""
        card, flags = classifier.card, self.flags
        warn_of_long_texts(self.long_texts, seen, card.max_length, card.long_texts == "window", "texts")
        if self.document is not None:
            logger.info(f"{len(self.flagged)} of {seen} sentences flagged")
        if flags.report:
            model = f"{flags.uri}, an adapter with a linear SVM on TF-IDF" if card.tfidf else flags.uri
            report = clause_report(self.page, self.flagged, seen, flags.input.name, model)
            flags.report.write_text(report, encoding="utf-8")
            logger.info(f"the report is {flags.report}")

    def served(self) -> Served:
        """Return how a served model is called: with a column, whatever its name."""
        return Served([("text", True)], ("labels", "scores"), "labels array<string>, scores map<string, double>")
