"""How people speak of dates: what happened on them, before and after them, and in which year."""

import re
from datetime import date
from random import Random

from finetune.making_questions.schemas import Column, Table
from finetune.making_questions.words import text

# What a thing does itself on the date of a column whose first word this is; else it is done to it.
DOES = {
    "joined": "join", "opened": "open", "started": "start", "ended": "end", "arrived": "arrive", "left": "leave",
    "closed": "close", "expired": "expire", "began": "begin", "finished": "finish", "retired": "retire", "died": "die",
}  # fmt: skip
DONE = set("made sold sent bought built paid born lent".split())
BIRTHS = set("birth date,birthdate,birthday,date of birth,dob,born,born on".split(","))
# Nouns in the name of a date, and what has been done on it.
NOUNS = {
    "return": "returned", "hire": "hired", "delivery": "delivered", "payment": "paid", "release": "released",
    "purchase": "bought", "publication": "published", "acquisition": "acquired", "registration": "registered",
}  # fmt: skip
FORMS = {
    "after": (">", ["after {v}", "later than {v}"]), "before": ("<", ["before {v}", "earlier than {v}"]),
    "since": (">=", ["on or after {v}"]), "on": ("=", ["on {v}"]),
}  # fmt: skip


def happened(column: Column, table: Table) -> str:
    """Return what happened to a row on a date: `joined`, `were returned`; empty where the name says nothing of it."""
    first = column.words.split()[0]
    if column.words in BIRTHS:
        return "were born"
    if first in DOES:
        return first
    if first in DONE or (first.endswith("ed") and len(first) > 4):
        return f"were {first}"
    if first in NOUNS:
        return f"were {NOUNS[first]}"
    return "were made" if column.words in ("date", f"{table.singular} date") else ""


def asked(column: Column, table: Table) -> list[str]:
    """Return how people ask for the date of one row, {x}; none where the name says nothing of what happened."""
    verb = happened(column, table)
    if verb in DOES:
        return [f"when did {{x}} {DOES[verb]}", f"on what date did {{x}} {DOES[verb]}"]
    return [f"when was {{x}}{verb.removeprefix('were')}"] if verb else []


def phrase(column: Column, table: Table, when: str, random: Random) -> str:
    """Return words that follow rows whose date is as `when` says, such as `before 2020-01-01`."""
    verb, name = happened(column, table), column.words
    if verb and random.random() < 0.8:
        return f"that {verb} {when}"
    return random.choice([f"with {an(name)} {when}", f"whose {name} is {when}"])


def an(words: str) -> str:
    """Return words behind their article."""
    return f"{'an' if re.match('(?!uni|use|one|eu)[aeiou]', words) else 'a'} {words}"


def spoken(value: str, random: Random) -> str:
    """Return an ISO date as people write it."""
    day = date.fromisoformat(value)
    forms = [value, value, f"{day.day} {day:%B} {day.year}", f"{day:%B} {day.day}, {day.year}"]
    return random.choice(forms)


def in_year(column: Column, prefix: str, year: str) -> str:
    """Return the condition that a date is in a year."""
    return f"{year_of(column, prefix)} = {text(year)}"


def year_of(column: Column, prefix: str = "") -> str:
    """Return the year of a date, as SQLite has it."""
    return f"strftime('%Y', {column.at(prefix)})"


def near(value: str, random: Random) -> str:
    """Return a date, or the first day of its month or year: what people ask for."""
    return random.choice([value, f"{value[:7]}-01", f"{value[:4]}-01-01"])
