"""WITH, FROM and joins written anew: each table looked up, each source with a generated alias."""

import re
from dataclasses import dataclass, replace

from finetune.databases.safe_sql import Refused, fragments
from finetune.databases.safe_sql.expressions import Expressions
from finetune.databases.safe_sql.fragments import Fragment, write
from finetune.databases.safe_sql.scopes import Output, Relation, Scope, Source, find_table, named
from finetune.databases.safe_sql.writing import only
from finetune.databases.schema.words import nearest

from sqlglot import exp

MAX_SOURCES = 12  # tables named in all FROM clauses together
MAX_READ = 24  # tables read, those of a WITH entry counted at each reference
MAX_SHOWN = 20  # tables in an error
SIDES = ("LEFT", "RIGHT", "FULL")
JOINS = ("", "INNER", "OUTER", "CROSS", "STRAIGHT_JOIN")  # The last is MySQL's INNER JOIN in a fixed order.


@dataclass
class Query:
    """A query as it will be sent.

    Attributes:
        is_simple: it can stand beside UNION as it is, without WITH, ORDER BY and LIMIT.
    """

    body: Fragment
    outputs: list[Output]
    is_simple: bool


class Sources(Expressions):
    """Writes where a query's rows come from.

    Args:
        tables: columns of each table that may be read, in the database's spelling.
        schema: what stands before a table's name, such as `("public",)`.
    """

    def __init__(self, engine: str, tables: dict[str, list[str]], schema: tuple[str, ...]):
        super().__init__(engine)
        self.tables, self.schema = tables, schema
        self.aliases = self.scopes = self.sources = self.read = 0
        # A generated alias is no name of the database: `GROUP BY c1` could mean a column.
        names = [name.lower() for table, columns in tables.items() for name in (table, *columns)]
        self.suffix = ""
        while any(re.fullmatch(rf"[tcw]{self.suffix}[0-9]+", name) for name in names):
            self.suffix += "_"

    def alias(self, letter: str) -> Fragment:
        """Return a new alias: t for an entry of FROM, c for a column, w for an entry of WITH."""
        self.aliases += 1
        return fragments.alias(f"{letter}{self.suffix}{self.aliases}")

    def query(self, node: exp.Expression, outer: Scope | None, relations: dict[str, Relation], depth: int) -> Query:
        """Return a query of any kind; see queries.py."""
        raise NotImplementedError

    def with_(self, node: exp.With | None, outer: Scope | None, relations: dict[str, Relation], depth: int):
        """Return the WITH clause, if there is one, and the entries that its query sees; each sees those before it."""
        if node is None:
            return None, relations
        only(node, "expressions")
        relations, seen = dict(relations), set()
        parts: list[str | Fragment] = []
        for entry in node.expressions:
            only(entry, "this", "alias")
            name, before = entry.alias.lower(), self.read
            if name in seen:
                raise Refused(f"WITH names {name[:80]} twice")
            seen.add(name)
            query = self.query(entry.this, outer, relations, depth + 1)
            written = self.alias("w")
            parts += [",", written, "AS (", query.body, ")"]
            outputs = self.renamed(query.outputs, entry.args["alias"])
            relations[name] = Relation(written, outputs, query.body.size, self.read - before)
        return write("WITH", *parts[1:]), relations

    def renamed(self, outputs: list[Output], alias: exp.Expression | None) -> list[Output]:
        """Return columns under the names that `AS t(a, b)` gives them, by position."""
        if alias is None:
            return outputs
        only(alias, "this", "columns")
        names = [column.name for column in alias.args.get("columns") or []]
        if len(names) > len(outputs):
            raise Refused(f"{len(names)} names are given to {len(outputs)} columns")
        given = [replace(o, name=name, heading=name) for o, name in zip(outputs, names, strict=False)]
        return given + outputs[len(given) :]

    def from_(self, node: exp.Select, scope: Scope) -> Fragment | None:
        from_, joins = node.args.get("from_"), node.args.get("joins") or []
        if from_ is None:
            if joins:
                raise Refused("a join without FROM is not allowed")
            return None
        only(from_, "this")
        return self.joined(from_.this, joins, scope)

    def joined(self, first: exp.Expression, joins: list[exp.Join], scope: Scope) -> Fragment:
        written = self.entry(first, scope)
        for join in joins:
            written = write(written, self.join(join, scope))
        return written

    def entry(self, node: exp.Expression, scope: Scope) -> Fragment:
        """Return one entry of FROM and put it among the sources of the scope."""
        if type(node) is exp.Table:
            only(node, "this", "alias", "joins")
            written = self.table(node, scope)
            return self.grouped(written, node, scope)
        if (
            type(node) in (exp.Subquery, exp.Paren)
            and type(node.this) in (exp.Table, exp.Subquery, exp.Paren)
            and not node.alias
        ):
            only(node, "this", "joins")
            return self.grouped(self.entry(node.this, scope), node, scope)
        if type(node) is not exp.Subquery:
            raise Refused(f"the syntax {getattr(node, 'key', node)} in FROM is not allowed")
        only(node, "this", "alias", "joins")
        query = self.query(node.this, scope.outer, scope.relations, scope.depth + 1)
        alias = self.alias("t")
        scope.sources.append(Source(node.alias, alias, self.renamed(query.outputs, node.args.get("alias"))))
        return self.grouped(write("(", query.body, ") AS", alias), node, scope)

    def grouped(self, written: Fragment, node: exp.Expression, scope: Scope) -> Fragment:
        """Return an entry with the joins that stand with it in parentheses."""
        joins = node.args.get("joins")
        if not joins:
            return written
        return write("(", written, *(self.join(join, scope) for join in joins), ")")

    def table(self, node: exp.Table, scope: Scope) -> Fragment:
        if type(node.this) is not exp.Identifier:
            raise Refused(f"the syntax {getattr(node.this, 'key', node.this)} in FROM is not allowed")
        only(node.this, "this", "quoted")
        relation = scope.relations.get(node.name.lower()) or self.database_table(node.name)
        self.sources, self.read = self.sources + 1, self.read + relation.tables
        if self.sources > MAX_SOURCES:
            raise Refused(f"the query reads more than {MAX_SOURCES} tables at once")
        if self.read > MAX_READ:
            raise Refused(f"the query reads more than {MAX_READ} tables, those of WITH counted at each reference")
        alias = self.alias("t")
        outputs = self.renamed(relation.outputs, node.args.get("alias"))
        scope.sources.append(Source(node.alias or node.name, alias, outputs))
        return write(relation.written, "AS", alias, size=relation.size)

    def database_table(self, name: str) -> Relation:
        found = find_table(self.tables, name)
        if found is None:
            near = nearest(name, self.tables)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise Refused(f"the table {name[:80]} is not one of {_some(list(self.tables))}{hint}")
        parts = [part for each in (*self.schema, found) for part in (".", fragments.name(each))]
        return Relation(write(*parts[1:]), [Output(c, c, fragments.name(c)) for c in self.tables[found]])

    def join(self, node: exp.Join, scope: Scope) -> Fragment:
        """Return a join; USING and NATURAL become ON, and their columns one."""
        only(node, "this", "on", "side", "kind", "using", "method")
        side, kind, method = node.side.upper(), node.kind.upper(), node.method.upper()
        if (
            side not in ("", *SIDES)
            or kind not in JOINS
            or (kind == "OUTER" and not side)
            or method not in ("", "NATURAL")
        ):
            raise Refused(f"the join {' '.join(filter(None, (method, side, kind)))} is not allowed")
        left = scope.sources[:]
        right = self.entry(node.this, scope)
        added = scope.sources[len(left) :]
        using = [identifier.name for identifier in node.args.get("using") or []]
        if method:
            names = {o.name.lower() for source in left for o in source.outputs if o.name}
            using = [o.name for source in added for o in source.outputs if o.name and o.name.lower() in names]
        conditions = [self.merged(name, side, left, added, scope) for name in using]
        if node.args.get("on"):
            conditions.append(self.expression(node.args["on"], scope))
        if not conditions and not side:
            return write("CROSS JOIN", right)
        if not conditions:
            one = fragments.number("1")
            conditions = [write(one, "=", one)]
        on = [part for condition in conditions for part in ("AND", condition)]
        return write(f"{side or 'INNER'} JOIN", right, "ON", *on[1:])

    def merged(self, name: str, side: str, left: list[Source], right: list[Source], scope: Scope) -> Fragment:
        """Return the condition of a column of USING, and make the two columns one."""
        first = next((source for source in left if named(source.outputs, name)), None)  # as in SQLite
        other = Scope(None, {}, 0, 0, right).column("", name)
        if first is None or other is None:
            raise Refused(f"no such column on both sides of the join: {name[:80]}")
        own = scope.merged.get(name.lower(), first.column(named(first.outputs, name)[0]))
        scope.merged[name.lower()] = {
            "RIGHT": other, "FULL": write("COALESCE (", own, ",", other, ")"),
        }.get(side, own)  # fmt: skip
        scope.hidden |= {(id(source), name.lower()) for source in (first, *right)}
        return write(own, "=", other)


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_SHOWN]) + (f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else "")
