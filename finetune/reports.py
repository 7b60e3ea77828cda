"""Figures and tables that a run shows to people."""

import matplotlib

matplotlib.use("Agg")  # No display; set before pyplot is imported.

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


def log_figure(figure: Figure, name: str) -> None:
    """Log a figure as figures/NAME.png of the active run and release it."""
    mlflow.log_figure(figure, f"figures/{name}.png")
    pyplot.close(figure)


def log_table(rows: list[dict], name: str) -> None:
    """Log rows as the table NAME.json of the active run, which MLflow shows as a table."""
    mlflow.log_table(pd.DataFrame(rows), f"{name}.json")


def _finish(figure: Figure) -> Figure:
    figure.tight_layout()
    return figure
