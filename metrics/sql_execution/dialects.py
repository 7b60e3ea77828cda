"""Queries of any dialect that sqlglot knows, written for SQLite."""

import re
from functools import reduce

import sqlglot
from sqlglot import exp
from sqlglot.time import format_time

from .ddl import SQLITE, is_bare_name

PARTS = {"YEAR": "%Y", "MONTH": "%m", "DAY": "%d", "DAYOFMONTH": "%d", "HOUR": "%H", "MINUTE": "%M", "SECOND": "%S",
         "DOY": "%j", "DAYOFYEAR": "%j", "DOW": "%w", "WEEK": "%W", "EPOCH": "%s"}  # fmt: skip
STARTS = {"YEAR": "%Y-01-01", "MONTH": "%Y-%m-01", "DAY": "%Y-%m-%d", "HOUR": "%Y-%m-%d %H:00:00",
          "MINUTE": "%Y-%m-%d %H:%M:00", "SECOND": "%Y-%m-%d %H:%M:%S"}  # fmt: skip
SHORT = {"YY": "YEAR", "YYYY": "YEAR", "MM": "MONTH", "M": "MONTH", "DD": "DAY", "D": "DAY", "HH": "HOUR",
         "N": "MINUTE", "MI": "MINUTE", "SS": "SECOND", "QQ": "QUARTER", "Q": "QUARTER",
         "WK": "WEEK", "DY": "DOY"}  # fmt: skip
FUNCTIONS = {exp.Year: "YEAR", exp.Month: "MONTH", exp.Day: "DAY", exp.DayOfMonth: "DAY", exp.Hour: "HOUR",
             exp.Minute: "MINUTE", exp.Second: "SECOND", exp.DayOfYear: "DOY", exp.Quarter: "QUARTER",
             exp.Week: "WEEK"}  # fmt: skip
TRUNCATIONS = (exp.DateTrunc, exp.TimestampTrunc, exp.DatetimeTrunc)
STEPS = {"YEAR": (1, "years"), "QUARTER": (3, "months"), "MONTH": (1, "months"), "WEEK": (7, "days"),
         "DAY": (1, "days"), "HOUR": (1, "hours"), "MINUTE": (1, "minutes"), "SECOND": (1, "seconds")}  # fmt: skip
MOVES = {exp.Add: "+", exp.Sub: "-", exp.DateAdd: "+", exp.DateSub: "-", exp.TimestampAdd: "+", exp.TimestampSub: "-",
         exp.DatetimeAdd: "+", exp.DatetimeSub: "-", exp.TsOrDsAdd: "+"}  # fmt: skip
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
DATES = {exp.DType.DATE, exp.DType.DATE32}
ALIASES = {"postgresql": "postgres", "pg": "postgres", "mssql": "tsql", "sqlserver": "tsql", "mariadb": "mysql",
           "sqlite3": SQLITE, "googlesql": "bigquery"}  # fmt: skip


def known_dialects() -> list[str]:
    """Return the names of dialects, as sqlglot has them."""
    return sorted(dialect.value for dialect in sqlglot.Dialects if dialect.value)


def transpile(tree: exp.Query, dialect: str) -> str:
    """Return a query of a dialect as SQLite runs it: tables without their schemas, dates as texts.

    Raises:
        ValueError: it asks for what SQLite does not have; with what that is.
    """
    if dialect == SQLITE:
        return tree.sql(dialect=SQLITE)
    tree = tree.copy()
    if dialect == "bigquery":  # One pair of quotes may hold project, data set and table.
        for table in tree.find_all(exp.Table):
            if "." in table.name:
                table.set("this", exp.to_identifier(table.name.rpartition(".")[2], quoted=True))
    for node in tree.find_all(exp.Table, exp.Column):
        for part in ("db", "catalog"):
            node.set(part, None)
    try:
        for node in reversed(list(tree.walk())):  # Innermost first: transform() leaves out what is in a new node.
            new = _for_sqlite(node, dialect)
            if new is not node:
                node.replace(new)
        for name in tree.find_all(exp.Identifier):
            name.set("quoted", name.args.get("quoted") or not is_bare_name(name.name))  # Its keywords are others.
        written = tree.sql(dialect=SQLITE, unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False)
    except Exception as error:  # UnsupportedError, and what a strange tree makes of sqlglot.
        raise ValueError(f"SQLite: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
    return written


def _for_sqlite(node: exp.Expression, dialect: str) -> exp.Expression:
    """Return a node, as sqlglot would not write it for SQLite by itself."""
    if type(node) in FUNCTIONS:
        return _part(FUNCTIONS[type(node)], node.this) or node
    if isinstance(node, exp.Extract):
        return _part(_unit(node.this), node.expression) or node
    if isinstance(node, exp.DayOfWeek):
        return exp.Add(this=exp.Literal.number(1), expression=_part("DOW", node.this))  # 1 is Sunday
    if isinstance(node, TRUNCATIONS):
        return _truncated(_unit(node.args.get("unit")), node.this) or node
    if isinstance(node, exp.Cast) and node.to.is_type(*exp.DataType.TEMPORAL_TYPES):
        is_date = node.to.this in DATES
        if isinstance(node.this, exp.Literal) and node.this.is_string:
            return node.this  # A condition on a column: the data is made for it.
        return exp.func("DATE" if is_date else "DATETIME", node.this)
    if type(node) in MOVES:
        return _moved(node, MOVES[type(node)]) or _joined(node, dialect)
    if isinstance(node, exp.Left):
        return exp.func("SUBSTR", node.this, exp.Literal.number(1), node.expression)
    if isinstance(node, exp.National):
        return exp.Literal.string(node.name)
    if isinstance(node, exp.ToChar) and isinstance(node.args.get("format"), exp.Literal):
        mapping = sqlglot.Dialect.get_or_raise(dialect).TIME_MAPPING
        return _formatted(format_time(node.args["format"].name, mapping) or "", node.this)
    if isinstance(node, exp.StrToDate | exp.StrToTime) and ISO_DATE.match(node.name):
        return node.this
    if isinstance(node, exp.Bracket):  # SQLite would read x[1] as x under the name 1.
        raise ValueError("there are no arrays")
    if isinstance(node, exp.Concat):
        return _chained(node)
    if isinstance(node, exp.StartsWith):
        length = exp.Length(this=node.expression.copy())
        start = exp.func("SUBSTR", node.this, exp.Literal.number(1), length)
        return exp.EQ(this=start, expression=node.expression.copy())
    if isinstance(node, exp.LastDay) and not node.args.get("unit"):
        steps = map(exp.Literal.string, ("start of month", "+1 month", "-1 day"))
        return exp.Anonymous(this="DATE", expressions=[_plain(node.this).copy(), *steps])
    if (
        isinstance(node, exp.EQ)
        and isinstance(node.expression, exp.Any)
        and isinstance(node.expression.this, exp.Query)
    ):
        return exp.In(this=node.this.copy(), query=node.expression.this.copy())
    if isinstance(node, exp.Right):
        return exp.func("SUBSTR", node.this, exp.Neg(this=node.expression))
    return node


def _chained(node: exp.Concat) -> exp.Expression:
    """Return CONCAT as ||, where the dialect says so with '' for NULL."""
    parts = [part.copy() for part in node.expressions]
    if node.args.get("coalesce"):
        parts = [part if part.is_string else exp.func("COALESCE", part, exp.Literal.string("")) for part in parts]
    return exp.paren(reduce(lambda one, two: exp.DPipe(this=one, expression=two, safe=True), parts), copy=False)


def _unit(node: exp.Expression | None) -> str:
    name = (node.name if node is not None else "DAY").upper().rstrip("()")
    name = name[:-1] if name.endswith("S") and name[:-1] in STEPS else name
    return SHORT.get(name, name)


def _plain(node: exp.Expression) -> exp.Expression:
    return node.this if isinstance(node, exp.TsOrDsToDate | exp.TsOrDsToTimestamp) else node


def _part(unit: str, value: exp.Expression) -> exp.Expression | None:
    value = _plain(value)
    if unit == "QUARTER":
        month = exp.paren(_part("MONTH", value))
        return exp.paren(exp.Div(this=exp.paren(exp.Add(this=month, expression=exp.Literal.number(2))),
                                 expression=exp.Literal.number(3), typed=True))  # fmt: skip
    if unit not in PARTS:
        return None
    return exp.cast(_formatted(PARTS[unit], value), "INTEGER")


def _formatted(pattern: str, value: exp.Expression) -> exp.Expression:
    return exp.Anonymous(this="STRFTIME", expressions=[exp.Literal.string(pattern), value.copy()])


def _truncated(unit: str, value: exp.Expression) -> exp.Expression | None:
    value = _plain(value)
    if unit in STARTS:
        return _formatted(STARTS[unit], value)
    steps = {"WEEK": ["weekday 0", "-6 days"], "QUARTER": ["start of month"]}.get(unit)
    if steps is None:
        return None
    moved = [value.copy(), *map(exp.Literal.string, steps)]
    if unit == "QUARTER":
        moved.append(sqlglot.parse_one("'-' || ((STRFTIME('%m', x) + 2) % 3) || ' months'", read=SQLITE))
        moved[-1].find(exp.Column).replace(value.copy())
    return exp.Anonymous(this="DATE", expressions=moved)


def _moved(node: exp.Expression, sign: str) -> exp.Expression | None:
    """Return a date moved by an interval, or None for other arithmetic."""
    step, unit = node.expression, node.args.get("unit")
    if isinstance(step, exp.Interval):
        step, unit = step.this, step.args.get("unit") or unit
    elif isinstance(node, exp.Add | exp.Sub):
        return None
    negative = isinstance(step, exp.Neg)
    step = step.this if negative else step
    unit = _unit(unit)
    if unit not in STEPS or not isinstance(step, exp.Literal) or not step.name.lstrip("-").isdecimal():
        return None
    times, name = STEPS[unit]
    count = int(step.name) * times * (-1 if (sign == "-") != negative else 1)
    function = "DATE" if isinstance(node, exp.DateAdd | exp.DateSub | exp.TsOrDsAdd) else "DATETIME"
    return exp.Anonymous(
        this=function, expressions=[_plain(node.this).copy(), exp.Literal.string(f"{count:+d} {name}")]
    )


def _joined(node: exp.Expression, dialect: str) -> exp.Expression:
    """Return + between texts of T-SQL as ||."""
    if dialect != "tsql" or not isinstance(node, exp.Add):
        return node
    operands = list(node.flatten())
    if not any(isinstance(operand, exp.DPipe) or operand.is_string for operand in operands):
        return node
    return exp.DPipe(this=node.this.copy(), expression=node.expression.copy(), safe=True)
