"""The model that is tried on the page: opened, loaded, asked, judged; or the list to choose one from."""

import logging
import time
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from finetune import InputError
from finetune.databases.database import Database
from finetune.logged_models.opening import LoggedModel, open_model
from finetune.models.card import ClassifierCard, SqlCard, SummarizerCard
from finetune.models.parameters import parse_parameters
from finetune.models.restoring import Loading
from finetune.page.choosing import page_of_run, ready_models
from finetune.page.run_shown import RunShown
from finetune.page.views import Emit, View
from finetune.page.views.articles import Articles
from finetune.page.views.questions import Questions
from finetune.page.views.texts import Texts
from finetune.predicting.traces import Record, Traces, save_corrections

logger = logging.getLogger(__name__)
KEPT = 200  # answers that can still be judged
PATIENCE = 2.0  # seconds that a judgement waits for MLflow before the page says that it comes later


@dataclass
class Tried:
    """What the page is about; its flags are those of the command line, and the page changes none of them.

    Attributes:
        problem: why the model cannot be used.
        began: when loading began.
    """

    flags: Namespace
    database: Database | None
    uri: str | None = None
    logged: LoggedModel | None = None
    view: View | None = None
    traces: Traces | None = None
    problem: str = ""
    began: float = 0.0
    kept: OrderedDict[str, Record] = field(default_factory=OrderedDict)
    _shown: RunShown = field(default_factory=lambda: RunShown(""))

    def open(self, uri: str) -> None:
        """Read what a model is, without its weights.

        Raises:
            InputError: there is no such model, or it does not go with the flags.
        """
        logged = open_model(uri)
        given = parse_parameters(self.flags.param, logged.parameters)
        view = self._view(logged, {n: v for n, v in (logged.parameters | given).items() if n != "batch_size"})
        if self.traces:
            save_corrections(self.traces.close(0))
        self.uri, self.logged, self.view, self.problem, self.began = uri, logged, view, "", time.monotonic()
        self.traces = Traces(logged, self.flags.trace_rows, "page", keeps_trying=True) if self.flags.trace else None
        self.kept.clear()

    def _view(self, logged: LoggedModel, parameters: dict) -> View:
        if self.database and not isinstance(logged.card, SqlCard):
            raise InputError(f"--database is for models that write SQL; {logged.card.task} has no use for it.")
        if isinstance(logged.card, SqlCard):
            return Questions(self.flags, logged, parameters, self.database)
        views: dict[type, Callable] = {ClassifierCard: Texts, SummarizerCard: Articles}
        return views[type(logged.card)](self.flags, logged, parameters)

    def load(self) -> None:
        """Load the weights of what was opened."""
        if self.logged is None or self.view is None or self.view.model is not None:
            return
        view, loading = self.view, Loading(self.flags.base_model, self.flags.precision, self.flags.compute_dtype)
        try:
            view.model = self.logged.load(loading)
        except InputError as error:
            self.problem = str(error)
            logger.error(self.problem)
        except Exception as error:  # The page goes on, and says so.
            self.problem = f"the model cannot be loaded ({type(error).__name__}); the terminal says more."
            logger.exception("the model cannot be loaded")
        else:
            logger.info(f"{self.uri} is loaded after {time.monotonic() - self.began:.1f} s")

    def state(self) -> dict:
        """Return what the page shows before anything is asked."""
        if self.view is None or self.logged is None:
            return {"state": "choosing", "problem": self.problem}
        state = "failed" if self.problem else "ready" if self.view.model is not None else "loading"
        unsent = self.traces.unsent if self.traces else []
        return {
            "state": state,
            "problem": self.problem,
            "seconds": time.monotonic() - self.began,
            "uri": self.uri,
            "task": self.logged.card.task,
            "base": Path(self.logged.card.base_model).name,
            "has_base": state == "ready" and hasattr(getattr(self.view.model, "model", None), "disable_adapter"),
            "run": page_of_run(self.logged.card.run_id),
            "is_traced": self.traces is not None,
            "unsent": len(unsent),
            "trouble": self.traces.trouble if self.traces and unsent else "",
        } | self.view.describe()

    @property
    def shown(self) -> RunShown:
        """What the model's run has logged.

        Raises:
            InputError: no model is chosen.
        """
        if self.logged is None:
            raise InputError("choose a model first.")
        if self._shown.run_id != self.logged.card.run_id:
            self._shown = RunShown(self.logged.card.run_id)
        return self._shown

    def choices(self) -> list[dict]:
        """Return the models of the store, the newest first."""
        return ready_models()

    def choose(self, uri: object) -> None:
        """Open one of the models of the store.

        Raises:
            InputError: it is none of them, or does not go with the flags.
        """
        if uri not in [one["uri"] for one in ready_models()]:
            raise InputError("the store has no such model.")
        self.open(str(uri))

    def ask(self, given: dict, emit: Emit) -> None:
        """Answer what the page asks; keep the answer, to be judged though the base is stopped that is asked behind."""
        self.load()
        if self.view is None or self.view.model is None:
            raise InputError(self.problem or "choose a model first.")
        record = self.view.ask(given, emit)
        self.kept[record.key] = record
        while len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        if self.traces:
            self.traces.keep(record)
        emit(key=record.key, is_traced=self.traces is not None)
        if given.get("base"):
            self.view.ask_base(record, emit)

    def try_out(self, given: dict) -> dict:
        """Return what a corrected answer does."""
        if self.view is None:
            raise InputError("choose a model first.")
        return self.view.try_out(given.get("answer"))

    def judge(self, given: dict) -> dict:
        """Keep what a person says of an answer: right, wrong, or what is right.

        Raises:
            InputError: the answer is no longer kept, or no correction can be made of what was given.
        """
        record = self._judged(given)
        if self.traces is None or self.view is None:
            raise InputError("nothing is kept: try_model.py was started with --no-trace.")
        if not isinstance(given.get("right"), bool):
            raise InputError("expected right: true or false.")
        expected = {} if given.get("answer") is None else self.view.expected(record, given["answer"])
        self.kept[record.key] = record
        self.traces.judge(record, given["right"], expected)
        return {"kept": record.is_sent.wait(PATIENCE), "key": record.key, "trouble": self.traces.trouble}

    def _judged(self, given: dict) -> Record:
        """Return the answer that is judged; of a document's sentence one of its own."""
        record, part = self.kept.get(str(given.get("key"))), given.get("part")
        if record is None:
            raise InputError("this answer is no longer kept; ask again.")
        if not record.parts:
            return record
        if not isinstance(part, int) or not 0 <= part < len(record.parts):
            raise InputError("choose a sentence of the document first.")
        own = f"{record.key}-{part}"
        sentence = record.parts[part]
        outputs = {"labels": sentence["labels"], "scores": sentence["scores"]}
        return self.kept.get(own) or Record({"text": sentence["text"]}, outputs, record.steps, key=own)
