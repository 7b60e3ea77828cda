"""Parameters of a prediction: what each may be, the same for predict.py and for a served model."""

import math
from collections.abc import Callable
from typing import NamedTuple

from finetune.console import InputError


class Expected(NamedTuple):
    """What a parameter may be: its type, a test of its value, and both in words."""

    kind: type
    fits: Callable[[float], bool]
    words: str


def _count(most: int) -> Expected:
    """A number of something, as the card of a model has it: more would fill the memory, or never end."""
    return Expected(int, lambda value: 1 <= value <= most, f"a whole number of at least 1, at most {most}")


SHARE = Expected(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")
POSITIVE = Expected(float, lambda value: 0 < value < math.inf, "a number above 0")
PARAMETERS = {
    "threshold": SHARE,
    "batch_size": _count(10**6),
    "max_new_tokens": _count(10**6),
    "num_beams": _count(1000),
    "no_repeat_ngram_size": Expected(int, lambda value: 0 <= value <= 10**4, "a whole number, 0 for none, or to 10000"),
    "do_sample": Expected(bool, lambda value: True, "true or false"),
    "temperature": POSITIVE,
    "top_p": SHARE,
    "repetition_penalty": POSITIVE,
}


def expected_of(name: str, default) -> Expected:
    """Return what a parameter may be; of one that is not in the list, what its default is."""
    kind = type(default)
    return PARAMETERS.get(name) or Expected(kind, lambda value: True, f"{kind.__name__}, such as {default}")


def check_parameters(given: dict, known: dict) -> None:
    """Raise InputError for a parameter that the model does not have, or a value that it cannot be.

    Args:
        known: the model's parameters with their defaults.
    """
    for name, value in given.items():
        if name not in known:
            raise InputError(f"the model has no parameter {name}; it has {', '.join(known)}.")
        expected = expected_of(name, known[name])
        # A truth value is a number to Python; a whole number is also a number.
        kinds = (float, int) if expected.kind is float else expected.kind
        is_other = not isinstance(value, kinds) or (isinstance(value, bool) and expected.kind is not bool)
        if is_other or not expected.fits(value):
            raise InputError(f"{name} is {'null' if value is None else repr(value)}; expected {expected.words}.")


def parse_parameters(given: list[str], known: dict) -> dict:
    """Return the values that texts `name=value` give.

    Raises:
        InputError: for a parameter that the model does not have, or a value that it cannot be.
    """
    parsed = {}
    for item in given:
        name, _, text = item.partition("=")
        value = _read(text)
        try:
            check_parameters({name: value}, known)
        except InputError as error:
            raise InputError(f"--param {item}: {error}") from None
        parsed[name] = expected_of(name, known[name]).kind(value)
    return parsed


def _read(text: str) -> bool | int | float | str:
    """Return what a text says: true or false, a number, or itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
