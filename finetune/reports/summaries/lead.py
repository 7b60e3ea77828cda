"""The first sentences of an article as its summary: what needs no model, and is hard to beat in news."""

from dataclasses import dataclass

from finetune.models.documents import split_sentences

import numpy as np

MOST = 10  # sentences
ROWS = 500  # training rows that are looked at


@dataclass(frozen=True)
class Lead:
    """The first so many sentences of each article."""

    count: int

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        return "the first sentence" if self.count == 1 else f"the first {self.count} sentences"

    def of(self, article: str) -> str:
        """Return the first sentences of an article."""
        return " ".join(sentence.text for sentence in split_sentences(article)[: self.count])


def choose_lead(rows: list[dict]) -> Lead:
    """Return as many first sentences as come nearest to the summaries in words, on the mean of training rows.

    Args:
        rows: with `article` and `summary`; the first 500 are looked at.
    """
    wanted = np.mean([len(row["summary"].split()) for row in rows[:ROWS]])
    lengths = [[len(one.text.split()) for one in split_sentences(row["article"])] for row in rows[:ROWS]]
    counts = range(1, MOST + 1)
    means = [float(np.mean([sum(words[:count]) for words in lengths])) for count in counts]
    return Lead(min(counts, key=lambda count: (abs(means[count - 1] - wanted), count)))
