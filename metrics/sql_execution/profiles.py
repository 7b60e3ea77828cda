"""What a query asks of the data: its conditions, joins, groups, order and least number of rows."""

from dataclasses import dataclass, field
from itertools import pairwise

from sqlglot import exp

from .conditions import Atom, Link, Source, Tree, Value, as_stored
from .dates import DATE, FUNCTIONS, TIME, is_date_like, read_date
from .queries import Resolver
from .schemas import Table

COMPARISONS = {exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<="}
ARITHMETIC = (exp.Sum, exp.Avg, exp.Add, exp.Sub, exp.Mul, exp.Div)
MIRRORED = {"=": "=", "<>": "<>", ">": "<", ">=": "<=", "<": ">", "<=": ">="}


@dataclass
class Profile:
    """What the data must hold to tell one query from its neighbours.

    Attributes:
        tables: table of each source.
        conditions: one tree a Select that has any.
        links: equal columns, as (table, column) pairs, whose values come from one pool.
        literals: values that each (table, column) is compared with.
        optional: conditions in what a Select returns, groups or orders by (CASE, IIF), which need not hold.
        returned: (table, column) that its result shows.
        grouped, ordered, numeric, nullable, averaged, extremes: (table, column) used so.
        dated: (table, column) of dates -> how they are written.
        yes_no: whether the result says if something holds.
        counts: numbers that a COUNT is compared with.
        rows: the least number of rows that LIMIT and HAVING COUNT ask for.
        set_sides: for a set operation, its operator and the Selects of both sides.
    """

    tables: dict[Source, Table]
    conditions: dict[int, Tree] = field(default_factory=dict)
    links: list[tuple[tuple[str, str], tuple[str, str]]] = field(default_factory=list)
    literals: dict[tuple[str, str], list[Value]] = field(default_factory=dict)
    returned: set[tuple[str, str]] = field(default_factory=set)
    grouped: set[tuple[str, str]] = field(default_factory=set)
    ordered: set[tuple[str, str]] = field(default_factory=set)
    numeric: set[tuple[str, str]] = field(default_factory=set)
    nullable: set[tuple[str, str]] = field(default_factory=set)
    averaged: set[tuple[str, str]] = field(default_factory=set)
    extremes: set[tuple[str, str]] = field(default_factory=set)
    dated: dict[tuple[str, str], str] = field(default_factory=dict)
    optional: dict[int, list] = field(default_factory=dict)
    yes_no: bool = False
    counts: set[int] = field(default_factory=set)
    rows: int = 0
    set_sides: tuple | None = None
    has_limit: bool = False


class _Reader:
    """Fills a Profile from a resolved query."""

    def __init__(self, tree: exp.Query, resolver: Resolver):
        self.tree, self.resolver = tree, resolver
        sources = {
            (select, alias): table
            for select, entries in resolver.sources.items()
            for alias, entry in entries.items()
            if (table := resolver.table(entry)) is not None
        }
        self.profile = Profile(sources)

    def read(self) -> Profile:
        """Return the filled profile."""
        profile = self.profile
        self.read_dates()
        for select in self.tree.find_all(exp.Select):
            clauses = [join.args["on"] for join in select.args.get("joins") or [] if join.args.get("on")]
            clauses += [select.args[name].this for name in ("where", "having") if select.args.get(name)]
            children = [self.condition(clause, True) for clause in clauses]
            children += self.using(select)
            if children:
                profile.conditions[self.resolver.numbers[id(select)]] = Tree("and", children)
            for projection in select.expressions if select.args.get("distinct") else ():
                self.mark(profile.grouped, projection)
        self.read_optional()
        for projection in self.tree.selects:
            self.mark(profile.returned, projection)
            if projection.is_star:
                profile.returned |= {(t.name, column) for t in profile.tables.values() for column in t.columns}
        for group in self.tree.find_all(exp.Group):
            self.mark(profile.grouped, *group.expressions)
        for distinct in self.tree.find_all(exp.Distinct):
            self.mark(profile.grouped, *distinct.expressions)
        for order in self.tree.find_all(exp.Order):
            *others, last = order.expressions
            self.mark(profile.ordered, last)
            # Ties, which the next column decides.
            self.mark(profile.grouped, *(other for other in others if not other.find(exp.AggFunc)))
        for node in self.tree.find_all(*ARITHMETIC):
            if not isinstance(node.parent, ARITHMETIC):  # Those inside are marked with it.
                self.mark(profile.numeric, node)
        for node in self.tree.find_all(exp.Cast):
            if node.is_type(*exp.DataType.NUMERIC_TYPES):
                self.mark(profile.numeric, node)
        for limit in self.tree.find_all(exp.Limit):
            profile.has_limit = True
            number = _literal(limit.expression)
            if isinstance(number, int):
                profile.rows = max(profile.rows, (3 if self.tree.find(exp.Group) else 2) * min(number, 25))
        for operation in self.tree.find_all(exp.SetOperation):
            sides = operation.left.find(exp.Select), operation.right.find(exp.Select)
            for projections in zip(*(side.selects for side in sides), strict=False):
                self.mark(profile.grouped, *projections)
                self.link(*(self.column(p) for p in projections))
            if operation is self.tree:
                numbers = [{self.resolver.numbers[id(s)] for s in side.find_all(exp.Select)} for side in sides]
                profile.set_sides = (type(operation), *numbers)
        return profile

    def read_dates(self) -> None:
        """Find the columns of dates: declared so, or read by date functions; and how the query writes them."""
        dated = self.profile.dated
        for table in self.profile.tables.values():
            dated |= {(table.name, name): form for name, form in table.dates.items()}
        read: set[tuple[str, str]] = set()
        for node in self.tree.find_all(exp.Func):
            if is_of_dates(node):
                self.mark(read, node)
        dated |= {column: DATE for column in sorted(read - set(dated))}
        for node in self.tree.find_all(exp.Predicate) if dated else ():
            found = self.column(node.this)
            literals = [child for child in node.iter_expressions() if isinstance(child, exp.Literal)]
            if not found or found[1:] not in dated or not literals:
                continue
            for literal in literals:
                moment = read_date(literal.this)
                if moment and (dated[found[1:]], moment[1]) != (TIME, DATE):  # A day may bound moments.
                    dated[found[1:]] = moment[1]
                elif not moment and not is_date_like(literal.this) and found[1:] not in read:
                    del dated[found[1:]]  # Words or numbers, whatever its type says.
                    break

    def read_optional(self) -> None:
        """Read the conditions outside of WHERE, HAVING and ON: of CASE and IIF, or returned as they are."""
        selected = self.tree.find(exp.Select)
        for node in self.tree.find_all(exp.Predicate, exp.Case):
            clause = node.find_ancestor(exp.Where, exp.Having, exp.Join, exp.Select)
            if not isinstance(clause, exp.Select):
                continue
            self.profile.yes_no |= clause is selected
            if isinstance(node, exp.Case) and node.this:
                found = [self.comparison(node.this, case.this, "=") for case in node.args["ifs"]]
                trees = [(atom, True) for atom in found if atom]
            elif isinstance(node, exp.Case) or isinstance(node.parent, exp.Connector | exp.Not | exp.Paren):
                trees = []
            else:
                trees = [self.condition(node, True)]
            number = self.resolver.numbers[id(clause)]
            self.profile.optional.setdefault(number, []).extend(tree for tree in trees if tree)
        for node in self.tree.find_all(exp.Connector):
            clause = node.find_ancestor(exp.Where, exp.Having, exp.Join, exp.Select, exp.Connector)
            if isinstance(clause, exp.Select):
                self.profile.optional.setdefault(self.resolver.numbers[id(clause)], []).append(
                    self.condition(node, True)
                )

    def mark(self, columns: set, *nodes: exp.Expression) -> None:
        """Add the columns below some nodes to a set."""
        for node in nodes:
            for column in node.find_all(exp.Column):
                found = self.resolver.find(column)
                if found:
                    columns.add(found[1:])

    def column(self, node: exp.Expression | None):
        """Return (source, table, column) of a bare column, an aliased one, or one in MIN, MAX, LOWER and the like."""
        while isinstance(node, exp.Alias | exp.Paren | exp.Lower | exp.Upper | exp.Trim | exp.Cast | exp.AggFunc):
            node = node.this
        return self.resolver.find(node) if isinstance(node, exp.Column) else None

    def link(self, left, right) -> None:
        """Let two columns draw their values from one pool."""
        if left and right and left[1:] != right[1:]:
            self.profile.links.append((left[1:], right[1:]))

    def using(self, select: exp.Select) -> list:
        """Return the wishes of JOIN ... USING."""
        links = []
        number = self.resolver.numbers[id(select)]
        names = list(self.resolver.sources[number])
        for join in select.args.get("joins") or []:
            for identifier in join.args.get("using") or []:
                sources = [(number, alias) for alias in names]
                holders = [s for s in sources if s in self.profile.tables
                           and identifier.name.lower() in self.profile.tables[s].columns]  # fmt: skip
                for left, right in pairwise(holders):
                    name = identifier.name.lower()
                    self.link(
                        (left, self.profile.tables[left].name, name), (right, self.profile.tables[right].name, name)
                    )
                    links.append((Link((left, name), (right, name)), True))
        return links

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
        return (found, wanted) if found else None

    def atom(self, node: exp.Expression) -> Atom | Link | None:
        """Return the condition of one predicate, None where nothing is known of it."""
        if self.profile.dated and isinstance(node, exp.Predicate) and not node.find(exp.Query):
            found = self.column(node.this)
            if found and found[1:] in self.profile.dated and node.find(exp.Literal):
                return self.expression(node)
        return self.plain_atom(node) or self.expression(node)

    def expression(self, node: exp.Expression) -> Atom | None:
        """Return a condition on an expression of one column, which SQLite itself decides for a value."""
        columns = list(node.find_all(exp.Column))
        found = {self.resolver.find(column) for column in columns}
        if len(found) != 1 or None in found or node.find(exp.Query, exp.AggFunc, exp.Window, exp.Star):
            return None
        ((source, table, name),) = found
        copy = node.copy()
        for column in list(copy.find_all(exp.Column)):
            column.replace(exp.column("v"))
        literals = tuple(dict.fromkeys(literal.this for literal in node.find_all(exp.Literal)))
        form = self.profile.dated.get((table, name))
        if form:
            return Atom((source, name), "date", (copy.sql("sqlite"), form, *literals))
        return Atom((source, name), "sql", (copy.sql("sqlite"), *map(as_stored, literals)))

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
        if aggregated and inner.find(exp.Avg):
            self.mark(self.profile.averaged, side)
        if aggregated and inner.find(exp.Max, exp.Min):
            self.mark(self.profile.extremes, side)
        if not outer or not inner_column or aggregated or symbol != "=":
            return None
        return Link((outer[0], outer[2]), (inner_column[0], inner_column[2]))

    def make(self, side: exp.Expression, symbol: str, literals: list[exp.Expression]) -> Atom | None:
        """Return the condition of a column and literals."""
        if not all(map(_is_literal, literals)):
            return None
        values = tuple(_literal(literal) for literal in literals)
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
        if isinstance(side, exp.AggFunc):  # HAVING AVG(x) > 5: values around 5, but no single row decides
            return None
        return Atom((found[0], found[2]), symbol, values)


def read_profile(tree: exp.Query, resolver: Resolver) -> Profile:
    """Return what a resolved query asks of the data."""
    return _Reader(tree, resolver).read()


def is_of_dates(node: exp.Func) -> bool:
    """Say whether a function reads a date."""
    name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
    return name.upper() in FUNCTIONS or isinstance(node, exp.TimeToStr | exp.TsOrDsToTimestamp | exp.TsOrDsToDate)


def _is_literal(node: exp.Expression) -> bool:
    while isinstance(node, exp.Paren | exp.Neg | exp.Lower | exp.Upper):
        node = node.this
    return isinstance(node, exp.Literal | exp.Boolean | exp.Null)


def _literal(node: exp.Expression) -> Value:
    if isinstance(node, exp.Neg):
        value = _literal(node.this)
        return -value if isinstance(value, int | float) else value
    if isinstance(node, exp.Paren | exp.Lower | exp.Upper):
        return _literal(node.this)
    if isinstance(node, exp.Boolean):
        return int(node.this)
    if not isinstance(node, exp.Literal):
        return None
    return as_stored(node.this)
