"""Pairs of question and SQL from a live database, as many of each shape as of the others."""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from random import Random

from finetune.making_questions.asking import sentence
from finetune.making_questions.live.answers import Answers, NoAnswer
from finetune.making_questions.live.checking import Candidate, verdicts
from finetune.making_questions.live.join_shapes import JOIN_SHAPES
from finetune.making_questions.live.row_shapes import ROW_SHAPES
from finetune.making_questions.live.scenes import LiveScene
from finetune.making_questions.schemas import Table
from finetune.making_questions.wordings import COUNTED

SHAPES = ROW_SHAPES | JOIN_SHAPES
DRAWS, PATIENCE = 30, 4  # tries for one candidate; rounds without a pair after which a shape is given up
WORDINGS = 3  # questions for one query
# Nobody asks for the sum of these.
NO_SUM = re.compile(r"\btotal (age|height|rating|score|speed|temperature|depth|rank|level)\b")


@dataclass
class Made:
    """What was made.

    Attributes:
        left_out: how many candidates were left out, by the reason for it.
        again: how often a question was drawn that had been drawn before.
        lost: why the database does not answer any more; empty where it does.
    """

    pairs: list[Candidate] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    again: int = 0
    lost: str = ""


def polished(text: str) -> str:
    """Return a question with what is counted as a number, and without people's doings said of things."""
    text = re.sub(rf"\b(highest|lowest|average|total) ({'|'.join(COUNTED.split())})\b", r"\1 number of \2", text)
    return re.sub(r"^how many (.+?) did (.+) make$", r"how many \1 do \2 have", text)


def balanced(counts: list[int]) -> list[int]:
    """Return how many pairs of each shape stay, none above a fifth of all where there are five shapes."""
    found = list(counts)
    while len(found) >= 5 and max(found) > max(WORDINGS, sum(found) // 5):
        found[found.index(max(found))] -= 1
    return found


class Maker:
    """Draws candidates of each shape from the tables and keeps those that say something."""

    def __init__(self, tables: list[Table], ask: Answers, seed: int):
        self.tables, self.ask, self.random = tables, ask, Random(f"questions {seed}")
        self.questions: set[str] = set()
        self.queries: Counter = Counter()
        self.kept: dict[str, list[Candidate]] = {shape: [] for shape in SHAPES}
        self.left_out: Counter = Counter()
        self.again = 0

    def make(self, rows: int, progress=lambda done: None) -> Made:
        """Return as many pairs as asked for, or as many as can be made, no shape above a fifth of `rows`.

        Where the database does not answer any more, those that were made before.

        Args:
            progress: called with the number of pairs that there are.
        """
        lost = ""
        try:
            self.fill(rows, progress)
        except NoAnswer as error:
            lost = str(error)
        return Made(self.mixed(rows), self.left_out, self.again, lost)

    def fill(self, rows: int, progress) -> None:
        """Make pairs of each shape, a few at a time, until there are enough or no shape gives more.

        Raises:
            NoAnswer: the database does not answer any more.
        """
        most, step = max(1, rows // 5), min(50, max(1, rows // (4 * len(SHAPES))))
        in_vain = Counter({shape: 0 for shape in SHAPES})
        while in_vain and sum(map(len, self.kept.values())) < rows:
            share = min(most, min(len(self.kept[shape]) for shape in in_vain) + step)
            for shape in list(in_vain):
                wanted = share - len(self.kept[shape])
                in_vain[shape] = 0 if wanted <= 0 or self.draw_round(shape, wanted) else in_vain[shape] + 1
                if in_vain[shape] >= PATIENCE or len(self.kept[shape]) >= most:
                    del in_vain[shape]
            progress(min(rows, sum(map(len, self.kept.values()))))

    def mixed(self, rows: int) -> list[Candidate]:
        """Return at most so many of the pairs, as evenly of all shapes as can be, mixed."""
        kept = [pairs for pairs in self.kept.values() if pairs]
        counts = balanced([len(pairs) for pairs in kept])
        turns = zip_longest(*(pairs[:count] for pairs, count in zip(kept, counts, strict=True)))
        found = [pair for turn in turns for pair in turn if pair]
        return self.random.sample(found[:rows], min(rows, len(found)))

    def draw_round(self, shape: str, wanted: int) -> int:
        """Draw candidates of a shape, keep what is wanted of those that say something, and return how many."""
        drawn = [candidate for _ in range(wanted + wanted // 2 + 1) if (candidate := self.draw(shape))]
        kept = 0
        for candidate, reason in zip(drawn, verdicts(drawn, self.ask), strict=True):
            if reason:
                self.left_out[reason] += 1
            elif kept < wanted and self.queries[candidate.sql] < WORDINGS:
                self.queries[candidate.sql] += 1
                self.kept[shape].append(candidate)
                kept += 1
        return kept

    def draw(self, shape: str) -> Candidate | None:
        """Draw a question that was not drawn before; None where the tables have none of the shape."""
        for _ in range(DRAWS):
            found = SHAPES[shape](LiveScene(self.random, self.tables, self.random.choice(self.tables)))
            if found is None:
                continue
            text, sql, *others = found
            if NO_SUM.search(text):
                continue
            question = sentence(self.random, polished(text))
            if question.rstrip(".?").lower() in self.questions:
                self.again += 1
                continue
            self.questions.add(question.rstrip(".?").lower())
            return Candidate(shape, question, sql, *others)
        return None
