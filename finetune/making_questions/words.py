"""Names of tables and columns: as English words, and as SQL has them."""

import re
from functools import cache

from metrics.sql_execution.schemas import quote

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Some of these sqlglot reads as names and SQLite does not.
RESERVED = set(
    "add all alter and as autoincrement between case check collate commit constraint create cross default deferrable"
    " delete distinct drop else end escape except exists foreign from full group having in index inner insert intersect"
    " into is isnull join left limit natural not notnull null on or order outer primary references returning right"
    " select set table then to transaction union unique update using values when where window".split()
)


def spaced(name: str) -> str:
    """Return a name of a table or column as words: `OrderLine` and `order_line` as `order line`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return " ".join(re.sub(r"[\W_]+", " ", name).lower().split()) or name


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


@cache
def written(name: str) -> str:
    """Return a name as SQL has it: in quotes where it would be read as something else."""
    if not PLAIN.fullmatch(name) or name.lower() in RESERVED:
        return quote(name)
    try:
        (column,) = sqlglot.parse_one(f"SELECT T1.{name}, {name} FROM {name} AS T1", read="sqlite").expressions[1:]
    except SqlglotError:
        return quote(name)
    return name if isinstance(column, exp.Column) and column.name == name else quote(name)


def text(value: str) -> str:
    """Return a text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"
