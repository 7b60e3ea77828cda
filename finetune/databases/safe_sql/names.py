"""Names and texts: what a name means, and which equal texts are one parameter."""

from collections.abc import Hashable
from dataclasses import replace
from itertools import islice

from finetune.databases.safe_sql import Refused, fragments
from finetune.databases.safe_sql.fragments import Fragment, write
from finetune.databases.safe_sql.scopes import Scope
from finetune.databases.safe_sql.writing import Writing, only
from finetune.databases.schema.words import nearest
from metrics.sql_execution.queries import compared_with

from sqlglot import exp

MAX_COMPARED = 60  # nodes of an expression that is compared with others as text


class Names(Writing):
    """Writes names and literals.

    Attributes:
        tables: columns of each table that may be read, in the database's spelling.
    """

    tables: dict[str, list[str]]

    def __init__(self, engine: str):
        super().__init__(engine)
        self._places: dict[int, str] = {}
        self._with_column: dict[int, bool] = {}

    def literal(self, node: exp.Literal, scope: Scope) -> Fragment:
        return fragments.text(node.name, self.place(node, scope)) if node.is_string else fragments.number(node.name)

    def boolean(self, node: exp.Boolean, scope: Scope) -> Fragment:
        return write("TRUE" if node.this else "FALSE", size=1)

    def null(self, node: exp.Null, scope: Scope) -> Fragment:
        return write("NULL", size=1)

    def place(self, node: exp.Expression, scope: Scope) -> Hashable:
        """Return what equal literals must share to be one parameter: the query and the expression they stand in.

        PostgreSQL gives a parameter one type, from what it is compared with; and it takes `GROUP BY` for the
        expression of the SELECT list only where their parameters are the same.
        """
        parent = node.parent
        while isinstance(parent, exp.Paren):
            parent = parent.parent
        if parent is None or isinstance(parent, exp.Query | exp.Group | exp.Alias):
            return (scope.number, None)
        if isinstance(parent, exp.Tuple):  # Each has the type of its own column.
            return (scope.number, id(node))
        if id(parent) not in self._places:
            is_small = sum(1 for _ in islice(parent.walk(), MAX_COMPARED + 1)) <= MAX_COMPARED
            self._places[id(parent)] = parent.sql(dialect="sqlite", comments=False) if is_small else str(id(parent))
        return (scope.number, type(parent).__name__, self._places[id(parent)])

    def column(self, node: exp.Column, scope: Scope) -> Fragment:
        only(node, "this", "table")
        if not isinstance(node.this, exp.Identifier):
            raise Refused("a star stands for columns in SELECT and COUNT only")
        found = self.find(node, scope)
        if found is not None:
            return found
        if node.this.args.get("quoted") and not node.table and self.is_text(node, scope):
            return fragments.text(node.name, self.place(node, scope))
        shown = ".".join(part for part in (node.table, node.name) if part)[:80]
        raise Refused(f"no such column: {shown}{self.hint(node, scope)}")

    def hint(self, node: exp.Column, scope: Scope | None) -> str:
        """Return which column may be meant by one that is not there, as the database spells it."""
        sources = []
        while scope is not None:
            sources += scope.sources
            scope = scope.outer
        named = [source for source in sources if source.name.lower() == node.table.lower()] or sources
        if found := nearest(node.name, (output.name for source in named for output in source.outputs if output.name)):
            return f"; did you mean {' or '.join(found)}?"
        others = {column: table for table, columns in self.tables.items() for column in columns}
        if found := nearest(node.name, others, 1):
            return f"; {found[0]} is a column of {others[found[0]]}, which stands in no FROM"
        return ""

    def find(self, node: exp.Column, scope: Scope | None) -> Fragment | None:
        """Return the column that a name means: of the innermost query that has one, of its aliases otherwise."""
        qualifier, name = node.table, node.name
        while scope is not None:
            is_alias = not qualifier and name.lower() in scope.aliases
            if is_alias and scope.prefers_aliases and name.lower() not in scope.keys:
                return self.expression(scope.aliases[name.lower()], replace(scope, aliases={}))
            found = scope.column(qualifier, name)
            if found is not None:
                return found
            if qualifier and any(source.name.lower() == qualifier.lower() for source in scope.sources):
                return None
            if is_alias:
                # Written out: not every engine takes an alias in WHERE and HAVING.
                return self.expression(scope.aliases[name.lower()], replace(scope, aliases={}))
            scope = scope.outer
        return None

    def is_text(self, node: exp.Column, scope: Scope) -> bool:
        """Say whether a name in double quotes is a text: no column, and compared with one.

        SQLite reads "name" as a text wherever there is no such column, and text-to-SQL data is written so. What
        stands against a column in a comparison is a text; anything else is a name, and has to exist.
        """
        others = compared_with(node)
        if not others:
            return False
        predicate = others[0].parent
        if id(predicate) not in self._with_column:
            columns = (c for c in predicate.find_all(exp.Column) if isinstance(c.this, exp.Identifier))
            self._with_column[id(predicate)] = any(self.find(column, scope) is not None for column in columns)
        return self._with_column[id(predicate)]
