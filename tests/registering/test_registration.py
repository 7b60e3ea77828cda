"""A model into the registry: its version, tags and alias, and what is refused."""

import logging
from pathlib import Path

import log_model
from finetune.logged_models.entries import ready_models, write_digests
from finetune.logged_models.opening import open_model
from finetune.logged_models.uris import find_files
from finetune.models.card import Card
from finetune.registering import registration
from finetune.registering.versions import find_holder, has_own_weights
from finetune.runs.checkpoints import find_checkpoint

import mlflow
import pytest
from conftest import call
from made_runs import make_run

UNCHECKED = "--no-reload-check"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with two checkpoints that were never trained."""
    return make_run(tmp_path_factory.mktemp("registered") / "outputs", {10: 2.0, 20: 1.0})


def test_a_version_is_made_once_with_its_tags_and_the_alias_moves(made, capsys, caplog):
    caplog.set_level(logging.INFO)
    flags = (made.info.run_id, UNCHECKED, "--register", "two steps", "--alias", "champion")
    assert call(log_model.main, *flags, "--checkpoint", 10, "--tag", "stage=a=b", "--tag", "by=me", "who=you") is None
    assert capsys.readouterr().out.splitlines() == [f"runs:/{made.info.run_id}/model", "models:/two steps@champion"]
    first = find_holder("two steps", "champion")
    assert first.tags == {"stage": "a=b", "by": "me", "who": "you", "finetune.task": "text-to-sql"}
    assert first.run_id == made.info.run_id
    assert open_model("models:/two steps@champion").step == 10
    assert call(log_model.main, *flags, "--checkpoint", 10, "--tag", "stage=c") is None
    again = find_holder("two steps", "champion")
    assert (again.version, again.tags["stage"], again.tags["by"]) == (first.version, "c", "me")
    assert "the alias champion is at version 1, this model, already" in caplog.text
    assert call(log_model.main, *flags, "--checkpoint", 20) is None
    assert find_holder("two steps", "champion").version != first.version
    assert open_model("models:/two steps@champion").step == 20
    assert "the alias champion moves from version 1 to version 2" in caplog.text
    assert len(mlflow.MlflowClient().search_model_versions("name = 'two steps'")) == 2


def test_what_was_killed_before_the_alias_moved_is_taken_up_again(made, monkeypatch, capsys):
    flags = (made.info.run_id, UNCHECKED, "--register", "killed", "--alias", "champion")

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registration, "move_alias", die)
        with pytest.raises(KeyboardInterrupt):
            call(log_model.main, *flags)
    assert find_holder("killed", "champion") is None
    assert call(log_model.main, *flags) is None
    assert find_holder("killed", "champion").version == 1
    assert len(mlflow.MlflowClient().search_model_versions("name = 'killed'")) == 1


def test_a_model_that_needs_its_base_is_said(made, caplog):
    assert call(log_model.main, made.info.run_id, UNCHECKED, "--register", "based") is None
    base = Card.read(find_checkpoint(made, "best")[0]).base_model
    assert f"version 1 of based needs its base, which is not in it: {base}. Who loads it needs that too" in caplog.text
    (model, *_) = ready_models(made, "model")
    assert not has_own_weights(model.model_id)
    client = mlflow.MlflowClient()
    client.log_model_artifact(model.model_id, str(Path(base) / "model.safetensors"), "model")  # and then killed
    assert not has_own_weights(model.model_id)
    caplog.clear()
    assert call(log_model.main, made.info.run_id, UNCHECKED, "--persist", "--register", "whole") is None
    assert has_own_weights(model.model_id)
    assert "needs its base" not in caplog.text


def test_a_model_of_an_older_version_is_known_by_its_files(made, tmp_path):
    assert call(log_model.main, made.info.run_id, UNCHECKED, "--name", "older") is None
    (model, *_) = ready_models(made, "older")
    write_digests(find_files(f"models:/{model.model_id}"), {})
    assert not has_own_weights(model.model_id)
    (tmp_path / "model.onnx").touch()
    mlflow.MlflowClient().log_model_artifact(model.model_id, str(tmp_path / "model.onnx"), "artifacts/checkpoint")
    assert has_own_weights(model.model_id)
