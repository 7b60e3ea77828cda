"""Types, dates and times written in the words of the engine."""

import re

from finetune.databases.safe_sql import Refused, fragments
from finetune.databases.safe_sql.fragments import Fragment, comma_separated, write
from finetune.databases.safe_sql.scopes import Scope
from finetune.databases.safe_sql.vocabulary import (
    INTERVAL_UNITS,
    SQLITE_DATE_FUNCTIONS,
    SQLITE_FORMATS,
    TIME_LETTERS,
    TYPE_PARAMETERS,
    TYPES,
    UNITS,
)
from finetune.databases.safe_sql.writing import Writing, only

from sqlglot import exp

INTERVAL = re.compile(r"\s*([+-]?[0-9]{1,9})\s*([a-zA-Z]*)\s*", re.ASCII)


class Dates(Writing):
    """Writes casts, dates and intervals."""

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
