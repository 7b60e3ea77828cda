"""Gold SQL run on the database that its rows are about, before anything is learnt of it or scored by it."""

import logging
from dataclasses import dataclass, field
from functools import lru_cache

from finetune import InputError
from finetune.databases.contexts import fill_contexts
from finetune.databases.database import Database, QueryFailed, Result
from finetune.databases.safe_sql import Refused
from finetune.progress_line import Progress, advance
from finetune.rows.sql.cleaning import clean_gold
from metrics.sql_execution.ddl import fold
from metrics.sql_execution.schemas import read_schema

logger = logging.getLogger(__name__)
TIMEOUT = 10.0  # seconds for each query
SHOWN = 5


@dataclass
class GoldOnDatabase:
    """Fills the rows' context in, and runs their gold on the database, each once.

    Attributes:
        leave_out: rows whose gold does not run; otherwise they stay and are named.
        clean: gold is run as cleaning writes it, which mends double quotes.
        with_rows: what a failing query's error says may stand in reasons: an engine may quote the values it met.
        source: what the rows are read from, for messages.
        failed: the rows whose gold does not run, with the reason.
        own: rows with a schema of their own, which stays.
    """

    database: Database
    leave_out: bool = True
    clean: bool = True
    with_rows: bool = True
    source: str = "the data"
    failed: list[dict] = field(default_factory=list)
    given: int = 0
    own: int = 0

    @property
    def left_out(self) -> list[dict]:
        """The rows that are not returned, with the reason."""
        return self.failed if self.leave_out else []

    def __call__(self, rows: list[dict]) -> list[dict]:
        """Return the rows with their context, without those whose gold does not run.

        Raises:
            InputError: there is none left of several.
        """
        rows = fill_contexts(rows, self.database)
        reasons = self._reasons(rows)
        failed = [rows[number] | {"reason": reason} for number, reason in reasons.items()]
        self.failed += failed
        self.given += len(rows)
        self.own += sum(row["context"] != self.database.statements for row in rows)
        if not self.leave_out:
            return rows
        kept = [row for number, row in enumerate(rows) if number not in reasons]
        if rows and not kept:
            raise InputError(
                f"none of the {len(rows)} rows of {self.source} has SQL that runs on the database: {named(failed)}."
                f" Is it the database that they are about, and their SQL of --dialect {self.database.dialect}?"
            )
        return kept

    def _reasons(self, rows: list[dict]) -> dict[int, str]:
        """Return why rows' gold does not run, by their places; rows of other schemas, or without gold, are not run."""
        places: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            gold = self._gold(row)
            if gold and is_about(str(row.get("context") or ""), self.database):
                places.setdefault(gold, []).append(place)
        failed: dict[int, str] = {}
        with Progress("queries, on the database", len(places), "run", quiet=len(places) < 100):
            for group, result in zip(places.values(), self.database.run_all(places, 1, TIMEOUT), strict=True):
                advance(1)
                if not isinstance(result, Result):
                    reason = f"does not run on the database: {why(result, self.with_rows)}"
                    failed |= dict.fromkeys(group, reason)
        return dict(sorted(failed.items()))

    def _gold(self, row: dict) -> str:
        gold = row.get("answer")
        if not isinstance(gold, str) or not self.clean:
            return gold if isinstance(gold, str) else ""
        try:
            return clean_gold(row, self.database.dialect)[0]
        except ValueError:
            return gold

    def tell(self, where: str) -> None:
        """Say which rows' gold does not run: the first of them.

        Args:
            where: those that are left out stand.
        """
        if self.failed:
            what = f"are left out ({where})" if self.leave_out else "are kept (--no-clean), and are not scored on it"
            logger.warning(
                f"{len(self.failed)} of {self.given} rows of {self.source} have SQL that does not run on the database,"
                f" and {what}: {named(self.failed)}."
            )

    def tell_own(self) -> None:
        """Say how many rows have a schema of their own, which prediction with --database would not read."""
        if self.own:
            logger.warning(
                f"{self.own} of {self.given} rows of {self.source} have a `context` of their own, which is read in"
                " place of the schema of --database; leave it empty to have the database's."
            )


def why(error: Refused | QueryFailed, with_rows: bool) -> str:
    """Return why a query did not run; of the engine's own words the kind alone where they may not be shown."""
    return str(error) if with_rows or isinstance(error, Refused) else str(error).partition(":")[0]


def named(failed: list[dict]) -> str:
    """Return the first of some rows, each with the beginning of its question and the reason."""
    shown = [f"{str(row.get('question'))[:50]!r}: {row['reason'].partition(': ')[2]}" for row in failed[:SHOWN]]
    return "; ".join(shown) + (f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else "")


def is_about(context: str, database: Database) -> bool:
    """Say whether a schema is one of a database: it has all of its tables and columns."""
    if context == database.statements:
        return True
    known = {fold(table): set(map(fold, columns)) for table, columns in database.columns.items()}
    wanted = _names(context, database.dialect)
    return bool(wanted) and all(columns <= known.get(table, set()) for table, columns in wanted.items())


@lru_cache(maxsize=4096)
def _names(context: str, dialect: str) -> dict[str, set[str]]:
    try:
        return {fold(name): set(map(fold, table.columns)) for name, table in read_schema(context, dialect).items()}
    except ValueError:
        return {}
