"""A run that goes on: elsewhere, from what is whole, with the same rows, base and settings, or not at all."""

import fcntl
import json
import shutil
import signal
import time
from pathlib import Path
from urllib.parse import urlparse

import log_model
import train_classifier
import train_sql_generator
from finetune import callbacks, stopping, uploads
from finetune.console import InputError, ScriptParser
from finetune.logged_models import TEXT_TO_SQL
from finetune.mixed_precision import settle_precision
from finetune.recorded_settings import settings_of
from finetune.resuming import parse_resumable

import mlflow
import pytest
from conftest import DEMO_BASE, call, logged_models, stop_after
from encoders import make_encoder
from faults import history
from safetensors.torch import load_file


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
    ):
        del before[name]
    with mlflow.start_run() as run:
        mlflow.log_dict({"arguments": arguments, "settings": before}, "arguments.json")
    mlflow.MlflowClient().update_run(run.info.run_id, "FAILED")
    flags, args, origin = parse_resumable(parser, ["--resume", run.info.run_id], TEXT_TO_SQL)
    assert not flags.packing
    assert flags.compute_dtype == "bf16"  # That was the only one then.
    assert args.train_sampling_strategy == "group_by_length"
    assert {"compute_dtype", "bf16", "fp16", "packing", "train_sampling_strategy"}.isdisjoint(origin.drift)
    with pytest.raises(InputError, match="--packing False -> True"):
        parse_resumable(parser, ["--resume", run.info.run_id, "--packing", "true"], TEXT_TO_SQL)
