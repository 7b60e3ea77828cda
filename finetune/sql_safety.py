"""Predicted SQL made safe to send: one query, nothing but allowed syntax, functions and tables, written anew.

This is a filter, not the boundary: the boundary is what the database role may do. What passes here is
rendered from the checked tree, so that comments and tricks of spelling are never sent.
"""

from metrics.sql_execution.queries import QueryError, Resolver, parse, resolve
from metrics.sql_execution.schemas import Table

from sqlglot import exp
from sqlglot.errors import SqlglotError

# Every kind of node that may stand in a tree. What is not named here is refused: INTO, locks, hints,
# parameters, recursive WITH, table functions, commands.
SYNTAX = (
    exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Subquery, exp.With, exp.CTE, exp.From, exp.Join,
    exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset, exp.Distinct, exp.Table,
    exp.TableAlias, exp.Alias, exp.Column, exp.Identifier, exp.Star, exp.Literal, exp.Boolean, exp.Null, exp.Paren,
    exp.Tuple, exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In,
    exp.Is, exp.Like, exp.ILike, exp.Escape, exp.Exists, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg,
    exp.DPipe, exp.Case, exp.If, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Window, exp.WindowSpec, exp.Var,
    exp.Interval,
)  # fmt: skip
FUNCTIONS = (
    exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Abs, exp.Round, exp.Ceil, exp.Floor, exp.Length, exp.Lower,
    exp.Upper, exp.Trim, exp.Substring, exp.StrPosition, exp.Coalesce, exp.Nullif, exp.Concat, exp.GroupConcat,
    exp.RowNumber, exp.Rank, exp.DenseRank, exp.Date, exp.Year, exp.Month, exp.Day, exp.Extract, exp.TimeToStr,
    exp.TsOrDsToTimestamp, exp.TsOrDsToDate, exp.StrToTime, exp.CurrentDate,
)  # fmt: skip
ALLOWED = {*SYNTAX, *FUNCTIONS}
MAX_NODES = 2_000
MAX_SOURCES = 12  # entries of all FROM clauses together


class Refused(ValueError):
    """The SQL is not sent; the message says why."""


def make_safe(sql: str, tables: dict[str, Table], spelling: dict[str, str], dialect: str) -> str:
    """Return one query rendered from its checked syntax tree, names spelled and quoted as the database has them.

    Args:
        tables: what may be read, by lower-case name.
        spelling: lower-case `table` and `table.column` -> the database's own spelling.
        dialect: sqlglot's name of the engine: sqlite, postgres, mysql, duckdb.

    Raises:
        Refused: anything but one query over these tables with allowed syntax and functions.
    """
    try:
        tree = parse(sql)
        # Before names are resolved, which walks the tree several times.
        if sum(1 for _ in tree.walk()) > MAX_NODES:
            raise Refused(f"the query has more than {MAX_NODES} parts")
        resolver = resolve(tree, tables)
    except (QueryError, RecursionError) as error:
        raise Refused(f"not one readable query: {error}") from error
    for node in tree.walk():
        _check(node, resolver, tables)
    if len(list(tree.find_all(exp.Table))) > MAX_SOURCES:
        raise Refused(f"the query reads more than {MAX_SOURCES} tables at once")
    _respell(tree, resolver, spelling)
    try:
        return tree.sql(dialect=dialect, comments=False, unsupported_level=None)
    except (SqlglotError, RecursionError) as error:
        raise Refused(f"the query cannot be written for {dialect}: {error}") from error


def _check(node: exp.Expression, resolver: Resolver, tables: dict[str, Table]) -> None:
    with_names = resolver.with_names
    if isinstance(node, exp.Anonymous):
        raise Refused(f"the function {node.name} is not allowed")
    if type(node) not in ALLOWED:  # Not isinstance: a subclass may do more than its parent.
        what = "function" if isinstance(node, exp.Func) else "syntax"
        raise Refused(f"the {what} {node.key} is not allowed")
    if isinstance(node, exp.With) and node.args.get("recursive"):
        raise Refused("a recursive WITH is not allowed")
    if isinstance(node, exp.Table):
        if not isinstance(node.this, exp.Identifier) or node.args.get("db") or node.args.get("catalog"):
            raise Refused(f"the table {node.sql()[:80]} is not one of {', '.join(tables)}")
        if node.name.lower() not in tables and node.name.lower() not in with_names:
            raise Refused(f"the table {node.name} is not one of {', '.join(tables)}")
        if node.name.lower() in tables and node.name.lower() in with_names:
            raise Refused(f"WITH {node.name} has the name of a table")
    if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star) and not _is_known(node, resolver):
        # PostgreSQL would call a function of that name: t.f is f(t) there.
        raise Refused(f"no such column: {node.sql()[:80]}")


def _is_known(column: exp.Column, resolver: Resolver) -> bool:
    if column.args.get("db"):
        return False
    if resolver.find(column):
        return True
    return resolver.is_derived(column) if column.table else resolver.is_name(column)


def _respell(tree: exp.Query, resolver: Resolver, spelling: dict[str, str]) -> None:
    """Give tables and columns the database's own spelling, quoted: PostgreSQL folds unquoted names."""
    for column in list(tree.find_all(exp.Column)):
        found = resolver.find(column)
        if found is None or not isinstance(column.this, exp.Identifier):
            continue
        (_, alias), table, name = found
        column.set("this", exp.to_identifier(spelling.get(f"{table}.{name}", name), quoted=True))
        if column.table and alias == table:
            column.set("table", exp.to_identifier(spelling.get(table, table), quoted=True))
    for table in tree.find_all(exp.Table):
        if table.name.lower() not in resolver.with_names:
            table.set("this", exp.to_identifier(spelling.get(table.name.lower(), table.name), quoted=True))
