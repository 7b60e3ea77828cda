"""Text-to-SQL rows cleaned by rule: corrupt gold left out, literals written as SQL and as the question has them."""

import re
import sqlite3
from collections import Counter
from dataclasses import dataclass, field

from finetune.console import InputError
from finetune.data import Rows
from metrics.sql_execution.execution import Connection, Unfinished
from metrics.sql_execution.queries import QueryError, parse, resolve
from metrics.sql_execution.schemas import Database, read_schema

import sqlglot
from sqlglot import exp
from sqlglot.tokens import TokenType

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


def clean_rows(rows: list[dict]) -> Cleaning:
    """Clean text-to-SQL rows with `question`, `context` (CREATE TABLE statements) and `answer` (gold SQL).

    Left out: a schema or gold that SQLite or the parser cannot read, gold that does not run on its own
    schema, comparisons of two constants (`2005 > 2`), numbers split at a comma (`43 OFFSET 211`), golf
    scores read as arithmetic (`68 - 67 - 65 = 200`), constants for columns (`SELECT 2012 FROM t`).
    Rewritten: "double-quoted" literals to single quotes, never names; literals whose letter case differs
    from the question's to the question's.
    """
    cleaning = Cleaning([])
    for row in rows:
        try:
            answer, changes = clean_gold(row)
        except ValueError as error:
            cleaning.dropped.append(row | {"reason": str(error)})
            continue
        cleaning.counts.update(changes)
        cleaning.rows.append(row | {"answer": answer})
    return cleaning


def clean_parts(rows: Rows) -> dict:
    """Clean both parts of a data set, in place; return the `cleaning` counts of each and the `skipped` rows.

    Raises:
        InputError: when a part has no row left.
    """
    findings: dict = {"cleaning": {}, "skipped": []}
    for name in ("train", "validation"):
        cleaning = clean_rows(getattr(rows, name))
        findings["cleaning"][name] = cleaning.summary()
        findings["skipped"] += [{"part": name} | row for row in cleaning.dropped]
        if not cleaning.rows:
            reasons = ", ".join(f"{count} {reason}" for reason, count in cleaning.summary()["dropped"].items())
            raise InputError(f"cleaning left no {name} row ({reasons}); mend the data, or give --no-clean to keep it.")
        setattr(rows, name, cleaning.rows)
    return findings


def clean_gold(row: dict) -> tuple[str, list[str]]:
    """Return a row's gold with its literals rewritten, and which rewritings it took.

    Raises:
        ValueError: with the reason, when the gold is corrupt.
    """
    gold = str(row.get("answer") or "")
    try:
        schema = read_schema(str(row.get("context") or ""))
    except ValueError as error:
        raise ValueError(f"schema cannot be read: {error}") from error
    if SPLIT_NUMBER.search(gold) and "LIMIT" not in gold.upper():
        raise ValueError("number split at a comma")
    try:
        tree = parse(gold)
    except QueryError as error:
        raise ValueError(f"gold is not one query: {error}") from error
    for node in tree.walk():
        if isinstance(node, exp.Add | exp.Sub | exp.Mul | exp.Div | exp.Mod) and _is_constant(node):
            raise ValueError("arithmetic in place of a literal")
        if isinstance(node, exp.Predicate) and isinstance(node, exp.Binary) and _is_constant(node):
            raise ValueError("comparison of constants")
    projections = [projection.unalias() for select in tree.find_all(exp.Select) for projection in select.selects]
    if any(map(_is_constant, projections)) and not tree.find(exp.Exists):
        raise ValueError("constant in place of a column")
    try:
        literals = resolve(tree, schema).quoted_literals
        with Connection(Database(schema, {})) as connection:
            connection.run(gold)
    except (QueryError, sqlite3.Error, sqlite3.Warning, Unfinished) as error:
        raise ValueError(f"gold does not run on its schema: {error}") from error
    return rewrite_literals(gold, literals, str(row.get("question") or ""))


def _is_constant(node: exp.Expression) -> bool:
    if isinstance(node, exp.Paren | exp.Neg):
        return _is_constant(node.this)
    if isinstance(node, exp.Binary) and not isinstance(node, exp.Dot):
        return _is_constant(node.this) and _is_constant(node.expression)
    return isinstance(node, exp.Literal)


def rewrite_literals(sql: str, double_quoted: set[str], question: str) -> tuple[str, list[str]]:
    """Return SQL with literals in single quotes and in the question's letter case; all else as it stood.

    Args:
        double_quoted: the texts in double quotes that are literals and not names.
    """
    changes, parts, end = [], [], 0
    for token in sqlglot.tokenize(sql, read="sqlite"):
        is_double = token.token_type == TokenType.IDENTIFIER and token.text in double_quoted and sql[token.start] == '"'
        if not is_double and token.token_type != TokenType.STRING:
            continue
        text = in_the_questions_case(token.text, question)
        if not is_double and text == token.text:
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
