"""Window functions and the order of NULLs."""

from finetune.safe_sql import Refused, fragments
from finetune.safe_sql.fragments import Fragment, write
from finetune.safe_sql.scopes import Scope
from finetune.safe_sql.vocabulary import WINDOW_FUNCTIONS
from finetune.safe_sql.writing import Writing, only

from sqlglot import exp


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
