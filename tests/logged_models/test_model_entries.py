"""A run's models in MLflow: one that is not there to its end never hides a good one, and is cleared away."""

import logging
import os
import subprocess
import sys
import time

import log_model
import predict
from finetune.logged_models import entries
from finetune.logged_models.entries import PROCESS_TAG, logged_models, ready_models, this_process
from finetune.logged_models.opening import open_model
from finetune.runs.checkpoints import find_checkpoint

import mlflow
import pytest
from conftest import ROOT, call
from made_runs import make_run
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

QUICK = ("--no-reload-check",)
# log_model.py whose upload comes to a stop in the middle.
STOPPING = """
import os, sys, time
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

def stop(self, folder, path=None):
    self.log_artifact(os.path.join(folder, "MLmodel"))
    print("in the middle", flush=True)
    time.sleep(900)

LocalArtifactRepository.log_artifacts = stop
import log_model
log_model.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with three checkpoints, of which the second is the best."""
    return make_run(tmp_path_factory.mktemp("made"), {10: 3.0, 20: 1.0, 30: 2.0})


@pytest.fixture
def logged(run):
    """The run, with its best checkpoint as its only model."""
    assert call(log_model.main, run.info.run_id, *QUICK, "--replace") is None
    (model,) = ready_models(run, "model")
    return model


@pytest.fixture
def begin(run):
    """Make an entry that is not finished, as a process leaves it or is about to finish it; it goes with the test."""
    made, client = [], mlflow.MlflowClient()

    def make(process: str | None = None, name: str = "model", status: str | None = None) -> str:
        tags = {PROCESS_TAG: process} if process else None
        model = client.create_logged_model(run.info.experiment_id, name, run.info.run_id, tags)
        if status:
            client.finalize_logged_model(model.model_id, status)
        made.append(model.model_id)
        return model.model_id

    yield make
    for model_id in made:
        client.delete_logged_model(model_id)


def ended_process() -> str:
    """Return what a process that has ended wrote of itself."""
    code = "from finetune.logged_models.entries import this_process; print(this_process())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def dead() -> str:
    """A process that has ended."""
    return ended_process()


def uri_of(run) -> str:
    return f"runs:/{run.info.run_id}/model"


def plain_id(uri: str) -> str:
    """Return the id of the model that plain MLflow finds."""
    return mlflow.models.get_model_info(uri).model_id


@pytest.mark.parametrize("status", [None, "FAILED"])
def test_readers_take_the_newest_that_is_ready(run, logged, begin, dead, status, capsys):
    begin(dead, status=status)
    assert open_model(uri_of(run)).model_id == logged.model_id
    one = ("--question", "q", "--context", "CREATE TABLE t (a INTEGER)", "--param", "max_new_tokens=3")
    assert call(predict.main, uri_of(run), *one) is None
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("status", [None, "FAILED"])
def test_the_next_one_clears_away_what_an_ended_process_left(run, logged, begin, dead, status):
    left = begin(dead, status=status)
    assert call(log_model.main, run.info.run_id, *QUICK) is None
    assert left not in [model.model_id for model in logged_models(run)]
    assert plain_id(uri_of(run)) == logged.model_id


def test_what_is_being_logged_is_left(run, logged, begin, caplog):
    """By a process of this machine that runs; of another, or of nobody known, within the hour."""
    mine, elsewhere, unknown = begin(this_process()), begin("other-machine/pid:[1] 7 1700000000"), begin()
    assert call(log_model.main, run.info.run_id, *QUICK) is None
    assert {mine, elsewhere, unknown} <= {model.model_id for model in logged_models(run)}
    assert caplog.text.count("is being logged by another process") == 3


def test_what_another_machine_left_goes_after_an_hour(run, logged, begin, monkeypatch):
    mine, elsewhere, unknown = begin(this_process()), begin("other-machine/pid:[1] 7 1700000000"), begin()
    monkeypatch.setattr(entries, "ABANDONED", 0)
    assert call(log_model.main, run.info.run_id, *QUICK) is None
    ids = {model.model_id for model in logged_models(run)}
    assert mine in ids
    assert not {elsewhere, unknown} & ids


def test_an_entry_of_another_name_is_not_touched(run, logged, begin, dead):
    other = begin(dead, name="other")
    assert call(log_model.main, run.info.run_id, *QUICK) is None
    assert other in {model.model_id for model in logged_models(run)}


def test_one_that_is_killed_while_it_uploads_hides_nothing(run, logged):
    command = [sys.executable, "-c", STOPPING, run.info.run_id, *QUICK, "--checkpoint", "30"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "in the middle\n"
    assert plain_id(uri_of(run)) != logged.model_id  # Plain MLflow does not look at what is ready ...
    assert open_model(uri_of(run)).model_id == logged.model_id
    process.kill()
    process.wait()
    deadline = time.monotonic() + 120
    while len(logged_models(run, "model")) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert plain_id(uri_of(run)) == logged.model_id  # ... and finds it again.
    assert [model.model_id for model in logged_models(run, "model")] == [logged.model_id]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_one_that_fails_takes_its_entry_away(run, logged, error, monkeypatch):
    def fail(self, *arguments):
        raise error

    monkeypatch.setattr(LocalArtifactRepository, "log_artifacts", fail)
    try:
        refused = call(log_model.main, run.info.run_id, *QUICK, "--checkpoint", 30)
        assert "cannot be written: [Errno 28] No space left on device" in refused
    except KeyboardInterrupt:
        pass
    assert [model.model_id for model in logged_models(run, "model")] == [logged.model_id]
    assert plain_id(uri_of(run)) == logged.model_id


def test_the_same_checkpoint_is_logged_once(run, logged, caplog, capsys):
    caplog.set_level(logging.INFO)
    assert call(log_model.main, run.info.run_id, *QUICK) is None
    assert capsys.readouterr().out == f"{uri_of(run)}\n"
    assert [model.model_id for model in logged_models(run, "model")] == [logged.model_id]
    assert f"is this checkpoint already (best by eval_loss, step 20): model {logged.model_id}" in caplog.text


def test_another_checkpoint_of_the_name_is_said_and_replaced(run, logged, caplog):
    caplog.set_level(logging.INFO)
    assert call(log_model.main, run.info.run_id, *QUICK, "--checkpoint", 30) is None
    newest, older = ready_models(run, "model")
    assert older.model_id == logged.model_id
    assert f"is model {newest.model_id} (step 30, by --checkpoint 30)" in caplog.text
    assert f"has 2 models named model: {newest.model_id}" in caplog.text
    assert "--replace" in caplog.text
    assert open_model(uri_of(run)).step == 30
    # The first again: the name stands for another one now.
    assert call(log_model.main, run.info.run_id, *QUICK, "--replace") is None
    (only,) = ready_models(run, "model")
    assert (open_model(uri_of(run)).step, open_model(uri_of(run)).model_id) == (20, only.model_id)


def test_a_registered_model_is_not_replaced(run, logged, caplog):
    mlflow.register_model(f"models:/{logged.model_id}", "kept")
    try:
        assert call(log_model.main, run.info.run_id, *QUICK, "--checkpoint", 30, "--replace") is None
        assert logged.model_id in {model.model_id for model in ready_models(run, "model")}
        assert f"model {logged.model_id} is registered" in caplog.text
    finally:
        mlflow.MlflowClient().delete_logged_model(logged.model_id)


def test_a_model_whose_files_are_gone_is_logged_again(run, logged):
    files = mlflow.MlflowClient().get_logged_model(logged.model_id).artifact_location.removeprefix("file://")
    os.rename(files, f"{files}-away")
    assert call(log_model.main, run.info.run_id, *QUICK, "--replace") is None
    assert ready_models(run, "model")[0].model_id != logged.model_id


def test_a_changed_checkpoint_is_another_one(run, logged):
    card = find_checkpoint(run, "best")[0] / "README.md"
    card.write_text("# not needed to predict\n")
    assert call(log_model.main, run.info.run_id, *QUICK) is None
    assert ready_models(run, "model")[0].model_id == logged.model_id
    card = find_checkpoint(run, "best")[0] / "finetune.json"
    before = card.read_text()
    card.write_text(before.replace('"max_length": 512', '"max_length": 500'))
    assert call(log_model.main, run.info.run_id, *QUICK, "--replace") is None
    card.write_text(before)
    assert ready_models(run, "model")[0].model_id != logged.model_id


def test_the_reload_check_says_which_model_and_why(run, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("finetune.runs.reload_check.replay", lambda model, card: [[1, 2]])
    assert call(log_model.main, run.info.run_id, "--checkpoint", "last", "--name", "checked") is None
    (model,) = logged_models(run, "checked")
    assert f"reload check of model {model.model_id} (last, step 30): 1 of 1" in caplog.text


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "../x", "a:b", "a.b", "a'b", 'a"b', "a%b", "a\nb", " a", "a ", "a" * 251]
)
def test_names_that_mlflow_refuses_are_refused_before_anything(name):
    assert "cannot be a model's name" in call(log_model.main, "0123abc", "--name", name)


def test_why_a_checkpoint_is_taken(run, tmp_path):
    steps = {which: find_checkpoint(run, which) for which in ("best", "last", "10")}
    assert {which: (path.name, why) for which, (path, why) in steps.items()} == {
        "best": ("checkpoint-20", "best by eval_loss, step 20"),
        "last": ("checkpoint-30", "last, step 30"),
        "10": ("checkpoint-10", "step 10, by --checkpoint 10"),
    }
    assert find_checkpoint(run) == steps["best"]  # What training ended with, where nothing else is said.
    other = make_run(tmp_path / "last", {5: 1.0, 6: 2.0}).info.run_id
    mlflow.MlflowClient().log_param(other, "load_best_model_at_end", False)
    assert find_checkpoint(mlflow.get_run(other))[1] == "last, step 6"
    unscored = make_run(tmp_path / "unscored", {5: None})
    assert find_checkpoint(unscored, "best")[1] == "last, step 5: nothing was evaluated"
    gone = make_run(tmp_path / "gone", {5: 1.0, 6: 2.0})
    (tmp_path / "gone" / "checkpoint-5" / "trainer_state.json").unlink()
    assert find_checkpoint(gone, "best")[1] == "last, step 6: the best, step 5, is no longer there"
