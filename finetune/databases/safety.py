"""A model's SQL checked before anything is sent: one query within its budget, read as a tree and written anew.

No text of the model reaches the database: names are looked up, texts are bound, and everything else is written of the
closed lists of safe_sql/vocabulary.py. What a role may do in the database stays the boundary.
"""

from dataclasses import dataclass

from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.fragments import Fragment, render
from finetune.databases.safe_sql.queries import MAX_NESTING, Writer
from metrics.sql_execution.dialects import SQLITE, transpile
from metrics.sql_execution.queries import MAX_CHARACTERS, MAX_JOINS, QueryError, parse
from metrics.sql_execution.schemas import quote

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

MAX_TOKENS = 4_000
MAX_NODES = 2_000
MAX_PARENTHESES = 12  # For DATE(DATE(DATE(... the parser takes twice the time for each.
QUOTED = (TokenType.STRING, TokenType.IDENTIFIER)
CASTS = ("CAST", "TRY_CAST", "SAFE_CAST")
PLACEHOLDERS = {"sqlite": "?", "postgresql": "$", "mysql": "%", "duckdb": "$"}


@dataclass
class Statement:
    """What is sent.

    Attributes:
        sql: words, names of the database, generated aliases, numbers and placeholders.
        parameters: the texts of the placeholders, in their order.
        headings: of the columns of the result: the query's aliases and expressions.
    """

    sql: str
    parameters: list[str]
    headings: list[str]


def make_safe(
    sql: str, tables: dict[str, list[str]], schema: tuple[str, ...], engine: str, dialect: str = SQLITE
) -> Statement:
    """Return one query written anew.

    Args:
        tables: the tables that may be read and their columns, in the database's spelling.
        schema: what stands before a table's name, such as `("public",)`.
        engine: sqlite, postgresql, mysql or duckdb.
        dialect: that the query is in, as sqlglot names it; what SQLite does not have is refused.

    Raises:
        Refused: anything but one query over these tables, of allowed syntax, functions and types, within its budget.
    """
    try:
        if dialect != SQLITE:
            check_budget(sql, dialect)
            sql = transpile(parse(sql, dialect), dialect)
        check_budget(sql)
        tree = parse(sql)
        if sum(1 for _ in tree.walk()) > MAX_NODES:
            raise Refused(f"the query has more than {MAX_NODES} parts")
        return write_query(tree, tables, schema, engine)
    except Refused:
        raise
    except (QueryError, ValueError) as error:
        raise Refused(f"not one readable query: {error}") from error
    except RecursionError as error:
        raise Refused("not one readable query: nested too deeply") from error
    except Exception as error:  # A tree that was not foreseen: what is not understood is refused.
        raise Refused(f"not one readable query ({type(error).__name__})") from error


def write_query(tree: exp.Query, tables: dict[str, list[str]], schema: tuple[str, ...], engine: str) -> Statement:
    """Return the statement of a tree.

    Raises:
        Refused: see `make_safe`.
    """
    query = Writer(engine, tables, schema).statement(tree)
    return Statement(*rendered(query.body, engine), [output.heading for output in query.outputs])


def rendered(body: Fragment, engine: str) -> tuple[str, list[str]]:
    """Return SQL text and parameters of a fragment in an engine's quotes and placeholders."""
    return render(body, backticks if engine == "mysql" else quote, PLACEHOLDERS[engine])


def backticks(name: str) -> str:
    """Return a name as an identifier of MySQL."""
    return "`" + name.replace("`", "``") + "`"


def check_budget(sql: str, dialect: str = SQLITE) -> None:
    """Look at the tokens before a parser does: some nestings take it time without end.

    Raises:
        Refused: too many tokens, joins, parentheses or queries in each other, a type in quotes, or an invisible
            character, which some engines read as a space, outside of quotes.
    """
    try:
        tokens = sqlglot.tokenize(sql[: MAX_CHARACTERS + 1], read=dialect)
    except SqlglotError as error:
        raise Refused("not one readable query: cannot be parsed as SQL") from error
    if len(tokens) > MAX_TOKENS:
        raise Refused(f"the query has more than {MAX_TOKENS} words")
    joins = sum(token.token_type in (TokenType.JOIN, TokenType.STRAIGHT_JOIN) for token in tokens)
    if joins > MAX_JOINS:
        raise Refused(f"the query has more than {MAX_JOINS} joins")
    open_: list[dict] = [{"query": False, "cast": False}]
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.token_type == TokenType.L_PAREN:
            open_.append({"query": False, "cast": before is not None and before.text.upper() in CASTS})
        elif token.token_type == TokenType.R_PAREN and len(open_) > 1:
            open_.pop()
        elif token.token_type == TokenType.SELECT:
            open_[-1]["query"] = True
        elif is_quoted_type(before, token, open_[-1]["cast"]):
            raise Refused(f"the type {token.text[:80]} is not allowed")
        elif token.token_type not in QUOTED and not token.text.isprintable():
            raise Refused(f"an invisible character stands in {token.text[:80]!a}")
        if len(open_) > MAX_PARENTHESES:
            raise Refused(f"the query has more than {MAX_PARENTHESES} parentheses in each other")
        if sum(each["query"] for each in open_) > MAX_NESTING:
            raise Refused(f"the query is nested more than {MAX_NESTING} deep")


def is_quoted_type(before: Token | None, token: Token, in_cast: bool) -> bool:
    """Say whether a token is a type in quotes, which an engine takes for one of its own: "char" is not CHAR."""
    if before is None or token.token_type != TokenType.IDENTIFIER:
        return False
    return before.token_type == TokenType.DCOLON or (in_cast and before.token_type == TokenType.ALIAS)
