"""Names of tables and columns as English words, and texts as SQL has them."""

import re


def spaced(name: str) -> str:
    """Return a name of a table or column as words: `OrderLine` and `order_line` as `order line`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return " ".join(re.sub(r"[\W_]+", " ", name).lower().split()) or "item"


def singular(words: str) -> str:
    """Return the singular of English words."""
    if words.endswith("ies"):
        return words[:-3] + "y"
    return re.sub(r"(?<=ss|us|ch|sh)es$|(?<=x)es$|(?<![su])s$", "", words)


def plural(words: str) -> str:
    """Return the plural of English words."""
    if re.search(r"(?<![aeiou])y$", words):
        return words[:-1] + "ies"
    if re.search(r"(ss|us|x|ch|sh)$", words):
        return words + "es"
    return words if words.endswith("s") else words + "s"


def text(value: str) -> str:
    """Return a text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"
