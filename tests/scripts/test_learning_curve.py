"""A training on more and more of the rows: child runs of one run, and what its curve says."""

import train_classifier
import train_sql_generator
import train_summarizer
from finetune.runs import tracking
from finetune.runs.checkpoints import CURVE_TAG, PERCENT_TAG, STOPPED_TAG
from finetune.training import callbacks

import mlflow
import pandas as pd
import pytest
from conftest import CLASSIFIER_FLAGS, call
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

SHORT = ("--num-train-epochs", 1, "--save-total-limit", 1)


@pytest.fixture(scope="module")
def curve_flags(terms, tiny_roberta, tmp_path_factory) -> tuple:
    flags = ("--base-model", tiny_roberta, "--dataset", terms, *CLASSIFIER_FLAGS, *SHORT, "--log-checkpoints", "none")
    return (*flags, "--output-dir", tmp_path_factory.mktemp("curves"))


def children_of(run_id: str) -> dict[str, mlflow.entities.Run]:
    """Return the runs of the shares by percentage."""
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'"
    found = mlflow.search_runs(search_all_experiments=True, filter_string=query, output_format="list")
    return {run.data.tags[PERCENT_TAG]: run for run in found}


def rows_of(run: mlflow.entities.Run) -> int:
    return int(run.data.params["data.train_rows"])


def test_a_curve_is_stopped_and_goes_on_with_what_is_not_trained(curve_flags, capsys, monkeypatch):
    class Stopping(callbacks.TimeLimitCallback):
        def on_step_end(self, args, state, control, **kwargs):
            self.seconds = -1 if state.global_step == 3 else self.seconds  # in the second share
            super().on_step_end(args, state, control, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks, "TimeLimitCallback", Stopping)
        train_classifier.main([*map(str, curve_flags), "--learning-curve", "10", "50", "100", "--max-time", "1h"])
    run_id = capsys.readouterr().out.strip()
    assert len(run_id.split()) == 1
    first = children_of(run_id)
    assert {percent: STOPPED_TAG in run.data.tags for percent, run in first.items()} == {"10": False, "50": True}
    assert STOPPED_TAG in mlflow.get_run(run_id).data.tags
    train_classifier.main(["--resume", run_id])
    assert capsys.readouterr().out.strip() == run_id
    children, parent = children_of(run_id), mlflow.get_run(run_id)
    assert {percent: run.info.run_id for percent, run in children.items() if percent != "100"} == {
        percent: run.info.run_id for percent, run in first.items()
    }
    assert children["10"].info.end_time == first["10"].info.end_time  # not touched again
    begun = mlflow.artifacts.load_dict(f"runs:/{children['100'].info.run_id}/arguments.json")["arguments"]
    assert {"--compute_dtype=fp32", "--eval_strategy=epoch"} <= set(begun)  # of the curve, whatever is the default now
    assert {run.info.status for run in (*children.values(), parent)} == {"FINISHED"}
    assert STOPPED_TAG not in parent.data.tags
    assert parent.data.tags[CURVE_TAG] == "10, 50, 100"
    check_points(run_id, children)
    assert "is finished" in call(train_classifier.main, "--resume", run_id)


def check_points(run_id: str, children: dict) -> None:
    """Look at the curve that a run holds."""
    client = mlflow.MlflowClient()
    sizes = [rows_of(run) for run in children.values()]
    assert sorted(sizes)[-1] == 160
    assert sorted(sizes) == sorted(p.step for p in client.get_metric_history(run_id, "learning_curve_macro_f1"))
    table = pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run_id}/learning_curve.json"))
    assert list(table["train_rows"]) == sorted(sizes)
    for row in table.to_dict("records"):
        own = children[str(row["percent"])]
        assert row["run_id"] == own.info.run_id
        assert pd.isna(row["low"]) or row["low"] <= row["value"] <= row["high"]  # None: every resample is perfect.
        # The score of the checkpoint that it ended with: no other rows, no other thresholds.
        last = max(client.get_metric_history(own.info.run_id, "eval_macro_f1"), key=lambda point: point.step)
        assert row["value"] == pytest.approx(last.value)
    assert {one.path for one in client.list_artifacts(run_id, "figures")} == {"figures/learning_curve.png"}
    assert "Learning curve" in mlflow.get_run(run_id).data.tags["mlflow.note.content"]
    digests = [{i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs} for run in children.values()]
    assert len({found["validation_rows"] for found in digests}) == 1
    assert len({found["train_rows"] for found in digests}) == len(children)


def test_a_share_on_other_validation_rows_than_its_curve_is_not_trained(curve_flags, monkeypatch):
    client, experiment = mlflow.MlflowClient(), mlflow.get_experiment_by_name("classifier").experiment_id
    curve = client.create_run(experiment, tags={CURVE_TAG: "50, 100"}).info.run_id
    child = client.create_run(experiment, tags={MLFLOW_PARENT_RUN_ID: curve, PERCENT_TAG: "50"}).info.run_id
    tracking.log_dataset(child, [{"text": "another"}], ("text",), "a.jsonl", "validation_rows", "validation")
    monkeypatch.setenv("MLFLOW_RUN_ID", curve)
    monkeypatch.setenv("MLFLOW_NESTED_RUN", "true")
    said = call(train_classifier.main, *curve_flags, "--train-percent", 100, "--no-preflight")
    assert "its validation rows are not those that the other trainings of its learning curve have (digest " in said


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--learning-curve", 50), "at least two percentages"),
        (("--learning-curve", 50, 25), "each above the last"),
        (("--learning-curve", 25, 25), "each above the last"),
        (("--learning-curve", 0, 101), "whole numbers from 1 to 100"),
        (("--learning-curve", 25, "half"), "half"),
        (("--learning-curve", 25, 50, "--train-percent", 50), "--learning-curve and --train-percent"),
        (("--learning-curve", 25, 50, "--debug-sample", 10), "--learning-curve and --debug-sample"),
        (("--train-percent", 0), "whole numbers from 1 to 100"),
        (("--train-percent", 50, "--debug-sample", 10), "--train-percent and --debug-sample"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_run(flags, expected, curve_flags, monkeypatch):
    sentence = call(train_classifier.main, *curve_flags, *flags)
    assert expected in (sentence or "")
    assert sentence.endswith(".")


def test_the_other_scripts_refuse_what_has_no_points(curve_flags):
    for script in (train_sql_generator, train_summarizer):
        sentence = call(script.main, "--learning-curve", 25, 50, "--score-rows", 0, "--max-train-rows", 10)
        assert "needs --score-rows of at least 1" in sentence
        assert "--learning-curve and --max-train-rows" in sentence
