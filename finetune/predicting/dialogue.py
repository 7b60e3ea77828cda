"""Questions put to a database: SQL from a model, run where that is asked for, tried again with the error in mind."""

import json
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from finetune import InputError, console
from finetune.databases.database import Database, QueryFailed, Result
from finetune.databases.safe_sql import Refused

import pandas as pd

logger = logging.getLogger(__name__)
CSV = ("csv", "csv-safe")
FORMULA = "=+-@\t\r\n＝＋－＠"  # how a cell begins that a spreadsheet takes for a formula
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)


def _finite(value):
    """Return a value as JSON has it: NaN and Infinity are texts, as PostgreSQL's own JSON has them."""
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def _defused(value):
    """Return a text that no spreadsheet takes for a formula, an apostrophe before it where one would."""
    if isinstance(value, str) and value.startswith(tuple(FORMULA)) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


@dataclass
class Answer:
    """What became of a question; `error` where the SQL was refused or failed, after `retries` further attempts."""

    question: str
    sql: str
    result: Result | None = None
    error: str = ""
    retries: int = 0

    @property
    def record(self) -> dict:
        """The answer as one JSON object."""
        found = {"question": self.question, "sql": self.sql, "retries": self.retries}
        if self.error:
            return found | {"error": self.error}
        if self.result is None:
            return found
        rows = [[_finite(value) for value in row] for row in self.result.rows]
        return found | {"columns": self.result.columns, "rows": rows, "truncated": self.result.truncated}


@dataclass
class Dialogue:
    """How questions are answered from a database and how the answers are printed.

    Attributes:
        execute: run the SQL; without it, it is shown alone.
        interactive: prompt on stderr, and go on after an error.
        layout: `table`, `json` (one object an answer), `csv` (the SQL on stderr), or `csv-safe`: the same, with the
            cells that a spreadsheet would take for formulas defused.
        timeout: seconds for each query.
        retries: how often the model is asked again, with the error, where its SQL fails.
    """

    database: Database
    execute: bool
    interactive: bool = False
    layout: str = "table"
    max_rows: int = 100
    timeout: float = 10.0
    retries: int = 0

    def hold(self, rows: Iterable[dict], write_sql: Callable[[str, str], str]) -> None:
        """Answer questions one after the other.

        Args:
            rows: with `question` and `context`.
            write_sql: (context, question) -> SQL.

        Raises:
            InputError: a query that is refused or fails, unless interactive.
        """
        self._prompt()
        for row in rows:
            answer = self.answer(row["question"], partial(write_sql, row["context"]))
            self._print(answer)
            self._prompt()

    def answer(self, question: str, write_sql: Callable[[str], str]) -> Answer:
        """Let the model write SQL, show it, and run it where that is wanted.

        After an error the model is asked again, the failed query and the error after the question; SQL that
        comes back unchanged is not run twice.
        """
        answer = Answer(question, write_sql(question))
        self._show(answer.sql)
        while self.execute:
            try:
                answer.result = self.database.run(answer.sql, self.max_rows, self.timeout)
                answer.error = ""
                break
            except (Refused, QueryFailed) as error:
                answer.error = f"{'not executed' if isinstance(error, Refused) else 'the database says'}: {error}"
            if answer.retries == self.retries:
                break
            answer.retries += 1
            sql = write_sql(f"{question} (Not {' '.join(answer.sql.split())}, which fails: {answer.error})")
            if sql == answer.sql:
                break
            answer.sql = sql
            self._show(answer.sql)
        return answer

    def _prompt(self) -> None:
        if self.interactive:
            print("question> ", end="", file=sys.stderr, flush=True)

    def _show(self, sql: str) -> None:
        line = " ".join(sql.split())
        if self.layout == "table":
            console.print_result(line)
        elif self.layout in CSV:
            logger.info(line)

    def _print(self, answer: Answer) -> None:
        if self.layout == "json":
            console.print_result(json.dumps(answer.record, ensure_ascii=False, allow_nan=False))
        if answer.error:
            if not self.interactive:
                raise InputError(f"{answer.error} (retries: {answer.retries}).")
            logger.error(answer.error)
        elif answer.result is not None:
            frame = pd.DataFrame(answer.result.rows, columns=answer.result.columns, dtype=object)
            if self.layout == "csv-safe":
                frame = frame.map(_defused).rename(columns=_defused)
            if self.layout in CSV:
                console.print_result(frame.to_csv(index=False).rstrip("\n"))
            elif self.layout == "table":
                shown = frame.where(frame.notna(), "NULL")
                console.print_result(shown.to_string(index=False) if len(frame) else "(no rows)")
            if answer.result.truncated:
                logger.warning(f"only the first {self.max_rows} rows were fetched (--max-rows).")
