"""Files of checkpoints and models have the permissions of the umask, as other files have."""

import os
from pathlib import Path
from types import SimpleNamespace

import log_model
from finetune.logged_models.entries import ready_models
from finetune.models.card import Card
from finetune.permissions import share_files
from finetune.runs.sending import uploads
from finetune.training.callbacks import CardCallback

import mlflow
import pytest
from conftest import call
from made_runs import make_run
from safetensors.torch import save_file
from spools import make_card
from torch import zeros

MODES = [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)]


@pytest.fixture(params=MODES, ids=lambda mode: f"{mode[0]:03o}")
def umask(request):
    """Set a umask for one test; return it and the mode of a file under it."""
    mask, mode = request.param
    before = os.umask(mask)
    yield mask, mode
    os.umask(before)


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with two checkpoints, and their folder."""
    folder = tmp_path_factory.mktemp("made")
    return make_run(folder, {10: 1.0, 20: 2.0}), folder


def test_what_safetensors_writes_is_opened_to_the_umask(umask, tmp_path):
    save_file({"a": zeros(3)}, tmp_path / "adapter_model.safetensors")
    assert modes(tmp_path) == {0o600}
    share_files(tmp_path)
    assert modes(tmp_path) == {umask[1]}
    assert [path.name for path in tmp_path.iterdir()] == ["adapter_model.safetensors"]


def test_permissions_that_a_file_has_are_not_taken_away(umask, tmp_path):
    (tmp_path / "script").touch()
    (tmp_path / "script").chmod(0o755)
    share_files(tmp_path)
    assert modes(tmp_path) == {0o755 | umask[1]}


def test_a_checkpoint_is_shared_when_its_card_is_written(umask, tmp_path):
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    save_file({"a": zeros(3)}, folder / "adapter_model.safetensors")
    args, state = (
        SimpleNamespace(output_dir=tmp_path),
        SimpleNamespace(is_world_process_zero=True, global_step=3, epoch=1.0),
    )
    CardCallback(Card.read(make_card(tmp_path / "before", "0"))).on_save(args, state, None)
    assert modes(folder) == {umask[1]}
    assert len([*folder.iterdir()]) == 2


def test_a_model_and_an_uploaded_checkpoint_have_the_umask_of_who_logs_them(umask, made):
    run, folder = made
    for path in folder.rglob("*.safetensors"):  # As training left it before.
        path.chmod(0o600)
    name = f"mask-{umask[0]:03o}"
    assert call(log_model.main, run.info.run_id, "--no-reload-check", "--name", name) is None
    (model,) = ready_models(run, name)
    stored = Path(model.artifact_location.removeprefix("file://"))
    assert (stored / "peft" / "adapter_model.safetensors").stat().st_mode & 0o777 == umask[1]
    assert modes(stored) == {umask[1]}
    uploads.upload(run.info.run_id, folder / "checkpoint-20")
    uploaded = Path(mlflow.get_run(run.info.run_id).info.artifact_uri.removeprefix("file://")) / "checkpoints"
    adapter = uploaded / "checkpoint-20" / "adapter_model.safetensors"
    assert adapter.stat().st_mode & 0o777 & umask[1] == umask[1]
