"""SQL queries as syntax trees: parsed, resolved against a schema, normalised, told apart by shape."""

import logging
import re
from functools import reduce

import sqlglot
from sqlglot import exp

from .ddl import SQLITE, fold
from .dialects import transpile
from .limits import MAX_CHARACTERS, MAX_JOINS, QueryError, bare, check_size
from .schemas import Table

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # Its warnings are about text that is refused here.
SHAPES = ("one table", "join", "aggregate", "group", "order", "nested")


def parse(text: str, dialect: str = SQLITE) -> exp.Query:
    """Return the tree of exactly one query; semicolons and comments may follow it.

    Args:
        dialect: that it is read in, as sqlglot names it.

    Raises:
        QueryError: prose, nothing, several statements, a statement that is no query, or more than the limits.
    """
    text = bare(text, dialect)
    if not text.strip():
        raise QueryError("empty")
    if len(text) > MAX_CHARACTERS:
        raise QueryError("longer than 20,000 characters")
    if len(re.findall(r"\bJOIN\b", text, re.IGNORECASE)) > MAX_JOINS:
        raise QueryError("more than 10 joins")
    try:
        statements = [tree for tree in sqlglot.parse(text, read=dialect) if tree is not None]
    except Exception as error:  # sqlglot raises errors of its own, RecursionError, and ValueError for empty names.
        raise QueryError("cannot be parsed as SQL") from error
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements instead of one")
    if not isinstance(statements[0], exp.Query):
        raise QueryError("not a query")
    check_size(statements[0])
    return statements[0]


def for_sqlite(text: str, dialect: str) -> str:
    """Return one query of a dialect as SQLite runs it; SQLite's own as it stands.

    Raises:
        QueryError: it is not one query, or asks for what SQLite does not have.
    """
    if dialect == SQLITE:
        return bare(text)
    try:
        return transpile(parse(text, dialect), dialect)
    except QueryError:
        raise
    except ValueError as error:
        raise QueryError(str(error)) from error


class Resolver:
    """Finds the table of each column of one query.

    A source is one entry of a FROM clause: `(number of its Select, alias)`. A table that is used twice has
    two sources. Selects are numbered as they come in the tree: the same in every process.
    """

    def __init__(self, tree: exp.Query, schema: dict[str, Table]):
        self.schema = schema
        self.with_names = {fold(cte.alias): cte.this for cte in tree.find_all(exp.CTE)}
        self.quoted_literals: set[str] = set()  # texts in double quotes that are no names
        selects = list(tree.find_all(exp.Select))
        self.numbers = {id(select): number for number, select in enumerate(selects)}
        self.sources = {number: self._sources_of(select) for number, select in enumerate(selects)}

    def _sources_of(self, select: exp.Select) -> dict[str, exp.Expression]:
        entries = [select.args["from_"].this] if select.args.get("from_") else []
        entries += [join.this for join in select.args.get("joins") or []]
        # Parentheses around joins: FROM (a JOIN b ON ...)
        for entry in list(entries):
            if isinstance(entry, exp.Paren | exp.Subquery) and isinstance(entry.this, exp.Table):
                entries += [entry.this, *(join.this for join in entry.this.args.get("joins") or [])]
        return {fold(entry.alias_or_name): entry for entry in entries}

    def entries(self, select: exp.Query) -> dict[str, exp.Expression]:
        """Return the entries of a Select's FROM clause by alias."""
        return self.sources.get(self.numbers.get(id(select), -1), {})

    def find(self, column: exp.Column) -> tuple[tuple[int, str], str, str] | None:
        """Return (source, table, column) in lower case; None for a column of a subquery or of nothing."""
        name, qualifier = fold(column.name), fold(column.table)
        select = column.parent_select
        while select is not None:
            for alias, entry in self.entries(select).items():
                if qualifier and qualifier != alias:
                    continue
                table = self.table(entry)
                if table is not None and name in table.columns:
                    return (self.numbers[id(select)], alias), table.name, name
            select = select.parent_select
        return None

    def is_name(self, column: exp.Column) -> bool:
        """Say whether an unqualified name is a column, or an alias, of any query around it."""
        name, select = fold(column.name), column.parent_select
        while select is not None:
            if name in (fold(projection.alias) for projection in select.expressions if projection.alias):
                return True
            for entry in self.entries(select).values():
                if name in self._columns(entry):
                    return True
            select = select.parent_select
        return False

    def table(self, entry: exp.Expression) -> Table | None:
        """Return the table of the schema that an entry of a FROM clause names, if it names one."""
        if not isinstance(entry, exp.Table) or fold(entry.name) in self.with_names:
            return None
        return self.schema.get(fold(entry.name))

    def _columns(self, entry: exp.Expression) -> set[str]:
        table = self.table(entry)
        if table is not None:
            return set(table.columns)
        inner = self.with_names.get(fold(entry.name)) if isinstance(entry, exp.Table) else entry.this
        if not isinstance(inner, exp.Query):
            return set()
        names = {fold(name) for name in inner.named_selects}
        if any(projection.is_star for projection in inner.selects):
            names |= {name for entry in self.entries(inner).values() for name in self._columns(entry)}
        return names


def resolve(tree: exp.Query, schema: dict[str, Table]) -> Resolver:
    """Turn double-quoted text into literals, in place, where it is compared with a column.

    SQLite reads "name" as a string wherever no such column is in scope, so a misspelt column would
    pass. sql-create-context writes its literals so too. What stands against a column in a comparison
    is a literal; anything else is a name, and has to exist.

    Raises:
        QueryError: naming the first quoted name that is no column.
    """
    resolver = Resolver(tree, schema)
    quoted = [column for column in tree.find_all(exp.Column) if column.this.args.get("quoted") and not column.table]
    unknown = {id(column) for column in quoted if not resolver.is_name(column)}
    for column in quoted:
        if id(column) not in unknown:
            continue
        others = compared_with(column)
        known = (c for other in others for c in other.find_all(exp.Column))
        if not any(id(c) not in unknown for c in known):
            raise QueryError(f"no such column: {column.name}")
    for column in quoted:
        if id(column) in unknown:
            resolver.quoted_literals.add(column.name)
            column.replace(exp.Literal.string(column.name))
    return resolver


def compared_with(column: exp.Column) -> list[exp.Expression]:
    """Return what a column is compared with: the other operands of the predicate it stands in."""
    parent = column.parent
    while isinstance(parent, exp.Paren | exp.Lower | exp.Upper | exp.Trim):
        column, parent = parent, parent.parent
    if isinstance(parent, exp.Predicate | exp.Like) and not isinstance(parent, exp.SubqueryPredicate):
        # The left side of IN and BETWEEN is what is tested: a name.
        if isinstance(parent, exp.In | exp.Between) and parent.this is column:
            return []
        return [child for child in parent.iter_expressions() if child is not column]
    return []


def normalize(tree: exp.Query) -> str:
    """Return a resolved query in a canonical spelling.

    Letter case of keywords and identifiers, quotes, white space, a closing semicolon and the order of
    operands of AND and OR do not count.
    """
    tree = tree.transform(_lower_identifiers)
    # Innermost first: the order of the outer operands depends on the text of the inner ones.
    for node in reversed(list(tree.find_all(exp.And, exp.Or))):
        _sort_operands(node)
    return tree.sql(dialect="sqlite", comments=False)


def normalize_sql(text: str, schema: dict[str, Table] | None = None) -> str | None:
    """Return one query in a canonical spelling, or None when it is not exactly one query.

    Without a schema all double-quoted text is read as a literal.
    """
    try:
        tree = parse(text)
        if schema is not None:
            resolve(tree, schema)
    except QueryError:
        return None
    if schema is None:
        for column in list(tree.find_all(exp.Column)):
            if column.this.args.get("quoted") and not column.table:
                column.replace(exp.Literal.string(column.name))
    return normalize(tree)


def same_query(gold: str, predicted: str) -> bool:
    """Say whether both are single queries with the same normalised syntax tree."""
    expected = normalize_sql(gold)
    return expected is not None and expected == normalize_sql(predicted)


def _lower_identifiers(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.Identifier):
        return exp.to_identifier(fold(node.name), quoted=False)
    return node


def _sort_operands(node: exp.Expression) -> None:
    if isinstance(node.parent, type(node)):
        return
    # unnest=False: parentheses around an OR inside an AND carry meaning.
    operands = sorted(node.flatten(unnest=False), key=lambda operand: operand.sql(dialect="sqlite"))
    node.replace(reduce(lambda left, right: type(node)(this=left, expression=right), operands))


def shapes(tree: exp.Query) -> list[str]:
    """Return the shapes of a query, of `SHAPES`; several may hold."""
    selects = list(tree.find_all(exp.Select))
    nested = len(selects) > 1 or isinstance(tree, exp.SetOperation)
    joined = any(select.args.get("joins") for select in selects)
    found = {
        "one table": not nested and not joined,
        "join": joined,
        "aggregate": tree.find(exp.AggFunc) is not None,
        "group": tree.find(exp.Group) is not None,
        "order": tree.find(exp.Order) is not None,
        "nested": nested,
    }
    return [shape for shape in SHAPES if found[shape]]


def is_ordered(tree: exp.Query) -> bool:
    """Say whether the order of the result counts: a top-level ORDER BY."""
    return tree.args.get("order") is not None
