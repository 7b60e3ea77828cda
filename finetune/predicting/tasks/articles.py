"""Articles to a summarizer: which flags and rows they come from, and what is said of them."""

from collections.abc import Iterator

from finetune.logged_models.opening import LoggedModel
from finetune.models.documents import SUFFIXES, read_document
from finetune.models.summarizer.articles import Articles as Encoded
from finetune.models.summarizer.articles import warn_of_long_articles
from finetune.models.summarizer.summarizer import Summarizer
from finetune.predicting.input_rows import read_texts
from finetune.predicting.tasks import Pairs, Served
from finetune.rows.files.columns import SUMMARIES

import pyarrow as pa


class Articles:
    """Articles of --text, --input or stdin; a document is one article.

    Attributes:
        document: its one row; None for other articles.
    """

    does, words = "summarises articles", ("articles", "summarised")
    own: tuple[str, ...] = ("text", "long_texts", "no_adapter", "token_ids")
    columns: tuple[str, ...] = SUMMARIES
    needed = Summarizer.columns

    def __init__(self, flags, logged: LoggedModel):
        self.flags = flags
        self.document: list[dict] | None = None
        self.blank = {"article": ""}
        self.long_articles = 0

    def check(self, parameters: dict) -> None:
        """Raise InputError for a document that cannot be read."""
        if self.flags.input is not None and self.flags.input.suffix.lower() in SUFFIXES:
            self.document = [{"article": read_document(self.flags.input)}]

    def rows(self) -> Iterator[dict]:
        """Yield the rows, checked; from the start at each call where they are in a file."""
        return read_texts(self.flags, "article")

    def read(self, row: dict) -> dict:
        """Return what the model reads of a row."""
        return self.flags.names.read(row)

    def predicted(self, summarizer: Summarizer) -> pa.Schema:
        """Return names and types of what a row gets."""
        return pa.schema({"summary": pa.string(), "ended": pa.bool_()})

    def look_at(self, summarizer: Summarizer, encoded: Encoded, parameters: dict) -> None:
        """Count the articles that are longer than the model reads at once."""
        self.long_articles += encoded.long_articles

    def keep(self, summarizer: Summarizer, pairs: Pairs) -> Pairs:
        """Return the rows that are written, with their answers: all."""
        return pairs

    def end(self, summarizer: Summarizer, seen: int) -> None:
        """Say how many articles were long."""
        card = summarizer.card
        warn_of_long_articles(self.long_articles, seen, card.max_length, card.long_texts == "window", "articles")

    def served(self) -> Served:
        """Return how a served model is called: with a column by its name."""
        return Served([("article", True)], ("summary",), is_named=True)
