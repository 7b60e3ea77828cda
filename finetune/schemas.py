"""What files that may be damaged or tampered with hold: read as JSON, and compared with a table field by field.

A table is {field: kind}, a kind (what is expected, in words; a test of the value).
"""

import json
import math
import re
import reprlib
from collections.abc import Callable
from pathlib import Path

from finetune.console import InputError

Kind = tuple[str, Callable[[object], bool]]
MAX_BYTES = 64 * 2**20  # of a JSON file: a card holds a few texts
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,255}", re.ASCII)


def read_json(path: Path, mend: str) -> object:
    """Return what a JSON file holds.

    Args:
        mend: what to do where it cannot be read.

    Raises:
        InputError: it is no JSON, or not readable.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES // 2**20} MB")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it cannot be read as JSON ({reason(error)}); {mend}.") from error


def check(
    values: object, required: dict[str, Kind], where: object, mend: str, optional: dict[str, Kind] | None = None,
    others: Callable[[str, object], bool] = lambda name, value: False,
) -> dict:  # fmt: skip
    """Return an object whose fields are those of a table.

    Args:
        where: the file, or what it is in it.
        mend: what to do otherwise.
        others: whether a field that is in no table is passed over.

    Raises:
        InputError: for the first field that is missing, or has another value than it can have.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where} is damaged: it is {shown(values)}, expected an object; {mend}.")
    known = required | (optional or {})
    for name in required:
        if name not in values:
            raise InputError(f"{where} is damaged: {name} is missing; {mend}.")
    for name, value in values.items():
        expected, fits = known.get(name, ("no such field", lambda value, name=name: others(name, value)))
        if not fits(value):
            raise InputError(f"{where} is damaged: {name[:60]} is {shown(value)}, expected {expected}; {mend}.")
    return values


def shown(value: object) -> str:
    """Return a value in short."""
    return json.dumps(value) if value is None or isinstance(value, bool) else reprlib.repr(value)


def reason(error: BaseException | str) -> str:
    """Return an error's text, or its name, as part of a sentence."""
    return (" ".join(str(error).split())[:200] or type(error).__name__).rstrip(".;")


def text(longest: int = 10**7, least: int = 0) -> Kind:
    """A text of so many characters; NUL is in none."""
    words = "a text" if least == 0 else "a text that is not empty"
    return words, lambda value: isinstance(value, str) and least <= len(value) <= longest and "\0" not in value


def whole(least: int, most: int) -> Kind:
    """A whole number in a range."""
    words = f"a whole number from {least} to {most}"
    return words, lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


NUMBER = ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool))  # or NaN


def number(least: float = -math.inf, most: float = math.inf) -> Kind:
    """A number in a range, not NaN."""
    words = "a number" if least == -math.inf else f"a number from {least:g} to {most:g}"
    return words, lambda value: NUMBER[1](value) and least <= value <= most


def one_of(*values) -> Kind:
    """One of some values; true is not 1."""
    words = " or ".join("null" if value is None else json.dumps(value) for value in values)
    return words, lambda value: any(type(value) is type(known) and value == known for known in values)


def either(*kinds: Kind) -> Kind:
    """Any of some kinds."""
    return " or ".join(words for words, _ in kinds), lambda value: any(fits(value) for _, fits in kinds)


def listed(each: Kind, least: int = 0, most: int = 10**6) -> Kind:
    """A list of one kind."""
    words = f"a list of {least} to {most} entries, each {each[0]}"
    return words, lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(each[1], value))


def mapped(each: Kind, most: int = 10**5, keys: Kind | None = None) -> Kind:
    """An object whose values are of one kind."""
    key = (keys or text())[1]
    words = f"an object of at most {most} fields, each {each[0]}"
    return (
        words,
        lambda value: (
            isinstance(value, dict) and len(value) <= most and all(key(k) and each[1](v) for k, v in value.items())
        ),
    )


def fields(required: dict[str, Kind], optional: dict[str, Kind] | None = None, strict: bool = False) -> Kind:
    """An object with fields of its own; others are passed over where it is not strict."""
    known = required | (optional or {})

    def fits(value: object) -> bool:
        if not isinstance(value, dict) or not required.keys() <= value.keys() or (strict and value.keys() - known):
            return False
        return all(known[name][1](own) for name, own in value.items() if name in known)

    return f"an object with {', '.join(f'{name} ({kind[0]})' for name, kind in known.items())}", fits


def matching(pattern: str, words: str) -> Kind:
    """A text of a form."""
    return words, lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


ANY = ("anything", lambda value: True)
NULL = one_of(None)
FLAG = ("true or false", lambda value: isinstance(value, bool))
MODULE = ("the plain name of a module", lambda value: isinstance(value, str) and NAME.fullmatch(value) is not None)
