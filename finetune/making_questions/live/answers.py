"""Many queries of our own on a user's database, on the read-only path that a model's SQL takes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import cast

from finetune.databases.database import Database, Result
from finetune.databases.running.runner import answer, readable_sqlite
from finetune.databases.urls import connect_arguments

MAX_ROWS, SECONDS = 1_000, 10.0  # of a query
KEPT = 2_000  # results that are kept: many candidates are compared with the same query

Ask = Callable[[list[str]], "list[list[list] | None]"]


@contextmanager
def answering(database: Database) -> Iterator[Ask]:
    """Yield a function that returns the rows of each of its queries: at most MAX_ROWS + 1, None for one that failed."""
    waiting: deque[str] = deque()
    known: dict[str, list[list] | None] = {}
    # DuckDB has no time limit of its own: there a process that can be killed answers.
    run = _in_processes if database.engine == "duckdb" else _in_this_process
    # The next query is taken when the next result is asked for.
    results = run(database, iter(waiting.popleft, None))

    def ask(queries: list[str]) -> list[list[list] | None]:
        if len(known) > KEPT:
            known.clear()
        new = [sql for sql in dict.fromkeys(queries) if sql not in known]
        waiting.extend(new)
        known.update((sql, next(results)) for sql in new)
        return [known[sql] for sql in queries]

    with closing(results):
        yield ask


def _in_this_process(database: Database, queries: Iterable[str]) -> Generator:
    """Yield the rows of queries: they are ours, and the engine itself ends what takes long."""
    is_file = database.engine == "sqlite"
    with readable_sqlite(Path(database.url.database or "")) if is_file else nullcontext() as uri:
        job = {
            "engine": database.engine, "dialect": "sqlite", "tables": database.tables, "schema": database.schema,
            "max_rows": MAX_ROWS + 1, "timeout": SECONDS, "connection": connect_arguments(database.url),
            "database": uri or database.url.database, "floats": True,
        }  # fmt: skip
        for sql in queries:
            yield answer(job | {"sql": sql}).get("rows")


def _in_processes(database: Database, queries: Iterable[str]) -> Generator:
    """Yield the rows of queries, each run in a process that is killed where it takes long."""
    with closing(cast(Generator, database.run_all(queries, MAX_ROWS + 1, SECONDS))) as results:
        for found in results:
            yield found.rows if isinstance(found, Result) else None
