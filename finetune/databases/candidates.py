"""Which of several queries for one question is taken: the likeliest that finds something on the database.

After execution-guided decoding (Wang et al. 2018, arXiv:1807.03100): queries that fail or find nothing are passed over.
"""

from collections.abc import Callable, Iterable

from finetune import InputError
from finetune.databases.database import Outcome, Result

MOST = 20
CANDIDATES = "SQL to try for a question where the model's first fails or finds nothing"


def check_candidates(count: int | None) -> None:
    """Raise InputError for a number of --candidates that no question gets."""
    if count is not None and not 1 <= count <= MOST:
        raise InputError(f"--candidates {count} must lie between 1 and {MOST}.")


def finds(outcome: Outcome) -> bool:
    """Say whether a query ran and found something: a row that is not NULL alone."""
    return isinstance(outcome, Result) and any(value is not None for row in outcome.rows for value in row)


def choose(queries: Iterable[str], run: Callable[[str], Outcome]) -> tuple[str, Outcome]:
    """Return the query that is taken, and what it gave.

    It is the first that finds something, and none behind it is looked at; where none does, the first that runs; where
    none runs, the first.

    Args:
        queries: at least one, the likeliest first.
    """
    tried: list[tuple[str, Outcome]] = []
    for query in queries:
        tried.append((query, run(query)))
        if finds(tried[-1][1]):
            return tried[-1]
    ran = [one for one in tried if isinstance(one[1], Result)]
    return (ran or tried)[0]
