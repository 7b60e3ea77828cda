"""Conditions on columns: values that meet or just miss them, and what to wish for so that a whole holds."""

import operator
import re
from dataclasses import dataclass
from itertools import product
from random import Random

from .dates import date_neighbours
from .execution import is_true

Value = int | float | str | None
Source = tuple[int, str]  # (number of the Select, alias): one entry of a FROM clause
Place = tuple[Source, str]  # a column of a source
ORDERINGS = {"=": operator.eq, "<>": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt,
             "<=": operator.le}  # fmt: skip
MOST = 12  # values of an IN, and conditions on one column, that data is made for
WORDS = "amber birch cedar delta ember flint grove hazel ivory jade kite linen maple north olive pearl".split()


@dataclass(frozen=True)
class Atom:
    """One condition on one column: `column operator values`."""

    place: Place
    operator: str  # =, <>, >, >=, <, <=, like, between, in, null; sql, date: an expression of the column `v`
    values: tuple[Value, ...]  # the expression, of date its format, and the literals


@dataclass(frozen=True)
class Link:
    """Two columns compared with each other, by an operator or, `sql`, in an expression of `v` and `w`."""

    left: Place
    right: Place
    operator: str = "="
    expression: str = ""
    literals: tuple[Value, ...] = ()  # of the expression


@dataclass
class Tree:
    """AND or OR of conditions; `children` are trees, `(condition, wanted)` pairs or None for the unknown."""

    kind: str  # and, or
    children: list


def as_stored(text: str) -> Value:
    """Return a literal as a column of NUMERIC affinity stores it: a number where it reads as one."""
    try:
        number = float(text)
    except ValueError:
        return text
    if number != number or abs(number) > 1e15 or text.strip().lower().lstrip("+-") in ("inf", "infinity"):
        return text
    return int(number) if number.is_integer() else number


def holds(atom: Atom, value: Value) -> bool:
    """Say whether a value meets a condition, as SQLite compares under NUMERIC affinity and NOCASE."""
    if atom.operator == "null":
        return value is None
    if atom.operator in ("sql", "date"):
        return is_true(atom.values[0], value)
    if value is None:
        return False
    if atom.operator == "like":
        return _like(str(atom.values[0]), str(value))
    keys = [sort_key(other) for other in atom.values]
    key = sort_key(value)
    if atom.operator == "in":
        return key in keys
    if atom.operator == "between":
        return keys[0] <= key <= keys[1]
    return ORDERINGS[atom.operator](key, keys[0])


def sort_key(value: Value) -> tuple:
    """Return what SQLite orders a value by: NULL, numbers, then text without letter case."""
    if value is None:
        return (0, 0)
    return (2, value.lower()) if isinstance(value, str) else (1, value)  # SQLite: numbers before text


def _like(pattern: str, text: str) -> bool:
    # Part by part from the left, not one regular expression: a model may write a hundred %.
    first, *others = ("".join("." if c == "_" else re.escape(c) for c in part) for part in pattern.split("%"))
    flags = re.IGNORECASE | re.DOTALL
    if not others:
        return re.fullmatch(first, text, flags) is not None
    found = re.match(first, text, flags)
    for part in others[:-1]:
        found = found and re.compile(part, flags).search(text, found.end())
    return found is not None and re.compile(f".*{others[-1]}\\Z", flags).match(text, found.end()) is not None


def neighbours(atom: Atom, random: Random) -> list[Value]:
    """Return values on, beside and away from the boundary of a condition."""
    if atom.operator == "null":
        return [None, random.choice(WORDS), random.randint(1, 50)]
    if atom.operator == "date":
        return [*date_neighbours(atom.values[2 : MOST + 2], random, str(atom.values[1]))]
    if atom.operator == "sql":
        return expression_neighbours(atom.values[1 : MOST + 1], random)
    found: list[Value] = []
    for value in atom.values if len(atom.values) <= MOST else random.sample(atom.values, MOST):
        if value is None:
            continue
        if atom.operator == "like":
            found += like_neighbours(str(value), random)
        elif isinstance(value, str):
            found += text_neighbours(value, random)
        else:
            found += number_neighbours(value, random)
    numbers = [value for value in atom.values if isinstance(value, int | float)]
    if atom.operator == "between" and len(numbers) == len(atom.values):
        found.append(sum(numbers) // 2)
    return found


def joined(tests: list[tuple[Atom, bool]]) -> list[Atom]:
    """Return the conditions on one column; those of dates as one: a year here and a month there meet in one date."""
    others = [atom for atom, _ in tests if atom.operator != "date"]
    dates = [atom for atom, _ in tests if atom.operator == "date"]
    if len(dates) < 2:
        return others + dates
    literals = dict.fromkeys(literal for atom in dates for literal in atom.values[2:])
    return [*others, Atom(dates[0].place, "date", (*dates[0].values[:2], *literals))]


def number_neighbours(value: float, random: Random) -> list[Value]:
    """Return a number, its direct neighbours at its own precision, and numbers further off."""
    if isinstance(value, int):
        return [value, value - 1, value + 1, value + random.randint(2, 9), value - random.randint(2, 9)]
    step = 10.0 ** -len(str(value).partition(".")[2])
    near = [value, value - step, value + step, value + random.randint(1, 9), value - random.randint(1, 9)]
    return [round(number, 9) for number in near]


def text_neighbours(text: str, random: Random) -> list[Value]:
    """Return a text, edited copies of it, and texts that sort before and after."""
    word = random.choice(WORDS)
    position = random.randrange(len(text)) if text else 0
    swapped = text[:position] + ("q" if text[position : position + 1].lower() != "q" else "w") + text[position + 1 :]
    found = [text, text + "x", word + " " + text, text + " " + word, swapped, "0 " + word, "zz" + word, word]
    if len(text) > 1:
        found.append(text[:-1])
    # An edited copy may read as a number ("5th" -> "5"), which the column would store as one.
    return [text, *(as_stored(edited.strip()) for edited in found[1:] if edited.strip())]


def like_neighbours(pattern: str, random: Random) -> list[Value]:
    """Return texts that match a pattern at its start, in its middle and at its end, and some that do not."""
    word = random.choice(WORDS)
    core = pattern.replace("_", "e")
    plain = core.replace("%", "")
    found = [plain, core.replace("%", word), plain + word, word + plain, word + plain + word]
    found += [plain[:-1], plain[1:], plain[: len(plain) // 2] + "~" + plain[len(plain) // 2 :], word]
    return [as_stored(text) for text in found if text]


def expression_neighbours(literals: tuple[Value, ...], random: Random) -> list[Value]:
    """Return values for which an expression with these literals may be true, or just not."""
    found: list[Value] = [random.choice(WORDS), f"{random.choice(WORDS)} {random.choice(WORDS)}", *range(-1, 5)]
    found += [random.randint(5, 500), random.randint(-50, 10), random.randint(10, 5_000) / 10]
    for literal in literals:
        if isinstance(literal, str):
            found += text_neighbours(literal, random) + like_neighbours(f"%{literal}%", random)
        elif literal is not None:
            found += number_neighbours(literal, random)
            lengths = range(int(literal) - 1, int(literal) + 2) if 0 < literal < 100 else ()
            found += [("".join(random.sample(WORDS, 3)) * 8)[:length] for length in lengths]
    places = [literal for literal in literals if isinstance(literal, int) and 1 < literal <= 40]
    for place, literal in product(places, literals):  # substr(v, 7, 4) = '2010'
        before = ("".join(random.sample(WORDS, 3)) * 8)[: place - 1]
        following = literal + 1 if isinstance(literal, int | float) else f"{str(literal)[:-1]}~"
        found += [f"{before}{text}{random.choice(('', ' x'))}" for text in (literal, following)]
    return found


def wishes(tree, goal: bool, random: Random) -> list[tuple[Atom | Link, bool]]:
    """Return conditions with wanted outcomes that make a tree true, or false in every part."""
    if tree is None:
        return []
    if not isinstance(tree, Tree):
        condition, wanted = tree
        return [(condition, wanted == goal)]
    if (tree.kind == "and") == goal:
        return [wish for child in tree.children for wish in wishes(child, goal, random)]
    if goal:
        return wishes(random.choice(tree.children), True, random)
    return wishes(random.choice(tree.children), False, random)


def near_miss(tree, random: Random) -> list[tuple[Atom | Link, bool]]:
    """Return wishes with exactly one condition broken that decides the whole."""
    if tree is None or not isinstance(tree, Tree):
        return wishes(tree, False, random)
    known = [i for i, child in enumerate(tree.children) if child is not None]
    if not known:
        return []
    broken = random.choice(known)
    found = near_miss(tree.children[broken], random)
    for index, child in enumerate(tree.children):
        if index != broken:
            found += wishes(child, tree.kind == "and", random)
    return found
