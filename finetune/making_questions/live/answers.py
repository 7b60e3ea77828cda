"""Many queries of our own on a user's database, on the read-only path that a model's SQL takes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from finetune.databases.database import Database
from finetune.databases.running.runner import answer, readable_sqlite
from finetune.databases.urls import connect_arguments

MAX_ROWS, SECONDS = 1_000, 10.0  # of a query

Ask = Callable[[list[str]], "list[list[list] | None]"]


@contextmanager
def answering(database: Database) -> Iterator[Ask]:
    """Yield a function that returns the rows of each of its queries: at most MAX_ROWS + 1, None for one that failed."""
    is_file = database.engine == "sqlite"
    with readable_sqlite(Path(database.url.database or "")) if is_file else nullcontext() as uri:
        job = {
            "engine": database.engine, "dialect": database.dialect, "tables": database.tables,
            "schema": database.schema, "max_rows": MAX_ROWS + 1, "timeout": SECONDS,
            "connection": connect_arguments(database.url), "database": uri or database.url.database,
        }  # fmt: skip
        yield lambda queries: [answer(job | {"sql": sql}).get("rows") for sql in queries]
