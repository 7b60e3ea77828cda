"""Many queries of our own on a user's database, on the read-only path that a model's SQL takes."""

from collections.abc import Iterator
from contextlib import contextmanager

from finetune.databases.database import Database, Outcome, Result
from finetune.databases.running.processes import QueryServer
from finetune.redaction import redact

MAX_ROWS, MAX_BYTES, SECONDS = 1_000, 1_000_000, 10.0  # of a query
KEPT = 20_000_000  # characters of results that are kept: many candidates are compared with the same query
BATCH = 10  # queries that one process answers
ALIKE = 5  # queries in a row that fail for the same reason, after which is asked whether the database still answers
PROBE = "SELECT 1"


class NoAnswer(Exception):
    """The database does not answer any more; the text says why."""


class Answers:
    """Rows of queries, and why some have none.

    Attributes:
        why: why queries failed, the first of them first: those of the last call, and the first of all.
        failures: how many failed.
    """

    def __init__(self, database: Database, server: QueryServer):
        self.database, self.server = database, server
        self.known: dict[str, list[list] | None] = {}
        self.why: dict[str, str] = {}
        self.size = self.failures = self.alike = 0
        self.last = ""

    def __call__(self, queries: list[str]) -> list[list[list] | None]:
        """Return the rows of each query: at most MAX_ROWS + 1, None for one that failed or whose rows are too large.

        Raises:
            NoAnswer: the last ones failed alike, and one that needs no table fails too.
        """
        if self.size > KEPT:
            self.known.clear()
            self.size = 0
        self.why = dict(list(self.why.items())[:1])
        new = [sql for sql in dict.fromkeys(queries) if sql not in self.known]
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            for sql, outcome in zip(part, self.run(part), strict=True):
                self.take(sql, outcome)
            if self.alike >= ALIKE:
                self.probe()
        return [self.known[sql] for sql in queries]

    def run(self, queries: list[str]) -> list[Outcome]:
        """Run queries, in a process of their own that is killed at its limits."""
        return self.database.run_batch(self.server, queries, MAX_ROWS + 1, SECONDS, MAX_BYTES)

    def take(self, sql: str, outcome: Outcome) -> None:
        """Keep the rows of a query, or why it has none."""
        reason = self.reason(outcome)
        self.alike = self.alike + 1 if reason and reason == self.last else bool(reason)
        self.last = reason
        rows = outcome.rows if isinstance(outcome, Result) and not reason else None
        self.known[sql] = rows
        self.size += len(sql) + sum(len(str(value)) for row in rows or () for value in row)
        if reason:
            self.failures += 1
            self.why[sql] = reason

    def reason(self, outcome: Outcome) -> str:
        """Return why a query has no rows that can be used, empty where it has."""
        if isinstance(outcome, Result):
            too_large = outcome.truncated and len(outcome.rows) <= MAX_ROWS
            return f"its rows are larger than {MAX_BYTES // 1_000_000} MB" if too_large else ""
        text = redact(str(outcome), self.database.url.render_as_string(hide_password=False))
        return text.removesuffix(" (--timeout)")

    def probe(self) -> None:
        """Ask whether the database still answers.

        Raises:
            NoAnswer: it does not.
        """
        self.alike = 0
        if reason := self.reason(self.run([PROBE])[0]):
            raise NoAnswer(reason)


@contextmanager
def answering(database: Database) -> Iterator[Answers]:
    """Yield what answers queries."""
    with QueryServer() as server:
        yield Answers(database, server)
