"""Functions and windows written in the words of the engine."""

from finetune.databases.safe_sql import Refused, fragments
from finetune.databases.safe_sql.fragments import AGGREGATED_TEXT, Fragment, comma_separated, write
from finetune.databases.safe_sql.scopes import Scope
from finetune.databases.safe_sql.vocabulary import FUNCTIONS, WINDOW_FUNCTIONS
from finetune.databases.safe_sql.writing import Writing, only

from sqlglot import exp


class Functions(Writing):
    """Writes functions but those of dates and windows."""

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


class Windows(Writing):
    """Writes OVER (...) and the terms of ORDER BY."""

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

    def ordered(self, key: Fragment, node: exp.Ordered) -> Fragment:
        """Return a term of ORDER BY; NULL is the smallest value, as in SQLite, unless the query says otherwise."""
        descending, nulls_first = bool(node.args.get("desc")), bool(node.args.get("nulls_first"))
        direction = "DESC" if descending else None
        if self.engine in ("sqlite", "mysql") and nulls_first != descending:
            return write(key, direction)
        if self.engine == "mysql":  # It has no NULLS FIRST.
            return write("(", key, "IS NULL )", "DESC" if nulls_first else None, ",", key, direction)
        return write(key, direction, "NULLS", "FIRST" if nulls_first else "LAST")
