"""Articles on the page: a summary by base and adapter."""

import time
from argparse import Namespace

from finetune import InputError
from finetune.logged_models.opening import LoggedModel
from finetune.models.documents import visible_text
from finetune.models.summarizer.summarizer import Summarizer
from finetune.page.views import Emit, streamed, text_of
from finetune.predicting.traces import Record, Step, step


class Articles:
    """An article, or a document as one."""

    def __init__(self, flags: Namespace, logged: LoggedModel, parameters: dict):
        self.parameters = parameters
        self.model: Summarizer | None = None

    def describe(self) -> dict:
        """Return the kind of the page."""
        return {"kind": "article"}

    def ask(self, given: dict, emit: Emit) -> Record:
        """Let the adapter answer."""
        article, steps = text_of(given, "article"), []  # type: ignore[var-annotated]
        article = visible_text(article) if given.get("html") else article
        outputs = self._answer("adapter", article, emit, steps)
        return Record({"article": article}, outputs, steps)

    def ask_base(self, record: Record, emit: Emit) -> None:
        """Let the base answer, where there is one."""
        assert self.model is not None  # It has answered.
        if hasattr(self.model.model, "disable_adapter"):
            with self.model.model.disable_adapter():
                self._answer("base", record.inputs["article"], emit, [])

    def _answer(self, side: str, article: str, emit: Emit, steps: list[Step]) -> dict:
        assert self.model is not None  # The desk has loaded it first.
        began = time.perf_counter()
        emit(side=side, begun=True)
        with step(steps, "write", article=article) as one:
            encoded = self.model.encode([{"article": article}])
            parameters = streamed(self.model, self.parameters, emit, side, len(encoded.prompts))
            (answer,) = self.model.answer(encoded, **parameters)
            one.outputs = {"summary": answer["summary"], "ended": answer["ended"]}
        emit(side=side, answer={"text": answer["summary"]}, seconds=time.perf_counter() - began)
        return one.outputs

    def expected(self, record: Record, given: object) -> dict:
        """Return a corrected summary."""
        return {"summary": text_of({"summary": given}, "summary").strip()}

    def try_out(self, given: object) -> dict:
        """Raise InputError: a summary does nothing."""
        raise InputError("only SQL can be tried.")
