"""Names of columns spelled as a table spells its own: CamelCase, snake_case, UPPER, "in quotes with blanks"."""

import re
from dataclasses import dataclass
from random import Random

QUOTES = {'"': '"', "`": "`", "[": "]"}
SEPARATOR = re.compile(r"(?<=\w)([ _-])(?=\w)")


@dataclass(frozen=True)
class _Style:
    opening: str  # quote, or ""
    separator: str | None  # between words; None where the name has one word
    case: str  # lower, UPPER, Title, camel, Sentence


class Spelling:
    """How a table spells its columns.

    Args:
        written: the names of its columns as they stand in the schema, quotes included.
    """

    def __init__(self, written: list[str]):
        self.written = written
        self.styles = [_style(name) for name in written]
        # A name of one word does not show what stands between words: others of its case do.
        seen = [(style.case, style.separator) for style in self.styles if style.separator is not None]
        self.separators = {
            case: next((between for its, between in seen if its == case), _default(case, [its for its, _ in seen]))
            for case in ("lower", "UPPER", "Title", "camel", "Sentence")
        }
        plain = [bool(style.opening) for name, style in zip(written, self.styles, strict=True) if _is_plain(name)]
        self.quotes_all = 2 * sum(plain) >= len(plain) and any(style.opening for style in self.styles)
        self.is_camel = any(style.case == "camel" for style in self.styles)

    def write(self, name: str) -> str:
        """Return a name, unquoted, as one of the table's own is written; the same one for the same name."""
        random = Random(f"{name}\0{self.written}")  # Not the caller's: what else is drawn stays as it is.
        style = random.choice(self.styles)
        separator = self.separators[style.case] if style.separator is None else style.separator
        if not style.opening and separator in (" ", "-"):
            separator = "_"
        case = "camel" if style.case == "lower" and style.separator is None and self.is_camel else style.case
        separator = "" if case == "camel" else separator
        parts = words(name)
        spelled = separator.join(_cased(part, number, case) for number, part in enumerate(parts))
        if _is_plain(spelled) and not self.quotes_all:
            return spelled
        opening = style.opening or next((style.opening for style in self.styles if style.opening), '"')
        return opening + (spelled or name) + QUOTES[opening]


def _is_plain(name: str) -> bool:
    inner = name[1:-1] if name[:1] in QUOTES else name
    return inner.isascii() and inner.isidentifier()


def words(name: str) -> list[str]:
    """Return the words of a name: at blanks and signs, and where a capital begins one."""
    found = []
    for part in re.findall(r"[^\W_]+", name):
        start = 0
        for place in range(1, len(part)):
            ends = part[place].isupper() and not part[place - 1].isupper()
            # The last capital of several begins a word: CDSCode.
            ends |= part[place - 1].isupper() and part[place].isupper() and part[place + 1 : place + 2].islower()
            if ends:
                found.append(part[start:place])
                start = place
        found.append(part[start:])
    return found


def canonical(name: str) -> str:
    """Return a name without letter case and signs: "Order ID", order_id and OrderId are one."""
    return "".join(re.findall(r"[^\W_]+", name.lower())) or name


def _style(written: str) -> _Style:
    opening = written[0] if written[:1] in QUOTES else ""
    name = written[1:-1] if opening else written
    parts = words(name) or [name]
    found = SEPARATOR.search(name)
    separator = None if len(parts) < 2 else found[1] if found else ""
    return _Style(opening, separator, _case(name, parts, separator))


def _case(name: str, parts: list[str], separator: str | None) -> str:
    if not name.isupper() and parts[0][:1].isupper():
        lower = len(parts) > 1 and all(part.islower() for part in parts[1:])
        return "Sentence" if lower and separator else "Title"
    if name.isupper():
        return "UPPER"
    return "camel" if separator == "" and any(part[:1].isupper() for part in parts[1:]) else "lower"


def _default(case: str, others: list[str]) -> str:
    return "" if case in ("Title", "camel") or "camel" in others else "_"


def _cased(word: str, number: int, case: str) -> str:
    if case == "UPPER":
        return word.upper()
    if case == "lower" or (case == "camel" and number == 0) or (case == "Sentence" and number):
        return word.lower()
    return word[:1].upper() + (word[1:] if word[1:].isupper() and len(word) < 5 else word[1:].lower())
