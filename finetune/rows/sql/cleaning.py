"""Text-to-SQL rows cleaned by rule: corrupt gold left out, literals written as SQL and as the question has them."""

import logging
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches

from finetune import InputError
from finetune.rows.loading import Rows
from finetune.screen import in_full
from metrics.sql_execution.ddl import fold
from metrics.sql_execution.dialects import ALIASES, known_dialects
from metrics.sql_execution.execution import Connection, Unfinished
from metrics.sql_execution.queries import QueryError, for_sqlite, parse, resolve
from metrics.sql_execution.schemas import Database, Table, read_schema

import sqlglot
from sqlglot import exp
from sqlglot.tokens import TokenType

logger = logging.getLogger(__name__)
MANY = 0.1  # share of the rows: more than that left out is worth a warning
FETCHED = re.compile(r"OFFSET\s+\d+\s+ROWS?\b", re.IGNORECASE)
SPLIT_NUMBER = re.compile(r"\d\s+OFFSET\s+\d", re.IGNORECASE)  # "23,120" that a converter read as LIMIT 23, 120


@dataclass
class Cleaning:
    """Cleaned rows, what was left out and why, and what was rewritten."""

    rows: list[dict]
    dropped: list[dict] = field(default_factory=list)  # the rows with their `reason`
    counts: Counter = field(default_factory=Counter)

    def summary(self) -> dict:
        """Return the counts: rows given and kept, each reason for dropping, each kind of rewriting."""
        reasons = Counter(row["reason"].partition(":")[0] for row in self.dropped)
        given = len(self.rows) + len(self.dropped)
        return {
            "rows_given": given,
            "rows_kept": len(self.rows),
            "dropped": dict(reasons),
            "rewritten": dict(self.counts),
        }


def check_dialect(dialect: str) -> None:
    """Raise InputError for a dialect that sqlglot does not have."""
    names = known_dialects()
    if dialect not in names:
        near = ALIASES.get(dialect.lower()) or next(iter(get_close_matches(dialect.lower(), names)), None)
        hint = f"; did you mean {near}?" if near else "."
        raise InputError(f"--dialect {dialect} is none of sqlglot's dialects ({', '.join(names)}){hint}")


def clean_rows(rows: list[dict], dialect: str = "sqlite") -> Cleaning:
    """Clean text-to-SQL rows with `question`, `context` (CREATE TABLE statements) and `answer` (gold SQL).

    Left out: a schema or gold that SQLite or the parser cannot read, gold that does not run on its own
    schema, comparisons of two constants (`2005 > 2`), numbers split at a comma (`43 OFFSET 211`), golf
    scores read as arithmetic (`68 - 67 - 65 = 200`), constants for columns (`SELECT 2012 FROM t`).
    Rewritten: "double-quoted" literals to single quotes, never names; literals whose letter case differs
    from the question's to the question's.

    Args:
        dialect: of schemas and gold, as sqlglot names it. What is run is written for SQLite; the rows are not.
    """
    cleaning = Cleaning([])
    for row in rows:
        try:
            answer, changes = clean_gold(row, dialect)
        except ValueError as error:
            cleaning.dropped.append(row | {"reason": str(error)})
            continue
        cleaning.counts.update(changes)
        cleaning.rows.append(row | {"answer": answer})
    return cleaning


def clean_parts(rows: Rows, dialect: str = "sqlite") -> dict:
    """Clean both parts of a data set, in place; return the `cleaning` counts of each and the `skipped` rows.

    Raises:
        InputError: when a part has no row left.
    """
    findings: dict = {"cleaning": {}, "skipped": []}
    for name in ("train", "validation"):
        cleaning = clean_rows(getattr(rows, name), dialect)
        findings["cleaning"][name] = cleaning.summary()
        findings["skipped"] += [{"part": name} | row for row in cleaning.dropped]
        refuse_nothing_left(cleaning, f"{name} row", dialect)
        setattr(rows, name, cleaning.rows)
    return findings


def tell_cleaning(findings: dict[str, dict], where: str = "skipped_rows.json of the run") -> None:
    """Say what cleaning has left out and mended, by part, in a line; with --verbose by reason.

    Args:
        where: the rows that are left out stand, with the reasons.
    """
    found = [
        f"{name}: {part['rows_given'] - part['rows_kept']} of {part['rows_given']} left out,"
        f" {sum(part['rewritten'].values())} mended"
        for name, part in findings.items()
        if part["dropped"] or part["rewritten"]
    ]
    whole = "\n".join(f"Cleaning, {name}: {part}" for name, part in findings.items())
    logger.info(f"Cleaning, {'; '.join(found)} ({where})", extra=in_full(whole) | {"detail": not found})


def refuse_nothing_left(cleaning: Cleaning, what: str, dialect: str) -> None:
    """Warn where cleaning has left out many rows, with the commonest reason.

    Raises:
        InputError: it has left out all of them.
    """
    given = len(cleaning.rows) + len(cleaning.dropped)
    if len(cleaning.dropped) <= MANY * given:
        return
    reasons = cleaning.summary()["dropped"]
    commonest = max(reasons, key=reasons.get)
    row = next(row for row in cleaning.dropped if row["reason"].partition(":")[0] == commonest)
    shown = str(row.get("context" if commonest.startswith("schema") else "answer"))
    found = f"{reasons[commonest]} of {given}: {row['reason']}, in {' '.join(shown.split())[:100]!r}"
    advice = (
        f"Rows are read as --dialect {dialect} and run by SQLite: give the dialect that they are in (postgres, mysql,"
        " tsql, bigquery, ...), mend them, or give --no-clean to keep them, unscored where SQLite cannot run them."
    )
    if not cleaning.rows:
        raise InputError(f"cleaning left no {what} ({found}). {advice}")
    lost = f"{len(cleaning.dropped)} of {given} {what}s"
    logger.warning(f"cleaning left out {lost}, the most for one reason ({found}). {advice}")


def clean_gold(row: dict, dialect: str = "sqlite") -> tuple[str, list[str]]:
    """Return a row's gold with its literals rewritten, and which rewritings it took.

    Raises:
        ValueError: with the reason, when the gold is corrupt.
    """
    gold = str(row.get("answer") or "")
    try:
        schema = read_schema(str(row.get("context") or ""), dialect)
    except ValueError as error:
        raise ValueError(f"schema cannot be read: {error}") from error
    if SPLIT_NUMBER.search(gold) and "LIMIT" not in gold.upper() and not FETCHED.search(gold):
        raise ValueError("number split at a comma")
    try:
        tree = parse(gold, dialect)
    except QueryError as error:
        raise ValueError(f"gold is not one query: {error}") from error
    refuse_constants(tree, schema)
    try:
        runnable = for_sqlite(gold, dialect)
        literals = resolve(parse(runnable) if runnable != gold else tree, schema).quoted_literals
        with Connection(Database(schema, {})) as connection:
            connection.run(runnable)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise ValueError(f"gold does not run on its schema: SQLite: {error}") from error
    except Unfinished as error:
        raise ValueError("gold does not run on its schema: SQLite did not finish") from error
    except QueryError as error:
        raise ValueError(f"gold does not run on its schema: {error}") from error
    return rewrite_literals(gold, literals, str(row.get("question") or ""), dialect)


def refuse_constants(tree: exp.Query, schema: dict[str, Table]) -> None:
    """Raise ValueError for constants where the question must have been about a column."""
    for node in tree.walk():
        if isinstance(node, exp.Predicate) and isinstance(node, exp.Binary) and _is_constant(node):
            raise ValueError("comparison of constants")
        if _stands_for_text(node, schema):
            raise ValueError("arithmetic in place of a literal")
    projections = [projection.unalias() for select in tree.find_all(exp.Select) for projection in select.selects]
    if any(map(_is_constant, projections)) and not tree.find(exp.Exists):
        raise ValueError("constant in place of a column")


def _stands_for_text(node: exp.Expression, schema: dict[str, Table]) -> bool:
    """Say whether a node is a text such as the golf score 68-67-65 that was read as arithmetic.

    Such a text stands alone against a column that is no number. A product, a bound (`year > 2024 - 5`), and what
    is added to a column or given to a function, is meant as arithmetic.
    """
    if not isinstance(node, exp.Sub | exp.Add | exp.Div | exp.Mod) or not _is_constant(node) or node.find(exp.Mul):
        return False
    parent = node.parent
    while isinstance(parent, exp.Paren | exp.Neg):
        node, parent = parent, parent.parent
    if not isinstance(parent, exp.EQ | exp.NEQ | exp.In | exp.Like):
        return False
    if isinstance(parent.parent, exp.EQ):  # score = 66 - 73 = 139
        return True
    columns = [fold(other.name) for other in parent.iter_expressions() if isinstance(other, exp.Column)]
    return any(not any(table.columns.get(name) for table in schema.values()) for name in columns)


def _is_constant(node: exp.Expression) -> bool:
    if isinstance(node, exp.Paren | exp.Neg):
        return _is_constant(node.this)
    if isinstance(node, exp.Binary) and not isinstance(node, exp.Dot):
        return _is_constant(node.this) and _is_constant(node.expression)
    return isinstance(node, exp.Literal)


def rewrite_literals(
    sql: str, double_quoted: set[str], question: str, dialect: str = "sqlite"
) -> tuple[str, list[str]]:
    """Return SQL with literals in single quotes and in the question's letter case; all else as it stood.

    Args:
        double_quoted: the texts in double quotes that are literals and not names.
    """
    doubles_quote = "'" in sqlglot.Dialect.get_or_raise(dialect).tokenizer_class.STRING_ESCAPES
    changes, parts, end = [], [], 0
    for token in sqlglot.tokenize(sql, read=dialect):
        written = sql[token.start : token.end + 1]
        is_double = token.token_type == TokenType.IDENTIFIER and token.text in double_quoted and written[0] == '"'
        is_double |= token.token_type == TokenType.STRING and written[0] == '"'
        if not is_double and token.token_type != TokenType.STRING:
            continue
        text = in_the_questions_case(token.text, question)
        if not is_double and text == token.text:
            continue
        # Other dialects have backslashes, prefixes and triple quotes: a text that needs them stays as it is.
        plain = {quote + token.text.replace(quote, 2 * quote) + quote for quote in "'\""}
        if dialect != "sqlite" and (written not in plain or "\\" in written or ("'" in text and not doubles_quote)):
            continue
        changes += ["double quotes to single quotes"] * is_double
        changes += ["letter case of the question"] * (text != token.text)
        parts += [sql[end : token.start], "'" + text.replace("'", "''") + "'"]
        end = token.end + 1
    return "".join([*parts, sql[end:]]), sorted(set(changes))


def in_the_questions_case(literal: str, question: str) -> str:
    """Return a literal as the question spells it, where it stands there in another letter case only."""
    core = literal.strip("%")
    if not core.strip() or core in question:
        return literal
    match = re.search(rf"(?<!\w){re.escape(core)}(?!\w)", question, flags=re.IGNORECASE)
    return literal.replace(core, match[0]) if match else literal
