"""The scorecard: the same questions answered by the bare base and by the adapter, and compared."""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO

from finetune import InputError
from finetune.databases.contexts import JUDGED_ON
from finetune.models.generation import BATCH_SIZE, Generation
from finetune.models.sql_writer import SqlWriter
from finetune.progress_line import Progress, advance
from finetune.reports import figures
from finetune.reports.paired import Paired, mcnemar, sentence
from finetune.reports.scorecards.candidates import take_candidates
from finetune.reports.scorecards.on_database import NAME as DATABASE
from finetune.reports.scorecards.on_database import (
    DatabaseVerdict,
    OnDatabase,
    database_columns,
    judge_on_database,
    summarize_database,
)
from finetune.reports.sharing import own_share, share_out
from finetune.runs import tracking
from metrics.sql_execution.sql_execution import Verdict, judge, judge_all, summarize, unwrap

from accelerate import PartialState
from mlflow.data.dataset import Dataset

logger = logging.getLogger(__name__)
SHARES = (
    "exec_accuracy",
    "exec_accuracy_case_sensitive",
    "exec_accuracy_any_order",
    "exec_accuracy_with_nulls",
    "exact_ast",
    "valid",
    "ended",
)


@dataclass
class Answers:
    """One model's answers to some rows, with the seconds they took."""

    generations: list[Generation]
    verdicts: list[Verdict]
    seconds: float
    unwrapped: int = 0  # answers whose fences or prefixes were taken off before they were judged
    on_database: list[DatabaseVerdict] | None = None  # where there is one
    first: list[DatabaseVerdict] | None = None  # of the model's first answers, where other candidates were tried
    others: int = 0  # answers that are not the first

    @property
    def scores(self) -> dict:
        """The scores of the metric, the share of answers that end by themselves, and tokens a second."""
        tokens = sum(len(generation.token_ids) + generation.ended for generation in self.generations)
        ended = sum(generation.ended for generation in self.generations) / len(self.generations)
        on_database = summarize_database(self.on_database) if self.on_database else {}
        if self.first:
            on_database |= {f"{DATABASE}_first": summarize_database(self.first)[DATABASE]}
        return (
            on_database
            | summarize(self.verdicts)
            | {"ended": ended, "tokens_per_second": tokens / max(self.seconds, 1e-9)}
        )


@dataclass
class Scorecard:
    """Base against adapter on the same rows."""

    rows: list[dict]
    base: Answers
    adapter: Answers

    @property
    def metrics(self) -> dict[str, float]:
        """Return what is logged: the adapter's scores by their names, the base's with `_base`, and the comparison."""
        before, after = self.base.scores, self.adapter.scores
        found = {name: after[name] for name in (*SHARES, "coverage", "tokens_per_second")}
        found |= {f"{name}_base": before[name] for name in (*SHARES, "tokens_per_second")}
        found |= {f"exec_accuracy_{end}": after[f"exec_accuracy_{end}"] for end in ("low", "high")}
        found["exec_accuracy_delta"] = after["exec_accuracy"] - before["exec_accuracy"]
        found["mcnemar_p"] = self.mcnemar_p
        if self.on_database:
            found |= {name: value for name, value in after.items() if name.startswith(DATABASE)}
            found |= {f"{DATABASE}_base": before[DATABASE], "mcnemar_p_database": self.on_database.p}
        found["changed_outputs"] = self.changed
        if self.base.unwrapped or self.adapter.unwrapped:
            found |= {"unwrapped": self.adapter.unwrapped, "unwrapped_base": self.base.unwrapped}
        return {name: value for name, value in found.items() if not math.isnan(value)}

    @property
    def changed(self) -> float:
        """The share of rows that base and adapter answer differently, from 0 to 1."""
        pairs = zip(self.base.generations, self.adapter.generations, strict=True)
        return sum(before.text != after.text for before, after in pairs) / len(self.rows)

    @property
    def mcnemar_p(self) -> float:
        """The exact two-sided p of McNemar's test (1947) on the rows that only one of the two gets right."""
        return self.paired.p

    @property
    def paired(self) -> Paired:
        """Adapter against base on the rows with usable gold, on generated databases; without an interval."""
        return compare_verdicts(self.adapter.verdicts, self.base.verdicts, interval=False)

    @property
    def on_database(self) -> Paired | None:
        """The same on the database that the rows are about; None without one, or where no row is scored on it."""
        found = compare_verdicts(self.adapter.on_database, self.base.on_database, interval=False)
        return found if found.rows else None

    @property
    def table(self) -> list[dict]:
        """One row a question, with both answers, both verdicts, and the first database where the adapter differs."""
        together = zip(
            self.rows, self.base.generations, self.adapter.generations, self.base.verdicts, self.adapter.verdicts,
            strict=True,
        )  # fmt: skip
        found = [
            {
                "question": row["question"],
                "schema": row["context"],
                "gold": row["answer"],
                "base_sql": before.text,
                "adapter_sql": after.text,
                "base_verdict": verdict_text(judged_before),
                "adapter_verdict": verdict_text(judged_after),
                "adapter_ended": after.ended,
                "first_difference": judged_after.difference,
            }
            for row, before, after, judged_before, judged_after in together
        ]
        if self.adapter.on_database and self.base.on_database:
            judged = zip(self.base.on_database, self.adapter.on_database, strict=True)
            found = [row | database_columns(*pair) for row, pair in zip(found, judged, strict=True)]
        return found

    def headline(self, title: str) -> str:
        """Return the scorecard in a line, with what its interval allows to say."""
        before, after = self.base.scores, self.adapter.scores
        found = self.on_database
        if not after["rows_scored"] and not found:
            return " ".join(self.format(title).split())
        name, where = (DATABASE, " on the database") if found else ("exec_accuracy", "")
        rows = found.rows if found else after["rows_scored"]
        low, high = after[f"{name}_low"], after[f"{name}_high"]
        beside = f"; on generated databases {after['exec_accuracy']:.1%}" if found and after["rows_scored"] else ""
        if found and self.adapter.first:
            beside = f", of first answers alone {after[f'{DATABASE}_first']:.1%}{beside}"
        end = ""
        if self.adapter.on_database and not found:
            where, end = " on generated databases", f"; {self._unscored}"
        return (
            f"{title}: {after[name]:.1%} of {rows} questions right{where} (95 %: {low:.1%} to"
            f" {high:.1%}), by the base {before[name]:.1%}{beside}: {sentence(found or self.paired, 'the base')}{end}"
        )

    def format(self, title: str) -> str:
        """Return the scorecard as a table for the terminal."""
        before, after = self.base.scores, self.adapter.scores
        lines = [f"{title}: {after['rows']} rows, {after['rows_scored']} with usable gold"]
        if not after["rows_scored"]:
            reason = next((verdict.reason for verdict in self.adapter.verdicts if verdict.reason), "there are no rows")
            lines.append(f"  nothing is scored: {reason}; {self.changed:.0%} of the answers changed")
            return "\n".join([*lines, *self._database_lines()])
        lines.append(f"  {'':<30}{'base':>9}{'adapter':>9}{'delta':>9}")
        for name in SHARES:
            delta = after[name] - before[name]
            lines.append(f"  {name:<30}{before[name]:>9.1%}{after[name]:>9.1%}{100 * delta:>+9.1f}")
        for shape, counted in after["by_shape"].items():
            one, other = before["by_shape"][shape]["exec_accuracy"], counted["exec_accuracy"]
            label = f"{shape} ({counted['rows']})"
            lines.append(f"    {label:<28}{one:>9.1%}{other:>9.1%}{100 * (other - one):>+9.1f}")
        lines.append(f"  {'tokens a second':<30}{before['tokens_per_second']:>9.0f}{after['tokens_per_second']:>9.0f}")
        if self.base.unwrapped or self.adapter.unwrapped:
            lines.append(f"  {'answers unwrapped':<30}{self.base.unwrapped:>9}{self.adapter.unwrapped:>9}")
        low, high = after["exec_accuracy_low"], after["exec_accuracy_high"]
        lines.append(
            f"  adapter {low:.1%} to {high:.1%} (95 %); McNemar p = {self.mcnemar_p:.2g};"
            f" {self.changed:.0%} of the answers changed"
        )
        told = self.on_database or self.paired
        return "\n".join([*lines, *self._database_lines(), f"  {sentence(told, 'the base')}"])

    @property
    def _unscored(self) -> str:
        """Why no row is scored on the database."""
        judged = [*(self.adapter.on_database or []), *(self.base.on_database or [])]
        reason = next((verdict.reason for verdict in judged if verdict.reason and not verdict.usable), "no rows")
        return f"nothing is scored on the database: {reason}"

    def _database_lines(self) -> list[str]:
        """What the table for the terminal says of the database."""
        found, after = self.on_database, self.adapter.scores
        if not self.adapter.on_database:
            return []
        if not found:
            return [f"  {self._unscored}"]
        change = f"{100 * found.difference:>+9.1f}"
        lines = [
            f"  {f'on the database ({found.rows} rows)':<30}{found.second:>9.1%}{found.first:>9.1%}{change}",
            f"  adapter {after[f'{DATABASE}_low']:.1%} to {after[f'{DATABASE}_high']:.1%} (95 %) on the database;"
            f" McNemar p = {found.p:.2g}",
        ]
        if self.adapter.first:
            lines.append(
                f"  first answers alone {after[f'{DATABASE}_first']:.1%}; {self.adapter.others} of the answers are"
                " another candidate"
            )
        if empty := after[f"{DATABASE}_empty_gold"]:
            lines.append(f"  gold returns nothing there for {empty} of them: an empty result is easily equal")
        return lines


class Single(Scorecard):
    """The scorecard of a model that has no base to disable its adapter for: `base` is the model itself."""

    @property
    def metrics(self) -> dict[str, float]:
        """Return what is logged: the model's scores."""
        paired = ("_base", "_delta", "mcnemar_p", "mcnemar_p_database", "changed_outputs")
        return {name: value for name, value in super().metrics.items() if not name.endswith(paired)}

    @property
    def changed(self) -> float:
        """Nothing is known of a base."""
        return math.nan

    @property
    def table(self) -> list[dict]:
        """One row a question, with the answer and its verdict."""
        return [{name: row[name] for name in row if not name.startswith("base_")} for row in super().table]

    def format(self, title: str) -> str:
        """Return the scorecard as a table for the terminal."""
        after = self.adapter.scores
        if not after["rows_scored"] and not self.on_database:
            return super().format(title)
        lines = [f"{title}: {after['rows']} rows, {after['rows_scored']} with usable gold; there is no base beside it"]
        lines += [f"  {name:<30}{after[name]:>9.1%}" for name in SHARES]
        for shape, counted in after["by_shape"].items():
            label = f"{shape} ({counted['rows']})"
            lines.append(f"    {label:<28}{counted['exec_accuracy']:>9.1%}")
        if found := self.on_database:
            lines.append(f"  {f'on the database ({found.rows} rows)':<30}{found.first:>9.1%}")
        lines.append(f"  {after['exec_accuracy_low']:.1%} to {after['exec_accuracy_high']:.1%} (95 %)")
        return "\n".join(lines)


def compare_verdicts(
    first: Sequence[Verdict | DatabaseVerdict] | None,
    second: Sequence[Verdict | DatabaseVerdict] | None,
    interval: bool = True,
) -> Paired:
    """Compare two models on the rows that both are scored on: gold may run for one, and time out for the other."""
    pairs = [(a.right, b.right) for a, b in zip(first or [], second or [], strict=False) if a.usable and b.usable]
    return mcnemar([a for a, _ in pairs], [b for _, b in pairs], interval=interval)


def verdict_text(verdict: Verdict) -> str:
    """Return `right`, or why not."""
    return "right" if verdict.right else verdict.reason


def judged_on(row: dict) -> str:
    """Return the schema that answers to a row are run on: its context, with the tables that gold needs besides."""
    return row.get(JUDGED_ON) or row["context"]


def check_gold(rows: list[dict], dialect: str, is_needed: bool) -> None:
    """Warn where no row can be scored: none has gold that SQLite can run, written for it from its dialect.

    Args:
        is_needed: by the choice of the best checkpoint.

    Raises:
        InputError: where it is needed.
    """
    found = why_unscored(rows, dialect)
    if not found:
        return
    if is_needed:
        raise InputError(
            f"{found}, and --metric-for-best-model exec_accuracy goes by the score; give the dialect that they are in,"
            " or another metric."
        )
    logger.warning(f"{found}: training goes on unscored. Give the dialect that they are in with --dialect.")


def why_unscored(rows: list[dict], dialect: str) -> str:
    """Return why none of the rows can be scored; empty where one can, or there is none."""
    reasons = []
    for row in rows:
        verdict = judge(str(row["answer"]), str(row["answer"]), str(judged_on(row)), dialect=dialect)
        if verdict.usable:
            return ""
        reasons.append(verdict.reason)
    if not reasons:
        return ""
    return f"none of the {len(rows)} rows to score can be scored ({reasons[0]}; read as --dialect {dialect})"


def answer_rows(
    writer: SqlWriter,
    rows: list[dict],
    batch_size: int = BATCH_SIZE,
    dialect: str = "sqlite",
    is_unwrapped: bool = False,
    on: OnDatabase | None = None,
) -> Answers:
    """Answer rows greedily, all processes of a training together, and judge the answers.

    Generation may go 32 tokens further than the longest gold: a base that never stops would take for ever.

    Args:
        on: database that the rows are about, which judges the answers too, asked by the first process alone; where
            other candidates are tried, each process asks it of its own rows.
    """
    prompts = writer.encode(rows)
    longest = max(len(writer.tokenizer(row["answer"])["input_ids"]) for row in rows)
    new, bare = longest + 32, unwrap if is_unwrapped else str
    start = time.perf_counter()
    first = found = share_out(prompts, lambda mine: writer.write(mine, batch_size, max_new_tokens=new))
    seconds = time.perf_counter() - start
    if on and on.candidates > 1:
        asked = list(zip(rows, prompts, first, strict=True))
        found = share_out(asked, lambda mine: take_candidates(writer, mine, on, new, bare))
    texts = [bare(generation.text) for generation in found]
    changed = sum(generation.text != text for generation, text in zip(found, texts, strict=True))
    advance(0, ", judging")
    with redirect_stderr(StringIO()):  # Its bar, which only a terminal gets, would run into the line of the script.
        verdicts = judge_all(
            [(t, r["answer"], judged_on(r)) for t, r in zip(texts, rows, strict=True)], dialect=dialect
        )
    advance(0, "")
    answers = Answers(found, verdicts, seconds, changed)
    if on and PartialState().is_main_process:
        options = rows, on.database
        answers.on_database = judge_on_database(texts, *options, on.with_rows, on.known)
        if on.candidates > 1:
            answers.first = judge_on_database([bare(one.text) for one in first], *options, False, on.known)
            answers.others = sum(one is not other for one, other in zip(found, first, strict=True))
    return answers


def compare(
    writer: SqlWriter,
    rows: list[dict],
    batch_size: int = BATCH_SIZE,
    dialect: str = "sqlite",
    is_unwrapped: bool = False,
    on: OnDatabase | None = None,
) -> Scorecard:
    """Answer rows with the adapter and, the adapter disabled, with the bare base: same weights, prompts, decoding.

    Args:
        writer: of a PeftModel.
        dialect: of schemas, gold and answers, as sqlglot names it.
        is_unwrapped: fences and prefixes around an answer are taken off.
        on: see `answer_rows`.
    """
    options = batch_size, dialect, is_unwrapped, on
    with Progress("questions, by adapter and base", 2 * own_share(rows), "answered"):
        after = answer_rows(writer, rows, *options)
        if not hasattr(writer.model, "disable_adapter"):  # merged, or never had one
            return Single(rows, after, after)
        with writer.model.disable_adapter():
            before = answer_rows(writer, rows, *options)
    return Scorecard(rows, before, after)


def log_scorecard(
    card: Scorecard, name: str, run_id: str, step: int, dataset: Dataset, model_id: str | None = None
) -> None:
    """Log a scorecard into a run: metrics `NAME_...`, the table scorecard/NAME.json, two figures.

    Args:
        dataset, model_id: the data set and the logged model that the metrics are about.
    """
    metrics = {f"{name}_{key}": value for key, value in card.metrics.items()}
    tracking.log_metrics(metrics, step, run_id, dataset, model_id)
    figures.log_table(card.table, f"scorecard/{name}", run_id)
    scores = card.base.scores, card.adapter.scores
    if not scores[1]["rows_scored"]:  # There is nothing to draw.
        return
    figures.log_figure(figures.before_and_after(*scores, name), f"{name}_scorecard", run_id)
    figures.log_figure(figures.accuracy_by_shape(*scores, name), f"{name}_by_shape", run_id)
