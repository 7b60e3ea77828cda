"""The predicates of a query, read as conditions that data can be drawn for."""

from typing import TYPE_CHECKING

from sqlglot import exp

from .conditions import Atom, Link, Tree, Value, as_stored
from .queries import Resolver

if TYPE_CHECKING:
    from .profiles import Profile

COMPARISONS = {exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<="}
MIRRORED = {"=": "=", "<>": "<>", ">": "<", ">=": "<=", "<": ">", "<=": ">="}
LONGEST = 500  # characters of an expression that is tried on many pairs of values
SEEN_THROUGH = (exp.Alias, exp.Paren, exp.Lower, exp.Upper, exp.Trim, exp.Cast, exp.AggFunc, exp.Subquery)


class Predicates:
    """Reads predicates, and notes in a profile what they say of columns."""

    def __init__(self, resolver: Resolver, profile: "Profile"):
        self.resolver, self.profile = resolver, profile

    def mark(self, columns: set, *nodes: exp.Expression) -> None:
        """Add the columns below some nodes to a set."""
        for node in nodes:
            for column in node.find_all(exp.Column):
                found = self.resolver.find(column)
                if found:
                    columns.add(found[1:])

    def column(self, node: exp.Expression | None):
        """Return (source, table, column) of a column: bare, aliased, in MIN, LOWER and the like, or of a subquery."""
        while isinstance(node, SEEN_THROUGH):
            node = node.this.selects[0] if isinstance(node, exp.Subquery) and node.this.selects else node.this
        return self.resolver.find(node) if isinstance(node, exp.Column) else None

    def link(self, left, right) -> None:
        """Let two columns draw their values from one pool."""
        if left and right and left[1:] != right[1:]:
            self.profile.links.append((left[1:], right[1:]))

    def condition(self, node: exp.Expression, wanted: bool):
        """Return a Tree, a `(condition, wanted)` pair, or None where nothing is known of the condition."""
        if isinstance(node, exp.Paren):
            return self.condition(node.this, wanted)
        if isinstance(node, exp.Not):
            return self.condition(node.this, not wanted)
        if isinstance(node, exp.And | exp.Or):
            kind = "and" if isinstance(node, exp.And) == wanted else "or"
            return Tree(kind, [self.condition(child, wanted) for child in node.flatten()])
        found = self.atom(node)
        # NOT LIKE is a LIKE that says so; an expression has its NOT inside.
        is_negated = bool(node.args.get("negate")) and found is not None and found.operator not in ("sql", "date")
        return (found, wanted != is_negated) if found else None

    def atom(self, node: exp.Expression) -> Atom | Link | None:
        """Return the condition of one predicate, None where nothing is known of it."""
        if self.profile.dated and isinstance(node, exp.Predicate) and not node.find(exp.Query):
            found = self.column(node.this)
            if found and found[1:] in self.profile.dated and node.find(exp.Literal):
                return self.expression(node)
        return self.plain_atom(node) or self.expression(node)

    def expression(self, node: exp.Expression) -> Atom | Link | None:
        """Return a condition on an expression of one or two columns, which SQLite itself decides for their values."""
        columns = list(node.find_all(exp.Column))
        every = list(dict.fromkeys(map(self.resolver.find, columns)))
        found = [each for each in every if each is not None]
        if len(found) not in (1, 2) or None in every or node.find(exp.Query, exp.AggFunc, exp.Window, exp.Star):
            return None
        copy = node.copy()
        for column, original in zip(list(copy.find_all(exp.Column)), columns, strict=True):
            column.replace(exp.column("vw"[every.index(self.resolver.find(original))]))
        literals = tuple(dict.fromkeys(literal.this for literal in node.find_all(exp.Literal)))
        places = [(source, name) for source, _, name in found]
        if len(places) == 2:
            written = copy.sql("sqlite")
            one, two = places
            return Link(one, two, "sql", written, tuple(map(as_stored, literals))) if len(written) < LONGEST else None
        form = self.profile.dated.get(found[0][1:])
        if form:
            return Atom(places[0], "date", (copy.sql("sqlite"), form, *literals))
        return Atom(places[0], "sql", (copy.sql("sqlite"), *map(as_stored, literals)))

    def plain_atom(self, node: exp.Expression) -> Atom | Link | None:
        """Return the condition of a predicate of bare columns and literals, of two columns, or of a subquery."""
        kind = type(node)
        if kind in COMPARISONS:
            return self.comparison(node.this, node.expression, COMPARISONS[kind])
        if kind in (exp.Like, exp.ILike, exp.Glob):
            return self.make(node.this, "like", [node.expression])
        if kind is exp.Between:
            return self.make(node.this, "between", [node.args["low"], node.args["high"]])
        if kind is exp.Is and isinstance(node.expression, exp.Null):
            self.mark(self.profile.nullable, node.this)
            return self.make(node.this, "null", [])
        if kind is exp.In:
            query = node.args.get("query")
            if query is None:
                return self.make(node.this, "in", node.expressions)
            inner = query.find(exp.Select)
            if _is_literal(node.this) and inner and inner.selects:
                return self.make(inner.selects[0], "=", [node.this])
            return self.subquery_link(node.this, inner, "=")
        return None

    def comparison(self, left: exp.Expression, right: exp.Expression, symbol: str):
        """Return the condition of =, <>, <, <=, > or >=."""
        for side, other, sign in ((left, right, symbol), (right, left, MIRRORED[symbol])):
            if _is_literal(other):
                return self.make(side, sign, [other])
        if isinstance(right, exp.Subquery):
            return self.subquery_link(left, right.find(exp.Select), symbol)
        if isinstance(left, exp.Subquery):
            return self.subquery_link(right, left.find(exp.Select), MIRRORED[symbol])
        one, two = self.column(left), self.column(right)
        if not (one and two):
            return None
        if symbol == "=":
            self.link(one, two)
        return Link((one[0], one[2]), (two[0], two[2]), symbol)

    def subquery_link(self, side: exp.Expression, inner: exp.Select | None, symbol: str) -> Link | None:
        """Return the link of a column to what a subquery returns, where single rows can meet it."""
        outer = self.column(side)
        inner_column = self.column(inner.selects[0]) if inner and inner.selects else None
        if symbol == "=":
            self.link(outer, inner_column)
        aggregated = inner is not None and inner.find(exp.AggFunc) is not None
        if inner and aggregated and inner.find(exp.Avg):
            self.mark(self.profile.averaged, side)
        if inner and aggregated and inner.find(exp.Max, exp.Min):
            self.mark(self.profile.extremes, side)
        if not outer or not inner_column or aggregated or symbol != "=":
            return None
        return Link((outer[0], outer[2]), (inner_column[0], inner_column[2]))

    def make(self, side: exp.Expression, symbol: str, literals: list[exp.Expression]) -> Atom | None:
        """Return the condition of a column and literals."""
        if not all(map(_is_literal, literals)):
            return None
        values = tuple(literal_value(literal) for literal in literals)
        found = self.column(side)
        if side.find(exp.Count):
            numbers = [value for value in values if isinstance(value, int)]
            self.profile.counts |= {number for number in numbers if 1 < number <= 200}
            enough = (3 * n + 4 if n <= 15 else min(2 * n, 200) + 19 for n in numbers)
            self.profile.rows = max(self.profile.rows, 0, *enough)
            return None
        if found is None:
            return None
        known = self.profile.literals.setdefault(found[1:], [])
        known += [value for value in values if value is not None and value not in known]
        if side.find(exp.AggFunc):  # HAVING AVG(x) > 5: values around 5, but no single row decides
            return None
        return Atom((found[0], found[2]), symbol, values)


def _is_literal(node: exp.Expression) -> bool:
    while isinstance(node, exp.Paren | exp.Neg | exp.Lower | exp.Upper):
        node = node.this
    return isinstance(node, exp.Literal | exp.Boolean | exp.Null)


def literal_value(node: exp.Expression) -> Value:
    if isinstance(node, exp.Neg):
        value = literal_value(node.this)
        return -value if isinstance(value, int | float) else value
    if isinstance(node, exp.Paren | exp.Lower | exp.Upper):
        return literal_value(node.this)
    if isinstance(node, exp.Boolean):
        return int(node.this)
    if not isinstance(node, exp.Literal):
        return None
    return as_stored(node.this)
