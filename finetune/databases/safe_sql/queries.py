"""Queries written anew: SELECT, set operations, order and limits."""

from dataclasses import replace

from finetune.databases.safe_sql import Refused, fragments
from finetune.databases.safe_sql.fragments import Fragment, comma_separated, write
from finetune.databases.safe_sql.scopes import Output, Relation, Scope, Source, named
from finetune.databases.safe_sql.sources import Query, Sources
from finetune.databases.safe_sql.writing import only

from sqlglot import exp

MAX_NESTING = 6
MAX_TEXTS = 2  # GROUP_CONCAT over joins: PostgreSQL takes up to a gigabyte for each, whatever its limits
MOST_ROWS = str(2**63 - 1)
SET_OPERATIONS = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}


class Writer(Sources):
    """Writes one query for one engine; see `Sources`."""

    def statement(self, tree: exp.Expression) -> Query:
        """Return the whole query.

        Raises:
            Refused: see `safety.make_safe`.
        """
        query = self.query(tree, None, {}, depth=1)
        if self.engine == "postgresql" and self.texts > MAX_TEXTS and self.read > 1:
            raise Refused(f"the query has more than {MAX_TEXTS} GROUP_CONCAT over several tables")
        return query

    def expression(self, node: exp.Expression | None, scope: Scope) -> Fragment:
        """Return an expression as it will be sent, subqueries among them."""
        return self.subquery(node, scope) if type(node) is exp.Subquery else super().expression(node, scope)

    def subquery(self, node: exp.Expression, scope: Scope) -> Fragment:
        """Return a query in parentheses, which sees the names of the query around it."""
        return write("(", self.query(node, scope, scope.relations, scope.depth + 1).body, ")")

    def query(self, node: exp.Expression, outer: Scope | None, relations: dict[str, Relation], depth: int) -> Query:
        """Return a query of any kind.

        Args:
            outer: whose names it sees.
            relations: WITH entries that it sees.
            depth: of its nesting, 1 for the outermost.
        """
        if depth > MAX_NESTING:
            raise Refused(f"the query is nested more than {MAX_NESTING} deep")
        while type(node) in (exp.Subquery, exp.Paren):
            only(node, "this")
            node = node.this
        if type(node) is exp.Select:
            return self.select(node, outer, relations, depth)
        if type(node) in SET_OPERATIONS:
            return self.set_operation(node, outer, relations, depth)
        raise Refused(f"the syntax {getattr(node, 'key', node)} is not allowed as a query")

    def select(self, node: exp.Select, outer: Scope | None, relations: dict[str, Relation], depth: int) -> Query:
        only(node, "with_", "expressions", "distinct", "from_", "joins", "where", "group", "having", "order", "limit",
             "offset")  # fmt: skip
        with_, relations = self.with_(node.args.get("with_"), outer, relations, depth)
        self.scopes += 1
        scope = Scope(outer, relations, self.scopes, depth)
        parts = [with_, "SELECT", "DISTINCT" if node.args.get("distinct") else None]
        if node.args.get("distinct"):
            only(node.args["distinct"])
        source = self.from_(node, scope)
        projections, outputs = self.projections(node.expressions, scope)
        parts += [projections, *(("FROM", source) if source else ())]
        scope.aliases = {p.alias.lower(): p.this for p in node.expressions if isinstance(p, exp.Alias)}
        where, group, having = (node.args.get(name) for name in ("where", "group", "having"))
        if where:
            only(where, "this")
            parts += ["WHERE", self.expression(where.this, scope)]
        if group:
            only(group, "expressions")
            parts += ["GROUP BY", comma_separated([self.group_key(key, scope, outputs) for key in group.expressions])]
            scope.keys = frozenset(key.name.lower() for key in group.expressions)
        if having:
            only(having, "this")
            inner = replace(scope, prefers_aliases=self.engine in ("mysql", "duckdb"))
            parts += ["HAVING", self.expression(having.this, inner)]
        if node.args.get("order"):
            parts += ["ORDER BY", self.order(node.args["order"], scope, outputs)]
        limits = self.limits(node)
        is_simple = not (with_ or limits or node.args.get("order"))
        return Query(write(*parts, *limits), outputs, is_simple)

    # SELECT

    def projections(self, nodes: list[exp.Expression], scope: Scope) -> tuple[Fragment, list[Output]]:
        """Return the SELECT list with a generated alias for each column, and the columns."""
        written, outputs = [], []
        for node in nodes:
            for name, heading, value in self.projected(node, scope):
                alias = self.alias("c")
                written.append(write(value, "AS", alias))
                source = node.unalias().sql(dialect="sqlite", comments=False)
                outputs.append(Output(name, heading, alias, max(value.size, 1), max(value.text, 1), value, source))
        if not written:
            raise Refused("a query without columns is not allowed")
        return comma_separated(written), outputs

    def projected(self, node: exp.Expression, scope: Scope) -> list[tuple[str | None, str, Fragment]]:
        """Return (name, heading, expression) of one entry of SELECT; a star stands for several."""
        star = node.this if type(node) is exp.Column else node
        if type(star) is exp.Star:
            only(star)
            only(node, "this", "table")
            return self.star(node.args.get("table"), scope)
        if type(node) is exp.Alias:
            only(node, "this", "alias")
            return [(node.alias, node.alias, self.expression(node.this, scope))]
        value = self.expression(node, scope)
        if type(node) is not exp.Column:
            return [(None, node.sql(dialect="sqlite", comments=False), value)]
        return [(node.name, self.heading(value, node.name), value)]

    def star(self, qualifier: exp.Identifier | None, scope: Scope) -> list[tuple[str | None, str, Fragment]]:
        if qualifier is not None:
            sources = [source for source in scope.sources if source.name.lower() == qualifier.name.lower()]
            if len(sources) != 1:
                raise Refused(f"{qualifier.name[:80]}.* names {len(sources)} tables of FROM")
            return [(o.name, o.heading, sources[0].column(o)) for o in sources[0].outputs]
        if not scope.sources:
            raise Refused("a star without FROM is not allowed")
        merged = dict(scope.merged)
        found: list[tuple[str | None, str, Fragment]] = []
        if self.engine in ("postgresql", "mysql"):  # SQLite and DuckDB show them where the first table has them.
            found = [(name, self.heading(merged.pop(name), name), scope.merged[name]) for name in scope.merged]
        for source in scope.sources:
            for output in source.outputs:
                name = (output.name or "").lower()
                if (id(source), name) not in scope.hidden:
                    found.append((output.name, output.heading, source.column(output)))
                elif name in merged:
                    found.append((output.name, output.heading, merged.pop(name)))
        return found

    @staticmethod
    def heading(value: Fragment, name: str) -> str:
        """Return a column's name as the database spells it; that of the query for a column of a subquery."""
        last = value.tokens[-1]
        return last.text if last.kind == "name" else name

    def group_key(self, node: exp.Expression, scope: Scope, outputs: list[Output]) -> Fragment:
        """Return a key of GROUP BY: a column of the sources before an alias of the SELECT list."""
        if type(node) is exp.Column and not node.table and isinstance(node.this, exp.Identifier):
            aliased = [output for output in named(outputs, node.name) if (output.name or "").lower() in scope.aliases]
            if aliased and scope.column("", node.name) is None:
                return aliased[0].written
        key = self.expression(node, scope)
        # Not every engine groups by a parameter, or knows the expression of SELECT by it.
        same = [output.written for output in outputs if output.value and output.value.tokens == key.tokens]
        return same[0] if same and any(token.kind == "text" for token in key.tokens) else key

    def order(self, node: exp.Order, scope: Scope | None, outputs: list[Output] | None = None) -> Fragment:
        """Return the terms of an ORDER BY.

        Args:
            scope: whose names the terms use; None behind a set operation, which has the names of its result only.
            outputs: the columns of the result: a name means one of these first, a number always.
        """
        only(node, "this", "expressions")
        terms = []
        for term in node.expressions:
            if type(term) is not exp.Ordered:
                raise Refused(f"the syntax {term.key} in ORDER BY is not allowed")
            only(term, "this", "desc", "nulls_first")
            key = self.output_of(term.this, outputs or [], has_scope=scope is not None)
            if key is None:
                assert scope is not None  # output_of has refused it otherwise.
                key = self.expression(term.this, scope)
            terms.append(self.ordered(key, term))
        return comma_separated(terms)

    def output_of(self, key: exp.Expression, outputs: list[Output], has_scope: bool) -> Fragment | None:
        """Return the column of the result that a term of ORDER BY means: by its number, its name, or its expression."""
        if outputs and isinstance(key, exp.Literal) and key.is_int:
            if not 1 <= int(key.name) <= len(outputs):
                raise Refused(f"ORDER BY {key.name[:20]}: the result has {len(outputs)} columns")
            return outputs[int(key.name) - 1].written
        is_name = type(key) is exp.Column and isinstance(key.this, exp.Identifier) and not (has_scope and key.table)
        found = named(outputs, key.name) if is_name else []
        if not has_scope:
            found = found or [
                output for output in outputs if output.source == key.sql(dialect="sqlite", comments=False)
            ]
            if not found:
                raise Refused("ORDER BY after a set operation takes a column of the result or its number")
        return found[0].written if found else None

    def limits(self, node: exp.Query) -> list[str | Fragment]:
        parts: list[str | Fragment] = []
        for name in ("limit", "offset"):
            clause = node.args.get(name)
            if clause is None:
                continue
            count = clause.args.get("expression")
            if type(clause) not in (exp.Limit, exp.Offset) or not isinstance(count, exp.Literal) or not count.is_int:
                raise Refused(f"{name.upper()} takes a whole number")
            only(clause, "expression")
            if name == "offset" and not parts and self.engine in ("sqlite", "mysql"):
                parts += ["LIMIT", fragments.number(MOST_ROWS)]  # They take OFFSET behind LIMIT only.
            parts += [name.upper(), fragments.number(count.name)]
        return parts

    # UNION, EXCEPT, INTERSECT

    def set_operation(
        self, node: exp.SetOperation, outer: Scope | None, relations: dict[str, Relation], depth: int
    ) -> Query:
        only(node, "with_", "this", "expression", "distinct", "order", "limit", "offset")
        with_, relations = self.with_(node.args.get("with_"), outer, relations, depth)
        left = self.operand(node.this, node, outer, relations, depth)
        right = self.operand(node.expression, None, outer, relations, depth)
        every = "ALL" if node.args.get("distinct") is False else None
        parts = [with_, left.body, SET_OPERATIONS[type(node)], every, right.body]
        if node.args.get("order"):
            parts += ["ORDER BY", self.order(node.args["order"], None, left.outputs)]
        limits = self.limits(node)
        is_simple = not (with_ or limits or node.args.get("order"))
        return Query(write(*parts, *limits), left.outputs, is_simple)

    def operand(
        self, node: exp.Expression, parent: exp.SetOperation | None, outer: Scope | None, relations, depth: int
    ) -> Query:
        """Return one side of a set operation; SQLite takes no parentheses there, so a subquery stands for them.

        Args:
            parent: the operation, where the operand is its left side and may be such an operation itself.
        """
        while type(node) in (exp.Subquery, exp.Paren):
            only(node, "this")
            node = node.this
        # INTERSECT binds more tightly, but not in SQLite.
        is_flat = type(node) is exp.Select or (
            parent is not None and isinstance(node, exp.SetOperation)
            and isinstance(node, exp.Intersect) == isinstance(parent, exp.Intersect)
        )  # fmt: skip
        query = self.query(node, outer, relations, depth)
        if is_flat and query.is_simple:
            return query
        alias = self.alias("t")
        source = Source("", alias, query.outputs)
        written, outputs = [], []
        for output in query.outputs:
            column = self.alias("c")
            written.append(write(source.column(output), "AS", column))
            outputs.append(replace(output, written=column))
        body = write("SELECT", comma_separated(written), "FROM (", query.body, ") AS", alias)
        return Query(body, outputs, is_simple=True)
