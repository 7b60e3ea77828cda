"""Texts that are equal or nearly equal: rows that must not stand on both sides of a split."""

import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR = 0.7  # share of the words of two texts that both have: reworded and filled-in copies, by eye on real clauses
# Scripts without spaces: each sign is a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|\w+")
MAX_WORDS = 64
MAX_COMPARED = 200


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, whatever their letter case and order; a word with a digit is any number.

    Of a long text 64 of them, the same ones of a text like it: those whose checksums are lowest.
    """
    words = {"0" if re.search(r"\d", word) else word for word in WORD.findall(text.lower())}
    return frozenset(sorted(words, key=lambda word: zlib.crc32(word.encode()))[:MAX_WORDS])


def near_groups(texts: list[str]) -> np.ndarray:
    """Return the number of the group of each text, shape (texts,): nearly equal texts are in one, also by others.

    Of a text, at most 200 like it are compared for each of its rare words: a group of thousands is found by chains.
    """
    index = NearTexts(texts)
    places = {words: place for place, words in enumerate(dict.fromkeys(index.words))}
    pairs = []
    for words, place in places.items():
        found = list(index.near(words))
        pairs += [(place, other) for other in found]
        index.add(words, place, MAX_COMPARED if found else math.inf)
    rows, columns = np.array(pairs or np.empty((0, 2)), dtype=int).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(places), len(places)))
    return connected_components(graph, directed=False)[1][[places[words] for words in index.words]]


def near_copies(texts: list[str], others: list[str]) -> np.ndarray:
    """Say of each text whether one of the others is nearly equal to it, shape (texts,)."""
    index = NearTexts(others + texts)
    for place, words in enumerate(dict.fromkeys(index.words[: len(others)])):
        index.add(words, place)
    return np.array([next(index.near(words), None) is not None for words in index.words[len(others) :]], dtype=bool)


class NearTexts:
    """Sets of words by their rarest words: sets that share `NEAR` of their words share one of those.

    Source: Bayardo, Ma and Srikant, "Scaling up all pairs similarity search" (2007), for Jaccard similarity.
    """

    def __init__(self, texts: list[str]):
        self.words = [words_of(text) for text in texts]
        self.frequency = Counter(word for words in self.words for word in words)
        self.added: list[tuple[frozenset[str], int]] = []
        self.by_word: dict[str, list[int]] = defaultdict(list)

    def near(self, words: frozenset[str]) -> Iterator[int]:
        """Yield the numbers of added sets that are nearly equal, each once."""
        seen = set()
        for word in self._rarest(words):
            for place in self.by_word.get(word, ()):
                if place not in seen:
                    seen.add(place)
                    other, number = self.added[place]
                    shared = len(words & other)
                    if shared >= NEAR * (len(words) + len(other) - shared):
                        yield number

    def add(self, words: frozenset[str], number: int, most: float = math.inf) -> None:
        """Add a set under a number, and to no list of a word that has as many as `most`."""
        self.added.append((words, number))
        for word in self._rarest(words):
            if len(self.by_word[word]) < most:
                self.by_word[word].append(len(self.added) - 1)

    def _rarest(self, words: frozenset[str]) -> list[str]:
        """Return so many of the rarest words that two sets without one of them in common are not near."""
        count = len(words) - math.ceil(NEAR * len(words)) + 1
        return sorted(words, key=lambda word: (self.frequency[word], word))[:count]
