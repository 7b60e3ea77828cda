"""Expressions of a query's tree written anew: every kind of node has its method, and what has none is refused."""

import re
from collections.abc import Hashable
from dataclasses import replace
from itertools import islice

from finetune.safe_sql import Refused, fragments
from finetune.safe_sql.fragments import AGGREGATED_TEXT, Fragment, comma_separated, write
from finetune.safe_sql.scopes import Scope
from finetune.safe_sql.vocabulary import (
    AGGREGATES,
    COMPARISONS,
    ENGINES,
    FUNCTIONS,
    INTERVAL_UNITS,
    OPERATORS,
    RANGES,
    SQLITE_DATE_FUNCTIONS,
    SQLITE_FORMATS,
    TIME_LETTERS,
    TYPE_PARAMETERS,
    TYPES,
    UNITS,
    WINDOW_FUNCTIONS,
)
from metrics.sql_execution.queries import compared_with

from sqlglot import exp

# Arguments of nodes that say how sqlglot would write them for other engines, nothing of the query.
HINTS = {"typed", "safe", "coalesce", "big_int", "zero_start"}
MAX_COMPARED = 60  # nodes of an expression that is compared with others as text
INTERVAL = re.compile(r"\s*([+-]?[0-9]{1,9})\s*([a-zA-Z]*)\s*", re.ASCII)


def only(node: exp.Expression, *names: str) -> None:
    """Raise Refused for a node that has more than the given arguments."""
    for name, value in node.args.items():
        if value and name not in names and name not in HINTS:
            raise Refused(f"the syntax {node.key} with {name.strip('_')} is not allowed")


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


class Expressions:
    """Writes expressions for one engine; queries.py adds the queries that stand in them."""

    def __init__(self, engine: str):
        self.engine = engine
        self.which = ENGINES.index(engine)
        self.texts = 0  # put together by GROUP_CONCAT
        self._places: dict[int, str] = {}
        self._with_column: dict[int, bool] = {}

    def subquery(self, node: exp.Expression, scope: Scope) -> Fragment:
        """Return a query in parentheses."""
        raise NotImplementedError

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

    def listed(self, nodes: list[exp.Expression], scope: Scope) -> Fragment:
        """Return expressions with commas between them."""
        return comma_separated([self.expression(node, scope) for node in nodes])

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

    def typed(self, node: exp.Expression, scope: Scope) -> Fragment:
        """Return an expression where PostgreSQL cannot tell a parameter's type from what stands beside it."""
        written = self.expression(node, scope)
        is_text = len(written.tokens) == 1 and written.tokens[0].kind == "text"
        return write("CAST (", written, "AS TEXT )") if is_text and self.engine == "postgresql" else written

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

    # Values and names

    def literal(self, node: exp.Literal, scope: Scope) -> Fragment:
        return fragments.text(node.name, self.place(node, scope)) if node.is_string else fragments.number(node.name)

    def boolean(self, node: exp.Boolean, scope: Scope) -> Fragment:
        return write("TRUE" if node.this else "FALSE", size=1)

    def null(self, node: exp.Null, scope: Scope) -> Fragment:
        return write("NULL", size=1)

    def place(self, node: exp.Expression, scope: Scope) -> Hashable:
        """Return what equal literals must share to be one parameter: the query and the expression they stand in.

        PostgreSQL gives a parameter one type, from what it is compared with; and it takes `GROUP BY` for the
        expression of the SELECT list only where their parameters are the same.
        """
        parent = node.parent
        while isinstance(parent, exp.Paren):
            parent = parent.parent
        if parent is None or isinstance(parent, exp.Query | exp.Group | exp.Alias):
            return (scope.number, None)
        if isinstance(parent, exp.Tuple):  # Each has the type of its own column.
            return (scope.number, id(node))
        if id(parent) not in self._places:
            is_small = sum(1 for _ in islice(parent.walk(), MAX_COMPARED + 1)) <= MAX_COMPARED
            self._places[id(parent)] = parent.sql(dialect="sqlite", comments=False) if is_small else str(id(parent))
        return (scope.number, type(parent).__name__, self._places[id(parent)])

    def column(self, node: exp.Column, scope: Scope) -> Fragment:
        only(node, "this", "table")
        if not isinstance(node.this, exp.Identifier):
            raise Refused("a star stands for columns in SELECT and COUNT only")
        found = self.find(node, scope)
        if found is not None:
            return found
        if node.this.args.get("quoted") and not node.table and self.is_text(node, scope):
            return fragments.text(node.name, self.place(node, scope))
        raise Refused(f"no such column: {'.'.join(part for part in (node.table, node.name) if part)[:80]}")

    def find(self, node: exp.Column, scope: Scope | None) -> Fragment | None:
        """Return the column that a name means: of the innermost query that has one, of its aliases otherwise."""
        qualifier, name = node.table, node.name
        while scope is not None:
            is_alias = not qualifier and name.lower() in scope.aliases
            if is_alias and scope.prefers_aliases and name.lower() not in scope.keys:
                return self.expression(scope.aliases[name.lower()], replace(scope, aliases={}))
            found = scope.column(qualifier, name)
            if found is not None:
                return found
            if qualifier and any(source.name.lower() == qualifier.lower() for source in scope.sources):
                return None
            if is_alias:
                # Written out: not every engine takes an alias in WHERE and HAVING.
                return self.expression(scope.aliases[name.lower()], replace(scope, aliases={}))
            scope = scope.outer
        return None

    def is_text(self, node: exp.Column, scope: Scope) -> bool:
        """Say whether a name in double quotes is a text: no column, and compared with one.

        SQLite reads "name" as a text wherever there is no such column, and text-to-SQL data is written so. What
        stands against a column in a comparison is a text; anything else is a name, and has to exist.
        """
        others = compared_with(node)
        if not others:
            return False
        predicate = others[0].parent
        if id(predicate) not in self._with_column:
            columns = (c for c in predicate.find_all(exp.Column) if isinstance(c.this, exp.Identifier))
            self._with_column[id(predicate)] = any(self.find(column, scope) is not None for column in columns)
        return self._with_column[id(predicate)]

    # Functions

    def function(self, node: exp.Func, scope: Scope) -> Fragment:
        name, arguments = FUNCTIONS[type(node)]
        only(node, *arguments)
        given: list[exp.Expression] = []
        for argument in arguments:
            value = node.args.get(argument)
            given += value if isinstance(value, list) else [value] if value is not None else []
        if len(given) == 1 and isinstance(given[0], exp.Distinct):
            return write(name, "(", self.distinct(given[0], scope), ")")
        return write(name, "(", self.listed(given, scope), ")", size=1)

    def distinct(self, node: exp.Distinct, scope: Scope) -> Fragment:
        only(node, "expressions")
        return write("DISTINCT", self.listed(node.expressions, scope))

    def count(self, node: exp.Count, scope: Scope) -> Fragment:
        only(node, "this")
        if isinstance(node.this, exp.Star):
            only(node.this)
            return write("COUNT ( * )", size=1)
        if not isinstance(node.this, exp.Distinct):
            return write("COUNT (", self.typed(node.this, scope), ")")
        counted = node.this.expressions
        if len(counted) == 1 or self.engine not in ("postgresql", "duckdb"):
            return write("COUNT (", self.distinct(node.this, scope), ")")
        parts = [self.expression(each, scope) for each in counted]  # Rows with a NULL do not count elsewhere.
        missing = [part for each in parts for part in ("WHEN", each, "IS NULL THEN NULL")]
        return write("COUNT ( DISTINCT CASE", *missing, "ELSE (", comma_separated(parts), ") END )")

    def group_concat(self, node: exp.GroupConcat, scope: Scope) -> Fragment:
        """GROUP_CONCAT(DISTINCT x ORDER BY y, separator), the order within or around DISTINCT."""
        only(node, "this", "separator")
        inner, separator, distinct, order = node.this, node.args.get("separator"), None, None
        while isinstance(inner, exp.Order | exp.Distinct):
            if isinstance(inner, exp.Order):
                order, inner = write("ORDER BY", self.order(inner, scope)), inner.this
                continue
            only(inner, "expressions")
            if len(inner.expressions) != 1:
                raise Refused("GROUP_CONCAT of several columns is not allowed")
            distinct, inner = "DISTINCT", inner.expressions[0]
        if separator is not None and not separator.is_string:
            raise Refused("the separator of GROUP_CONCAT must be a text")
        bound = fragments.text(separator.name if separator else ",", self.place(node, scope))
        written = self.joined_texts(self.expression(inner, scope), separator is None, bound, distinct, order)
        self.texts += 1
        return write(written, text=written.text * AGGREGATED_TEXT)

    def joined_texts(self, value: Fragment, is_comma: bool, separator: Fragment, distinct, order) -> Fragment:
        """Return the engine's GROUP_CONCAT."""
        if self.engine == "mysql" and not is_comma:
            # SEPARATOR takes no placeholder: the separator stands before each value, and the first is cut off.
            value = write("CONCAT (", separator, ",", value, ")")
            written = write("GROUP_CONCAT (", distinct, value, order, "SEPARATOR '' )")
            return write("SUBSTRING (", written, ", CHAR_LENGTH (", separator, ") +", fragments.number("1"), ")")
        if self.engine == "mysql" or (self.engine == "sqlite" and is_comma):
            return write("GROUP_CONCAT (", distinct, value, order, ")")
        if self.engine == "postgresql":  # It joins texts only.
            return write("STRING_AGG ( ", distinct, "CAST (", value, "AS TEXT ) ,", separator, order, ")")
        return write(
            "GROUP_CONCAT (" if self.engine == "sqlite" else "LISTAGG (", distinct, value, ",", separator, order, ")"
        )

    def length(self, node: exp.Length, scope: Scope) -> Fragment:
        only(node, "this")
        return write("CHAR_LENGTH (" if self.engine == "mysql" else "LENGTH (", self.expression(node.this, scope), ")")

    def trim(self, node: exp.Trim, scope: Scope) -> Fragment:
        only(node, "this", "expression", "position")
        position = node.args.get("position") or ""
        if position not in ("", "LEADING", "TRAILING", "BOTH"):
            raise Refused("TRIM takes LEADING, TRAILING or BOTH")
        value = self.expression(node.this, scope)
        characters = self.expression(node.expression, scope) if node.expression else None
        if characters is not None:
            fragments.searched(value, characters)
        if self.engine == "mysql":
            source = (characters, "FROM", value) if characters else ("FROM", value) if position else (value,)
            return write("TRIM (", position, *source, ")")
        name = {"LEADING": "LTRIM", "TRAILING": "RTRIM"}.get(position, "TRIM")
        name = "BTRIM" if (name, self.engine) == ("TRIM", "postgresql") else name
        return write(name, "(", value, *((",", characters) if characters else ()), ")")

    def position(self, node: exp.StrPosition, scope: Scope) -> Fragment:
        only(node, "this", "substr")
        value, sought = self.expression(node.this, scope), self.expression(node.args["substr"], scope)
        fragments.searched(value, sought)
        if self.engine == "mysql":
            return write("LOCATE (", sought, ",", value, ")")
        return write("INSTR (" if self.engine == "sqlite" else "STRPOS (", value, ",", sought, ")")

    # Types, dates and times

    def cast(self, node: exp.Cast, scope: Scope) -> Fragment:
        only(node, "this", "to")
        kind, value = self.type_(node.args["to"]), self.expression(node.this, scope)
        if self.engine == "sqlite" and kind.tokens[0].text in SQLITE_DATE_FUNCTIONS:
            return write(kind, "(", value, ")")
        return write("CAST (", value, "AS", kind, ")")

    def type_(self, node: exp.Expression) -> Fragment:
        only(node, "this", "expressions", "kind")
        given = node.args.get("kind")
        key = node.this if given is None else str(given).lower()
        names = TYPES.get(key)
        if names is None or names[self.which] is None:
            raise Refused(f"the type {str(given or getattr(node.this, 'value', node.this))[:80]} is not allowed")
        limits, parameters = TYPE_PARAMETERS.get(key, ()), []
        for place, parameter in enumerate(node.expressions):
            only(parameter, "this")
            value = parameter.this.name if isinstance(parameter, exp.DataTypeParam) else ""
            if not value.isdecimal() or place >= len(limits) or not 0 <= int(value) <= limits[place]:
                raise Refused(f"the parameters of the type {names[self.which]} are not allowed")
            parameters.append(fragments.number(value))
        if not parameters and (key, self.engine) == (exp.DataType.Type.CHAR, "postgresql"):
            return write("TEXT")  # Its CHAR is CHAR(1).
        if not parameters or self.engine == "sqlite":
            return write(names[self.which])
        width = int(node.expressions[0].this.name) // 20 if key != exp.DataType.Type.DECIMAL else 0  # CHAR(n) is padded
        return write(names[self.which], "(", comma_separated(parameters), ")", text=width)

    def date(self, node: exp.Date, scope: Scope) -> Fragment:
        only(node, "this")
        value = self.moment(node.this, scope)
        return write("CAST (", value, "AS DATE )") if self.engine == "duckdb" else write("DATE (", value, ")")

    def part_of_date(self, node: exp.Func, scope: Scope) -> Fragment:
        """YEAR(x), MONTH(x), DAY(x)."""
        only(node, "this")
        return self.extracted(node.key.upper(), node.this, scope)

    def extract(self, node: exp.Extract, scope: Scope) -> Fragment:
        only(node, "this", "expression")
        return self.extracted(node.name.upper(), node.expression, scope)

    def extracted(self, unit: str, node: exp.Expression, scope: Scope) -> Fragment:
        if unit not in UNITS or (self.engine == "sqlite" and unit not in SQLITE_FORMATS):
            raise Refused(f"the unit {unit[:80]} is not allowed")
        value = self.expression(node, scope)
        if self.engine in ("postgresql", "duckdb") and [token.kind for token in value.tokens] == ["text"]:
            value = write("CAST (", value, "AS TIMESTAMP )")
        if self.engine == "sqlite":
            code = fragments.text(SQLITE_FORMATS[unit], ("unit", unit))
            return write("CAST ( STRFTIME (", code, ",", value, ") AS INTEGER )")
        return write("EXTRACT (", unit, "FROM", value, ")")

    def time_as_text(self, node: exp.TimeToStr, scope: Scope) -> Fragment:
        """STRFTIME(format, x), with the format in the engine's own letters."""
        only(node, "this", "format")
        moment, form = node.this, node.args["format"]
        if not form.is_string or type(moment) is not exp.TsOrDsToTimestamp:
            raise Refused("STRFTIME takes a format in quotes and a date or time")
        only(moment, "this")
        value, letters = (
            self.moment(moment.this, scope),
            fragments.text(self.letters(form.name), self.place(form, scope)),
        )
        if self.engine == "sqlite":
            return write("STRFTIME (", letters, ",", value, ")")
        if self.engine == "mysql":
            return write("DATE_FORMAT (", value, ",", letters, ")")
        name = "STRFTIME" if self.engine == "duckdb" else "TO_CHAR"
        return write(name, "( CAST (", value, "AS TIMESTAMP ) ,", letters, ")")

    def moment(self, node: exp.Expression, scope: Scope) -> Fragment:
        """Return a date or time; SQLite's 'now' is the present everywhere."""
        if node.is_string and node.name.lower() == "now" and self.engine != "sqlite":
            return write("CURRENT_TIMESTAMP", size=1)
        return self.expression(node, scope)

    def letters(self, form: str) -> str:
        """Return a format of STRFTIME in the engine's letters; text between them stays text."""
        if self.engine == "sqlite":
            return form
        parts = []
        for part in re.findall(r"%.?|[^%]+", form, re.DOTALL):
            known = TIME_LETTERS.get(part, (None,) * 3)[self.which - 1] if part.startswith("%") else part
            if known is None or (self.engine == "postgresql" and set(part) & set('"\\')):
                raise Refused(f"the format {part[:20]} of STRFTIME is not allowed")
            is_word = self.engine == "postgresql" and not part.startswith("%") and re.search(r"\w", part)
            parts.append(f'"{known}"' if is_word else known)
        return "".join(parts)

    def today(self, node: exp.CurrentDate, scope: Scope) -> Fragment:
        only(node)
        return write("CURRENT_DATE", size=1)

    def interval(self, node: exp.Interval, scope: Scope) -> Fragment:
        only(node, "this", "unit")
        match = INTERVAL.fullmatch(node.this.name) if isinstance(node.this, exp.Literal) else None
        named = [match[2] if match else "", node.args["unit"].name if node.args.get("unit") else ""]
        units = [unit.upper().removesuffix("S") for unit in named if unit]
        if match is None or len(units) != 1 or units[0] not in INTERVAL_UNITS:
            raise Refused("an interval must be a whole number of one unit, such as INTERVAL '1 day'")
        if self.engine == "sqlite":
            raise Refused("SQLite has no INTERVAL")
        if self.engine == "postgresql":
            return write(
                "CAST (", fragments.text(f"{int(match[1])} {units[0]}", self.place(node, scope)), "AS INTERVAL )"
            )
        sign = "-" if int(match[1]) < 0 else None
        return write("INTERVAL", sign, fragments.number(str(abs(int(match[1])))), units[0])

    # Windows and order

    def window(self, node: exp.Window, scope: Scope) -> Fragment:
        only(node, "this", "partition_by", "order", "spec", "over")
        if type(node.this) not in WINDOW_FUNCTIONS:
            raise Refused(f"OVER after {node.this.key} is not allowed")
        parts: list[str | Fragment] = []
        if node.args.get("partition_by"):
            parts += ["PARTITION BY", self.listed(node.args["partition_by"], scope)]
        if node.args.get("order"):
            parts += ["ORDER BY", self.order(node.args["order"], scope)]
        if node.args.get("spec"):
            parts.append(self.frame(node.args["spec"]))
        return write(self.expression(node.this, scope), "OVER (", *parts, ")")

    def frame(self, node: exp.WindowSpec) -> Fragment:
        only(node, "kind", "start", "start_side", "end", "end_side")
        if node.args.get("kind") not in ("ROWS", "RANGE"):
            raise Refused("a window has ROWS or RANGE")
        sides = []
        for edge in ("start", "end"):
            value, side = node.args.get(edge), node.args.get(f"{edge}_side")
            if value is None:
                continue
            if value == "CURRENT ROW" and not side:
                sides.append(write(value))
            elif side in ("PRECEDING", "FOLLOWING") and value == "UNBOUNDED":
                sides.append(write(value, side))
            elif side in ("PRECEDING", "FOLLOWING") and isinstance(value, exp.Literal) and not value.is_string:
                sides.append(write(fragments.number(value.name), side))
            else:
                raise Refused("the bounds of a window are UNBOUNDED, CURRENT ROW or a number")
        if len(sides) == 2:
            return write(node.args["kind"], "BETWEEN", sides[0], "AND", sides[1])
        return write(node.args["kind"], *sides)

    def order(self, node: exp.Order, scope: Scope) -> Fragment:
        """Return the terms of an ORDER BY."""
        raise NotImplementedError

    def ordered(self, key: Fragment, node: exp.Ordered) -> Fragment:
        """Return a term of ORDER BY; NULL is the smallest value, as in SQLite, unless the query says otherwise."""
        descending, nulls_first = bool(node.args.get("desc")), bool(node.args.get("nulls_first"))
        direction = "DESC" if descending else None
        if self.engine in ("sqlite", "mysql") and nulls_first != descending:
            return write(key, direction)
        if self.engine == "mysql":  # It has no NULLS FIRST.
            return write("(", key, "IS NULL )", "DESC" if nulls_first else None, ",", key, direction)
        return write(key, direction, "NULLS", "FIRST" if nulls_first else "LAST")


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
