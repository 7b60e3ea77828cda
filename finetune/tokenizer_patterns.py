"""Patterns in a tokenizer.json, looked at before the library matches them: some take hours at forty letters."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from finetune.cards import MEND
from finetune.console import InputError

FILE = "tokenizer.json"
ENDLESS = 100  # so many repetitions count as without end
MOST_REPEATS = 5  # in one branch: those of known tokenizers have two
TOKEN = re.compile(r"\\.|\(\?[^\s:=!>)]*[:=!>]?|\{\d*,?\d*\}|.", re.DOTALL)
BACK = re.compile(r"\\[1-9gk]")  # what was matched before, or the pattern itself once more


def check_patterns(folder: Path) -> None:
    """Raise InputError where the tokenizer in a folder has a pattern that may never end."""
    path = folder / FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):  # Loading says what is wrong with it.
        return
    parts = [known.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")] if isinstance(known, dict) else []
    for pattern in _patterns(parts):
        if may_never_end(pattern):
            raise InputError(
                f"{path} is damaged: it has the pattern {pattern[:80]!r}, which may take hours at some texts, and is in"
                f" no known tokenizer; {MEND}."
            )


def _patterns(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("Regex"), str):
            yield value["Regex"]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _patterns(inner)


def may_never_end(pattern: str) -> bool:
    """Say whether a pattern repeats without end what repeats or chooses itself, as (a+)+ and (a|a)* do, or too often.

    A library that goes back over its choices tries each way to divide a text among them.
    """
    groups, closed, in_class = [[0, False]], None, 0  # of each open group: repetitions in this branch, any choice
    for token in TOKEN.findall(pattern):
        if BACK.match(token) and not in_class:
            return True
        if in_class or token == "[":
            in_class += (token == "[") - (token == "]")
        elif token[0] == "(":
            groups.append([0, False])
        elif token == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1][0] += closed[0]
            groups[-1][1] |= closed[1]
        elif token == "|":
            groups[-1] = [0, True]
        elif _is_endless(token):
            if closed is not None and (closed[0] or closed[1]):
                return True
            groups[-1][0] += 1
        if groups[-1][0] > MOST_REPEATS:
            return True
        closed = closed if token in (")", "?") else None
    return False


def _is_endless(token: str) -> bool:
    if token[0] == "{":
        least, comma, most = token[1:-1].partition(",")
        return bool(comma and not most) or max(int(least or 0), int(most or 0)) >= ENDLESS
    return token in ("*", "+")
