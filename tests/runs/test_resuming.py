"""A run that goes on: elsewhere, from what is whole, with the same rows, base and settings, or not at all."""

import fcntl
import json
import logging
import pickle
import shutil
import signal
import time
from pathlib import Path
from urllib.parse import urlparse

import log_model
import train_classifier
import train_sql_generator
from finetune import InputError, stopping
from finetune.models.card import TEXT_TO_SQL
from finetune.resuming import _move_best, parse_resumable
from finetune.runs.checkpoints import list_checkpoints
from finetune.runs.sending import uploads
from finetune.training import callbacks
from finetune.training.flags.recorded_flags import absolute, settings_of
from finetune.training.flags.script_parser import ScriptParser
from finetune.training.mixed_precision import settle_precision

import mlflow
import pytest
from conftest import DEMO_BASE, call, logged_models, stop_after
from encoders import make_encoder
from faults import history
from safetensors.torch import load_file
from spools import make_card, new_run


@pytest.fixture
def stopped_run(classifier_run, tmp_path, monkeypatch, capsys) -> str:
    """A run of the classifier that was stopped by its time limit within the second epoch; its folder is tmp_path/a."""
    with monkeypatch.context() as patched:
        stop_after(patched, 23)
        flags = (*classifier_run["flags"], "--output-dir", tmp_path / "a", "--max-time", "1h", "--logging-steps", 3)
        assert call(train_classifier.main, *flags) is None
    return capsys.readouterr().out.split()[-1]


def artifact_folder(run_id: str) -> Path:
    """Return the folder in which the artifacts of a run are."""
    return Path(urlparse(mlflow.get_run(run_id).info.artifact_uri).path)


def last_weights(folder: Path) -> dict:
    """Return the adapter of the last step."""
    return load_file(folder / "checkpoint-40" / "adapter_model.safetensors")


def same(one: dict, other: dict) -> bool:
    """Say whether two adapters are the same bit for bit."""
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in other)


def test_on_another_machine_it_goes_on_from_the_newest_whole_checkpoint(
    stopped_run, classifier_run, tmp_path, terms, tiny_roberta, capsys, caplog
):
    assert uploads.uploaded_steps(stopped_run) == [10, 20, 23]
    checkpoints = artifact_folder(stopped_run) / "checkpoints"
    # The newest is half uploaded, the one before damaged: neither is taken.
    (checkpoints / "checkpoint-23" / "manifest.json").unlink()
    weights = checkpoints / "checkpoint-20" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    assert not (checkpoints / "checkpoint-20" / "training_args.bin").exists()  # A pickle: never from elsewhere.
    shutil.rmtree(tmp_path / "a")
    # Rows and base lie in another place there.
    shutil.copytree(terms, tmp_path / "rows")
    shutil.copytree(tiny_roberta, tmp_path / "base")
    flags = ("--dataset", tmp_path / "rows", "--base-model", tmp_path / "base", "--output-dir", tmp_path / "b")
    assert call(train_classifier.main, "--resume", stopped_run, *flags) is None
    assert capsys.readouterr().out.split()[-1] == stopped_run
    assert "checkpoint-20 in MLflow is damaged" in caplog.text
    run = mlflow.get_run(stopped_run)
    assert "from checkpoint-10, was FINISHED; last logged step 21" in run.data.tags["finetune.resumed"]
    assert run.data.tags["param_drift.dataset"].endswith(f"-> {tmp_path / 'rows'}")
    assert same(
        last_weights(tmp_path / "b" / stopped_run), last_weights(classifier_run["folder"] / classifier_run["id"])
    )
    points = history(stopped_run)
    assert [step for step, _ in points["loss"]] == [1, *range(3, 40, 3)]
    assert [step for step, _ in points["eval_loss"]] == [10, 20, 23, 30, 40]
    assert all(len({step for step, _ in found}) == len(found) for found in points.values())
    # Uploaded again, and models of all: from here the run can be logged where no folder is left.
    assert uploads.uploaded_steps(stopped_run) == [10, 20, 30, 40]
    shutil.rmtree(tmp_path / "b")
    assert call(log_model.main, stopped_run, "--checkpoint", "last", "--no-reload-check") is None


def test_another_setting_is_refused_where_it_changes_what_is_trained(stopped_run, tmp_path):
    resume = ("--resume", stopped_run)
    before = mlflow.get_run(stopped_run)
    for flag, value, shown in (
        ("--learning-rate", 0.5, "--learning-rate 0.01 -> 0.5"), ("--num-train-epochs", 9, "--num-train-epochs"),
        ("--lora-r", 4, "--lora-r 16 -> 4"), ("--per-device-train-batch-size", 8, "samples a step|--per-device"),
    ):  # fmt: skip
        refused = call(train_classifier.main, *resume, flag, value)
        assert any(part in refused for part in shown.split("|"))
    # Other rows, another base: by what they hold, not by where they lie.
    other = shutil.copytree(Path(before.data.params["script.dataset"]), tmp_path / "other")
    lines = (other / "train.jsonl").read_text().splitlines()
    (other / "train.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert "train rows are not those that it was trained on" in call(train_classifier.main, *resume, "--dataset", other)
    base = make_encoder(tmp_path / "other-base", "roberta", seed=5)
    assert "another base fingerprint" in call(train_classifier.main, *resume, "--base-model", base)
    edited = shutil.copytree(before.data.params["script.base_model"], tmp_path / "edited")
    fields = json.loads((edited / "config.json").read_text())
    (edited / "config.json").write_text(json.dumps(fields | {"hidden_dropout_prob": 0.5}))
    changed = call(train_classifier.main, *resume, "--base-model", edited)
    assert "its base's configuration was changed: hidden_dropout_prob 0.5 (in training 0.1)" in changed
    after = mlflow.get_run(stopped_run)
    assert (after.info.status, after.data.metrics) == (before.info.status, before.data.metrics)
    # Two accumulated batches of 8 are the 16 samples a step that it had; the tag says so.
    flags = ("--per-device-train-batch-size", 8, "--gradient-accumulation-steps", 2, "--save-total-limit", 1,
             "--run-name", "renamed")  # fmt: skip
    assert before.info.run_name.startswith("classifier-")
    assert call(train_classifier.main, *resume, *flags) is None
    tags = mlflow.get_run(stopped_run).data.tags
    assert mlflow.get_run(stopped_run).info.run_name == "renamed"
    assert tags["param_drift.run_name"] == "None -> renamed"
    assert tags["param_drift.per_device_train_batch_size"] == "16 -> 8"
    assert tags["param_drift.save_total_limit"] == "None -> 1"
    assert tags["param_drift.script.max_time"] == "1h -> None"


def test_a_damaged_checkpoint_is_told_before_the_run_is_touched(stopped_run, tmp_path):
    before, folder = mlflow.get_run(stopped_run), tmp_path / "a" / stopped_run / "checkpoint-23"
    damages = {
        "optimizer.pt": lambda data: data[: len(data) // 2],
        "rng_state.pth": lambda data: pickle.dumps(print),
        "trainer_state.json": lambda data: b'{"global_step": 23, "nothing": 1}',
        "progress.json": lambda data: b"{}",
        "finetune.json": lambda data: data[:99],
        "adapter_config.json": lambda data: data.replace(
            b'"layer_replication": null', b'"layer_replication": [[0, 9]]'
        ),
        "adapter_model.safetensors": lambda data: data[:-8],
    }
    for name, damaged in damages.items():
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(damaged(kept))
        sentence = call(train_classifier.main, "--resume", stopped_run)
        assert f"checkpoint-23/{name} is damaged" in sentence
        assert sentence.endswith(f"To go on from the checkpoint before it, delete {folder}.")
        (folder / name).write_bytes(kept)
    after = mlflow.get_run(stopped_run)
    assert (after.info.status, after.data.tags) == (before.info.status, before.data.tags)
    assert after.data.metrics["loss"] == before.data.metrics["loss"]
    assert call(train_classifier.main, "--resume", stopped_run) is None


def test_a_token_among_the_flags_is_refused():
    assert "HF_TOKEN" in call(train_classifier.main, "--hub-token", "hf_secret")


def test_one_process_at_a_time(stopped_run, tmp_path):
    with (tmp_path / "a" / stopped_run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process trains the run" in call(train_classifier.main, "--resume", stopped_run)


def test_checkpoints_that_are_nowhere_are_named(classifier_run, tmp_path, monkeypatch, capsys):
    stop_after(monkeypatch, 13)
    flags = (*classifier_run["flags"], "--output-dir", tmp_path, "--max-time", "1h", "--log-checkpoints", "none")
    assert call(train_classifier.main, *flags) is None
    run_id = capsys.readouterr().out.split()[-1]
    assert logged_models(mlflow.get_run(run_id)) == []
    (tmp_path / run_id).rename(tmp_path / "elsewhere")
    for _ in range(2):
        assert "its checkpoints are no longer in" in call(train_classifier.main, "--resume", run_id)
        assert mlflow.get_run(run_id).info.status == "FINISHED"
        assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    (tmp_path / "elsewhere").rename(tmp_path / run_id)
    assert call(train_classifier.main, "--resume", run_id) is None


@pytest.mark.parametrize("at", ["evaluation", pytest.param("step", marks=pytest.mark.slow)])
def test_an_evaluation_that_is_cut_off_is_made_up_for(classifier_run, tmp_path, monkeypatch, capsys, at):
    """With dropout: the evaluation draws from the random state, and the next steps do."""
    flags = (*classifier_run["flags"], "--lora-dropout", 0.1, "--logging-steps", 3)

    class Signalled(callbacks.StopCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if at == "step" and state.global_step == 20:
                stopping._received.append((signal.SIGTERM, time.monotonic()))
            super().on_step_end(args, state, control, **kwargs)

        def on_epoch_end(self, args, state, control, **kwargs):
            if at == "evaluation" and state.global_step == 20:
                stopping._received.append((signal.SIGTERM, time.monotonic()))

    with monkeypatch.context() as patched:
        patched.setattr(callbacks, "StopCallback", Signalled)
        with pytest.raises(KeyboardInterrupt):
            call(train_classifier.main, *flags, "--output-dir", tmp_path)
    stopping._received.clear()
    (folder,) = tmp_path.iterdir()
    assert mlflow.get_run(folder.name).info.status == "KILLED"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-10", "checkpoint-20"]
    assert json.loads((folder / "checkpoint-20" / "progress.json").read_text())["pending_evaluation"]
    assert [step for step, _ in history(folder.name)["eval_loss"]] == [10]
    assert call(train_classifier.main, "--resume", folder.name) is None
    assert call(train_classifier.main, *flags, "--output-dir", tmp_path / "whole") is None
    whole = capsys.readouterr().out.split()[-1]
    assert same(last_weights(folder), last_weights(tmp_path / "whole" / whole))
    assert history(folder.name) == history(whole)
    found = [sorted(model.name for model in logged_models(mlflow.get_run(run))) for run in (folder.name, whole)]
    assert found[0] == found[1]


def test_a_stop_before_the_first_step_leaves_no_checkpoint(classifier_run, tmp_path, monkeypatch):
    """The evaluation of --eval-on-start is cut off; there is no step to save."""

    class Signalled(callbacks.StopCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            super().on_train_begin(args, state, control, **kwargs)
            stopping._received.append((signal.SIGTERM, time.monotonic()))

    monkeypatch.setattr(callbacks, "StopCallback", Signalled)
    with pytest.raises(KeyboardInterrupt):
        call(train_classifier.main, *classifier_run["flags"], "--eval-on-start", "--output-dir", tmp_path)
    stopping._received.clear()
    (folder,) = tmp_path.iterdir()
    assert mlflow.get_run(folder.name).info.status == "KILLED"
    assert list(folder.glob("checkpoint-*")) == []


def test_a_run_from_before_packing_goes_on_padded(tmp_path):
    """What a run was started with stays, where a default has become another one since."""
    arguments = ["--base-model", str(DEMO_BASE), "--output-dir", str(tmp_path)]
    parser = ScriptParser(train_sql_generator.Flags, train_sql_generator.SqlTrainingArguments, description="")
    flags, args = parser.parse([*arguments, "--train-sampling-strategy", "group_by_length"])
    settle_precision(flags, args, TEXT_TO_SQL)
    before = settings_of(flags, args)
    for name in (
        "compute_dtype",
        "packing",
        "max_tokens_per_batch",
        "checkpoint_every_n_layers",
        "preflight",
        "preflight_only",
        "adapter",
        "database",
        "tables",
        "values",
        "split_by",
        "rows",
        "trust_role",
    ):
        del before[name]
    before["max_length"] = 512
    with mlflow.start_run() as run:
        mlflow.log_dict({"arguments": arguments, "settings": before}, "arguments.json")
    mlflow.MlflowClient().update_run(run.info.run_id, "FAILED")
    flags, args, origin = parse_resumable(parser, ["--resume", run.info.run_id], TEXT_TO_SQL)
    assert not flags.packing
    assert flags.compute_dtype == "bf16"  # That was the only one then.
    assert args.train_sampling_strategy == "group_by_length"
    # Its rows are held out as they were, and it is scored as a new one is.
    assert (flags.max_length, flags.split_by, flags.rows) == (512, "schema-of-any-size", True)
    assert {"split_by", "rows", "trust_role", "values", "max_length", "database"}.isdisjoint(origin.drift)
    assert {"compute_dtype", "bf16", "fp16", "packing", "train_sampling_strategy"}.isdisjoint(origin.drift)
    with pytest.raises(InputError, match="--packing False -> True"):
        parse_resumable(parser, ["--resume", run.info.run_id, "--packing", "true"], TEXT_TO_SQL)
    with pytest.raises(InputError, match="--split-by schema-of-any-size -> query"):
        parse_resumable(parser, ["--resume", run.info.run_id, "--split-by", "query"], TEXT_TO_SQL)
    assert "rows" in parse_resumable(parser, ["--resume", run.info.run_id, "--no-rows"], TEXT_TO_SQL)[2].drift


@pytest.mark.parametrize("value", ["models:/m-0123", "runs:/0123/model", "models:/sql@best"])
def test_what_names_a_model_is_recorded_as_it_is_beside_a_folder_of_that_name(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    for name in ("models", "runs"):
        (tmp_path / name).mkdir()
    assert absolute(["--adapter", value, "--seed", "1"]) == ["--adapter", value, "--seed", "1"]
    assert absolute([f"--adapter={value}"]) == [f"--adapter={value}"]
    assert absolute(["--adapter", "models"]) == ["--adapter", str(tmp_path / "models")]
    assert absolute(["--dataset", "models:3", "runs"]) == [
        "--dataset", f"{tmp_path / 'models'}:3", str(tmp_path / "runs"),
    ]  # fmt: skip


@pytest.fixture
def own_run(tmp_path) -> dict:
    """A run that was killed, its folder with two checkpoints, and what it was started with, all by hand."""
    run, folder = new_run(), tmp_path / "made" / "here"
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    for step in (5, 10):
        make_card(folder / f"checkpoint-{step}", run_id)
    arguments = ["--base-model", str(DEMO_BASE), "--output-dir", str(tmp_path / "of the store")]
    client.log_dict(run_id, {"arguments": arguments}, "arguments.json")
    client.set_tag(run_id, "finetune.checkpoints", str(folder))
    client.update_run(run_id, "FAILED")
    return {"id": run_id, "folder": folder}


def resumed_folder(run_id: str, *arguments) -> Path:
    """Return where a run would go on."""
    parser = ScriptParser(train_sql_generator.Flags, train_sql_generator.SqlTrainingArguments, description="")
    return Path(parse_resumable(parser, ["--resume", run_id, *map(str, arguments)], TEXT_TO_SQL)[1].output_dir)


def test_a_run_goes_on_where_its_own_checkpoints_are(own_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resumed_folder(own_run["id"]) == own_run["folder"]
    assert resumed_folder(own_run["id"], "--output-dir", tmp_path / "b") == tmp_path / "b" / own_run["id"]
    assert list(list_checkpoints(mlflow.get_run(own_run["id"]))) == [5, 10]
    # Another run's checkpoint beside them is not this run's; a damaged card is told when it is read.
    make_card(own_run["folder"] / "checkpoint-15", "other")
    (own_run["folder"] / "checkpoint-10" / "finetune.json").write_text("{")
    assert list(list_checkpoints(mlflow.get_run(own_run["id"]))) == [5, 10]


def test_a_run_goes_on_where_what_it_has_not_sent_is(own_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(own_run["folder"])
    (own_run["folder"] / "spool").mkdir(parents=True)
    (own_run["folder"] / "spool" / "run.json").write_text(json.dumps({"run_id": own_run["id"]}))
    assert resumed_folder(own_run["id"]) == own_run["folder"]


def test_a_run_that_began_offline_goes_on_with_the_cards_of_then(own_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    offline = "offline-" + "0" * 32
    for step in (5, 10):
        shutil.rmtree(own_run["folder"] / f"checkpoint-{step}")
        make_card(own_run["folder"] / f"checkpoint-{step}", offline)
    assert resumed_folder(own_run["id"]) == tmp_path / "outputs" / own_run["id"]
    mlflow.MlflowClient().set_tag(own_run["id"], "finetune.offline_id", offline)
    assert resumed_folder(own_run["id"]) == own_run["folder"]


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again_in_its_folder(own_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "made" / own_run["id"]
    (folder / "checkpoint-5").mkdir(parents=True)  # Cut off within its first save.
    mlflow.MlflowClient().set_tag(own_run["id"], "finetune.checkpoints", str(folder))
    assert resumed_folder(own_run["id"]) == folder
    (folder / "notes.txt").write_text("of somebody")
    assert resumed_folder(own_run["id"]) == tmp_path / "outputs" / own_run["id"]


@pytest.mark.parametrize("what", ["other", "nothing", "relative", "link", "gone", "NUL", "home", "spool of another"])
def test_no_path_of_the_store_is_followed(own_run, tmp_path, monkeypatch, caplog, what):
    """Neither the tag nor the recorded --output-dir: not to read, not to write."""
    monkeypatch.chdir(tmp_path)
    places = {"relative": "made/here", "NUL": f"{own_run['folder']}\0", "home": "~"}
    place = places.get(what, str(tmp_path / "elsewhere"))
    if what == "other":
        make_card(tmp_path / "elsewhere" / "checkpoint-5", "other")
    elif what == "nothing":
        (tmp_path / "elsewhere").mkdir()
    elif what == "link":
        make_card(tmp_path / "moved" / "checkpoint-5", own_run["id"])
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "checkpoint-5").symlink_to(tmp_path / "moved" / "checkpoint-5")
    elif what == "spool of another":
        (tmp_path / "elsewhere" / "spool").mkdir(parents=True)
        (tmp_path / "elsewhere" / "spool" / "run.json").write_text('{"run_id": "other"}')
    mlflow.MlflowClient().set_tag(own_run["id"], "finetune.checkpoints", place)
    before = sorted(tmp_path.rglob("*"))
    with caplog.at_level(logging.INFO):
        assert resumed_folder(own_run["id"]) == tmp_path / "outputs" / own_run["id"]
    assert "it goes on in" in caplog.text
    assert "has no checkpoint" in call(log_model.main, own_run["id"])
    assert sorted(tmp_path.rglob("*")) == before


def test_where_every_card_is_damaged_that_is_said(own_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = own_run["folder"].rename(tmp_path / "made" / own_run["id"])
    mlflow.MlflowClient().set_tag(own_run["id"], "finetune.checkpoints", str(folder))
    for path in folder.glob("*/finetune.json"):
        path.write_text("{")
    assert resumed_folder(own_run["id"]) == folder
    assert "finetune.json is damaged" in call(log_model.main, own_run["id"])


def test_the_best_checkpoint_is_the_one_beside_it(own_run, tmp_path):
    """The Trainer ends with the adapter that lies where the state says."""
    path = own_run["folder"] / "checkpoint-10" / "trainer_state.json"
    for best, expected in ((5, str(own_run["folder"] / "checkpoint-5")), (None, None)):
        path.write_text(json.dumps({"best_global_step": best, "best_model_checkpoint": "/elsewhere/checkpoint-5"}))
        _move_best(path.parent)
        assert json.loads(path.read_text())["best_model_checkpoint"] == expected
    path.write_text('{"best_global_step": "../../x"}')
    with pytest.raises(InputError, match=r"best_global_step is '\.\./\.\./x'"):
        _move_best(path.parent)


@pytest.mark.parametrize("what", ["name", "link", "pickle", "digest", "nested", "whole"])
def test_what_the_store_says_of_a_checkpoint_is_checked(own_run, tmp_path, what, caplog):
    client, run_id = mlflow.MlflowClient(), own_run["id"]
    if what == "pickle":
        (own_run["folder"] / "checkpoint-10" / "adapter_model.bin").write_bytes(b"")
    uploads.upload(run_id, own_run["folder"] / "checkpoint-10")
    stored = artifact_folder(run_id) / "checkpoints" / "checkpoint-10"
    manifest = json.loads((stored / "manifest.json").read_text())
    known = {"bytes": 1, "sha256": "0" * 64}
    if what == "name":
        manifest["files"]["../../../x"] = known
    elif what == "digest":
        manifest["files"]["finetune.json"] = {"bytes": 1, "sha256": None}
    elif what == "nested":
        manifest = {"files": [[manifest]]}
    elif what == "link":
        (stored / "adapter_model.safetensors").unlink()
        (stored / "adapter_model.safetensors").symlink_to("/etc/hostname")
    client.log_dict(run_id, manifest, "checkpoints/checkpoint-10/manifest.json")
    (tmp_path / "new").mkdir()
    assert uploads.download(run_id, 10, tmp_path / "new") == (what == "whole")
    assert [path.name for path in (tmp_path / "new").iterdir()] == (["checkpoint-10"] if what == "whole" else [])
    assert (what == "whole") != ("checkpoint-10" in caplog.text)


@pytest.mark.parametrize(
    "recorded",
    ["{", "[]", '{"arguments": "x"}', '{"arguments": [7]}', '{"arguments": [], "settings": [1]}', "[" * 10**5,
     '{"arguments": [], "settings": {"world_size": "2"}}', '{"arguments": [], "more": 1}', '{"arguments": ["--help"]}',
     '{"arguments": ["--resume=x"]}', '{"arguments": ["-h"]}', '{"arguments": ["--config", "/etc/hostname"]}',
     '{"arguments": ["--print-completion=bash"]}'],
)  # fmt: skip
def test_what_a_run_was_started_with_is_checked(own_run, tmp_path, monkeypatch, recorded):
    monkeypatch.chdir(tmp_path)
    mlflow.MlflowClient().log_text(own_run["id"], recorded, "arguments.json")
    with pytest.raises(InputError, match=r"arguments.json.* is damaged"):
        resumed_folder(own_run["id"])
