"""Expressions of a query's tree written anew: every kind of node has its method, and what has none is refused."""

from dataclasses import replace

from finetune.databases.safe_sql import Refused, fragments
from finetune.databases.safe_sql.dates import Dates
from finetune.databases.safe_sql.fragments import Fragment, comma_separated, write
from finetune.databases.safe_sql.functions import Functions, Windows
from finetune.databases.safe_sql.names import Names
from finetune.databases.safe_sql.scopes import Scope
from finetune.databases.safe_sql.vocabulary import AGGREGATES, COMPARISONS, FUNCTIONS, OPERATORS, RANGES
from finetune.databases.safe_sql.writing import only

from sqlglot import exp


def check_precedence(node: exp.Expression) -> None:
    """Raise Refused for an operand that needs parentheses, because sqlglot and SQLite read it differently.

    `a = b IN (c)` is (a = b) IN (c) in SQLite, and `a = NOT b` binds as no one would read it. Chains of one kind,
    a < b < c, and a = b < c are the same everywhere.
    """
    operands = [node.this] if isinstance(node, exp.In) else node.iter_expressions()
    for operand in operands:
        if type(operand) is exp.Not or (type(node) in RANGES and type(operand) in COMPARISONS):
            raise Refused("a comparison of a comparison needs parentheses")
        if type(operand) in RANGES and type(node) in COMPARISONS:
            raise Refused("a comparison of a comparison needs parentheses")


class Expressions(Names, Functions, Dates, Windows):
    """Writes expressions for one engine; queries.py adds the queries that stand in them."""

    def expression(self, node: exp.Expression | None, scope: Scope) -> Fragment:
        """Return an expression as it will be sent.

        Raises:
            Refused: a kind of node, function, type or unit that is not in the lists, or an unknown name.
        """
        kind = type(node)  # Not isinstance: a subclass may do more than its parent.
        if kind in OPERATORS or kind in RANGES or kind in (exp.Div, exp.Mod, exp.DPipe, exp.Neg):
            check_precedence(node)
        if kind in AGGREGATES and scope.prefers_aliases:
            scope = replace(scope, prefers_aliases=False)
        if kind in OPERATORS:
            return self.operator(node, scope)
        if kind in FUNCTIONS:
            return self.function(node, scope)
        method = METHODS.get(kind)
        if method is None:
            if isinstance(node, exp.Anonymous):
                raise Refused(f"the function {node.name[:80]} is not allowed")
            what = "function" if isinstance(node, exp.Func) else "syntax"
            raise Refused(f"the {what} {getattr(node, 'key', node)} is not allowed")
        return method(self, node, scope)

    def operator(self, node: exp.Binary, scope: Scope) -> Fragment:
        only(node, "this", "expression")
        left, right = self.expression(node.this, scope), self.expression(node.expression, scope)
        return write("(", left, OPERATORS[type(node)], right, ")")

    def connector(self, node: exp.Connector, scope: Scope) -> Fragment:
        """AND and OR: a thousand of them are a list, not a thousand parentheses."""
        word = "AND" if isinstance(node, exp.And) else "OR"
        parts: list[str | Fragment] = []
        for operand in node.flatten(unnest=False):
            parts += [word, self.expression(operand, scope)]
        return write("(", *parts[1:], ")")

    def division(self, node: exp.Div | exp.Mod, scope: Scope) -> Fragment:
        only(node, "this", "expression")
        left, right = self.expression(node.this, scope), self.expression(node.expression, scope)
        is_zero = not isinstance(node.expression, exp.Literal) or not node.expression.name.strip("0.")
        if is_zero and self.engine in ("postgresql", "duckdb"):  # Division by zero is NULL in SQLite, an error there.
            right = write("NULLIF (", right, ", ", fragments.number("0"), ")")
        return write("(", left, "/" if isinstance(node, exp.Div) else "%", right, ")")

    def concatenation(self, node: exp.DPipe, scope: Scope) -> Fragment:
        only(node, "this", "expression")
        left, right = self.expression(node.this, scope), self.expression(node.expression, scope)
        return (
            write("CONCAT (", left, ",", right, ")") if self.engine == "mysql" else write("(", left, "||", right, ")")
        )

    def concat(self, node: exp.Concat, scope: Scope) -> Fragment:
        only(node, "expressions")
        parts = [self.typed(part, scope) for part in node.expressions]
        if self.engine in ("mysql", "sqlite"):  # NULL is skipped elsewhere; SQLite has no CONCAT before 3.44.
            nothing = fragments.text("", "nothing")
            parts = [write("COALESCE (", part, ",", nothing, ")") for part in parts]
        if self.engine == "sqlite":
            joined = [each for part in parts for each in ("||", part)]
            return write("(", *joined[1:], ")")
        return write("CONCAT (", comma_separated(parts), ")")

    def negation(self, node: exp.Not, scope: Scope) -> Fragment:
        only(node, "this")
        return write("( NOT", self.expression(node.this, scope), ")")

    def minus(self, node: exp.Neg, scope: Scope) -> Fragment:
        only(node, "this")
        return write("( -", self.expression(node.this, scope), ")")

    def parentheses(self, node: exp.Paren, scope: Scope) -> Fragment:
        only(node, "this")
        return self.expression(node.this, scope)

    def row(self, node: exp.Tuple, scope: Scope) -> Fragment:
        only(node, "expressions")
        return write("(", self.listed(node.expressions, scope), ")")

    def between(self, node: exp.Between, scope: Scope) -> Fragment:
        only(node, "this", "low", "high")
        value, low, high = (self.expression(node.args[name], scope) for name in ("this", "low", "high"))
        return write("(", value, "BETWEEN", low, "AND", high, ")")

    def membership(self, node: exp.In, scope: Scope) -> Fragment:
        only(node, "this", "expressions", "query")
        value, query = self.expression(node.this, scope), node.args.get("query")
        if query is not None:
            return write("(", value, "IN", self.subquery(query, scope), ")")
        if not node.expressions:
            raise Refused("IN without a list is not allowed")
        return write("(", value, "IN (", self.listed(node.expressions, scope), ") )")

    def is_(self, node: exp.Is, scope: Scope) -> Fragment:
        only(node, "this", "expression", "negate")
        written = write(self.typed(node.this, scope), "IS", "NOT" if node.args.get("negate") else None)
        if not isinstance(node.expression, exp.Null | exp.Boolean):
            raise Refused("IS is for NULL, TRUE and FALSE")
        return write("(", written, self.expression(node.expression, scope), ")")

    def like(self, node: exp.Like | exp.ILike, scope: Scope, escape: Fragment | None = None) -> Fragment:
        only(node, "this", "expression", "negate")
        value, pattern = self.expression(node.this, scope), self.expression(node.expression, scope)
        fragments.searched(value, pattern)
        operator = "LIKE"
        if isinstance(node, exp.ILike):
            if self.engine in ("postgresql", "duckdb"):
                operator = "ILIKE"
            else:
                value, pattern = write("LOWER (", value, ")"), write("LOWER (", pattern, ")")
        negated = "NOT" if node.args.get("negate") else None
        return write("(", value, negated, operator, pattern, *(("ESCAPE", escape) if escape else ()), ")")

    def escape(self, node: exp.Escape, scope: Scope) -> Fragment:
        only(node, "this", "expression")
        if type(node.this) not in (exp.Like, exp.ILike) or not node.expression.is_string:
            raise Refused("ESCAPE is for LIKE, with one character")
        return self.like(node.this, scope, self.expression(node.expression, scope))

    def exists(self, node: exp.Exists, scope: Scope) -> Fragment:
        only(node, "this")
        return write("EXISTS", self.subquery(node.this, scope))

    def case(self, node: exp.Case, scope: Scope) -> Fragment:
        only(node, "this", "ifs", "default")
        for branch in node.args["ifs"]:
            only(branch, "this", "true")
        subject = self.expression(node.this, scope) if node.this else None
        return write("CASE", subject, *self.branches(node.args["ifs"], node.args.get("default"), scope), "END")

    def condition(self, node: exp.If, scope: Scope) -> Fragment:
        """IIF(a, b, c) as CASE, which all engines have."""
        only(node, "this", "true", "false")
        return write("CASE", *self.branches([node], node.args.get("false"), scope), "END")

    def branches(self, nodes: list[exp.If], default: exp.Expression | None, scope: Scope) -> list[str | Fragment]:
        parts: list[str | Fragment] = []
        for node in nodes:
            parts += ["WHEN", self.expression(node.this, scope), "THEN", self.expression(node.args["true"], scope)]
        return [*parts, "ELSE", self.expression(default, scope)] if default else parts


METHODS = {
    exp.And: Expressions.connector, exp.Or: Expressions.connector, exp.Not: Expressions.negation,
    exp.Neg: Expressions.minus, exp.Paren: Expressions.parentheses, exp.Tuple: Expressions.row,
    exp.Div: Expressions.division, exp.Mod: Expressions.division,
    exp.DPipe: Expressions.concatenation, exp.Concat: Expressions.concat,
    exp.Between: Expressions.between, exp.In: Expressions.membership, exp.Is: Expressions.is_,
    exp.Like: Expressions.like, exp.ILike: Expressions.like, exp.Escape: Expressions.escape,
    exp.Exists: Expressions.exists, exp.Case: Expressions.case, exp.If: Expressions.condition,
    exp.Literal: Expressions.literal, exp.Boolean: Expressions.boolean, exp.Null: Expressions.null,
    exp.Column: Expressions.column, exp.Count: Expressions.count, exp.GroupConcat: Expressions.group_concat,
    exp.Length: Expressions.length, exp.Trim: Expressions.trim, exp.StrPosition: Expressions.position,
    exp.Cast: Expressions.cast, exp.Date: Expressions.date, exp.Year: Expressions.part_of_date,
    exp.Month: Expressions.part_of_date, exp.Day: Expressions.part_of_date, exp.Extract: Expressions.extract,
    exp.TimeToStr: Expressions.time_as_text, exp.CurrentDate: Expressions.today, exp.Interval: Expressions.interval,
    exp.Window: Expressions.window,
}  # fmt: skip
