"""What a model's URI names, and why there is none: each cause its own sentence."""

import logging
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import log_model
from finetune.checkpoints import digest_of
from finetune.console import InputError
from finetune.logged_models import open_model
from finetune.model_entries import ready_models
from finetune.model_files import on_this_disk

import mlflow
import pytest
from conftest import call
from made_runs import make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of an experiment of its own with one checkpoint and one model, and their folder."""
    folder = tmp_path_factory.mktemp("made")
    experiment = mlflow.create_experiment("uris", artifact_location=(folder / "old" / "artifacts").as_uri())
    run = make_run(folder / "outputs", {10: 1.0}, experiment)
    assert call(log_model.main, run.info.run_id, "--no-reload-check") is None
    (model,) = ready_models(run, "model")
    return run, model.model_id, folder


def why(uri: object) -> str:
    """Return why there is no such model."""
    with pytest.raises(InputError) as refused:
        open_model(str(uri))
    return str(refused.value)


def test_spellings_that_name_one_model_are_taken(made, caplog):
    caplog.set_level(logging.INFO)
    run, model_id, folder = made
    uri = f"runs:/{run.info.run_id}"
    spellings = [f"{uri}/model", f"{uri}/model/", uri, f"{uri}/", run.info.run_id, f"models:/{model_id}", model_id]
    spellings += [f"{run.info.run_id}/model", f" {uri}/model ", f"runs:/{model_id}", f"models:{model_id}/"]
    for spelling in spellings:
        assert open_model(spelling).model_id == model_id, spelling
    assert f"has one model: {uri}/model" in caplog.text
    for place in (folder / "outputs" / "checkpoint-10", f"{folder / 'outputs' / 'checkpoint-10'}/"):
        assert open_model(str(place)).step == 10


def test_what_names_no_model_is_said_at_once(made, tmp_path):
    run_id = made[0].info.run_id
    for host in ("http://127.0.0.1:5000", "HTTPS://mlflow.example/a"):
        page = why(f"{host}/#/experiments/1/runs/{run_id}/artifacts")
        assert "is the address of a page" in page
        assert f"runs:/{run_id}" in page
    assert "no model is named" in why(" ")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "private").mkdir(mode=0)
    for folder in (tmp_path, "/"):  # Not read through: it may hold millions of files.
        assert "no MLmodel and no finetune.json" in why(folder)


def test_a_registered_model_is_found_by_version_and_alias(made):
    version = mlflow.register_model(f"models:/{made[1]}", "of-the-uris").version
    mlflow.MlflowClient().set_registered_model_alias("of-the-uris", "prod", version)
    for uri in (f"models:/of-the-uris/{version}", "models:/of-the-uris@prod", "models:/of-the-uris@prod/"):
        assert open_model(uri).model_id == made[1]
    assert "not found" in why("models:/of-the-uris@other")


def test_a_run_with_several_models_is_not_guessed(made):
    run, _, _ = made
    assert call(log_model.main, run.info.run_id, "--no-reload-check", "--name", "other") is None
    (other,) = ready_models(run, "other")
    try:
        for spelling in (f"runs:/{run.info.run_id}", f"runs:/{run.info.run_id}/", run.info.run_id):
            text = why(spelling)
            assert "names a run and not one of its models" in text
            assert f"runs:/{run.info.run_id}/model, runs:/{run.info.run_id}/other" in text
    finally:
        mlflow.MlflowClient().delete_logged_model(other.model_id)


def test_what_is_not_there_is_said_with_what_is(made):
    run, _, folder = made
    uri = f"runs:/{run.info.run_id}"
    assert f"no model {uri}/modle in {mlflow.get_tracking_uri()}; give one of the run's models: {uri}/model" in why(
        f"{uri}/modle"
    )
    assert f"as in {uri}/model" in why(f"{uri}/model/peft")
    assert "no model" in why(f"{uri}/it's")
    assert "which has no run 0123abc" in why("runs:/0123abc/model")
    assert "names no run" in why("runs:/")
    for uri in ("models:/nobody@prod", "models:/nobody/1", "models:/nobody"):
        assert "not found" in why(uri)
    assert "deleted, or is in another store" in why(f"models:/m-{'0' * 32}")
    assert "checkpoint-10" in why(folder / "outputs")
    assert "no MLmodel and no finetune.json" in why(folder)
    assert "it is no folder here" in why(folder / "none")
    assert "log_model.py" in why("a-word")
    empty = mlflow.MlflowClient().create_run(run.info.experiment_id).info.run_id
    assert f"the run has no model: `python log_model.py {empty}` logs one" in why(f"runs:/{empty}")


def test_a_deleted_run_and_a_deleted_experiment_come_back_by_the_command_that_is_said(made):
    run, model_id, _ = made
    client, uri = mlflow.MlflowClient(), f"runs:/{run.info.run_id}/model"
    client.delete_run(run.info.run_id)
    text = why(uri)
    client.restore_run(run.info.run_id)
    assert f"`mlflow runs restore --run-id {run.info.run_id}`" in text
    client.delete_experiment(run.info.experiment_id)
    text = why(uri)
    client.restore_experiment(run.info.experiment_id)
    assert f"`mlflow experiments restore --experiment-id {run.info.experiment_id}`" in text
    assert open_model(uri).model_id == model_id


def test_a_half_logged_model_is_said_so(made):
    run, _, _ = made
    client, info = mlflow.MlflowClient(), run.info
    for name, command in (("half", " --name half"), ("checkpoint-7", " --checkpoint 7")):
        model = client.create_logged_model(info.experiment_id, name, info.run_id)
        for uri in (f"runs:/{info.run_id}/{name}", f"models:/{model.model_id}"):
            assert "is still being logged" in why(uri)  # By whom is not known: within the hour it may be.
        client.finalize_logged_model(model.model_id, "FAILED")
        for uri in (f"runs:/{info.run_id}/{name}", f"models:/{model.model_id}"):
            text = why(uri)
            assert "was not logged to its end" in text
            assert f"`python log_model.py {info.run_id}{command}`" in text
        client.delete_logged_model(model.model_id)


@pytest.mark.parametrize("keep_root", [True, False])
def test_moved_files_are_found_again_by_what_is_said(made, keep_root, monkeypatch):
    """A folder that was moved with all its artifacts: the store still has the old place."""
    run, model_id, folder = made
    old, new, uri = folder / "old", folder / "new place", f"runs:/{run.info.run_id}/model"
    monkeypatch.chdir(folder)
    shutil.move(old, new)
    if keep_root:
        old.mkdir()
    try:
        text = why(uri)
        assert f"{mlflow.get_tracking_uri()} looks for them in {old}/artifacts" in text
        assert "NEW_PLACE" in text  # It cannot be known where they are.
        monkeypatch.chdir(new)
        text = why(uri)
        place, command = text.partition("seem to be in ")[2].split(": give")[0], text.split("`")[1]
        assert Path(place).is_relative_to(new)
        assert open_model(place).model_id == model_id
        subprocess.run(command, shell=True, check=True)
        assert open_model(uri).model_id == model_id
    finally:
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink(missing_ok=True)
        shutil.move(new, old)


def test_a_model_that_has_lost_files_is_said_so(made):
    run, model_id, _ = made
    place = Path(mlflow.MlflowClient().get_logged_model(model_id).artifact_location.removeprefix("file://"))
    for name in ("MLmodel", "peft/adapter_model.safetensors"):
        (place / name).rename(place / "away")
        text = why(f"runs:/{run.info.run_id}/model")
        (place / "away").rename(place / name)
        assert "is not whole" in text
        assert Path(name).name in text


@contextmanager
def another_user():
    """Be a user that is not root: root may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared(made):
    """A copy of the checkpoint where another user can come to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copytree(made[2] / "outputs" / "checkpoint-10", folder / "below" / "checkpoint-10")
    yield folder / "below" / "checkpoint-10"
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("which", "command"),
    [("adapter_model.safetensors", "chmod -R a+rX"), ("finetune.json", "chmod -R a+rX"), (".", "chmod -R a+rX"),
     ("..", "chmod a+x")],
)  # fmt: skip
def test_files_that_this_user_may_not_read_are_named(shared, which, command):
    place = (shared / which).resolve()
    for path in shared.rglob("*"):
        path.chmod(0o644)
    place.chmod(0)
    with another_user():
        texts = [why(shared)]
        if place == shared or place == shared.parent:  # As of a store's own folder.
            with pytest.raises(InputError) as refused:
                on_this_disk(str(shared), "runs:/x/model")
            texts.append(str(refused.value))
    place.chmod(0o755)
    for text in texts:
        assert "cannot be read by this user" in text
        assert f"{place} belongs to user" in text
        assert "permissions 0000" in text
        assert command in text
    with another_user():
        assert open_model(str(shared)).step == 10


def test_the_optimiser_of_a_checkpoint_may_be_private(shared):
    for path in shared.rglob("*"):
        path.chmod(0o644)
    (shared / "optimizer.pt").touch(mode=0)
    with another_user():
        assert open_model(str(shared)).step == 10


def test_what_is_no_file_is_not_read(made, shared):
    before = digest_of(shared)
    os.mkfifo(shared / "pipe.json")  # Whoever opens it waits for ever.
    (shared / "tokens").mkdir()
    (shared / "vocab.txt").symlink_to("nowhere")
    assert digest_of(shared) == before
    assert open_model(str(shared)).step == 10
    shared.chmod(0o444)  # Its names can be listed, and nothing in it looked at.
    with another_user():
        assert "cannot be read by this user" in why(shared)
    shared.chmod(0o755)
