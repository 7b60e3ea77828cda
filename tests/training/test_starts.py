"""A training that starts from a trained adapter: with its weights, base and prompt, as a run of its own."""

import json
import logging
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import log_model
import predict
import train_sql_generator
from finetune.logged_models.opening import open_model
from finetune.models.prompts import Prompt
from finetune.runs.tracking import log_dataset
from finetune.training.flags.adapter_rows import warn_of_learnt_rows

import mlflow
import pytest
from conftest import CONTEXT, DEMO_BASE, QUESTIONS, call, stop_after
from safetensors.torch import load_file, save_file
from spools import make_card, new_run

STEPS = ("--max-steps", 4, "--save-steps", 2, "--eval-steps", 2, "--per-device-train-batch-size", 4,
         "--max-validation-rows", 8, "--score-rows", 0, "--max-length", 300, "--log-checkpoints", "none",
         "--no-preflight", "--disable-tqdm", "true", "--allow-leaks")  # fmt: skip


@pytest.fixture(scope="module")
def source(trained_run, logged_model) -> Path:
    """The checkpoint of the trained run, whose adapter has an effect."""
    (last,) = (trained_run["folder"] / trained_run["id"]).glob("checkpoint-24")
    return last


def train(*flags, capsys=None) -> str:
    """Train in this process; return the run's id."""
    capsys.readouterr()
    assert call(train_sql_generator.main, *flags) is None
    return capsys.readouterr().out.split()[-1]


def weights(run_id: str, step: int) -> dict:
    folder = Path(mlflow.get_run(run_id).data.tags["finetune.checkpoints"])
    return load_file(folder / f"checkpoint-{step}" / "adapter_model.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def test_it_starts_with_the_weights_of_the_adapter_and_says_where_it_comes_from(
    logged_model, source, few_rows, tmp_path, capsys, caplog
):
    caplog.set_level(logging.INFO)
    flags = ("--dataset", few_rows, *STEPS, "--output-dir", tmp_path, "--eval-on-start", "true")
    run_id = train("--adapter", logged_model["uri"], "--learning-rate", 1e-30, *flags, capsys=capsys)
    assert f"Starts from the adapter {logged_model['uri']} of run {logged_model['run_id']}" in caplog.text
    assert same(weights(run_id, 4), load_file(source / "adapter_model.safetensors"))
    run, client = mlflow.get_run(run_id), mlflow.MlflowClient()
    assert run.data.tags["finetune.adapter"] == logged_model["uri"]
    assert run.data.tags["finetune.adapter_run"] == logged_model["run_id"]
    losses = {point.step: point.value for point in client.get_metric_history(run_id, "eval_loss")}
    assert losses[0] == losses[4]
    # The same rows, by the model that it came from: base, quantisation, prompt and tokens are the same.
    fresh = train("--base-model", DEMO_BASE, "--learning-rate", 1e-30, *flags, capsys=capsys)
    start = {point.step: point.value for point in client.get_metric_history(fresh, "eval_loss")}
    assert losses[0] < 0.7 * start[0]
    assert call(log_model.main, run_id, "--no-reload-check") is None
    assert capsys.readouterr().out.split()[-1] == f"runs:/{run_id}/model"
    assert call(predict.main, f"runs:/{run_id}/model", "--context", CONTEXT, "--question", QUESTIONS[0]) is None
    assert capsys.readouterr().out.splitlines()[-1] == logged_model["answer"]
    cards = [open_model(uri).card for uri in (logged_model["uri"], f"runs:/{run_id}/model")]
    for name in ("base_fingerprint", "quantization", "compute_dtype", "prompt", "dialect"):
        assert getattr(cards[0], name) == getattr(cards[1], name)


def test_before_training_base_and_adapter_are_asked(source, few_rows, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    steps = [*STEPS, "--max-steps", 2, "--score-rows", 4, "--distractor-columns", 0]
    run_id = train("--adapter", source, "--dataset", few_rows, *steps, "--output-dir", tmp_path, capsys=capsys)
    for side in ("base", "adapter"):
        assert re.search(rf"Before training the {side} answers \d of 4 held-out questions right \(", caplog.text)
    metrics = mlflow.MlflowClient()
    for end in ("", "_base"):
        (point,) = metrics.get_metric_history(run_id, f"before_training_exec_accuracy{end}")
        assert point.step == 0
    assert caplog.text.index("Before training the base") < caplog.text.index("Before training the adapter")


@pytest.mark.slow
def test_what_starts_from_an_adapter_is_logged_with_the_reload_check(source, few_rows, tmp_path, capsys):
    flags = ("--dataset", few_rows, *STEPS, "--output-dir", tmp_path, "--learning-rate", 1e-3)
    run_id = train("--adapter", source, *flags, capsys=capsys)
    assert call(log_model.main, run_id) is None


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(source, few_rows, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO)
    adapter = shutil.copytree(source, tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    flags = ("--adapter", "adapter", "--dataset", few_rows, *STEPS, "--learning-rate", 1e-3)
    whole = train(*flags, "--output-dir", tmp_path / "whole", capsys=capsys)
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        stopped = train(*flags, "--output-dir", tmp_path / "cut", "--max-time", "1h", capsys=capsys)
    assert not same(weights(stopped, 3), weights(whole, 4))
    monkeypatch.chdir("/")
    refused = call(train_sql_generator.main, "--resume", stopped, "--lora-r", 8)
    assert refused == "--lora-r: this is the adapter's own, which --adapter goes on with as it is; leave it out."
    begun = shutil.copytree(tmp_path / "cut" / stopped, tmp_path / "begun")
    # Without a checkpoint it begins with the adapter again.
    for checkpoint in (tmp_path / "cut" / stopped).glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    assert train("--resume", stopped, capsys=capsys) == stopped
    assert "it begins again" in caplog.text
    assert same(weights(stopped, 4), weights(whole, 4))
    # With one, what it began with may be gone.
    shutil.rmtree(adapter)
    shutil.rmtree(tmp_path / "cut" / stopped)
    shutil.copytree(begun, tmp_path / "cut" / stopped)
    client = mlflow.MlflowClient()
    client.set_terminated(stopped, "KILLED")
    assert train("--resume", stopped, capsys=capsys) == stopped
    assert same(weights(stopped, 4), weights(whole, 4))


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (("--lora-r", 32), "--lora-r: this is the adapter's own"),
        (("--target-modules", "q_proj", "--init-lora-weights=eva"), "--target-modules, --init-lora-weights: this is"),
        (("--no-load-in-4bit",), "--load-in-4bit: this is the adapter's own"),
        (("--lora_alpha", 64), "--lora-alpha: this is the adapter's own"),
        (("--base-revision", "main"), "--base-revision: this is the adapter's own"),
        (("--base-model", "mistralai/Mistral-7B-v0.1"), "the adapter was trained on"),
    ],
)
def test_what_is_the_adapters_own_is_refused(source, few_rows, flags, shown):
    assert shown in call(train_sql_generator.main, "--adapter", source, "--dataset", few_rows, *flags)


def test_flags_of_a_file_count_as_given(source, few_rows, tmp_path):
    (tmp_path / "flags.yaml").write_text(f"adapter: {source}\nlora-r: 8\ndataset: {few_rows}\n")
    assert "--lora-r: this is the adapter's own" in call(train_sql_generator.main, "--config", tmp_path / "flags.yaml")


def test_another_base_is_refused_and_the_same_one_elsewhere_taken(source, few_rows, tmp_path, tiny_base):
    flags = ("--adapter", source, "--dataset", few_rows, "--preflight-only", "--no-preflight")
    refused = call(train_sql_generator.main, *flags, "--base-model", tiny_base)
    assert "no longer matches the adapter: its weights are not those it was trained on" in refused
    card = json.loads((source / "finetune.json").read_text())
    moved = shutil.copytree(source, tmp_path / "checkpoint-24")
    (moved / "finetune.json").write_text(json.dumps(card | {"base_model": str(tmp_path / "gone")}))
    flags = ("--adapter", moved, "--dataset", few_rows, "--max-length", 10**6)
    assert f"no longer in {tmp_path / 'gone'}; give its folder with" in call(train_sql_generator.main, *flags)
    base = shutil.copytree(DEMO_BASE, tmp_path / "base")
    # The base is found: what is refused next is the length.
    assert f"{base} takes at most" in call(train_sql_generator.main, *flags, "--base-model", base)


def damaged(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")


def half(folder: Path) -> None:
    found = load_file(folder / "adapter_model.safetensors")
    save_file({name: found[name] for name in sorted(found)[::2]}, folder / "adapter_model.safetensors")


def built(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"layer_replication": [[0, 10**5]]}))


@pytest.mark.parametrize(
    ("damage", "shown"),
    [(damaged, "is damaged"), (pickled, "is a pickle"), (half, "it lacks"), (built, "layer_replication")],
)
def test_a_damaged_adapter_is_refused(source, few_rows, tmp_path, damage, shown):
    folder = shutil.copytree(source, tmp_path / "checkpoint-24")
    damage(folder)
    refused = call(train_sql_generator.main, "--adapter", folder, "--dataset", few_rows, *STEPS)
    assert shown in refused
    assert "\n" not in refused


def test_a_model_of_another_task_and_one_that_is_not_there_are_refused(tmp_path, few_rows):
    other = make_card(tmp_path / "checkpoint-1", "0" * 32)
    refused = call(train_sql_generator.main, "--adapter", other, "--dataset", few_rows)
    assert refused == f"--adapter {other} is a model for classification, expected one for text-to-sql."
    assert "there is no" in call(train_sql_generator.main, "--adapter", "runs:/" + "0" * 32 + "/model")
    assert "there is no" in call(train_sql_generator.main, "--adapter", tmp_path / "none")


def test_prompt_and_dialect_are_the_adapters_and_another_is_said(source, few_rows, tmp_path, caplog, capsys):
    folder = shutil.copytree(source, tmp_path / "checkpoint-24")
    card = json.loads((folder / "finetune.json").read_text())
    own = Prompt.load("text_to_sql").text.replace("\n", "\n\n", 1)
    (folder / "finetune.json").write_text(json.dumps(card | {"prompt": own, "dialect": "postgres"}))
    flags = ("--adapter", folder, "--dataset", few_rows, *STEPS, "--max-steps", 2, "--output-dir", tmp_path / "out")
    run_id = train(*flags, "--dialect", "sqlite", "--lora-dropout", 0.1, capsys=capsys)
    assert "the prompt is the adapter's, which is not the one in prompts/text_to_sql.txt" in caplog.text
    assert "--dialect sqlite: the adapter was trained to write postgres" in caplog.text
    written = tmp_path / "out" / run_id / "checkpoint-2"
    found = json.loads((written / "finetune.json").read_text())
    assert (found["prompt"], found.get("dialect", "sqlite")) == (own, "sqlite")
    assert json.loads((written / "adapter_config.json").read_text())["lora_dropout"] == 0.1
    assert mlflow.get_run(run_id).data.params["lora.lora_dropout"] == "0.1"


def made_run(source: Path, trained: list[dict], held_out: list[dict], **tags) -> str:
    """Return the id of a run that has been trained on rows of a file, made by hand."""
    run_id = new_run(**tags).info.run_id
    for name, rows, context in (("train_rows", trained, "training"), ("validation_rows", held_out, "validation")):
        log_dataset(run_id, rows, ("question",), str(source), name, context)
    return run_id


def test_rows_that_the_adapter_may_have_learnt_are_warned_of(tmp_path, caplog):
    rows = [{"question": str(number)} for number in range(6)]
    own, other = tmp_path / "own.csv", tmp_path / "other.csv"
    first = made_run(own, rows[:4], rows[4:])
    later = made_run(other, rows, rows[:1], **{"finetune.adapter_run": first})

    def said(run_id: str | None, source: Path, held_out: list[dict]) -> str:
        caplog.clear()
        dataset = log_dataset(new_run().info.run_id, held_out, ("question",), str(source), "rows", "validation")
        warn_of_learnt_rows(SimpleNamespace(card=SimpleNamespace(run_id=run_id)), dataset)
        return caplog.text

    assert f"trained on this data set before (run {first})" in said(first, own, rows[:2])
    assert f"trained on this data set before (run {first})" in said(later, own, rows[:2])  # By the one before it.
    assert said(first, own, rows[4:]) == ""  # The same rows are held out.
    assert said(first, other, rows[:2]) == ""
    assert said(None, own, rows[:2]) == said("0" * 32, own, rows[:2]) == ""
    warn_of_learnt_rows(None, None)


@pytest.mark.slow
def test_before_training_base_and_adapter_are_asked(source, few_rows, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    flags = ("--dataset", few_rows, *STEPS, "--max-steps", 2, "--score-rows", 3, "--output-dir", tmp_path)
    run_id = train("--adapter", source, *flags, "--seed", 7, capsys=capsys)
    told = [re.search(r"Before training the (\w+) answers \d of 3", record.message) for record in caplog.records]
    assert [found[1] for found in told if found] == ["base", "adapter"]
    points = mlflow.get_run(run_id).data.metrics
    assert {"before_training_exec_accuracy", "before_training_exec_accuracy_base"} <= points.keys()
