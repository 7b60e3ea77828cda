"""Whether two SQL queries are the same up to layout: a match of normalised syntax trees (sqlglot)."""

from functools import reduce

import sqlglot
from sqlglot import exp
from sqlglot.dialects import SQLite
from sqlglot.errors import SqlglotError


class SQLiteWithQuotedText(SQLite):
    """SQLite as text-to-SQL data sets write it: "text" in double quotes is a literal."""

    class Tokenizer(SQLite.Tokenizer):
        QUOTES = ["'", '"']
        IDENTIFIERS = ["`", ("[", "]")]
        STRING_ESCAPES = ["'", '"']


def normalize_sql(text: str) -> str | None:
    """Return one query in a canonical spelling, or None when it is not exactly one query.

    Letter case of keywords and identifiers, quotes around literals, white space, a closing
    semicolon and the order of operands of AND and OR do not count. Double-quoted text is read as a
    literal, as SQLite does where no such column exists and as sql-create-context uses it.
    """
    try:
        statements = sqlglot.parse(text, read=SQLiteWithQuotedText)
    except (SqlglotError, RecursionError):
        return None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        return None
    tree = statements[0].transform(_lower_identifiers)
    # Innermost first: the order of the outer operands depends on the text of the inner ones.
    for node in reversed(list(tree.find_all(exp.And, exp.Or))):
        _sort_operands(node)
    return tree.sql(dialect=SQLiteWithQuotedText)


def same_query(gold: str, predicted: str) -> bool:
    """Say whether both are single queries with the same normalised syntax tree."""
    expected = normalize_sql(gold)
    return expected is not None and expected == normalize_sql(predicted)


def share_of_matches(golds: list[str], predictions: list[str]) -> float:
    """Return the share of predictions that match their gold query, from 0 to 1."""
    matches = [same_query(gold, predicted) for gold, predicted in zip(golds, predictions, strict=True)]
    return sum(matches) / len(matches)


def _lower_identifiers(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.Identifier):
        return exp.to_identifier(node.name.lower(), quoted=False)
    return node


def _sort_operands(node: exp.Expression) -> None:
    if isinstance(node.parent, type(node)):
        return
    # unnest=False: parentheses around an OR inside an AND carry meaning.
    operands = sorted(node.flatten(unnest=False), key=lambda operand: operand.sql(dialect=SQLiteWithQuotedText))
    node.replace(reduce(lambda left, right: type(node)(this=left, expression=right), operands))
