"""What one query may be: the text around it that is left off, and limits that keep every later step short."""

import sqlglot
from sqlglot import exp
from sqlglot.tokens import TokenType

from .ddl import SQLITE

MAX_CHARACTERS = 20_000  # a parser in Python takes seconds for more
MAX_JOINS = 10  # sqlglot tries every nesting of joins without ON: twice the time for each, hours for 40
MAX_NODES = 4_000
MAX_DEPTH = 100  # far from Python's limit of recursion, so that no verdict depends on who calls
MAX_TABLES = 500  # SQLite copies a WITH at every use: a chain of 20 that each use the last one twice is a million
CHAINS = (exp.Connector, exp.SetOperation)  # may be long without being deep: sqlglot and SQLite walk them in a loop


class QueryError(ValueError):
    """The text is not one query, or names what the schema does not have."""


def bare(text: str, dialect: str = SQLITE) -> str:
    """Return a query without a byte order mark and without what follows its last word: semicolons, comments.

    Raises:
        QueryError: it holds what is no text, such as half a pair of surrogates.
    """
    if not isinstance(text, str):
        raise QueryError("no text")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise QueryError("it holds a character that is no text")
    text = text.lstrip("\ufeff \t\r\n")
    if ";" not in text or len(text) > MAX_CHARACTERS:
        return text
    try:
        tokens = sqlglot.tokenize(text, read=dialect)
    except Exception:  # As parse() says it.
        return text
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    return text[: tokens[-1].end + 1] if tokens else ""


def check_size(tree: exp.Expression) -> None:
    """Raise QueryError for a tree too large or too deep to be worked on in fractions of a second."""
    count, level = 0, [(tree, 0)]
    while level:
        node, depth = level.pop()
        count += 1
        if count > MAX_NODES:
            raise QueryError(f"more than {MAX_NODES:,} words and signs")
        if depth > MAX_DEPTH:
            raise QueryError(f"nested more than {MAX_DEPTH} deep")
        level += [(child, depth + (not isinstance(node, CHAINS))) for child in node.iter_expressions()]


def check_tables(tree: exp.Expression) -> None:
    """Raise QueryError for a query that SQLite's planner would copy without end."""
    if _tables_read(tree) > MAX_TABLES:
        raise QueryError(f"more than {MAX_TABLES} tables, those of each WITH counted wherever it is used")


def _tables_read(tree: exp.Expression) -> int:
    """Return how many tables are read where a WITH is read anew at each use."""
    sizes: dict[str, int] = {}
    for cte in sorted(tree.find_all(exp.CTE), key=lambda cte: -cte.depth):  # those inside first, then in order
        names = (table.name.lower() for table in cte.find_all(exp.Table))
        sizes[cte.alias.lower()] = min(sum(sizes.get(name, 1) for name in names), MAX_TABLES + 1)
    return sum(sizes.get(table.name.lower(), 1) for table in tree.find_all(exp.Table))
