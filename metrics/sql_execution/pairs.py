"""Conditions on an expression of two columns, such as `price - cost > 7`: values of one beside those of the other."""

import re
from random import Random

from .conditions import MOST, Value
from .dates import moved, read_date, write_date

NUMBER = re.compile(r"(?<!\d)\d{1,5}(?!\d)")  # of days, in '+7 days' too
OFF = (0, 1, -1)  # on a boundary, and beside it


def pair_neighbours(value: Value, literals: tuple[Value, ...], random: Random, form: str | None) -> list[Value]:
    """Return values of one column for which an expression of it and of another with `value` is on its boundary.

    Args:
        form: how the column writes dates; None where it holds none.
    """
    numbers = [literal for literal in literals[:MOST] if isinstance(literal, int | float)]
    if form:
        days = [int(number) for text in literals[:MOST] for number in NUMBER.findall(str(text))]
        return [*_dates(value, days, form)]
    if isinstance(value, int | float):
        return [number for limit in (*numbers, 0) for number in _numbers(value, limit)]
    texts = [literal for literal in literals[:MOST] if isinstance(literal, str)]
    rests = [text.removeprefix(str(value)).strip() for text in texts]  # v || ' ' || w = 'Ann Lee'
    return [value, f"{value}x", f"{value} {random.randint(1, 99)}", *texts, *filter(None, rests)]


def first_parts(literals: tuple[Value, ...]) -> list[str]:
    """Return the first words of texts, which two columns may make up together."""
    return [text.split()[0] for text in literals if isinstance(text, str) and " " in text.strip()]


def _numbers(value: float, limit: float) -> list[float]:
    found = [value + limit, value - limit, limit - value, value * limit]
    if value and limit:
        found += [round(limit / value), round(value / limit)]
    return [number + off for number in found for off in OFF]


def _dates(value: Value, numbers: list[int], form: str) -> list[str]:
    read = read_date(value)
    if read is None:
        return []
    days = [unit * (number + off) for number in (*numbers, 0) for off in OFF for unit in (1, 365.25, 1 / 24)]
    return [write_date(moved(read[0], days=sign * number), form) for number in days for sign in (1, -1)]
