"""Files damaged at seeded places: a sentence or a right answer, soon, and nothing written elsewhere."""

import json
import os
import shutil
from pathlib import Path
from random import Random
from urllib.parse import urlparse

from finetune import runs, uploads
from finetune.checkpoint_models import log_checkpoint
from finetune.checkpoint_state import check_state
from finetune.console import InputError
from finetune.logged_models import CLASSIFICATION, SUMMARIZATION, TEXT_TO_SQL

import damage
import mlflow
import pytest
import torch
from conftest import TOKENIZERS, make_base
from spools import make_spool, new_run

PLACES = 200


@pytest.fixture(scope="module")
def tiny_decoder(tmp_path_factory) -> Path:
    """A tiny decoder."""
    return make_base(tmp_path_factory.mktemp("decoder") / "base", TOKENIZERS["byte-level"]())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, tiny_decoder, tiny_roberta, tiny_t5) -> dict[str, Path]:
    """A checkpoint of each task."""
    folder = tmp_path_factory.mktemp("checkpoints")
    bases = {TEXT_TO_SQL: tiny_decoder, CLASSIFICATION: tiny_roberta, SUMMARIZATION: tiny_t5}
    return {task: damage.make_checkpoint(task, base, folder / task / "checkpoint-5") for task, base in bases.items()}


@pytest.fixture(scope="module")
def logged(checkpoints) -> dict[str, Path]:
    """A logged model of each task, as a folder."""
    found = {}
    for task, checkpoint in checkpoints.items():
        run = new_run()
        log_checkpoint(mlflow.get_run(run.info.run_id), checkpoint, "model")
        found[task] = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/model"))
    return found


@pytest.fixture
def trial(tmp_path, tracking_store):
    """Damage a copy of a folder's file at seeded places, and try each; count what was refused."""

    def try_places(folder: Path, name: str, use, places: int = PLACES, seed: int = 0) -> int:
        refused = 0
        for place in range(seed, seed + places):
            work, random = damage.copy(folder, tmp_path / "work" / folder.name), Random(f"{name} {place}")
            how = damage.damage(work / name, random)
            sentence = ""
            try:
                with damage.guarded(tmp_path / "work", tracking_store):
                    use(work)
            except InputError as error:
                sentence = str(error)
            except BaseException as error:
                raise AssertionError(f"place {place} of {name}: {how}") from error
            refused += bool(sentence)
            assert len(sentence) < 3000, how
        return refused

    (tmp_path / "work").mkdir()
    (tmp_path / "outside").mkdir()
    return try_places


@pytest.fixture(scope="module")
def unsent(tmp_path_factory, checkpoints) -> Path:
    """The folder of a run with one line of each kind in its spool."""
    run = new_run()
    folder = tmp_path_factory.mktemp("unsent") / run.info.run_id
    return make_spool(folder, run.info.run_id, checkpoints[CLASSIFICATION])


def sync(folder: Path) -> None:
    """Send a spool; what is left of it stays within its folder."""
    runs.sync(folder.name, folder)


@pytest.fixture(scope="module")
def uploaded(checkpoints) -> Path:
    """The folder of a checkpoint among the artifacts of a run."""
    run = new_run()
    uploads.upload(run.info.run_id, checkpoints[CLASSIFICATION])
    return Path(urlparse(run.info.artifact_uri).path) / "checkpoints" / "checkpoint-5"


def use_manifest(folder: Path) -> None:
    """Read a manifest and what it is about."""
    uploads.read_manifest(folder / "manifest.json")


@pytest.fixture(scope="module")
def state(tmp_path_factory, checkpoints) -> Path:
    """A checkpoint with the state of a training."""
    folder = shutil.copytree(checkpoints[CLASSIFICATION], tmp_path_factory.mktemp("state") / "checkpoint-5")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(64))])
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    progress = {"loss_since_last_log": 0.5, "last_logged_step": 4, "logged_loss": 2.0, "pending_evaluation": False,
                "cut_off": False, "ended": False}  # fmt: skip
    (folder / "progress.json").write_text(json.dumps(progress))
    return folder


CHECKPOINT_FILES = {
    "finetune.json": (TEXT_TO_SQL, CLASSIFICATION, SUMMARIZATION),
    "adapter_config.json": (TEXT_TO_SQL, CLASSIFICATION, SUMMARIZATION),
    "adapter_model.safetensors": (CLASSIFICATION, SUMMARIZATION),
    "tokenizer.json": (CLASSIFICATION, SUMMARIZATION),
    "tokenizer_config.json": (CLASSIFICATION, SUMMARIZATION),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_any_damage_to_a_checkpoint_ends_in_a_sentence(name, checkpoints, trial):
    tasks = CHECKPOINT_FILES[name]
    refused = sum(
        trial(checkpoints[task], name, damage.answer, PLACES // len(tasks) + 1, 1000 * number)
        for number, task in enumerate(tasks)
    )
    print(f"{name}: {refused} refused")
    assert refused > PLACES / 3


@pytest.mark.slow
def test_any_damage_to_a_logged_model_ends_in_a_sentence(logged, trial):
    for number, task in enumerate(logged):
        refused = trial(logged[task], "MLmodel", damage.answer, PLACES // 3 + 1, 1000 * number)
        print(f"MLmodel of {task}: {refused} refused")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spool/journal.jsonl", "spool/run.json", "spool/sent"])
def test_any_damage_to_a_spool_ends_in_a_sentence(name, unsent, trial):
    (unsent / "spool" / "sent").write_text("1")
    print(f"{name}: {trial(unsent, name, sync, PLACES if 'journal' in name else PLACES // 5)} refused")


@pytest.mark.slow
def test_any_damage_to_a_manifest_ends_in_a_sentence(uploaded, trial):
    assert trial(uploaded, "manifest.json", use_manifest) > PLACES / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trainer_state.json", "progress.json", "optimizer.pt"])
def test_any_damage_to_the_state_of_a_training_ends_in_a_sentence(name, state, trial):
    print(f"{name}: {trial(state, name, check_state, PLACES)} refused")


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_a_checkpoint_damaged_at_a_few_places_ends_in_a_sentence(name, checkpoints, trial):
    trial(checkpoints[CLASSIFICATION], name, damage.answer, 5, 5000)


def test_a_spool_damaged_at_a_few_places_ends_in_a_sentence(unsent, trial):
    trial(unsent, "spool/journal.jsonl", sync, 5, 5000)


def test_what_is_not_damaged_answers_without_a_trace(checkpoints, logged, tmp_path, tracking_store):
    for folder in (*checkpoints.values(), *logged.values()):
        work = damage.copy(folder, tmp_path / "work" / folder.name)
        with damage.guarded(tmp_path / "work", tracking_store):
            damage.answer(work)


def test_the_guard_sees_what_is_written_elsewhere(tmp_path):
    (tmp_path / "outside").mkdir()
    for write in (
        lambda: (tmp_path / "outside" / "a").write_text("x"),
        lambda: (tmp_path / "outside" / "a").rename(tmp_path / "outside" / "b"),
        lambda: shutil.rmtree(tmp_path / "outside"),
    ):
        with pytest.raises(AssertionError, match="outside"), damage.guarded(tmp_path / "work"):
            write()


@pytest.mark.parametrize("task", [CLASSIFICATION, SUMMARIZATION, TEXT_TO_SQL])
@pytest.mark.parametrize("how", ["no file", "id", "empty", "model_max_length", "no pad", "class"])
def test_a_tokenizer_that_is_not_the_models_is_told(checkpoints, tmp_path, task, how):
    folder = damage.copy(checkpoints[task], tmp_path / "checkpoint-5")
    path, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if how == "no file":
        path.unlink()
        config.unlink()
    elif how == "id":
        known = json.loads(path.read_text())
        vocabulary = known["model"]["vocab"]
        moved = [[token, score] for token, score in vocabulary] if isinstance(vocabulary, list) else None
        if moved:  # A unigram model counts its ids: more tokens make larger ones.
            known["model"]["vocab"] = [*moved[:3], *([f"x{n}", -99.0] for n in range(9999)), *moved[3:]]
        else:
            known["model"]["vocab"] = {token: n if n < 9 else n + 9999 for token, n in vocabulary.items()}
        path.write_text(json.dumps(known))
    elif how == "empty":
        path.write_text("")
    elif how == "no pad":
        config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "pad_token"}))
    else:
        name, value = ("model_max_length", "x") if how == "model_max_length" else ("tokenizer_class", "os.system")
        config.write_text(json.dumps(json.loads(config.read_text()) | {name: value}))
    if how == "class" or (how == "no pad" and task != CLASSIFICATION):  # The file's own class is taken, EOS pads.
        damage.answer(folder)
        return
    with pytest.raises(InputError, match="tokenizer"):
        damage.answer(folder)


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth"])
def test_a_state_that_is_no_plain_file_or_says_nothing_is_told(checkpoints, tmp_path, name, monkeypatch):
    folder = damage.copy(checkpoints[CLASSIFICATION], tmp_path / "checkpoint-5")
    os.mkfifo(folder / name)
    with damage.guarded(tmp_path), pytest.raises(InputError, match=f"{name} is damaged: it is no plain file"):
        check_state(folder)
    (folder / name).unlink()
    (folder / name).touch()

    def fail(*_, **__):
        raise EOFError

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(InputError, match=f"{name} is damaged: EOFError"):
        check_state(folder)
