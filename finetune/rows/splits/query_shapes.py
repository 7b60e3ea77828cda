"""The shape of a query: what is left of it without its literals, counts, aliases and letter case."""

import re
from functools import lru_cache

from metrics.sql_execution.ddl import SQLITE
from metrics.sql_execution.queries import QueryError, normalize, parse, resolve
from metrics.sql_execution.schemas import read_schema

from sqlglot import exp

TURNED = {exp.GT: exp.LT, exp.GTE: exp.LTE}
LITERALS = (exp.Literal, exp.Boolean, exp.HexString, exp.National)
TEXT_OR_NUMBER = re.compile(r"'(?:[^']|'')*'|(?<![\w.])\d+(?:\.\d+)?")


@lru_cache(maxsize=65536)
def query_shape(sql: str, context: str = "", dialect: str = SQLITE) -> str:
    """Return the shape of a query: queries that differ in a number, a text, a LIMIT or an alias only have one.

    Letter case of names, the order of what AND and OR join, and which side of a comparison stands first do not count
    either. Names of tables and columns do.

    Args:
        context: CREATE TABLE statements, which say whether a text in SQLite's double quotes is a name.
        dialect: of both, as sqlglot names it.
    """
    try:
        tree = parse(sql, dialect)
        if dialect == SQLITE and '"' in sql:
            _read_literals(tree, context)
        _write_aliases_out(tree)
        for node in reversed(list(tree.walk())):  # Innermost first: transform() leaves out what is in a new node.
            tree = _replace(tree, node, _bare(node))
        return normalize(tree)
    except Exception:  # No query of this dialect, or a tree that sqlglot cannot write: its words are its shape.
        return " ".join(TEXT_OR_NUMBER.sub("?", sql).lower().split())


def _read_literals(tree: exp.Query, context: str) -> None:
    """Turn texts in double quotes into literals, in place, where the schema says that they are no names."""
    try:
        resolve(tree, read_schema(context))
    except (QueryError, ValueError):
        return


def _write_aliases_out(tree: exp.Query) -> None:
    """Put what an alias stands for in the place of its name, in place: ORDER BY n, and the name of a WITH."""
    for select in tree.find_all(exp.Select):
        named = {one.alias.lower(): one.this for one in select.selects if isinstance(one, exp.Alias)}
        clauses = [select.args[name] for name in ("group", "having", "order") if select.args.get(name)]
        for column in [column for clause in clauses for column in clause.find_all(exp.Column)]:
            if not column.table and column.name.lower() in named:
                column.replace(named[column.name.lower()].copy())
    names = {cte.alias.lower(): f"with_{number}" for number, cte in enumerate(tree.find_all(exp.CTE), start=1)}
    for node in tree.find_all(exp.Table, exp.TableAlias):
        if node.name.lower() in names and (isinstance(node, exp.Table) or isinstance(node.parent, exp.CTE)):
            node.set("this", exp.to_identifier(names[node.name.lower()]))


def _replace(tree: exp.Query, node: exp.Expression, new: exp.Expression) -> exp.Query:
    if new is node:
        return tree
    if node is tree:
        assert isinstance(new, exp.Query)  # Only parentheses are taken off around a whole query.
        return new
    node.replace(new)
    return tree


def _bare(node: exp.Expression) -> exp.Expression:
    """Return a node, whose parts are done, without what does not count for the shape."""
    if isinstance(node, exp.Alias) or (isinstance(node, exp.Paren) and not isinstance(node.this, exp.Connector)):
        return node.this
    if isinstance(node, LITERALS) or (isinstance(node, exp.Neg) and isinstance(node.this, exp.Placeholder)):
        return exp.Placeholder()
    if isinstance(node, exp.Column):  # With a table's alias or name before it, or without.
        return exp.Column(this=node.this)
    if isinstance(node, exp.Table | exp.Subquery):
        node.set("alias", None)
    if isinstance(node, exp.In) and node.expressions and all(isinstance(n, exp.Placeholder) for n in node.expressions):
        node.set("expressions", [exp.Placeholder()])
    if turned := TURNED.get(type(node)):
        return turned(this=node.expression, expression=node.this)
    if isinstance(node, exp.EQ | exp.NEQ):
        left, right = sorted((node.this, node.expression), key=lambda side: side.sql(dialect=SQLITE))
        node.set("this", left)
        node.set("expression", right)
    return node
