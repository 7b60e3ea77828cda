"""Rows of text-to-SQL held out by their schemas, by the shape of their queries, or at random."""

import logging
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from finetune import InputError
from finetune.rows.splits.leaks import plain
from finetune.rows.splits.query_shapes import query_shape
from finetune.rows.splits.schema_split import hold_out_groups, schema_of_row, split_by_schema

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

logger = logging.getLogger(__name__)
QUOTED_OR_NUMBER = re.compile(
    r"""(?<!\w)'[^']*'(?!\w)|(?<!\w)‘[^‘’]*’(?!\w)|"[^"]*"|“[^“”]*”|„[^„“”]*[“”]|«[^«»]*»"""
    r"""|(?<![\w.])[-+]?\d+(?:[.,:/-]\d+)*"""
)
SPLITS = ("auto", "schema", "query", "row")
ANY_SIZE = "schema-of-any-size"  # What runs did before there was a choice: no schema is passed over as too large.


@dataclass
class QuestionSplit:
    """Holds rows out by what `--split-by` says.

    Attributes:
        by: schema, query or row; auto becomes one of them as soon as it has seen rows.
        dialect: of the gold SQL, as sqlglot names it.
        schema_of: what tells the schemas of rows apart.
        used: what rows were held out by; empty before that.
    """

    by: str = "auto"
    dialect: str = "sqlite"
    schema_of: Callable[[dict], str] = schema_of_row
    used: str = ""

    def __call__(self, rows: list[dict], fraction: float, seed: int) -> tuple[list[dict], list[dict]]:
        """Return training and validation rows: about `fraction` of the rows are for validation.

        Raises:
            InputError: no row can be held out so.
        """
        if self.by == "auto":
            self.by = "schema" if len({self.schema_of(row) for row in rows}) > 1 else "query"
        any_size = self.by == ANY_SIZE
        self.used = self.by = "schema" if any_size else self.by
        if self.by == "schema":
            return split_by_schema(rows, fraction, seed, self.schema_of, any_size)
        groups = grouped(rows, [self._keys(row) for row in rows])
        if len(groups) < 2:
            raise InputError(self._refusal(len(rows)))
        train, validation = hold_out_groups(groups, fraction, seed)
        kinds = "shapes of query" if self.by == "query" else "different questions"
        logger.info(
            f"Held out {len(validation)} of {len(rows)} rows ({len(validation) / len(rows):.1%}; asked for"
            f" {fraction:.1%}) by {self.by}: the rows are {len(groups)} {kinds}."
        )
        return train, validation

    def apart(self, rows: list[dict], validation: list[dict]) -> list[dict]:
        """Return rows of another set without those that ask or answer, but for numbers and texts, what is held out.

        Held out by schema, or by the data itself, all stay: the leak report speaks of them.
        """
        if self.used not in ("query", "row"):
            return rows
        held = {key for row in validation for key in self._keys(row)}
        return [row for row in rows if not held & set(self._keys(row))]

    def _keys(self, row: dict) -> tuple[Hashable, ...]:
        asked = plain(row["question"]) if self.by == "row" else question_shape(row["question"])
        return ("question", asked), self._key(row)

    def _key(self, row: dict) -> tuple[str, str]:
        if self.by == "row":
            return "gold", plain(row["answer"])
        return "shape", query_shape(row["answer"], row["context"], self.dialect)

    def _refusal(self, count: int) -> str:
        if self.by == "row":
            return f"all {count} rows ask the same question or have the same SQL, so none can be held out; give more."
        return (
            f"the queries or questions of all {count} rows have the same shape: they differ in numbers, texts and"
            " aliases alone, and a score on such rows would measure memory. Add rows that ask for something else; or"
            " mark rows in a column `split` as train and validation; or give --split-by row, which holds rows out at"
            " random."
        )


def question_shape(question: str) -> str:
    """Return a question with `?` for its numbers, dates and quoted texts, without letter case and spacing."""
    return plain(QUOTED_OR_NUMBER.sub("?", question))


def grouped(rows: list[dict], keys: Sequence[tuple[Hashable, ...]]) -> list[list[dict]]:
    """Return the rows in groups, each in the order of the rows: those that share any key are in one.

    Args:
        keys: of each row.
    """
    numbers: dict[Hashable, int] = {}
    pairs = [(place, numbers.setdefault(key, len(numbers))) for place, own in enumerate(keys) for key in own]
    places, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    size = len(rows) + len(numbers)
    graph = coo_array((np.ones(len(pairs)), (places, columns + len(rows))), shape=(size, size))
    groups: dict[int, list[dict]] = {}
    for row, group in zip(rows, connected_components(graph, directed=False)[1][: len(rows)], strict=True):
        groups.setdefault(int(group), []).append(row)
    return list(groups.values())
