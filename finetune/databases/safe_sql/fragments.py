"""SQL as words of the vocabulary, names, aliases, numbers and bound texts, and what it may grow to."""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.vocabulary import CALLS, WORDS

# A planner puts the expression of a subquery's column in the place of each reference to it, so that a short query can
# become a huge one: PostgreSQL and MariaDB obey no time limit while they plan.
MAX_SIZE = 10_000  # of a query after that, in columns, literals and rows of subqueries read
MAX_TOKENS = 40_000  # of what is sent
MAX_TEXT = 50_000  # of one value, in columns put together; 20 characters of a literal count as a column
AGGREGATED_TEXT = 1_000  # GROUP_CONCAT is counted as so many
# Of a text times what is sought in it. PostgreSQL and MariaDB obey no time limit within one LIKE or INSTR.
MAX_SEARCH = 500
INTEGER = re.compile(r"[0-9]{1,38}", re.ASCII)
DECIMAL = re.compile(r"([0-9]{0,38})\.([0-9]{0,38})", re.ASCII)
FLOAT = re.compile(r"([0-9]{1,38})(?:\.([0-9]{0,38}))?[eE]([+-]?[0-9]{1,3})", re.ASCII)


class Token(NamedTuple):
    """One token of what is sent; kind is word, name, alias, number or text.

    Attributes:
        place: of a text: equal texts in equal places are one parameter.
    """

    kind: str
    text: str
    place: Hashable = None


@dataclass(frozen=True)
class Fragment:
    """Tokens, with their size and the length of the longest text they make: see MAX_SIZE and MAX_TEXT."""

    tokens: tuple[Token, ...]
    size: int = 0
    text: int = 0


def write(*parts: str | Fragment | None, size: int = 0, text: int = 0) -> Fragment:
    """Put words and fragments one after the other.

    Args:
        parts: a string holds words of the vocabulary, a space between them; None is left out.

    Raises:
        Refused: the fragment would grow over its budget.
        KeyError: a word that is not in the vocabulary.
    """
    tokens: list[Token] = []
    for part in parts:
        if isinstance(part, Fragment):
            tokens += part.tokens
            size += part.size
            text += part.text
        elif part is not None:
            tokens += [word(each) for each in part.split(" ") if each]
    if size > MAX_SIZE or len(tokens) > MAX_TOKENS:
        raise Refused("the query would grow too large where its subqueries are put in place")
    if text > MAX_TEXT:
        raise Refused("the query would make texts too long")
    return Fragment(tuple(tokens), size, text)


def searched(value: Fragment, sought: Fragment) -> None:
    """Raise Refused where it would take too long to look for one text in another."""
    if value.text * sought.text > MAX_SEARCH:
        raise Refused("the query would seek long texts in long texts")


def word(text: str) -> Token:
    """Return a word of the vocabulary.

    Raises:
        KeyError: there is no such word.
    """
    if text not in WORDS:
        raise KeyError(text)
    return Token("word", text)


def comma_separated(fragments: list[Fragment]) -> Fragment:
    """Return fragments with commas between them."""
    parts = [part for fragment in fragments for part in (",", fragment)]
    return write(*parts[1:])


def name(text: str) -> Fragment:
    """Return a name of the database, as the database spells it."""
    return Fragment((Token("name", text),))


def alias(text: str) -> Fragment:
    """Return a generated alias."""
    return Fragment((Token("alias", text),))


def number(text: str) -> Fragment:
    """Return a number written anew from its value: an integer, a decimal, or a float with an exponent.

    Raises:
        Refused: anything else, or more than 38 digits.
    """
    exponent = 0
    if INTEGER.fullmatch(text):
        written = str(int(text))
    elif (match := DECIMAL.fullmatch(text)) and (match[1] or match[2]):
        written = f"{int(match[1] or 0)}.{match[2] or 0}"
    elif (match := FLOAT.fullmatch(text)) and abs(exponent := int(match[3])) <= 300:
        written = f"{int(match[1])}.{match[2] or 0}e{int(match[3])}"
    else:
        raise Refused(f"the number {text[:80]} is not allowed")
    # PostgreSQL multiplies numbers to thousands of digits, and they can become a text.
    return Fragment((Token("number", written),), size=1, text=1 + (len(written) + abs(exponent)) // 20)


def text(value: str, place: Hashable) -> Fragment:
    """Return a text that will be bound; equal values in equal places are one parameter."""
    return Fragment((Token("text", value, place),), size=1, text=1 + len(value) // 20)


def render(fragment: Fragment, quote: Callable[[str], str], placeholder: str) -> tuple[str, list[str]]:
    """Return the SQL text and the values of its placeholders.

    Args:
        placeholder: `$` or `?` before the number of a parameter, or `%` for one `?` an occurrence, as MySQL has it.
    """
    written: list[str] = []
    values: list[str] = []
    numbers: dict[tuple[str, Hashable], int] = {}
    for token in fragment.tokens:
        if token.kind == "text" and placeholder == "%":
            values.append(token.text)
            # MariaDB takes all values of a bare parameter for one when it groups: CASE ... THEN ? ELSE ? END.
            written += ["CONCAT", "(", "?", ")"]
        elif token.kind == "text":
            key = (token.text, token.place)
            if key not in numbers:
                values.append(token.text)
                numbers[key] = len(values)
            written.append(f"{placeholder}{numbers[key]}")
        else:
            written.append(quote(token.text) if token.kind == "name" else token.text)
    return _spaced(written), values


def _spaced(tokens: list[str]) -> str:
    parts: list[str] = []
    before = "("
    for token in tokens:
        is_glued = token in (")", ",", ".") or before in ("(", ".") or (token == "(" and before in CALLS)
        parts += [token] if is_glued else [" ", token]
        before = token
    return "".join(parts)
