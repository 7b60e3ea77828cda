"""Points of a learning curve with known truths: intervals, what twice the rows would give, and when nobody can say."""

import json

from finetune import InputError
from finetune.models.classifier.labels import Labels
from finetune.reports.curves.curve import LearningCurve, Point
from finetune.reports.curves.row_scores import FILE, RowScores
from finetune.reports.curves.showing import figure_of, log_curve, sentences, table
from finetune.training.flags.recorded_flags import without_flags

import mlflow
import numpy as np
import pytest
from matplotlib import pyplot
from sklearn.metrics import f1_score


def curve_of(shares: dict[int, float], sizes: list[int] | None = None, rows: int = 2000) -> LearningCurve:
    """Return a curve of rows that are right or wrong, so many of them at each percentage."""
    points = []
    for place, (percent, right) in enumerate(shares.items()):
        scores = [float(n < round(right * rows)) for n in range(rows)]
        points.append(
            Point(percent, (sizes or [10 * p for p in shares])[place], f"run{percent}", RowScores("acc", scores))
        )
    return LearningCurve(points)


def power_law(rows: float) -> float:
    return 1 - 0.9 * rows**-0.3


def test_a_power_law_is_found_again_and_its_interval_holds_it():
    sizes = [250, 500, 1000]
    curve = curve_of({percent: power_law(n) for percent, n in zip((25, 50, 100), sizes, strict=True)}, sizes, 5000)
    assert curve.at(2000).value == pytest.approx(power_law(2000), abs=1e-3)
    assert curve.twice_gain.value == pytest.approx(power_law(2000) - power_law(1000), abs=1e-3)
    assert curve.twice_gain.low < curve.twice_gain.value < curve.twice_gain.high
    assert curve.misfit < 1e-3
    said = " ".join(sentences(curve))
    assert "Twice the rows (2,000) would give about 0.90" in said
    assert "power law" in said
    assert "another seed" in said
    assert f"{curve.twice_gain.signed} above the {curve.at(1000).value:.3f} that the fit gives for 1,000 rows" in said
    assert f"where {curve.values[-1]:.3f} was measured" in said


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ({50: 0.5, 100: 0.7}, "it has 2 points"),
        ({25: 0.700, 50: 0.701, 100: 0.700}, "no difference can be told between 25 % and 100 %"),
        ({25: 0.8, 50: 0.7, 100: 0.6}, "more rows made it worse"),
        ({25: 0.5, 50: 0.7, 100: 0.72}, "the fitted line misses a point by 0.0"),
    ],
)
def test_what_a_curve_does_not_allow_is_said_plainly(shares, reason):
    curve = curve_of(shares)
    said = " ".join(sentences(curve))
    assert f"What twice the rows would give cannot be said from this curve: {reason}" in said
    assert "would give about" not in said
    assert len(figure_of(curve).axes[0].get_lines()) == 3  # points and caps, no fit
    pyplot.close("all")


def test_rows_are_paired_and_those_without_gold_in_one_are_left_out():
    one, two = [1.0, 0.0, None, 1.0] * 50, [1.0, 1.0, 1.0, None] * 50
    curve = LearningCurve([Point(50, 5, "a", RowScores("acc", one)), Point(100, 10, "b", RowScores("acc", two))])
    assert curve.evaluated == 100
    assert curve.values.tolist() == [0.5, 1.0]
    rows = table(curve)
    assert [row["gain"] for row in rows] == [None, 0.5]
    assert (rows[1]["low"], rows[1]["value"], rows[1]["high"]) == (None, 1.0, None)  # No resample says anything else.
    other = RowScores("acc", one[:-1])
    with pytest.raises(InputError, match="same validation rows"):
        LearningCurve([Point(50, 5, "a", RowScores("acc", one)), Point(100, 10, "b", other)])


@pytest.mark.parametrize(
    ("rows", "reason", "is_told"),
    [
        (5, "5 of the 5 validation rows come out differently, and fewer than 6 tell nothing", False),
        (12, "all validation rows moved alike between 25 % and 100 % of the rows, which gives no interval", True),
    ],
)
def test_intervals_without_width_are_not_shown_and_allow_no_estimate(rows, reason, is_told):
    curve = curve_of({25: 0.0, 50: 0.0, 100: 1.0}, rows=rows)
    said = " ".join(sentences(curve))
    assert reason in said
    assert "would give about" not in said
    assert "+1.000 (no interval)" in said
    assert ("which cannot be told from none" not in said) == is_told
    assert table(curve)[2]["gain_low"] is None
    with mlflow.start_run() as run:
        log_curve(curve, run.info.run_id)
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    assert metrics["learning_curve_acc"] == 1
    assert "learning_curve_acc_low" not in metrics


def test_rare_labels_that_a_resample_lacks_do_not_count_as_wrong():
    actual = np.zeros((100, 9), dtype=int)
    actual[range(9), range(9)] = 1  # a row of each label, 91 of none
    wrong = actual.copy()
    wrong[9:30, 0] = 1
    labels = Labels("multilabel", tuple("abcdefghi"))
    points = [
        Point(percent, percent, "run", RowScores.of_labels(labels, decided, actual))
        for percent, decided in ((50, wrong), (100, actual))
    ]
    curve = LearningCurve(points)
    assert (curve.shares[1].value, curve.shares[1].low) == (1, 1)
    assert curve.moved(0, 1) == 21


def test_scores_of_labels_are_those_of_the_task_and_come_back_from_a_run():
    random = np.random.default_rng(0)
    decided, actual = random.integers(0, 2, (60, 3)), random.integers(0, 2, (60, 3))
    for task, columns in (("multilabel", 3), ("binary", 1)):
        labels = Labels(task, ("a", "b", "c")[: max(2, columns)])
        scores = RowScores.of_labels(labels, decided[:, :columns], actual[:, :columns])
        with mlflow.start_run() as run:
            scores.log(run.info.run_id)
        found = RowScores.read(run.info.run_id)
        assert found == scores
        value = found.score(np.ones(60, bool))(np.ones((1, 60)))[0]
        none = [np.column_stack([side[:, :columns], ~side[:, :columns].any(axis=1)]) for side in (actual, decided)]
        sides = none if task == "multilabel" else (actual[:, 0], decided[:, 0])
        expected = f1_score(*sides, average="macro" if task == "multilabel" else "binary")
        assert value == pytest.approx(expected)


def test_damaged_scores_are_refused_with_the_file(tmp_path):
    with mlflow.start_run() as run:
        (tmp_path / "validation_by_row.json").write_text(json.dumps({"metric": "acc", "scores": ["x"]}))
        mlflow.log_artifact(str(tmp_path / "validation_by_row.json"), FILE.rpartition("/")[0])
    with pytest.raises(InputError, match=r"validation_by_row.json of run \w+ is damaged"):
        RowScores.read(run.info.run_id)


def test_flags_of_the_curve_are_not_those_of_its_trainings():
    given = ["--learning_curve", "25", "50", "--seed", "1", "--max-time=2h", "--labels", "a", "b", "--run-name", "x"]
    assert without_flags(given, ("--learning-curve", "--max-time", "--run-name")) == [
        "--seed",
        "1",
        "--labels",
        "a",
        "b",
    ]
