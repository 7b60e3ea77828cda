"""Figures and tables that a run shows to people."""

from itertools import count
from pathlib import PurePosixPath

import matplotlib

matplotlib.use("Agg")  # No display; set before pyplot is imported.

from finetune.rows.supervision import Supervision, format_audit
from finetune.runs import trackers, tracking
from finetune.runs.sending import journal
from metrics.sql_execution.sql_execution import wilson

import mlflow
import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure


def loss_curve(history: list[dict]) -> Figure:
    """Return training and evaluation loss by step, from `trainer.state.log_history`."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "validation", "o-")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
    axes.set(xlabel="optimiser step", ylabel="cross-entropy on the completion (nats a token)", title="Loss")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _finish(figure)


def token_lengths(lengths: dict[str, list[int]], max_length: int) -> Figure:
    """Return a histogram of tokens a row for each split, with the limit marked."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.hist(list(lengths.values()), bins=40, label=list(lengths), density=True)
    if max(map(max, lengths.values())) > max_length / 2:
        axes.axvline(max_length, color="black", linestyle="--", label=f"--max-length {max_length}")
    axes.set(xlabel="tokens a row (prompt and completion)", ylabel="density", title="Token lengths of the kept rows")
    axes.legend()
    return _finish(figure)


def before_and_after(base: dict, adapter: dict, name: str) -> Figure:
    """Return bars of base and adapter with Wilson 95 % intervals, from the scores of metrics/sql_execution."""
    measures = {"exec_accuracy": "same result", "exact_ast": "same query", "valid": "runs", "ended": "ends by itself"}
    counts = {"ended": adapter["rows"]}
    if adapter.get("exec_accuracy_database_rows"):
        measures = {"exec_accuracy_database": "same result on\nthe database"} | measures
        counts["exec_accuracy_database"] = adapter["exec_accuracy_database_rows"]
    rows = [counts.get(measure, adapter["rows_scored"]) for measure in measures]
    shares = {label: [scores[measure] for measure in measures] for label, scores in _pair(base, adapter)}
    return _bars(shares, rows, list(measures.values()), f"{name}: {adapter['rows_scored']} questions")


def accuracy_by_shape(base: dict, adapter: dict, name: str) -> Figure:
    """Return execution accuracy by shape of gold with Wilson 95 % intervals; a row may have several shapes."""
    shapes = adapter["by_shape"]
    rows = [shape["rows"] for shape in shapes.values()]
    shares = {label: [scores["by_shape"][s]["exec_accuracy"] for s in shapes] for label, scores in _pair(base, adapter)}
    labels = [f"{shape}\n{total} rows" for shape, total in zip(shapes, rows, strict=True)]
    return _bars(shares, rows, labels, f"{name}: same result as gold, by shape of the query")


def score_bars(scores: dict[str, list[float]], labels: list[str], title: str) -> Figure:
    """Return bars of scores from 0 to 1, side by side for each label."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    width = 0.8 / len(scores)
    for offset, (side, values) in enumerate(scores.items()):
        bars = axes.bar(
            [place + width * offset for place in range(len(values))], values, width=0.95 * width, label=side
        )
        axes.bar_label(bars, fmt="%.2f")
    axes.set_xticks([place + width * (len(scores) - 1) / 2 for place in range(len(labels))], labels)
    axes.set(ylim=(0, 1.1), ylabel="F-measure", title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return _finish(figure)


def _pair(base: dict, adapter: dict) -> tuple:
    return ("base", base), ("adapter", adapter)


def _bars(shares: dict[str, list[float]], rows: list[int], labels: list[str], title: str) -> Figure:
    figure, axes = pyplot.subplots(figsize=(8, 4.2))
    for offset, (label, values) in enumerate(shares.items()):
        places = [place + 0.4 * offset - 0.2 for place in range(len(values))]
        axes.bar(places, values, width=0.38, label=label)
        for place, value, total in zip(places, values, rows, strict=True):
            low, high = wilson(round(value * total), total)
            axes.errorbar(place, value, [[max(0, value - low)], [max(0, high - value)]], color="black", capsize=3)
            axes.text(place, high + 0.02, f"{value:.0%}", ha="center")
    axes.set_xticks(range(len(labels)), labels)
    axes.set(ylim=(0, 1.15), ylabel="share of the questions", title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return _finish(figure)


def log_figure(figure: Figure, name: str, run_id: str | None = None) -> None:
    """Log a figure as figures/NAME.png of a run, by default the one in training, and release it."""
    tracking.log_file(f"figures/{name}.png", figure.savefig, run_id)
    trackers.show_figure(figure, name, run_id)
    pyplot.close(figure)


def log_table(rows: list[dict], name: str, run_id: str | None = None) -> None:
    """Log rows as the table NAME.json of a run, by default the one in training; MLflow shows it as a table.

    After training, where the run has a table of that name, this one becomes NAME-2.json, and so on: none is lost,
    and MLflow would append to the first.
    """
    frame = pd.DataFrame(rows)
    if running := journal.active_journal(run_id):
        # As MLflow writes tables. A training that goes on after a cut writes the same table again.
        running.file(f"{name}.json", lambda path: frame.to_json(path, orient="split", index=False), table=True)
        trackers.show_table(frame, name, running.run_id)
        return
    folder = str(PurePosixPath(f"{name}.json").parent)
    artifacts = mlflow.MlflowClient().list_artifacts(run_id, None if folder == "." else folder)
    taken = {artifact.path for artifact in artifacts}
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    file = next(f"{free}.json" for free in names if f"{free}.json" not in taken)
    mlflow.log_table(frame, file, run_id=run_id)


def log_supervision(report: dict, splits: dict[str, Supervision], max_length: int) -> None:
    """Log the audit of the run in training, as data and as it was printed, and how long the rows are."""
    tracking.log_dict(report, "supervision_audit.json")
    tracking.log_text(format_audit(report), "supervision_audit.txt")
    lengths = {name: list(split.dataset["length"]) for name, split in splits.items()}
    log_figure(token_lengths(lengths, max_length), "token_lengths")


def log_reload_check(step: int, **expected: list) -> None:
    """Log what the trained model answers to the card's sample: log_model.py compares the logged model with it.

    Args:
        step: of the weights that answer.
        expected: `token_ids` or `scores`, a list for each row of the sample; of tokens by how much the `margins` were.
    """
    tracking.log_dict({"step": step} | expected, "reload_check.json")


def _finish(figure: Figure) -> Figure:
    figure.tight_layout()
    return figure
