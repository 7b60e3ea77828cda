"""Which tables of a database a question is about: by its words, and by the keys between tables."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from finetune.databases.schema.reading import Key
from finetune.databases.schema.words import EMPTY, words_of

LIMIT = 8  # tables for a question
WEAK = 0.3  # share of the best table's score from which a table is taken
OF_COLUMN, OF_BEGINNING = 0.4, 0.5  # what a word is worth in a column's name, and where only its beginning fits
COMMON = 5  # letters that two words begin with alike: borrowed, borrower


@dataclass(frozen=True)
class Choice:
    """Tables for a question, in the database's order; `fits` where a word of the question names one of them."""

    tables: tuple[str, ...]
    fits: bool
    ranked: tuple[str, ...] = ()


class Chooser:
    """Chooses among the tables of one database; the same question always gets the same ones.

    Args:
        tables: table -> names of its columns, in the database's order.
        keys: between them.
    """

    def __init__(self, tables: Mapping[str, Iterable[str]], keys: list[Key], limit: int = LIMIT):
        self.names = list(tables)
        self.limit = limit
        self.own = {table: _with_joined(words_of(table)) for table in tables}
        self.columns = {
            table: {word for column in columns for word in _with_joined(words_of(column))} - self.own[table]
            for table, columns in tables.items()
        }
        self.neighbours: dict[str, set[str]] = {table: set() for table in tables}
        self.parents: dict[str, list[str]] = {table: [] for table in tables}
        for key in keys:
            if key.table != key.other:
                self.neighbours[key.table].add(key.other)
                self.neighbours[key.other].add(key.table)
                self.parents[key.table].append(key.other)

    @cached_property
    def _rarity(self) -> dict[str, float]:
        """What a word of the names is worth: the more, the fewer tables have it."""
        counts = Counter(word for table in self.names for word in self.own[table] | self.columns[table])
        return {word: math.log(1 + len(self.names) / count) for word, count in counts.items()}

    def choose(self, question: str) -> Choice:
        """Return at most `limit` tables: those that the question's words name, and those that join them.

        A question none of whose words fit gets the tables that the most keys meet at.
        """
        asked = _with_joined([word for word in words_of(question) if word not in EMPTY])
        fits = {word: _fit(word, asked) for word in self._rarity}
        scores = {table: self._score(table, fits) for table in self.names}
        ranked = sorted((table for table in self.names if scores[table]), key=lambda table: -scores[table])
        if not ranked:
            ranked = sorted(self.names, key=lambda table: -len(self.neighbours[table]))[: self.limit]
            return Choice(self._in_order(ranked), False, tuple(ranked))
        best = scores[ranked[0]]
        chosen = [table for table in ranked if scores[table] >= WEAK * best][: self.limit - 2]
        for between in self._between(chosen):
            if len(chosen) < self.limit:
                chosen.append(between)
        more = [parent for table in chosen for parent in self.parents[table]]
        for table in dict.fromkeys([*more, *ranked]):
            if len(chosen) < self.limit and table not in chosen and (table in more or scores[table] >= WEAK / 2 * best):
                chosen.append(table)
        return Choice(self._in_order(chosen), True, tuple(chosen))

    def _in_order(self, tables: Iterable[str]) -> tuple[str, ...]:
        wanted = set(tables)
        return tuple(name for name in self.names if name in wanted)

    def _score(self, table: str, fits: dict[str, float]) -> float:
        """Return how well words fit a table: its name counts as far as all of it is said."""
        whole = sum(self._rarity[word] for word in self.own[table])
        name = sum(self._rarity[word] * fits[word] for word in self.own[table])
        columns = sum(self._rarity[word] * fits[word] for word in self.columns[table])
        return (name * (0.5 + 0.5 * name / whole) if whole else 0.0) + OF_COLUMN * columns

    def _between(self, chosen: list[str]) -> list[str]:
        """Return the tables by which each chosen one is joined to those before it, where one or two are needed."""
        found: list[str] = []
        for place, table in enumerate(chosen[1:], start=1):
            path = self._path(table, {*chosen[:place], *found})
            found += [each for each in path if each not in chosen and each not in found]
        return found

    def _path(self, start: str, ends: set[str]) -> list[str]:
        """Return the tables between one and the nearest of others along keys, at most two; none where none are."""
        waiting: deque[tuple[str, list[str]]] = deque([(start, [])])
        seen = {start}
        while waiting:
            table, path = waiting.popleft()
            for near in self._in_order(self.neighbours[table]):
                if near in ends:
                    return path
                if near not in seen and len(path) < 2:
                    seen.add(near)
                    waiting.append((near, [*path, near]))
        return []


def _fit(word: str, asked: set[str]) -> float:
    """Return how well a word of a name fits those that are asked for, from 0 to 1."""
    if word in asked:
        return 1.0
    near = len(word) >= COMMON and any(e[:COMMON] == word[:COMMON] and abs(len(e) - len(word)) <= 3 for e in asked)
    return OF_BEGINNING if near else 0.0


def _with_joined(words: list[str]) -> set[str]:
    """Return words, and each two neighbours as one: a table bookcopy is asked for as book copies."""
    return {*words, *(one + two for one, two in pairwise(words))}
