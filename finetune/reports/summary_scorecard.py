"""The scores of summaries: at each evaluation of a training, and of base against adapter on the same rows."""

from dataclasses import dataclass
from functools import cached_property

from finetune.models.generation import Generation
from finetune.models.summarizer.summarizer import Summarizer
from finetune.progress_line import Progress
from finetune.reports import figures
from finetune.reports.paired import Paired, paired_means, sentence
from finetune.reports.sharing import own_share, share_out
from finetune.reports.summaries.lead import Lead
from finetune.rows.supervision import IGNORED, Supervision
from finetune.runs import tracking
from metrics.rouge.rouge import ROUGE, repetition_rate, score_row

import numpy as np
from mlflow.data.dataset import Dataset
from scipy.stats import bootstrap
from transformers import EvalPrediction, TrainerCallback

SCORES = (*ROUGE, "repetition_rate", "gen_len", "ended")
MAIN_METRIC = "rougeL"


def score_summaries(summaries: list[Generation], references: list[str]) -> dict[str, float]:
    """Return the means over the rows of metrics/rouge, of tokens a summary and of summaries that end by themselves."""
    rows = [score_row(summary.text, reference) for summary, reference in zip(summaries, references, strict=True)]
    found = {name: float(np.mean([row[name] for row in rows])) for name in ROUGE}
    return found | {
        "repetition_rate": float(np.mean([repetition_rate(summary.text) for summary in summaries])),
        "gen_len": float(np.mean([len(summary.token_ids) for summary in summaries])),
        "ended": float(np.mean([summary.ended for summary in summaries])),
    }


class RougeEvaluation(TrainerCallback):
    """`compute_metrics` of a Seq2SeqTrainer that generates, and a callback that logs what it has generated.

    Args:
        validation: the rows of the evaluation, in its order.
    """

    def __init__(self, tokenizer, validation: Supervision):
        self.tokenizer, self.validation = tokenizer, validation
        self.table: list[dict] = []

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the scores of the generated token ids against the summaries of the rows."""
        rows = self.validation.rows
        # Seq2SeqTrainer keeps the rows that fill up the last batch of several processes.
        predicted, labels = prediction.predictions[: len(rows)], prediction.label_ids[: len(rows)]
        expected = self.validation.dataset["labels"]
        for given, row in zip(labels, expected, strict=True):
            # Padded with -100, or with the pad token behind EOS.
            assert given[: len(row)].tolist() == list(row), "the evaluation's rows are in another order"
        summaries = [self.decode(ids) for ids in predicted]
        references = [row["summary"] for row in rows]
        self.table = [
            {"article": row["article"], "reference": row["summary"], "summary": summary.text}
            for row, summary in zip(rows, summaries, strict=True)
        ]
        return score_summaries(summaries, references)

    def decode(self, ids: np.ndarray) -> Generation:
        """Return a generated row; batches are padded to one length with -100, which no tokenizer can decode."""
        tokens = np.where(ids == IGNORED, self.tokenizer.pad_token_id, ids)[1:].tolist()  # without the start token
        ended = self.tokenizer.eos_token_id in tokens
        tokens = tokens[: tokens.index(self.tokenizer.eos_token_id)] if ended else tokens
        return Generation(self.tokenizer.decode(tokens, skip_special_tokens=True), tokens, ended)

    def on_evaluate(self, args, state, control, **kwargs):
        """Log article, reference and summary of each row as the table summaries/step-N.json."""
        if state.is_world_process_zero and self.table:
            figures.log_table(self.table, f"summaries/step-{state.global_step}")


@dataclass
class SummaryScorecard:
    """Base against adapter on the same rows of `article` and `summary`; no base where it is merged in.

    `lead` says how many first sentences are the summary that needs no model; None where that is not known.
    """

    rows: list[dict]
    base: list[Generation] | None
    adapter: list[Generation]
    lead: Lead | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Return the adapter's scores by their names, the base's with `_base`, and the interval of the main one.

        The interval is the 95 % percentile bootstrap over the rows.
        """
        found = self.scores(self.adapter)
        values = self.by_row(self.texts)
        interval = (found[MAIN_METRIC],) * 2
        if len(set(values)) > 1:
            interval = bootstrap((values,), np.mean, method="percentile", n_resamples=2000, rng=0).confidence_interval
        found |= {f"{MAIN_METRIC}_low": float(interval[0]), f"{MAIN_METRIC}_high": float(interval[1])}
        if self.base is not None:
            found |= {f"{name}_base": value for name, value in self.scores(self.base).items()}
            found["changed_outputs"] = self.changed
        if self.lead and self.against_lead:
            found |= {f"lead_{name}": value for name, value in self.lead_scores.items()}
            pair = self.against_lead
            ends = {"difference": pair.difference, "low": pair.low, "high": pair.high, "p": pair.p}
            found |= {f"lead_{MAIN_METRIC}_{end}": value for end, value in ends.items()}
        return found

    @property
    def texts(self) -> list[str]:
        """The adapter's summaries."""
        return [summary.text for summary in self.adapter]

    def by_row(self, texts: list[str]) -> list[float]:
        """Return the main score of each row for one summary a row."""
        return [score_row(text, row["summary"])[MAIN_METRIC] for text, row in zip(texts, self.rows, strict=True)]

    @cached_property
    def lead_texts(self) -> list[str]:
        """The first sentences of the articles; none where their number is not known."""
        return [self.lead.of(row["article"]) for row in self.rows] if self.lead else []

    @cached_property
    def lead_scores(self) -> dict[str, float]:
        """ROUGE of the first sentences."""
        rows = [score_row(text, row["summary"]) for text, row in zip(self.lead_texts, self.rows, strict=True)]
        return {name: float(np.mean([row[name] for row in rows])) for name in ROUGE}

    @cached_property
    def against_lead(self) -> Paired | None:
        """The adapter's main score against that of the first sentences, row by row; None without them."""
        return paired_means(self.by_row(self.texts), self.by_row(self.lead_texts)) if self.lead else None

    @cached_property
    def against_base(self) -> Paired | None:
        """The adapter's main score against the base's, row by row; None without a base."""
        if self.base is None:
            return None
        return paired_means(self.by_row(self.texts), self.by_row([summary.text for summary in self.base]))

    @property
    def not_better(self) -> list[str]:
        """A sentence for each of the base and the first sentences that the adapter is not better than."""
        lead = f"{self.lead.name} of the article, for which no model is needed" if self.lead else ""
        sides = (("the base", self.against_base), (lead, self.against_lead))
        return [
            f"the adapter's {MAIN_METRIC} {_told(pair)} that of {name}: {pair.first:.3f} and {pair.second:.3f},"
            f" {interval_of(pair)}."
            for name, pair in sides
            if pair and pair.verdict != "better"
        ]

    @property
    def changed(self) -> float:
        """The share of rows that base and adapter summarise differently, from 0 to 1; 1 without a base."""
        if self.base is None:
            return 1.0
        return float(np.mean([b.text != a.text for b, a in zip(self.base, self.adapter, strict=True)]))

    def scores(self, summaries: list[Generation]) -> dict[str, float]:
        """Return the scores of one side."""
        return score_summaries(summaries, [row["summary"] for row in self.rows])

    @property
    def table(self) -> list[dict]:
        """One row an article, with the reference and both summaries."""
        base = [summary.text for summary in self.base] if self.base is not None else [None] * len(self.rows)
        found = [
            {"article": row["article"], "reference": row["summary"], "base_summary": before, "summary": after.text}
            for row, before, after in zip(self.rows, base, self.adapter, strict=True)
        ]
        return [row | {"lead": text} for row, text in zip(found, self.lead_texts, strict=True)] if self.lead else found

    def headline(self, title: str) -> str:
        """Return the scorecard in a line."""
        metrics = self.metrics
        base = f", by the base {metrics[f'{MAIN_METRIC}_base']:.3f}" if self.base is not None else ""
        told = ""
        if self.lead and self.against_lead:
            pair, name = self.against_lead, self.lead.name
            told = f", by {name} {pair.second:.3f}: {interval_of(pair)}, {sentence(pair, name, 'rows')}"
        return f"{title}: {MAIN_METRIC} {metrics[MAIN_METRIC]:.3f} on {len(self.rows)} rows{base}{told}"

    def format(self, title: str) -> str:
        """Return the scorecard as a table for the terminal."""
        metrics = self.metrics
        lines = [f"{title}: {len(self.rows)} rows", f"  {'':<20}{'base':>9}{'adapter':>9}{'delta':>9}"]
        for name in SCORES:
            before, after = metrics.get(f"{name}_base"), metrics[name]
            shown = (
                f"{before:>9.3f}{after:>9.3f}{after - before:>+9.3f}" if before is not None else f"{'':>9}{after:>9.3f}"
            )
            lines.append(f"  {name:<20}{shown}")
        low, high = metrics[f"{MAIN_METRIC}_low"], metrics[f"{MAIN_METRIC}_high"]
        if self.lead and self.against_lead:
            scores = ", ".join(f"{name} {value:.3f}" for name, value in self.lead_scores.items())
            lines.append(f"  {self.lead.name}: {scores}")
            lines.append(f"  {interval_of(self.against_lead)}: {sentence(self.against_lead, self.lead.name, 'rows')}")
        changed = f"; {self.changed:.0%} of the summaries changed" if self.base is not None else ""
        lines.append(f"  {MAIN_METRIC} {low:.3f} to {high:.3f} (95 %){changed}")
        return "\n".join(lines)

    def log(self, name: str, run_id: str, step: int, dataset: Dataset, model_id: str | None = None) -> None:
        """Log a scorecard into a run: metrics `NAME_...`, the table scorecard/NAME.json, a figure.

        Args:
            dataset, model_id: the data set and the logged model that the metrics are about.
        """
        metrics = {f"{name}_{key}": value for key, value in self.metrics.items()}
        tracking.log_metrics(metrics, step, run_id, dataset, model_id)
        figures.log_table(self.table, f"scorecard/{name}", run_id)
        sides = {"adapter": self.scores(self.adapter)}
        if self.base is not None:
            sides = {"base": self.scores(self.base)} | sides
        if self.lead:
            sides = {self.lead.name: self.lead_scores} | sides
        bars = {side: [scores[measure] for measure in ROUGE] for side, scores in sides.items()}
        figure = figures.score_bars(bars, list(ROUGE), f"{name}: {len(self.rows)} summaries")
        figures.log_figure(figure, f"{name}_rouge", run_id)


def summary_scorecard(
    summarizer: Summarizer, rows: list[dict], batch_size: int = 16, with_base: bool = True, lead: Lead | None = None
) -> SummaryScorecard:
    """Summarise rows with the adapter and, the adapter disabled, with the bare base: all else the same.

    All processes of a training do it together.

    Args:
        with_base: also with the base; without it the scorecard is of the adapter alone.
        lead: the first sentences, to be compared with.
    """
    articles = [row["article"] for row in rows]
    both, before = with_base and hasattr(summarizer.model, "disable_adapter"), None
    # Nobody knows of how many pieces long articles are.
    total = (1 + both) * own_share(articles) if summarizer.card.long_texts == "truncate" else None
    with Progress("articles, by adapter and base" if both else "articles", total, "summarised"):
        after = share_out(articles, lambda mine: summarizer.summarize(mine, batch_size))
        if both:
            with summarizer.model.disable_adapter():
                before = share_out(articles, lambda mine: summarizer.summarize(mine, batch_size))
    return SummaryScorecard(rows, before, after, lead)


def _told(pair: Paired) -> str:
    """Return what can be said of the first of a pair that is not better, up to the second."""
    if pair.verdict == "worse":
        return "is below"
    rows = f"{pair.rows} row{'s' if pair.rows != 1 else ''}"
    return f"cannot be told to be better, on {rows}, than" if pair.difference > 0 else "is not better than"


def interval_of(pair: Paired) -> str:
    """Return the difference of a pair with its 95 % interval."""
    return f"difference {pair.difference:+.3f} ({pair.low:+.3f} to {pair.high:+.3f})"
