"""Texts on the page: the labels of one, or of each sentence of a document, marked in its place."""

import time
from argparse import Namespace
from dataclasses import asdict

from finetune import InputError
from finetune.logged_models.opening import LoggedModel
from finetune.models.card import ClassifierCard
from finetune.models.classifier.classifier import Classifier, check_threshold
from finetune.models.documents import Sentence, split_sentences, visible_text
from finetune.page.views import Emit, text_of
from finetune.predicting.traces import Record, step


class Texts:
    """A text, or a document with its sentences; a base without its adapter has no labels, so that none is asked."""

    def __init__(self, flags: Namespace, logged: LoggedModel, parameters: dict):
        assert isinstance(logged.card, ClassifierCard)
        self.labels, self.parameters = logged.card.labels, parameters
        check_threshold(logged.card, parameters.get("threshold"))
        self.model: Classifier | None = None

    def describe(self) -> dict:
        """Return the labels, and whether a text may have several."""
        return {"kind": "text", "labels": list(self.labels.names), "several": self.labels.task == "multilabel"}

    def ask(self, given: dict, emit: Emit) -> Record:
        """Label a text, or each sentence of a document."""
        assert self.model is not None  # The desk has loaded it first.
        text, began, steps = text_of(given, "text"), time.perf_counter(), []  # type: ignore[var-annotated]
        emit(side="adapter", begun=True)
        if given.get("html"):
            text = visible_text(text)
        document = bool(given.get("document"))
        sentences = split_sentences(text) if document else [Sentence(text, 0, len(text), 1)]
        if not sentences:
            raise InputError("the document has no sentence.")
        with step(steps, "label", sentences=len(sentences)) as one:
            answers = self.model.answer(self.model.encode([asdict(each) for each in sentences]), **self.parameters)
            pairs = list(zip(sentences, answers, strict=True))
            found = [asdict(each) | answer | {"found": self.model.finds(answer)} for each, answer in pairs]
            one.outputs = {"flagged": sum(each["found"] for each in found)} if document else answers[0]
        outputs = {"clauses": [each for each in found if each["found"]]} if document else answers[0]
        emit(side="adapter", answer={"document": text, "sentences": found}, seconds=time.perf_counter() - began)
        self.sentences = found
        return Record({"document" if document else "text": text}, outputs, steps, parts=found if document else [])

    def ask_base(self, record: Record, emit: Emit) -> None:
        """Leave it: a base has no labels."""

    def expected(self, record: Record, given: object) -> dict:
        """Return corrected labels; raise InputError for others than the model has."""
        names = given if isinstance(given, list) else [given]
        unknown = [name for name in names if name not in self.labels.names]
        if unknown:
            raise InputError(f"the model has no label {unknown[0]}; it has {', '.join(self.labels.names)}.")
        if self.labels.task == "multilabel":
            return {"labels": names}
        if len(names) != 1:
            raise InputError("a text has exactly one of these labels; choose one.")
        return {"label": names[0]}

    def try_out(self, given: object) -> dict:
        """Raise InputError: labels do nothing."""
        raise InputError("only SQL can be tried.")
