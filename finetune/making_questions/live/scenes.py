"""Conditions on rows of a live table: with its own values, dates, ranges and gaps."""

import re
from math import floor, log10

from finetune.making_questions.live import dates
from finetune.making_questions.scenes import Condition, Scene, of_text
from finetune.making_questions.schemas import Column, Table
from finetune.making_questions.wordings import COUNTED, PLACES, SORTS, compared
from finetune.making_questions.words import text

WORD = re.compile(r"[^\W\d_]{4,}")


class LiveScene(Scene):
    """What a question about a live database is asked about."""

    def value(self, column: Column) -> str:
        """Draw one of the column's own values."""
        return self.random.choice(column.values)

    def condition(self, table: Table, prefix: str = "") -> Condition | None:
        """Draw a condition on rows of a table, None where it has no column for one."""
        column = self.some("text", "text", "number", "number", "year", "date", "date", "time", of=table)
        if column is None or not column.values:
            return None
        if column.gaps and self.random.random() < 0.15:
            return self.gap(column, table, prefix)
        return {"text": self.of_text, "number": self.of_number, "year": self.of_year}.get(column.kind, self.of_date)(
            column, table, prefix
        )

    def gap(self, column: Column, table: Table, prefix: str = "") -> Condition:
        """Return that a row has no value in a column, or that it has one."""
        missing, name = self.random.random() < 0.7, column.words
        verb = dates.happened(column, table) if column.kind in ("date", "time") else ""
        if verb.startswith("were ") and verb not in ("were made", "were born"):
            done = verb.removeprefix("were ")
            forms = [f"that have not been {done}", f"that have not been {done} yet", f"that were not {done}"]
            forms = forms if missing else [f"that have been {done}", f"that have already been {done}"]
        elif missing:
            forms = ["without {a}", "that have no {c}", "whose {c} is missing", "whose {c} is not known"]
        else:
            forms = ["that have {a}", "whose {c} is known", "with a known {c}"]
        words = self.pick(forms, c=name, a=dates.an(name))
        return Condition(words, f"{column.at(prefix)} IS {'' if missing else 'NOT '}NULL", column)

    def of_text(self, column: Column, table: Table, prefix: str) -> Condition:
        """Return that a text is one of the column's, or that it contains a word of one."""
        value, name = self.value(column), column.words
        found = [word for word in WORD.findall(value) if word.isascii()]
        often = 0.25 if name.endswith("name") else 0.7
        if not column.repeats and found and name not in PLACES and self.random.random() < often:
            word = self.random.choice(found)
            starts = value.startswith(word) and self.random.random() < 0.4
            begins = ["whose {c} starts with {v}", "with {a} that begins with {v}"]
            contains = ["whose {c} contains {v}", "with {v} in the {c}", "whose {c} contains the word {v}"]
            words = self.pick(begins if starts else contains, c=name, a=dates.an(name), v=word)
            like = text(f"{word}%" if starts else f"%{word}%")
            return Condition(words, f"{column.at(prefix)} LIKE {like}", column)
        last = name.split()[-1]
        words = self.pick(of_text(last if last in PLACES | SORTS else name), c=name, v=value)
        return Condition(words, column.equals(value, prefix), column, value)

    def of_number(self, column: Column, table: Table, prefix: str) -> Condition:
        """Return that a number is above, below, at least, or between numbers of the column's own range."""
        name, at, value = column.words, column.at(prefix), self.near(column)
        is_counted = name.split()[-1] in COUNTED.split()
        draw = self.random.random()
        if draw < 0.15:
            forms = ["have at least {v} {c}"] if is_counted else ["have {a} of at least {v}", "have {a} of {v} or more"]
            words = self.pick(forms, c=name, a=dates.an(name), v=value)
            return Condition(f"that {words}", f"{at} >= {value}", column, value)
        other = self.near(column)
        if draw < 0.3 and value != other:
            low, high = sorted((value, other), key=float)
            words = f"between {low} and {high}"
            words = f"that have {words} {name}" if is_counted else f"that have {dates.an(name)} {words}"
            return Condition(words, f"{at} BETWEEN {low} AND {high}", column, low)
        return self.above_or_below(column, prefix, value)

    def of_year(self, column: Column, table: Table, prefix: str) -> Condition:
        """Return that a year is one of the column's, or before or after one."""
        value, words = self.value(column), column.words.split()
        verb = f"were {words[0]} " if words[0].endswith("ed") else ""
        if self.random.random() < 0.5:
            forms = [f"that {verb}in {{v}}"] if verb else ["from {v}", "of {v}", "with the {c} {v}"]
            return Condition(self.pick(forms, c=column.words, v=value), column.equals(value, prefix), column, value)
        if not verb:
            return self.above_or_below(column, prefix, value)
        sign, word = self.random.choice([(">", "after"), ("<", "before")])
        return Condition(f"that {verb}{word} {value}", f"{column.at(prefix)} {sign} {value}", column, value)

    def above_or_below(self, column: Column, prefix: str, value: str) -> Condition:
        """Return that a number or year is more or less than a value."""
        more, less, *_ = compared(column)
        above = self.random.random() < 0.6
        words = (more if above else less).format(c=column.words, v=value)
        words = words.replace("have a ", f"have {dates.an(column.words).split()[0]} ")
        return Condition(f"that {words}", f"{column.at(prefix)} {'>' if above else '<'} {value}", column, value)

    def of_date(self, column: Column, table: Table, prefix: str) -> Condition:
        """Return that a date is before, after, on or between days, or in a year; of times, in a year alone."""
        at, draw, value = column.at(prefix), self.random.random(), self.value(column)
        if draw < 0.35 or column.kind == "time":
            when = self.pick(["in {v}", "in {v}", "in the year {v}"], v=value[:4])
            return Condition(
                dates.phrase(column, table, when, self.random), dates.in_year(column, prefix, value[:4]), column
            )
        first, last = sorted((dates.near(value, self.random), dates.near(self.value(column), self.random)))
        if draw < 0.5 and first < last:
            when = f"between {dates.spoken(first, self.random)} and {dates.spoken(last, self.random)}"
            return Condition(
                dates.phrase(column, table, when, self.random), f"{at} BETWEEN {text(first)} AND {text(last)}", column
            )
        sign, forms = dates.FORMS[self.random.choice(["after", "after", "before", "before", "since", "on"])]
        day = value if sign == "=" else dates.near(value, self.random)
        when = self.pick(forms, v=dates.spoken(day, self.random))
        return Condition(dates.phrase(column, table, when, self.random), f"{at} {sign} {text(day)}", column)

    def near(self, column: Column) -> str:
        """Return a number of the column's range, as often as not a round one."""
        value = float(self.value(column))
        if abs(value) < 20 or not value.is_integer() or self.random.random() < 0.4:
            return str(int(value)) if value.is_integer() else f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"
        step = 10 ** floor(log10(abs(value))) // 2
        return str(int(value // step * step))
