"""Small errors in a gold query: databases that tell it from them tell it from a model's errors too."""

from collections.abc import Iterator
from random import Random

from sqlglot import exp

MOST, MOST_NODES = 16, 4_000  # mutants of one query; nodes of all of them together
NEIGHBOURS = {exp.GT: exp.GTE, exp.GTE: exp.GT, exp.LT: exp.LTE, exp.LTE: exp.LT, exp.Like: exp.EQ}

OTHERS = {exp.Max: exp.Min, exp.Min: exp.Max, exp.Sum: exp.Avg, exp.Avg: exp.Sum}


def mutants(tree: exp.Query, random: Random) -> list[str]:
    """Return some queries with one small error each, as SQLite's SQL."""
    nodes = list(tree.walk())
    changes = [(node, change) for node in nodes for change in _changes(node)]
    most = min(MOST, MOST_NODES // len(nodes))
    chosen = changes if len(changes) <= most else random.sample(changes, most)
    found = []
    for node, change in chosen:
        copy = change(node)
        if node is tree:
            found.append(copy.sql("sqlite", comments=False))
            continue
        node.replace(copy)
        found.append(tree.sql("sqlite", comments=False))
        copy.replace(node)
    return list(dict.fromkeys(found))


def _changes(node: exp.Expression) -> Iterator:
    """Yield functions that make another node of one."""
    kind = type(node)
    if kind in NEIGHBOURS:
        neighbour = exp.NEQ if node.args.get("negate") else NEIGHBOURS[kind]  # NOT LIKE is a LIKE that says so.
        yield lambda node: neighbour(this=node.this.copy(), expression=node.expression.copy())
    elif kind in (exp.And, exp.Or):
        yield lambda node: node.this.copy()
        yield lambda node: node.expression.copy()
    elif kind is exp.Literal and not node.is_string and node.find_ancestor(exp.Having, exp.Case, exp.If, exp.Where):
        yield lambda node: exp.Literal.number(float(node.this) + 1 if "." in node.this else int(float(node.this)) + 1)
    elif kind is exp.Literal and node.find_ancestor(exp.Case, exp.If):
        yield lambda node: exp.Literal.string(node.this + "s")
    elif kind is exp.Join and node.side == "LEFT":
        yield _inner
    elif kind is exp.Join and not node.side and not node.kind and node.args.get("on") is not None:
        yield _left
    elif kind is exp.Select and node.args.get("joins") and node.args.get("from_"):
        yield _without_last_join
    elif kind in (exp.Max, exp.Min, exp.Sum, exp.Avg):
        yield lambda node: OTHERS[type(node)](this=node.this.copy())
    if kind is exp.Select and node.parent is None and not node.args.get("group") and not node.args.get("limit"):
        yield _distinct


def _left(join: exp.Join) -> exp.Join:
    copy = join.copy()
    copy.set("side", "LEFT")
    return copy


def _inner(join: exp.Join) -> exp.Join:
    copy = join.copy()
    copy.set("side", None)
    return copy


def _without_last_join(select: exp.Select) -> exp.Select:
    copy = select.copy()
    copy.set("joins", copy.args["joins"][:-1])
    return copy


def _distinct(select: exp.Select) -> exp.Select:
    copy = select.copy()
    copy.set("distinct", None if copy.args.get("distinct") else exp.Distinct())
    return copy
