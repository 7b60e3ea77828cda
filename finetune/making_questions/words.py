"""Names of tables and columns: as English words, and as SQL has them."""

import re

from metrics.sql_execution.ddl import is_bare_name
from metrics.sql_execution.schemas import quote


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


def written(name: str) -> str:
    """Return a name as SQL has it: in quotes where it would be read as something else."""
    return name if is_bare_name(name) else quote(name)


def text(value: str) -> str:
    """Return a text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"
