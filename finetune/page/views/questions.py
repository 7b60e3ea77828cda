"""Questions on the page: SQL by base and adapter, and its rows where that was said on the command line."""

import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial

from finetune import InputError
from finetune.databases.database import Database, QueryFailed
from finetune.databases.safe_sql import Refused
from finetune.logged_models.opening import LoggedModel
from finetune.models.card import SqlCard
from finetune.models.prompts import Prompt
from finetune.models.sql_writer import SqlWriter, open_tokenizer
from finetune.page.views import Emit, streamed, text_of
from finetune.predicting.dialogue import Answer, Dialogue, as_record
from finetune.predicting.input_rows import check_length, check_question
from finetune.predicting.traces import Record
from metrics.sql_execution.queries import QueryError, parse

import sqlglot


class Questions:
    """Questions about the schema of --database, or of CREATE TABLE statements on the page."""

    def __init__(self, flags: Namespace, logged: LoggedModel, parameters: dict, database: Database | None):
        assert isinstance(logged.card, SqlCard)
        self.card, self.parameters, self.database = logged.card, parameters, database
        self.prompt = Prompt(self.card.prompt)
        self.tokenizer, self.limit = open_tokenizer(logged.adapter, logged.restored_by, flags.base_model)
        self.execute, self.candidates = bool(database and flags.execute), flags.candidates
        if database:
            database.dialect = self.card.dialect
            database.values = (self.card.sample_values or 0) if flags.values is None else flags.values
            self.dialogue = Dialogue(
                database, self.execute, False, "none", flags.max_rows, flags.timeout, flags.retries
            )
        self.model: SqlWriter | None = None

    def describe(self) -> dict:
        """Return the schema as a tree, and whether SQL is run."""
        tables = self.database.columns if self.database else {}
        return {
            "kind": "question",
            "execute": self.execute,
            "has_database": self.database is not None,
            "tables": [{"name": name, "columns": list(columns.items())} for name, columns in tables.items()],
            "context": "" if self.database else self._schema,
        }

    @property
    def _schema(self) -> str:
        """A schema to begin with, of a checkpoint's held-out rows; a logged model has none."""
        return str(self.card.inputs[0].get("context", "")) if self.card.sample else ""

    def ask(self, given: dict, emit: Emit) -> Record:
        """Let the adapter answer."""
        question = text_of(given, "question")
        context = self.database.context_of(question) if self.database else text_of(given, "schema")
        row = {"question": question, "context": context}
        check_question(row, self.prompt.variables, "the page")
        check_length(self.tokenizer, self.limit, self.prompt, row, "the question")
        return as_record(row, self._answer("adapter", row, emit))

    def ask_base(self, record: Record, emit: Emit) -> None:
        """Let the base answer."""
        assert self.model is not None  # It has answered.
        with self.model.model.disable_adapter():
            self._answer("base", record.inputs, emit)

    def _answer(self, side: str, row: dict, emit: Emit) -> Answer:
        began = time.perf_counter()
        write = lambda question: self._write(side, row | {"question": question}, emit)  # noqa: E731
        if self.database:
            others = partial(self._others, row) if self.candidates else None
            answer = self.dialogue.answer(row["question"], write, others)
        else:
            answer = Dialogue(None, False, False, "none").answer(row["question"], write)  # type: ignore[arg-type]
        emit(side=side, answer=self._shown(answer), seconds=time.perf_counter() - began)
        return answer

    def _write(self, side: str, row: dict, emit: Emit) -> str:
        assert self.model is not None  # The desk has loaded it first.
        emit(side=side, begun=True)
        parameters = streamed(self.model, self.parameters, emit, side)
        (answer,) = self.model.answer(self.model.encode([row]), **parameters)
        return answer["sql"]

    def _others(self, row: dict, first: str) -> Iterator[str]:
        """Yield other SQL than the first, to be tried where that fails or finds nothing."""
        assert self.model is not None  # As in `_write`.
        (prompt,) = self.model.encode([row])
        yield from (one.text for one in self.model.others(prompt, self.candidates or 1, first, **self.parameters))

    def _shown(self, answer: Answer) -> dict:
        """Return an answer as the page shows it."""
        return answer.record | {"text": answer.sql, "formatted": self.formatted(answer.sql), "doubt": answer.doubt}

    def formatted(self, sql: str) -> str:
        """Return SQL a clause a line; what is no query as it is."""
        try:
            return parse(sql, self.card.dialect).sql(dialect=self.card.dialect, pretty=True)
        except (QueryError, ValueError, RecursionError, sqlglot.errors.SqlglotError):
            return sql

    def expected(self, record: Record, given: object) -> dict:
        """Return corrected SQL; raise InputError for what is not one query."""
        return {"answer": self._query(given)}

    def _query(self, given: object) -> str:
        sql = text_of({"SQL": given}, "SQL").strip()
        try:
            parse(sql, self.card.dialect)
        except QueryError as error:
            raise InputError(f"this is not one query ({error}); a corrected answer is.") from error
        return sql

    def try_out(self, given: object) -> dict:
        """Run corrected SQL as the model's is run."""
        sql = self._query(given)
        if not self.database or not self.execute:
            raise InputError("SQL is run only with --database and --execute on the command line of try_model.py.")
        answer = Answer("", sql)
        try:
            answer.result = self.database.run(sql, self.dialogue.max_rows, self.dialogue.timeout)
        except (Refused, QueryFailed) as error:
            answer.error = f"{'not executed' if isinstance(error, Refused) else 'the database says'}: {error}"
        return self._shown(answer)
