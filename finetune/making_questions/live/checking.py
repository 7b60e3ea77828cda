"""Whether a query of ours says something: its result, beside those of queries that it must differ from."""

from dataclasses import dataclass, field

from finetune.making_questions.live.answers import MAX_ROWS, Answers
from metrics.sql_execution.execution import same_result
from metrics.sql_execution.queries import is_ordered

import sqlglot
from sqlglot import exp

FAILED = "did not run or took too long"
EMPTY = "found nothing"
MISSING = "found only missing values"
LONG = f"found more than {MAX_ROWS:,} rows"
IDLE = "had a condition that every row meets"
GIVEN = "asked for what the question says"
TIED = "asked for the first of rows that are tied"


@dataclass
class Candidate:
    """A question with its query, and the queries that tell whether it is worth keeping.

    Attributes:
        others: queries whose rows must be others than those of `sql`, as those without its condition.
        gives: whether a column is asked for twice, or is asked for and given.
        ordered: whether the order of its rows counts.
        tie: a query that returns the values by which rows are ordered, one row more than `sql` takes.
    """

    shape: str
    question: str
    sql: str
    others: list[str] = field(default_factory=list)
    tie: str = ""
    gives: bool = False
    ordered: bool = False

    def __post_init__(self):
        tree = sqlglot.parse_one(self.sql, read="sqlite")
        self.others = [*self.others, *_without_condition(tree)]
        self.tie = _tie(tree)
        self.gives = _gives(tree)
        self.ordered = is_ordered(tree)

    @property
    def queries(self) -> list[str]:
        """All of its queries, in the order in which `verdict` takes their rows."""
        return [self.sql, *self.others, *([self.tie] if self.tie else [])]


def _gives(tree: exp.Expression) -> bool:
    """Say whether a query asks for a column twice, or for one that its condition gives a value."""
    asked = [column.sql() for column in tree.expressions if isinstance(column, exp.Column)]
    where = tree.args.get("where")
    given = {equal.this.sql() for equal in where.find_all(exp.EQ)} if where else set()
    return len(set(asked)) < len(asked) or not given.isdisjoint(asked)


def _without_condition(tree: exp.Expression) -> list[str]:
    """Return the query without its WHERE, and without its HAVING."""
    found = []
    for part in ("where", "having"):
        if tree.args.get(part):
            copy = tree.copy()
            copy.set(part, None)
            found.append(copy.sql("sqlite"))
    return found


def _tie(tree: exp.Expression) -> str:
    """Return the query for the values at a LIMIT, empty where there is none."""
    limit, order = tree.args.get("limit"), tree.args.get("order")
    if not limit or not order:
        return ""
    copy = tree.copy()
    copy.set("expressions", [order.expressions[0].this.copy()])
    copy.set("limit", exp.Limit(expression=exp.Literal.number(int(limit.expression.name) + 1)))
    return copy.sql("sqlite")


def verdict(candidate: Candidate, answers: list) -> str:
    """Return why a candidate is left out, empty where it is kept; `answers` are the rows of its queries."""
    rows, *others = answers
    if candidate.gives:
        return GIVEN
    if rows is None:
        return FAILED
    if not rows or rows in ([[0]], [[0.0]]):
        return EMPTY
    if all(value is None for row in rows for value in row):
        return MISSING
    if len(rows) > MAX_ROWS:
        return LONG
    compared = others[: len(candidate.others)]
    if None in compared:  # Nobody knows whether its condition leaves rows out.
        return FAILED
    if any(same_result(_tuples(rows), _tuples(other), candidate.ordered) for other in compared):
        return IDLE
    if candidate.tie:
        values = others[-1]
        if values is None or (len(values) > len(rows) and values[-1] == values[-2]):
            return TIED
    return ""


def _tuples(rows: list[list]) -> list[tuple]:
    return [tuple(row) for row in rows]


def verdicts(candidates: list[Candidate], ask: Answers) -> list[str]:
    """Run all queries of candidates in one go, and return why each is left out."""
    answers = iter(ask([query for candidate in candidates for query in candidate.queries]))
    return [verdict(candidate, [next(answers) for _ in candidate.queries]) for candidate in candidates]
