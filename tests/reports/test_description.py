"""What a run says of itself: the description that MLflow shows, and report.html."""

from types import SimpleNamespace

from finetune.page.choosing import scores as shown
from finetune.reports.explaining.description import describe, scores_of, warnings_of

import mlflow
import pytest
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

MARKUP = "<script>alert(1)</script>|`x`"


def made_run() -> str:
    experiment = mlflow.get_experiment_by_name("described") or mlflow.get_experiment(
        mlflow.create_experiment("described")
    )
    client = mlflow.MlflowClient()
    run_id = client.create_run(experiment.experiment_id, run_name=MARKUP).info.run_id
    for name, value in (("lora.r", 8), ("script.base_model", "/models/b"), ("data.source", MARKUP),
                        ("data.train_rows", 7), ("data.leak_share", 0.02)):  # fmt: skip
        client.log_param(run_id, name, value)
    for name, value in (("", 0.5), ("_low", 0.25), ("_high", 0.75), ("_base", 0.1)):
        client.log_metric(run_id, f"test_exec_accuracy{name}", value)
    return run_id


def test_the_description_has_score_interval_base_and_what_to_beware_of():
    run_id = made_run()
    mlflow.MlflowClient().set_tag(run_id, MLFLOW_RUN_NOTE, "My own words.")
    describe(run_id)
    describe(run_id)
    note = mlflow.get_run(run_id).data.tags[MLFLOW_RUN_NOTE]
    assert note.startswith("My own words.")
    assert note.count("| test | exec_accuracy | 0.500 | 0.250 to 0.750 | 0.100 |") == 1
    assert "An adapter of rank 8 on /models/b, trained on 7 rows" in note
    assert "--base-model" in note
    assert "2.0%" in note
    assert f"log_model.py {run_id}" in note
    assert "<script>" not in note.replace("\\<", "")
    page = mlflow.artifacts.load_text(f"runs:/{run_id}/report.html")
    assert "<td>0.250 to 0.750</td>" in page
    assert "<script>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_scores_of_classes_and_summaries():
    metrics = {"validation_macro_f1": 0.5, "validation_labels_macro_f1": 0.4, "eval_macro_f1": 0.1, "test_rougeL": 0.2}
    assert scores_of(metrics) == [
        ("validation", "macro_f1", "0.500", "", ""), ("test", "rougeL", "0.200", "", ""),
    ]  # fmt: skip


def test_scores_of_sql_are_its_own_and_each_stands_once():
    parts, measures = (
        {"test": 0.5, "final_against": 0.9, "gate_against": 0.8},
        ("exec_accuracy", "exec_accuracy_database"),
    )
    scores = {f"{part}_{measure}": value for part, value in parts.items() for measure in measures}
    bounds = {f"final_against_exec_accuracy{end}": 0.1 for end in ("_low", "_high", "_p", "_difference")}
    assert scores_of(scores | bounds) == [
        ("test", "exec_accuracy_database", "0.500", "", ""), ("test", "exec_accuracy", "0.500", "", ""),
    ]  # fmt: skip
    run = SimpleNamespace(data=SimpleNamespace(metrics=scores | bounds | {"eval_loss": float("nan"), "eval_f1": 0.1}))
    assert shown(run) == {"test_exec_accuracy": 0.5, "test_exec_accuracy_database": 0.5}


@pytest.mark.parametrize(
    ("parts", "warned"),
    [(["validation"], True), (["validation", "validation_distractors"], True), (["validation", "final"], False),
     (["test"], False)],
)  # fmt: skip
def test_a_run_that_is_scored_on_other_rows_is_not_said_to_be_scored_on_validation_alone(parts, warned):
    run = mlflow.MlflowClient().create_run("0")
    found = warnings_of(run, [(part, "f1", "0.500", "", "") for part in parts], True)
    assert any("validation rows alone" in text for text in found) == warned


def test_a_trained_and_logged_run_describes_itself(logged_model):
    note = mlflow.get_run(logged_model["run_id"]).data.tags[MLFLOW_RUN_NOTE]
    assert f"predict.py runs:/{logged_model['run_id']}/" in note
    assert "exec\\_accuracy" in note or "exec_accuracy" in note
    assert "data:image/png" in mlflow.artifacts.load_text(f"runs:/{logged_model['run_id']}/report.html")
