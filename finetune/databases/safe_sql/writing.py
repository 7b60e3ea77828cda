"""What the writers of a query's parts share: the engine, and how one part asks for another."""

from collections.abc import Hashable

from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.fragments import Fragment, comma_separated, write
from finetune.databases.safe_sql.scopes import Scope
from finetune.databases.safe_sql.vocabulary import ENGINES

from sqlglot import exp

# Arguments of nodes that say how sqlglot would write them for other engines, nothing of the query.
HINTS = {"typed", "safe", "coalesce", "big_int", "zero_start"}


def only(node: exp.Expression, *names: str) -> None:
    """Raise Refused for a node that has more than the given arguments."""
    for name, value in node.args.items():
        if value and name not in names and name not in HINTS:
            raise Refused(f"the syntax {node.key} with {name.strip('_')} is not allowed")


class Writing:
    """The base of the writers for one engine: names, functions, dates, windows, expressions, queries."""

    def __init__(self, engine: str):
        self.engine = engine
        self.which = ENGINES.index(engine)
        self.texts = 0  # put together by GROUP_CONCAT

    def expression(self, node: exp.Expression | None, scope: Scope) -> Fragment:
        """Return an expression as it will be sent."""
        raise NotImplementedError

    def subquery(self, node: exp.Expression, scope: Scope) -> Fragment:
        """Return a query in parentheses."""
        raise NotImplementedError

    def order(self, node: exp.Order, scope: Scope) -> Fragment:
        """Return the terms of an ORDER BY."""
        raise NotImplementedError

    def place(self, node: exp.Expression, scope: Scope) -> Hashable:
        """Return what equal literals must share to be one parameter."""
        raise NotImplementedError

    def listed(self, nodes: list[exp.Expression], scope: Scope) -> Fragment:
        """Return expressions with commas between them."""
        return comma_separated([self.expression(node, scope) for node in nodes])

    def typed(self, node: exp.Expression, scope: Scope) -> Fragment:
        """Return an expression where PostgreSQL cannot tell a parameter's type from what stands beside it."""
        written = self.expression(node, scope)
        is_text = len(written.tokens) == 1 and written.tokens[0].kind == "text"
        return write("CAST (", written, "AS TEXT )") if is_text and self.engine == "postgresql" else written
