"""`last` in the place of a run's id: the newest run that fits, named, and one sentence where none does."""

import argparse
import logging
import time
from pathlib import Path

import evaluate_model
import log_model
import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune import InputError, resuming
from finetune.logged_models import last_run
from finetune.logged_models.checkpoint_files import FOLDER_TAG, TASK_TAG
from finetune.logged_models.opening import open_model
from finetune.logged_models.uris import name_last
from finetune.runs.checkpoints import CURVE_TAG, PERCENT_TAG, STOPPED_TAG

import mlflow
import pytest
from conftest import call
from made_runs import make_run
from mlflow.entities import LoggedModelStatus, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID


@pytest.fixture
def store(tmp_path, monkeypatch) -> str:
    """An experiment of its own, which MLFLOW_EXPERIMENT_NAME names; its id."""
    name = f"last-{tmp_path.name}-{time.time_ns()}"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return mlflow.create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())


def with_checkpoint(experiment: str, tmp_path: Path, second: int, status: str = "FINISHED", **tags) -> Run:
    """Make a run with a checkpoint of its own."""
    client, folder = mlflow.MlflowClient(), tmp_path / f"outputs-{second}"
    run = make_run(folder, {10: 1.0}, experiment)
    for name, value in ({TASK_TAG: "text-to-sql"} | tags).items():
        client.set_tag(run.info.run_id, name, value)
    client.update_run(run.info.run_id, status)
    return client.get_run(run.info.run_id)


def add_model(run: Run, name: str = "model", ready: bool = True):
    client = mlflow.MlflowClient()
    model = client.create_logged_model(run.info.experiment_id, name, run.info.run_id)
    if ready:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model


def ours(experiment: str, second: int, status: str = "FINISHED", **tags) -> Run:
    """Make a run of a training script here, without checkpoints."""
    client = mlflow.MlflowClient()
    tags = {FOLDER_TAG: "/nowhere", TASK_TAG: "text-to-sql"} | tags
    run_id = client.create_run(experiment, start_time=1000 * second, tags=tags).info.run_id
    client.set_terminated(run_id, status)
    return client.get_run(run_id)


@pytest.mark.parametrize("reference", ["last", "runs:/last", "runs:/last/", "runs:/last/model", "runs:/last/my model"])
def test_what_means_the_last_run(reference):
    assert last_run.is_last(reference)


@pytest.mark.parametrize("reference", ["lastly", "runs:/lastly/model", "models:/last@prod", "outputs/last", "a" * 32])
def test_what_does_not(reference):
    assert not last_run.is_last(reference)


def test_the_newest_run_with_such_a_model_is_taken_and_named(store, caplog):
    caplog.set_level(logging.INFO)
    older, newer, unready, bare, gone = (ours(store, second) for second in (10, 20, 30, 40, 50))
    for run in (older, newer, gone):
        add_model(run)
    add_model(newer, "checkpoint-5")
    add_model(unready, ready=False)
    mlflow.delete_run(gone.info.run_id)
    foreign = mlflow.MlflowClient().create_run(store, start_time=60_000)
    add_model(foreign)
    assert name_last("runs:/last/model") == name_last("runs:/last/model/") == f"runs:/{newer.info.run_id}/model"
    assert name_last("last") == name_last("runs:/last") == f"runs:/{newer.info.run_id}"
    assert name_last("runs:/last/checkpoint-5") == f"runs:/{newer.info.run_id}/checkpoint-5"
    said = f"last is run {newer.info.run_id} ({newer.info.run_name}): text-to-sql, begun 1970-01-01 00:00 UTC, FINISHED"
    assert said in caplog.text
    assert bare.info.run_id not in caplog.text


def test_the_newest_is_found_behind_many_that_do_not_fit(store, monkeypatch):
    monkeypatch.setattr(last_run, "PAGE", 2)
    wanted = ours(store, 10)
    add_model(wanted)
    for second in range(20, 27):
        ours(store, second)
    assert name_last("runs:/last/model") == f"runs:/{wanted.info.run_id}/model"


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (predict.main, ("runs:/last/model", "--question", "q", "--context", "CREATE TABLE a (b TEXT)")),
        (predict.main, ("last", "--text", "t")),
        (evaluate_model.main, ("runs:/last/model", "--dataset", "demo/text_to_sql.jsonl", "--max-rows", 1)),
        (log_model.main, ("last",)),
        (log_model.main, ("runs:/last",)),
        (train_sql_generator.main, ("--resume", "last")),
        (train_classifier.main, ("--resume", "last")),
        (train_summarizer.main, ("--resume=last",)),
    ],
)
def test_a_sentence_where_no_run_fits(store, main, arguments):
    ours(store, 10)
    sentence = call(main, *arguments)
    assert sentence.startswith("last: no run in sqlite:///")
    assert ", experiment last-" in sentence
    assert "\n" not in sentence


def test_an_experiment_that_does_not_exist_has_no_run(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "no such experiment")
    assert "experiment no such experiment, has a checkpoint" in call(log_model.main, "last")


def test_log_model_logs_the_newest_run_with_a_checkpoint(store, tmp_path, capsys):
    run = with_checkpoint(store, tmp_path, 1)
    ours(store, int(time.time()) + 60)  # Newer, and without a checkpoint.
    assert call(log_model.main, "last", "--no-reload-check") is None
    assert capsys.readouterr().out == f"runs:/{run.info.run_id}/model\n"
    assert open_model(name_last("runs:/last/model")).card.task == "text-to-sql"


def test_resuming_takes_the_newest_of_its_task_that_was_cut_off(store, tmp_path, monkeypatch):
    flags = argparse.Namespace(experiment="sql-generator")
    find = lambda task: resuming._find_last(flags, ["--resume", "last"], task).info.run_id  # noqa: E731
    cut = with_checkpoint(store, tmp_path, 1, "FAILED")
    stopped = with_checkpoint(store, tmp_path, 2, "FINISHED", **{STOPPED_TAG: "max-time"})
    with_checkpoint(store, tmp_path, 3, "FINISHED")
    other = with_checkpoint(store, tmp_path, 4, "KILLED", **{TASK_TAG: "classification"})
    ours(store, int(time.time()) + 60, "KILLED")
    assert find("text-to-sql") == stopped.info.run_id
    assert find("classification") == other.info.run_id
    mlflow.delete_run(stopped.info.run_id)
    assert find("text-to-sql") == cut.info.run_id
    with pytest.raises(InputError, match=r"no run in .* is a training of summarization that was cut off"):
        find("summarization")
    # Of a learning curve that has more to do, the curve is taken, whatever its newest training came to.
    client, names = mlflow.MlflowClient(), {CURVE_TAG: "50, 100", TASK_TAG: "text-to-sql"}
    curve = client.create_run(store, tags=names).info.run_id
    part = {MLFLOW_PARENT_RUN_ID: curve, PERCENT_TAG: "50"}
    ours(store, int(time.time()) + 120, "FINISHED", **part)
    for status in ("KILLED", "RUNNING"):
        client.update_run(curve, status)
        assert find("text-to-sql") == curve
    client.update_run(curve, "FINISHED")
    assert find("text-to-sql") == cut.info.run_id
    # --experiment comes before the variable.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "no such experiment")
    flags.experiment = mlflow.get_experiment(store).name
    found = resuming._find_last(flags, ["--resume", "last", "--experiment", flags.experiment], "text-to-sql")
    assert found.info.run_id == cut.info.run_id
