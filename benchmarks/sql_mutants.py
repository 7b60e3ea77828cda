"""Small errors in a query, and the same query in other words: what a score has to tell apart."""

from random import Random

from metrics.sql_execution.queries import Resolver

from sqlglot import exp

AGGREGATES = (exp.Max, exp.Min, exp.Sum, exp.Avg)
SWAPPED = {exp.GT: (exp.GTE, exp.LT), exp.GTE: (exp.GT, exp.LTE), exp.LT: (exp.LTE, exp.GT),
           exp.LTE: (exp.LT, exp.GTE), exp.EQ: (exp.NEQ,), exp.NEQ: (exp.EQ,)}  # fmt: skip
MIRROR = {exp.EQ: exp.EQ, exp.NEQ: exp.NEQ, exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE}


def edits(tree: exp.Query, change) -> list[str]:
    """Return the queries that `change(copied node)` makes, one for each node it changes."""
    found = []
    for index in range(sum(1 for _ in tree.walk())):
        copy = tree.copy()
        node = next(node for i, node in enumerate(copy.walk()) if i == index)
        for replacement in change(node):
            other = tree.copy()
            target = next(node for i, node in enumerate(other.walk()) if i == index)
            if target is other:
                found.append(replacement.sql("sqlite"))
            else:
                target.replace(replacement)
                found.append(other.sql("sqlite"))
    return found


class Mutator:
    """Small errors in one query. None of them leaves the result the same on all data without NULLs,

    but for what `decided` leaves out: the extremes of a column that the condition itself bounds.
    """

    def __init__(self, tree: exp.Query, resolver: Resolver, random: Random):
        self.tree, self.resolver, self.random = tree, resolver, random

    def all(self) -> dict[str, list[str]]:
        """Return the mutants by kind."""
        kinds = {
            "comparison": self.comparison,
            "literal": self.literal,
            "dropped condition": self.dropped_condition,
            "and/or": self.connective,
            "column": self.column,
            "aggregate": self.aggregate,
            "order": self.order,
            "limit": self.limit,
            "distinct": self.distinct,
            "join": self.join,
            "clause": self.clause,
            "inner join": self.inner_join,
            "dropped join": self.dropped_join,
            "= for LIKE": self.like,
            "CASE literal": self.case_literal,
            "HAVING number": self.having,
        }
        original = self.tree.sql("sqlite")
        return {kind: sorted({sql for sql in edits(self.tree, change)} - {original}) for kind, change in kinds.items()}

    def with_nulls(self) -> list[str]:
        """Return the errors that show on NULLs alone: COUNT of a column, NOT IN without its NULLs, a comparison."""

        def change(node):
            if isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
                yield from (exp.Count(this=column) for column in self.nullable(node.parent_select))
            if isinstance(node, exp.Count) and isinstance(node.this, exp.Column) and self.may_be_null(node.this):
                yield exp.Count(this=exp.Star())

        return sorted(set(edits(self.tree, change)) - {self.tree.sql("sqlite")})

    def nullable(self, select) -> list[exp.Column]:
        """Return a column that the schema lets be NULL of a Select that reads one table."""
        tables = list(select.find_all(exp.Table))
        table = self.resolver.schema.get(tables[0].name.lower()) if len(tables) == 1 else None
        bound = {c.name.lower() for c in select.find_all(exp.Column)}
        names = [n for n in table.columns if n not in table.required | bound] if table else []
        return [exp.column(exp.to_identifier(names[0], quoted=True))] if names else []

    def may_be_null(self, column) -> bool:
        """Say whether the schema lets a column be NULL, and no condition says otherwise."""
        same = [c for c in self.tree.find_all(exp.Column) if c.name.lower() == column.name.lower()]
        found = self.resolver.find(same[0]) if len(same) == 1 else None
        return found is not None and found[2] not in self.resolver.schema[found[1]].required

    def comparison(self, node):
        """Another operator."""
        if type(node) in SWAPPED and node.find_ancestor(exp.Where, exp.Having) and not self.decided(node):
            for kind in SWAPPED[type(node)]:
                yield kind(this=node.this.copy(), expression=node.expression.copy())

    def decided(self, node) -> bool:
        """Say whether the result is an extreme of the very column compared: MAX(a) is one for a > 5 and a >= 5."""
        columns = {column.name.lower() for column in node.find_all(exp.Column)}
        select = node.parent_select
        for extreme in select.find_all(exp.Max, exp.Min) if select else ():
            if {column.name.lower() for column in extreme.find_all(exp.Column)} & columns:
                return True
        order = select.args.get("order") if select else None
        return order is not None and bool({c.name.lower() for c in order.find_all(exp.Column)} & columns)

    def literal(self, node):
        """Another value."""
        if (
            not isinstance(node, exp.Literal)
            or not node.find_ancestor(exp.Where)
            or node.find_ancestor(exp.Limit)
            or self.decided_literal(node)
        ):
            return
        if node.is_string:
            yield exp.Literal.string(node.this + "s")
            yield exp.Literal.string("not " + node.this)
        else:
            yield exp.Literal.number(float(node.this) + 1 if "." in node.this else int(node.this) + 1)

    def decided_literal(self, node) -> bool:
        """Say whether the value bears on no comparison, or on one that `decided` leaves out."""
        predicate = node.find_ancestor(exp.Predicate)
        return predicate is None or (self.decided(predicate) and not isinstance(predicate, exp.EQ))

    def dropped_condition(self, node):
        """One side of AND or OR."""
        if isinstance(node, exp.And | exp.Or) and not self.redundant(node):
            yield node.this.copy()
            yield node.expression.copy()

    def redundant(self, node) -> bool:
        """Say whether two conditions bear on one column: one may imply the other."""
        names = [column.name.lower() for column in node.find_all(exp.Column)]
        return len(set(names)) < len(names)

    def connective(self, node):
        """AND for OR, and the other way round."""
        if isinstance(node, exp.And | exp.Or) and not self.redundant(node) and not node.find_ancestor(exp.Join):
            other = exp.Or if isinstance(node, exp.And) else exp.And
            yield other(this=node.this.copy(), expression=node.expression.copy())

    def column(self, node):
        """Another column of the same table, except where only the number of rows counts."""
        if not isinstance(node, exp.Column) or isinstance(node.parent, exp.Count):
            return
        # The resolver knows the tree it was made from.
        originals = [c for c in self.tree.find_all(exp.Column) if c.sql() == node.sql()]
        found = self.resolver.find(originals[0]) if originals else None
        if found is None or node.find_ancestor(exp.Join):
            return
        names = [name for name in self.resolver.schema[found[1]].columns if name != found[2]]
        if names:
            quoted = exp.to_identifier(self.random.choice(names), quoted=True)
            yield exp.Column(this=quoted, table=node.args.get("table") and node.args["table"].copy())

    def aggregate(self, node):
        """Another aggregate, or DISTINCT."""
        group = node.parent_select.args.get("group") if isinstance(node, exp.AggFunc) else None
        if group and self.holds_key(group.expressions):
            return  # One row a group.
        if isinstance(node, AGGREGATES):
            for kind in AGGREGATES:
                if not isinstance(node, kind):
                    yield kind(this=node.this.copy())
            yield exp.Count(this=node.this.copy())
        elif isinstance(node, exp.Count) and not node.find_ancestor(exp.Having, exp.Order):
            if isinstance(node.this, exp.Distinct):
                yield exp.Count(this=node.this.expressions[0].copy())
            elif isinstance(node.this, exp.Column):
                yield exp.Count(this=exp.Distinct(expressions=[node.this.copy()]))
                yield node.this.copy()

    def order(self, node):
        """The other direction."""
        if isinstance(node, exp.Ordered) and not self.one_row(node):
            yield exp.Ordered(this=node.this.copy(), desc=not node.args.get("desc"))

    def limit(self, node):
        """One row more."""
        if isinstance(node, exp.Limit) and isinstance(node.expression, exp.Literal) and not self.one_row(node):
            yield exp.Limit(expression=exp.Literal.number(int(node.expression.this) + 1))

    def one_row(self, node) -> bool:
        """Say whether ORDER BY and LIMIT decide nothing: one row in all, or a subquery that stands for one value."""
        select = node.parent_select
        aggregated = any(projection.find(exp.AggFunc) for projection in select.expressions)
        scalar = isinstance(select.parent, exp.Subquery) and isinstance(node, exp.Limit)
        return scalar or (aggregated and not select.args.get("group"))

    def distinct(self, node):
        """DISTINCT put in or left out."""
        if isinstance(node, exp.Select) and not node.args.get("group") and node.find_ancestor(exp.Select) is None:
            if isinstance(node.parent, exp.SetOperation) or node.find(exp.Limit):
                return
            copy = node.copy()
            if self.holds_key(node.expressions):
                return  # No row repeats.
            if node.args.get("distinct"):
                copy.set("distinct", None)
                yield copy
            elif not any(isinstance(p, exp.AggFunc) for p in node.expressions):
                yield copy.distinct()

    def join(self, node):
        """LEFT JOIN for JOIN."""
        if isinstance(node, exp.Join) and node.args.get("on") is not None and not node.side:
            copy = node.copy()
            copy.set("side", "LEFT")
            # A condition or a join on the other table undoes a LEFT JOIN; a row without a partner seldom comes first.
            if not self.tree.find(exp.Where, exp.Having, exp.Limit) and len(list(self.tree.find_all(exp.Join))) == 1:
                if self.has_parent(node):
                    return
                yield copy

    def has_parent(self, join) -> bool:
        """Say whether a declared key gives every row its partner, so that LEFT changes nothing."""
        for equal in join.args["on"].find_all(exp.EQ):
            sides = [self.found(side) for side in (equal.this, equal.expression)]
            if all(sides):
                one, two = (side[1:] for side in sides)
                schema = self.resolver.schema
                if schema[one[0]].references.get(one[1]) == two or schema[two[0]].references.get(two[1]) == one:
                    return True
        return False

    def found(self, column):
        """Return what the resolver finds of a column of a copied tree."""
        same = [c for c in self.tree.find_all(exp.Column) if c.sql() == column.sql()]
        return self.resolver.find(same[0]) if same else None

    def holds_key(self, expressions) -> bool:
        """Say whether some expressions hold a declared key of the only table."""
        tables = [table for table in self.tree.find_all(exp.Table) if table.parent_select is self.tree]
        names = {column.name.lower() for e in expressions for column in e.find_all(exp.Column)}
        joined = {self.resolver.schema[t.name.lower()].name for t in tables if t.name.lower() in self.resolver.schema}
        held = [any(set(key) <= names for key in self.resolver.schema[name].unique) for name in sorted(joined)]
        joins = [join for join in self.tree.args.get("joins") or [] if join.args.get("on")]
        return all(held) or (any(held) and len(joins) == len(tables) - 1 and all(map(self.has_parent, joins)))

    def inner_join(self, node):
        """JOIN for LEFT JOIN."""
        if isinstance(node, exp.Join) and node.side == "LEFT":
            copy = node.copy()
            copy.set("side", None)
            yield copy

    def dropped_join(self, node):
        """The last join left out, where nothing else reads its table and it is no parent."""
        if isinstance(node, exp.Select) and node.args.get("joins") and node.args["joins"][-1].args.get("on"):
            join = node.args["joins"][-1]
            alias = join.this.alias_or_name.lower()
            uses = sum(column.table.lower() == alias for column in node.find_all(exp.Column))
            inside = sum(column.table.lower() == alias for column in join.find_all(exp.Column))
            bare = any(not column.table for column in node.find_all(exp.Column))
            if uses == inside and not bare and not join.side and not self.has_parent(join):
                copy = node.copy()
                copy.set("joins", copy.args["joins"][:-1])
                yield copy

    def like(self, node):
        """= for LIKE."""
        if isinstance(node, exp.Like) and isinstance(node.expression, exp.Literal) and "%" in node.expression.this:
            equal = exp.NEQ if node.args.get("negate") else exp.EQ
            yield equal(this=node.this.copy(), expression=node.expression.copy())

    def case_literal(self, node):
        """Another value in CASE or IIF."""
        if isinstance(node, exp.Literal) and node.find_ancestor(exp.Case, exp.If):
            yield exp.Literal.string(node.this + "s") if node.is_string else exp.Literal.number(float(node.this) + 1)

    def having(self, node):
        """One more in HAVING."""
        if isinstance(node, exp.Literal) and node.find_ancestor(exp.Having) and not node.is_string:
            if node.find_ancestor(exp.Having).find(exp.Max, exp.Min):
                return
            yield exp.Literal.number(int(float(node.this)) + 1)

    def clause(self, node):
        """No WHERE, no HAVING, no GROUP BY."""
        if isinstance(node, exp.Select) and node.find_ancestor(exp.Select) is None:
            for name in ("where", "having", "group"):
                if name == "having" and node.args.get(name) and node.args[name].sql() == "HAVING COUNT(*) >= 1":
                    continue  # As every group.
                if node.args.get(name) and not (name == "group" and node.args.get("having")):
                    copy = node.copy()
                    copy.set(name, None)
                    yield copy


class Rewriter:
    """The same query in other words."""

    def __init__(self, tree: exp.Query, resolver: Resolver):
        self.tree, self.resolver = tree, resolver

    def all(self) -> dict[str, list[str]]:
        """Return the rewrites by kind."""
        original = self.tree.sql("sqlite")
        found = {kind: edits(self.tree, getattr(self, kind)) for kind in ("flipped", "negated", "between", "operands")}
        lower = original.lower() if not self.tree.find(exp.Literal) else original + " ;"
        commented = original.replace("SELECT ", "select  ", 1) + " -- done"
        found["style"] = [lower, self.tree.sql("sqlite", pretty=True), commented]
        found["quoted text"] = [self.double_quoted()]
        found["quoted names"] = [self.quoted_names()]
        if isinstance(self.tree, exp.Select) and not self.tree.args.get("order"):
            found["derived table"] = [
                f"SELECT * FROM ({original})",
                f"WITH answer AS ({original}) SELECT * FROM answer",
            ]
        found["alias"] = self.aliased()
        found["count"] = edits(self.tree, self.counted)
        return {kind: sorted(set(sqls) - {original}) for kind, sqls in found.items()}

    def flipped(self, node):
        """5 < a for a > 5."""
        if type(node) in MIRROR and not isinstance(node.parent, exp.Not):
            yield MIRROR[type(node)](this=node.expression.copy(), expression=node.this.copy())

    def negated(self, node):
        """NOT a <= 5 for a > 5."""
        opposite = {
            exp.GT: exp.LTE,
            exp.LTE: exp.GT,
            exp.LT: exp.GTE,
            exp.GTE: exp.LT,
            exp.EQ: exp.NEQ,
            exp.NEQ: exp.EQ,
        }
        if type(node) in opposite and node.find_ancestor(exp.Where):
            inner = opposite[type(node)](this=node.this.copy(), expression=node.expression.copy())
            yield exp.Not(this=exp.Paren(this=inner))

    def between(self, node):
        """BETWEEN as two comparisons, = as IN."""
        if isinstance(node, exp.Between):
            low = exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())
            high = exp.LTE(this=node.this.copy(), expression=node.args["high"].copy())
            yield exp.Paren(this=exp.And(this=low, expression=high))
        elif isinstance(node, exp.EQ) and isinstance(node.expression, exp.Literal):
            yield exp.In(this=node.this.copy(), expressions=[node.expression.copy()])

    def operands(self, node):
        """b AND a for a AND b."""
        if isinstance(node, exp.And | exp.Or):
            yield exp.Paren(this=type(node)(this=node.expression.copy(), expression=node.this.copy()))

    def counted(self, node):
        """COUNT(*) for COUNT(a), which is the same without NULLs."""
        if isinstance(node, exp.Count) and isinstance(node.this, exp.Column):
            yield exp.Count(this=exp.Star())
        elif isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
            yield exp.Count(this=exp.Literal.number(1))

    def double_quoted(self) -> str:
        """Literals in double quotes."""

        def change(node):
            if isinstance(node, exp.Literal) and node.is_string and '"' not in node.this:
                return exp.column(exp.to_identifier(node.this, quoted=True))
            return node

        return self.tree.transform(change).sql("sqlite")

    def quoted_names(self) -> str:
        """Names in double quotes."""

        def change(node):
            if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier):
                node.this.set("quoted", True)
            return node

        return self.tree.transform(change).sql("sqlite")

    def aliased(self) -> list[str]:
        """The table under an alias."""
        if not isinstance(self.tree, exp.Select) or len(list(self.tree.find_all(exp.Table))) != 1:
            return []
        copy = self.tree.copy()
        table = copy.find(exp.Table)
        if table.alias:
            return []
        for column in copy.find_all(exp.Column):
            column.set("table", exp.to_identifier("t0"))
        table.set("alias", exp.TableAlias(this=exp.to_identifier("t0")))
        return [copy.sql("sqlite")]
