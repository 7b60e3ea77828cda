"""Questions to a text-to-SQL model: which flags and rows they come from, and what is said of them."""

import logging
from collections.abc import Iterator
from functools import partial

from finetune.databases.database import Database
from finetune.databases.schema.choosing import Choice
from finetune.logged_models.opening import LoggedModel
from finetune.models.card import SqlCard
from finetune.models.prompts import Prompt
from finetune.models.sql_writer import SqlWriter, open_tokenizer
from finetune.predicting.input_rows import asked, check_length, check_schema_length, read_questions
from finetune.predicting.tasks import Pairs, Served
from finetune.rows.files.columns import QUESTIONS
from finetune.screen import DETAIL

import pyarrow as pa

logger = logging.getLogger(__name__)


class Questions:
    """Questions of --question, --input or stdin, about the schema of --database, of --context or of their row."""

    does, words = "writes SQL", ("questions", "answered")
    own: tuple[str, ...] = (
        "question", "context", "database", "tables", "values", "execute", "interactive", "csv", "csv_safe",
        "trust_role", "candidates", "merge", "no_adapter", "token_ids",
    )  # fmt: skip
    columns: tuple[str, ...] = QUESTIONS
    document: list[dict] | None = None

    def __init__(self, flags, logged: LoggedModel, database: Database | None):
        self.flags, self.logged, self.database = flags, logged, database
        assert isinstance(logged.card, SqlCard)  # Its task was asked for.
        self.prompt = Prompt(logged.card.prompt)
        self.needed: tuple[str, ...] = (
            ("question",) if flags.database or flags.context is not None else SqlWriter.columns
        )
        self.blank = dict.fromkeys(self.prompt.variables, "")

    def check(self, parameters: dict) -> None:
        """Raise InputError for a schema of --database that the base has no positions for."""
        card, flags = self.logged.card, self.flags
        self.tokenizer, self.limit = open_tokenizer(self.logged.adapter, self.logged.restored_by, flags.base_model)
        if not self.database:
            return
        flags.context_of = self.database.context_of
        if not self.database.chooses:
            flags.context = self.database.statements
            flags.context_of = lambda question: flags.context
            schema = self.prompt.render({"question": "", "context": flags.context})
            check_schema_length(self.tokenizer(schema)["input_ids"], self.limit, card.max_length)

    def rows(self) -> Iterator[dict]:
        """Yield the rows, checked; from the start at each call where they are in a file."""
        check = partial(check_length, self.tokenizer, self.limit, self.prompt)
        return read_questions(self.flags, self.prompt.variables, check)

    def read(self, row: dict) -> dict:
        """Return what the model reads of a row; say which tables that are where they were chosen."""
        found = asked(row, self.flags)
        if self.database and self.database.chooses:
            self._tell_tables(found["question"], self.database.choose(found["question"]))
        return found

    def _tell_tables(self, question: str, choice: Choice) -> None:
        named = f"tables for {' '.join(question.split())[:80]!r}: {', '.join(choice.tables)}"
        if choice.fits:
            # Of a file of questions they stand in full with --verbose.
            logger.info(named, extra=DETAIL if self.flags.input else None)
        else:
            logger.warning(
                f"{named}. None of its words is in the name of a table or column, so these are the ones that the most"
                " keys lead to; --tables names others."
            )

    def predicted(self, writer: SqlWriter) -> pa.Schema:
        """Return names and types of what a row gets."""
        return pa.schema({"sql": pa.string(), "ended": pa.bool_()})

    def look_at(self, writer: SqlWriter, prompts: list[list[int]], parameters: dict) -> None:
        """Warn where prompt and answer together exceed the positions that the base knows."""
        limit, new = getattr(writer.model.config, "max_position_embeddings", None), parameters["max_new_tokens"]
        too_long = sum(len(ids) + new > limit for ids in prompts) if limit else 0
        if too_long:
            logger.warning(f"{too_long} prompts with {new} new tokens exceed the base's {limit} positions.")

    def keep(self, writer: SqlWriter, pairs: Pairs) -> Pairs:
        """Return the rows that are written, with their answers: all."""
        return pairs

    def end(self, writer: SqlWriter, seen: int) -> None:
        """There is nothing to say of all rows together."""

    def served(self) -> Served:
        """Return how a served model is called: with one text, the prompt from its first column to its last."""
        marks = {name: f"\x00{name}\x00" for name in self.prompt.variables}
        parts = self.prompt.model_input(marks).split("\x00")
        given = [(part, index % 2 == 1) for index, part in enumerate(parts) if part]
        return Served(given, ("sql",), is_configured=False)
