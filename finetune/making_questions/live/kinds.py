"""Of what kind a column of a live database is: by its type, its name and its values."""

import re
from contextlib import suppress
from datetime import date
from math import isfinite

from finetune.making_questions.words import spaced

DATE = re.compile(r"\d{4}-\d\d-\d\d")
TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*")
NO_WORDS = re.compile(r"BOOL|BLOB|BYTE|BINARY|IMAGE|JSON|XML|UUID|ARRAY|\[\]|STRUCT|^MAP$|VECTOR|GEO", re.IGNORECASE)
NUMBERS = ("INT", "REAL", "FLOA", "DOUB", "DEC", "NUM", "MONEY", "HUGE")
# Numbers of which nobody asks for the sum.
CODES = set("number no nr code zip postcode phone isbn latitude longitude version position index".split())
YEARS = set("year founded built planted".split())
LONGEST = 40  # characters of a value that a question can hold


def kind_of(name: str, declared: str, values: list) -> str:
    """Return id, text, number, year, date, time (with hours), or other: not asked about.

    Args:
        values: different ones of the column, none of them NULL.
    """
    words = spaced(name).split()
    if words[-1] in ("id", "uuid", "guid", "key"):
        return "key"
    if not values or has_no_words(declared) or {*map(str, values)} <= BITS:
        return "other"
    texts = [str(value) for value in values]
    if all(DATE.fullmatch(text) for text in texts):
        return "date" if all(map(is_day, texts)) else "other"
    if all(TIME.fullmatch(text) for text in texts):
        if not all(is_day(text[:10]) for text in texts):
            return "other"
        return "date" if all(re.search(r"[ T]00:00(:00)?$", text) for text in texts) else "time"
    if all(is_number(value, declared) for value in values):
        return "other" if words[-1] in CODES else "year" if is_year(words[-1], values) else "number"
    return "text" if is_askable(texts) else "other"


def has_no_words(declared: str) -> bool:
    """Say whether values of a type are never asked about: bytes, documents, lists, places, yes or no."""
    return bool(NO_WORDS.search(declared))


BITS = {"0", "1", "True", "False", "0.0", "1.0"}


def is_day(text: str) -> bool:
    """Say whether an ISO date is one of the calendar: 0000-00-00 and 2023-02-30 are none."""
    with suppress(ValueError):
        return bool(date.fromisoformat(text))
    return False


def is_number(value, declared: str) -> bool:
    """Say whether a value is a number; servers send decimals as texts."""
    if isinstance(value, str):
        return any(sign in declared.upper() for sign in NUMBERS) and bool(re.fullmatch(r"-?\d+(\.\d+)?", value))
    return isinstance(value, int | float) and isfinite(value)


def is_year(word: str, values: list) -> bool:
    """Say whether numbers are years: by the last word of the column's name and their size."""
    return word in YEARS and all(float(value).is_integer() and 1000 <= float(value) <= 2100 for value in values)


def is_askable(texts: list[str]) -> bool:
    """Say whether most of the texts can stand in a question."""
    return sum(map(can_be_said, texts)) * 2 > len(texts)


def can_be_said(text: str) -> bool:
    """Say whether a text can stand in a question as it is."""
    return 0 < len(text) <= LONGEST and text.isprintable() and text == text.strip()


def spelled(value, kind: str) -> str:
    """Return a value as SQL has it, without quotes."""
    if kind in ("number", "year"):
        number = float(value)
        return str(int(number)) if number.is_integer() else str(value)
    return str(value)[:10] if kind in ("date", "time") else str(value)
