"""Questions put to a database: SQL from a model, run where that is asked for, tried again with the error in mind."""

import json
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from finetune import InputError, console
from finetune.databases.candidates import choose, finds
from finetune.databases.database import Database, Outcome, QueryFailed, Result
from finetune.databases.safe_sql import Refused
from finetune.databases.schema.words import unknown_words
from finetune.predicting.traces import Record, Step, step

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


def plain_rows(result: Result) -> list[list]:
    """Return the rows of a result as JSON has them."""
    return [[_finite(value) for value in row] for row in result.rows]


def failure(error: Refused | QueryFailed) -> str:
    """Return what is said of a query that gave no result."""
    return f"{'the database says' if isinstance(error, QueryFailed) else 'not executed'}: {error}"


def _defused(value):
    """Return a text that no spreadsheet takes for a formula, an apostrophe before it where one would."""
    if isinstance(value, str) and value.startswith(tuple(FORMULA)) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


@dataclass
class Answer:
    """What became of a question; `error` where the SQL was refused or failed, after `retries` further attempts.

    Attributes:
        unknown: words of the question that no table or column knows, looked for where there is no row to show.
        stopped: the last query was stopped or failed in the database: that says nothing of the question.
        first: the model's first SQL, where another candidate was taken in its place.
        steps: what was written and run, with its times.
    """

    question: str
    sql: str
    result: Result | None = None
    error: str = ""
    retries: int = 0
    unknown: list[str] = field(default_factory=list)
    stopped: bool = False
    first: str = ""
    steps: list[Step] = field(default_factory=list)

    @property
    def doubt(self) -> str:
        """A sentence on why the question may have no answer here; empty where nothing speaks for that."""
        if not self.unknown and (self.stopped or not self.error):
            return ""
        words = f": no table or column knows {', '.join(self.unknown)}" if self.unknown else ""
        return f"The question may not fit the database{words}."

    @property
    def record(self) -> dict:
        """The answer as one JSON object."""
        found = {"question": self.question, "sql": self.sql, "retries": self.retries}
        found |= {"first_sql": self.first} if self.first else {}
        if self.error:
            return found | {"error": self.error, "unknown_words": self.unknown}
        if self.result is None:
            return found
        rows = plain_rows(self.result)
        found |= {"columns": self.result.columns, "rows": rows, "truncated": self.result.truncated}
        return found | ({"unknown_words": self.unknown} if self.unknown else {})


def as_record(row: dict, answer: Answer) -> Record:
    """Return a question, the schema that it is about, and its answer as a trace has them; rows stand in its steps."""
    outputs = {name: value for name, value in answer.record.items() if name not in ("question", "rows")}
    return Record({"question": row["question"], "context": row["context"]}, outputs, answer.steps)


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
        keep: takes each answer, to be traced.
    """

    database: Database
    execute: bool
    interactive: bool = False
    layout: str = "table"
    max_rows: int = 100
    timeout: float = 10.0
    retries: int = 0
    keep: Callable[[Record], None] | None = None

    def hold(
        self,
        rows: Iterable[dict],
        write_sql: Callable[[str, str], str],
        others: Callable[[str, str, str], Iterable[str]] | None = None,
    ) -> None:
        """Answer questions one after the other.

        Args:
            rows: with `question` and `context`.
            write_sql: (context, question) -> SQL.
            others: (context, question, first SQL) -> other SQL, tried where the first fails or finds nothing.

        Raises:
            InputError: a query that is refused or fails, unless interactive.
        """
        try:
            self._prompt()
            for row in rows:
                self._repeat(row["question"])
                more = others and partial(others, row["context"], row["question"])
                answer = self.answer(row["question"], partial(write_sql, row["context"]), more)
                if self.keep:
                    self.keep(as_record(row, answer))
                self._print(answer)
                self._prompt()
        finally:  # Whatever ends it, Ctrl-C or the end of input: what follows stands on a line of its own.
            if self._is_typed:
                print(file=sys.stderr, flush=True)

    def answer(
        self,
        question: str,
        write_sql: Callable[[str], str],
        others: Callable[[str], Iterable[str]] | None = None,
    ) -> Answer:
        """Let the model write SQL, show it, and run it where that is wanted.

        Where it fails or finds nothing, other candidates are tried, and the first that finds something is taken. After
        an error the model is asked again, the failed query and the error after the question; SQL that comes back
        unchanged is not run twice.
        """
        answer = Answer(question, "")
        answer.sql = self._write(answer, question, write_sql)
        self._show(answer.sql)
        while self.execute:
            outcome = self._run(answer, answer.sql)
            if others and not answer.retries and not finds(outcome):
                outcome = self._try_others(answer, outcome, others)
            if self._take(answer, outcome) or answer.retries == self.retries:
                break
            answer.retries += 1
            again = f"{question} (Not {' '.join(answer.sql.split())}, which fails: {answer.error})"
            sql = self._write(answer, again, write_sql)
            if sql == answer.sql:
                break
            answer.sql = sql
            self._show(answer.sql)
        if answer.error or (answer.result and not answer.result.rows):
            answer.unknown = unknown_words(question, self.database.tables)
        return answer

    @staticmethod
    def _write(answer: Answer, question: str, write_sql: Callable[[str], str]) -> str:
        with step(answer.steps, "write", question=question) as one:
            one.outputs = {"sql": write_sql(question)}
        return one.outputs["sql"]

    def _run(self, answer: Answer, sql: str) -> Outcome:
        """Return what a query gives; why it is refused or fails in its place."""
        with step(answer.steps, "check and run", sql=sql) as one:
            try:
                result = self.database.run(sql, self.max_rows, self.timeout)
            except (Refused, QueryFailed) as error:
                verdict = "refused" if isinstance(error, Refused) else "passed"
                one.outputs = {"verdict": verdict, "error": failure(error)}
                return error
            one.outputs = {"verdict": "passed", "row_count": len(result.rows), "rows": plain_rows(result)}
        return result

    def _try_others(self, answer: Answer, outcome: Outcome, others: Callable[[str], Iterable[str]]) -> Outcome:
        """Take another candidate in the place of the answer's SQL where there is a better one; return its outcome."""
        known = {answer.sql: outcome}
        with step(answer.steps, "write other candidates") as one:
            found = list(others(answer.sql))
            one.outputs = {"sql": found}
        taken, given = choose([answer.sql, *found], lambda sql: known.get(sql) or self._run(answer, sql))
        if taken != answer.sql:
            why = "finds nothing" if isinstance(outcome, Result) else f"is not taken: {outcome}"
            logger.warning(f"the likeliest SQL {why}. Another candidate is taken in its place; see whether it fits.")
            answer.first, answer.sql = answer.sql, taken
            self._show(taken)
        return given

    @staticmethod
    def _take(answer: Answer, outcome: Outcome) -> bool:
        """Put into an answer what its query gave; say whether it ran."""
        answer.result = outcome if isinstance(outcome, Result) else None
        answer.stopped = isinstance(outcome, QueryFailed)
        answer.error = "" if isinstance(outcome, Result) else failure(outcome)
        return answer.result is not None

    @property
    def _is_typed(self) -> bool:
        """Whether a person types the questions, and sees them so."""
        return self.interactive and sys.stdin is not None and sys.stdin.isatty()

    def _prompt(self) -> None:
        if self._is_typed:
            print("question> ", end="", file=sys.stderr, flush=True)

    def _repeat(self, question: str) -> None:
        """Show a question that comes from a pipe before its answer; a JSON object has it in it."""
        if not self.interactive or self._is_typed:
            return
        line = f"question> {' '.join(question.split())}"
        if self.layout == "table":
            console.print_result(line)
        elif self.layout in CSV:
            logger.info(line)

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
                raise InputError(f"{answer.error} (retries: {answer.retries}). {answer.doubt}".rstrip())
            stop = "" if answer.error.endswith("?") else "."
            logger.error(f"{answer.error}{stop} {answer.doubt}".rstrip())
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
            if answer.unknown:
                logger.info(f"no rows. {answer.doubt}")
