"""What a question is asked about, and conditions on rows in words and SQL."""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from finetune.making_questions.schemas import Column, Table
from finetune.making_questions.wordings import PLACES, SORTS, compared


class Condition(NamedTuple):
    """A condition on rows of a table.

    Attributes:
        words: that follow what people call the rows.
        sql: behind WHERE.
        column: which it is about.
        value: that is in the words, or empty.
    """

    words: str
    sql: str
    column: Column
    value: str = ""


@dataclass
class Scene:
    """What a question is asked about."""

    random: Random
    tables: list[Table]
    table: Table

    def pick(self, phrases: list[str], **words) -> str:
        """Draw a phrase and fill in the words."""
        return self.random.choice(phrases).format(**words)

    def some(self, *kinds: str, of: Table | None = None, repeats: bool = False) -> Column | None:
        """Draw a column of one of the kinds, if asked one whose values repeat; None where there is none."""
        columns = (of or self.table).columns
        found = [column for column in columns if column.kind in kinds and (column.repeats or not repeats)]
        return self.random.choice(found) if found else None

    def value(self, column: Column) -> str:
        """Draw a value, as people say it."""
        if column.kind == "year":
            return str(self.random.randint(1950, 2025))
        if column.kind == "number":
            return str(self.random.choice([self.random.randint(1, 100), 10 * self.random.randint(1, 100)]))
        if column.kind == "date":
            return f"{self.random.randint(2018, 2025)}-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}"
        return self.random.choice(column.values)

    def condition(self, table: Table, prefix: str = "") -> Condition | None:
        """Draw a condition on rows of a table, None where it has no column for one."""
        column = self.some("text", "text", "number", "number", "year", "date", of=table)
        if column is None:
            return None
        value, name, at = self.value(column), column.words, column.at(prefix)
        if column.kind == "text":
            return Condition(self.pick(of_text(name), c=name, v=value), column.equals(value, prefix), column, value)
        if column.kind == "date":
            sign, word = self.random.choice([(">", "after"), ("<", "before"), ("=", "on")])
            return Condition(f"{word} {value}", f"{at} {sign} '{value}'", column, value)
        if column.kind == "year" and self.random.random() < 0.5:
            forms = {"year": ["in {v}", "from {v}", "in the year {v}"]}.get(name, ["{c} in {v}"])
            return Condition(self.pick(forms, c=name, v=value), f"{at} = {value}", column, value)
        more, less, *_ = compared(column)
        above = self.random.random() < 0.6
        words = (more if above else less).format(c=name, v=value)
        return Condition(f"that {words}", f"{at} {'>' if above else '<'} {value}", column, value)


def of_text(name: str) -> list[str]:
    """Return how people say that rows have a text in the column of the name."""
    if name in PLACES:
        return ["from {v}", "in {v}", "in {v}", "from {v}", "in the {c} of {v}"]
    forms = ["whose {c} is {v}", "with {c} {v}", "with the {c} {v}", "that have the {c} {v}"]
    return forms + (["in the {v} {c}", "of the {c} {v}", "in the {c} {v}"] if name in SORTS else [])
