"""What a query asks of the data: its conditions, joins, groups, order and least number of rows."""

from dataclasses import dataclass, field
from itertools import pairwise

from sqlglot import exp

from .conditions import Link, Source, Tree
from .dates import DATE, FUNCTIONS, TIME, is_date_like, read_date
from .ddl import fold
from .predicates import Predicates, literal_value
from .queries import Resolver
from .schemas import Table

ARITHMETIC = (exp.Sum, exp.Avg, exp.Add, exp.Sub, exp.Mul, exp.Div)


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
        rounded: (table, column) below ROUND or CAST, where fractions show.
        replaced: (table, column) whose NULLs COALESCE or IFNULL replaces.
        dated: (table, column) of dates -> how they are written.
        yes_no: whether the result says if something holds.
        counts: numbers that a COUNT is compared with.
        rows: the least number of rows that LIMIT and HAVING COUNT ask for.
        set_sides: for a set operation, its operator and the Selects of both sides.
    """

    tables: dict[Source, Table]
    conditions: dict[int, Tree] = field(default_factory=dict)
    links: list[tuple[tuple[str, str], tuple[str, str]]] = field(default_factory=list)
    literals: dict[tuple[str, str], list[float | str]] = field(default_factory=dict)
    returned: set[tuple[str, str]] = field(default_factory=set)
    grouped: set[tuple[str, str]] = field(default_factory=set)
    ordered: set[tuple[str, str]] = field(default_factory=set)
    numeric: set[tuple[str, str]] = field(default_factory=set)
    nullable: set[tuple[str, str]] = field(default_factory=set)
    rounded: set[tuple[str, str]] = field(default_factory=set)
    replaced: set[tuple[str, str]] = field(default_factory=set)
    averaged: set[tuple[str, str]] = field(default_factory=set)
    extremes: set[tuple[str, str]] = field(default_factory=set)
    dated: dict[tuple[str, str], str] = field(default_factory=dict)
    optional: dict[int, list] = field(default_factory=dict)
    yes_no: bool = False
    counts: set[int] = field(default_factory=set)
    rows: int = 0
    set_sides: tuple | None = None
    has_limit: bool = False


class _Reader(Predicates):
    """Fills a Profile from a resolved query."""

    def __init__(self, tree: exp.Query, resolver: Resolver):
        self.tree = tree
        sources = {
            (select, alias): table
            for select, entries in resolver.sources.items()
            for alias, entry in entries.items()
            if (table := resolver.table(entry)) is not None
        }
        super().__init__(resolver, Profile(sources))

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
        for node in self.tree.find_all(exp.Cast, exp.Round):
            if isinstance(node, exp.Round) or node.is_type(*exp.DataType.NUMERIC_TYPES):
                self.mark(profile.numeric, node)
                self.mark(profile.rounded, node)
        for node in self.tree.find_all(exp.Coalesce):
            self.mark(profile.replaced, *([node.this] if isinstance(node.this, exp.Column) else []))
        for limit in self.tree.find_all(exp.Limit):
            profile.has_limit = True
            number = literal_value(limit.expression)
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
            select = self.outside(node)
            if select is None:
                continue
            self.profile.yes_no |= select is selected
            if isinstance(node, exp.Case) and node.this:
                found = [self.comparison(node.this, case.this, "=") for case in node.args["ifs"]]
                trees = [(atom, True) for atom in found if atom]
            elif isinstance(node, exp.Case) or isinstance(node.parent, exp.Connector | exp.Not | exp.Paren):
                trees = []
            else:
                trees = [self.condition(node, True)]
            self.add_optional(select, trees)
        for node in self.tree.find_all(exp.Connector, exp.Not):
            select = self.outside(node, exp.Connector, exp.Not)
            if select is not None:
                self.add_optional(select, [self.condition(node, True)])

    def outside(self, node: exp.Expression, *around: type) -> exp.Select | None:
        """Return the Select of a node outside of its WHERE, HAVING and ON, and of the kinds given; else None."""
        clause = node.find_ancestor(exp.Where, exp.Having, exp.Join, exp.Select, *around)
        if isinstance(clause, exp.Where) and isinstance(clause.parent, exp.Filter):  # COUNT(*) FILTER (WHERE ...)
            clause = clause.find_ancestor(exp.Where, exp.Having, exp.Join, exp.Select)
        return clause if isinstance(clause, exp.Select) else None

    def add_optional(self, select: exp.Select, trees: list) -> None:
        """Add conditions that need not hold."""
        self.profile.optional.setdefault(self.resolver.numbers[id(select)], []).extend(filter(None, trees))

    def using(self, select: exp.Select) -> list:
        """Return the wishes of JOIN ... USING."""
        links = []
        number = self.resolver.numbers[id(select)]
        names = list(self.resolver.sources[number])
        for join in select.args.get("joins") or []:
            for identifier in join.args.get("using") or []:
                sources = [(number, alias) for alias in names]
                holders = [s for s in sources if s in self.profile.tables
                           and fold(identifier.name) in self.profile.tables[s].columns]  # fmt: skip
                for left, right in pairwise(holders):
                    name = fold(identifier.name)
                    self.link(
                        (left, self.profile.tables[left].name, name), (right, self.profile.tables[right].name, name)
                    )
                    links.append((Link((left, name), (right, name)), True))
        return links


def read_profile(tree: exp.Query, resolver: Resolver) -> Profile:
    """Return what a resolved query asks of the data."""
    return _Reader(tree, resolver).read()


def is_of_dates(node: exp.Func) -> bool:
    """Say whether a function reads a date."""
    name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
    return name.upper() in FUNCTIONS or isinstance(node, exp.TimeToStr | exp.TsOrDsToTimestamp | exp.TsOrDsToDate)
