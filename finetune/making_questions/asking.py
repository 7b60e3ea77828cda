"""Plain questions with their SQL, as people ask them, about any tables."""

from random import Random

from finetune.making_questions.scenes import Scene
from finetune.making_questions.schemas import Table
from finetune.making_questions.shapes.join_shapes import joined
from finetune.making_questions.shapes.row_shapes import column_where, count_all, count_some, most, rows_where
from finetune.making_questions.shapes.summary_shapes import aggregate, grouped, listed

SHAPES = [count_all, count_some, count_some, rows_where, rows_where, column_where, most, most, aggregate, aggregate,
          grouped, grouped, listed, joined, joined, joined, joined, joined]  # fmt: skip


def ask(random: Random, tables: list[Table]) -> tuple[str, str]:
    """Draw a question about the tables and return it with its SQL."""
    while True:
        scene = Scene(random, tables, random.choice(tables))
        found = random.choice(SHAPES)(scene)
        if found:
            return sentence(random, found[0]), found[1]


def sentence(random: Random, text: str) -> str:
    """Return a question with a capital letter and, nearly always, its mark."""
    end = "." if text.startswith(("list", "show", "give", "name", "count", "number")) else "?"
    return text[0].upper() + text[1:] + (end if random.random() < 0.95 else "")
