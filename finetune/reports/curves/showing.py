"""A learning curve in words, as a table, as metrics by rows and as a figure, in the run that it is of."""

from finetune.reports import figures
from finetune.reports.curves.curve import CAVEAT, Estimate, LearningCurve
from finetune.reports.explaining.description import OWN

import mlflow
import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

NAME = "learning_curve"


def sentences(curve: LearningCurve) -> list[str]:
    """Return what the curve says: its points, its last step, what twice the rows would give or why that is unknown."""
    points = zip(curve.points, curve.shares, strict=True)
    shown = ", ".join(f"{share} on {point.rows:,} rows ({point.percent} %)" for point, share in points)
    first, second = (point.percent for point in curve.points[-2:])
    step = curve.gain(-2, -1)
    told = "" if curve.tells(-2, -1) else ", which cannot be told from none"
    lines = [
        f"{curve.metric} on {curve.evaluated:,} validation rows, with 95 % intervals: {shown}.",
        f"From {first} % to {second} % of the rows: {step.signed}{told}.",
    ]
    if curve.why_not:
        return [*lines, f"What twice the rows would give cannot be said from this curve: {curve.why_not}.", CAVEAT]
    most = int(curve.sizes[-1])
    return [
        *lines,
        f"Twice the rows ({2 * most:,}) would give about {curve.at(2 * most)}, if the error goes on falling by the same"
        f" share with each doubling of the rows (a power law, fitted to the points). That is {curve.twice_gain.signed}"
        f" above the {curve.at(most).value:.3f} that the fit gives for {most:,} rows, where {curve.values[-1]:.3f} was"
        f" measured; it misses the points by up to {curve.misfit:.3f}. Mostly an error falls more slowly in the end, so"
        " this is rather too good than too bad.",
        CAVEAT,
    ]


def table(curve: LearningCurve) -> list[dict]:
    """Return one row a share; what is not known, as the ends of no interval, is None."""
    return [
        {
            "percent": point.percent, "train_rows": point.rows, "metric": curve.metric, "value": share.value,
            "low": share.bounds and share.low, "high": share.bounds and share.high, "gain": gain and gain.value,
            "gain_low": gain and gain.bounds and gain.low, "gain_high": gain and gain.bounds and gain.high,
            "run_id": point.run_id,
        }
        for place, (point, share) in enumerate(zip(curve.points, curve.shares, strict=True))
        for gain in [curve.gain(place - 1, place) if place else None]
    ]  # fmt: skip


def figure_of(curve: LearningCurve) -> Figure:
    """Return the points over the rows with their intervals, and the fit to twice the rows where there is one."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    shares = curve.shares
    bounds = [[max(0.0, s.value - s.low) for s in shares], [max(0.0, s.high - s.value) for s in shares]]
    axes.errorbar(curve.sizes, curve.values, bounds, fmt="o", capsize=4, label="trained, 95 % of the validation rows")
    ticks = [*curve.sizes]
    if not curve.why_not:
        rows = np.geomspace(curve.sizes[0], 2 * curve.sizes[-1], 50)
        fitted = [curve.at(each) for each in rows]
        axes.plot(rows, [each.value for each in fitted], "--", label="fitted power law, to twice the rows")
        axes.fill_between(rows, [each.low for each in fitted], [each.high for each in fitted], alpha=0.15)
        ticks.append(2 * curve.sizes[-1])
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="training rows", ylabel=curve.metric, title=f"{curve.metric} on {curve.evaluated:,} rows")
    axes.legend(loc="lower right")
    figure.tight_layout()
    return figure


def log_curve(curve: LearningCurve, run_id: str) -> None:
    """Log it into a run: metrics by rows, a table, a figure, and the words as the run's description."""
    for point, share in zip(curve.points, curve.shares, strict=True):
        _log(f"{NAME}_{curve.metric}", share, point.rows, run_id)
    if not curve.why_not:
        twice = 2 * int(curve.sizes[-1])
        _log(f"twice_rows_{curve.metric}", curve.at(twice), twice, run_id)
        _log("twice_rows_gain", curve.twice_gain, twice, run_id)
    figures.log_table(table(curve), NAME, run_id)
    figures.log_figure(figure_of(curve), NAME, run_id)
    note = "\n\n".join([OWN, "## Learning curve", *sentences(curve)])
    mlflow.MlflowClient().set_tag(run_id, MLFLOW_RUN_NOTE, note)


def _log(name: str, found: Estimate, rows: int, run_id: str) -> None:
    ends = {f"{name}_low": found.low, f"{name}_high": found.high} if found.bounds else {}
    metrics = {name: found.value} | ends
    mlflow.log_metrics(metrics, step=rows, run_id=run_id)
