"""The preflight: it leaves nothing behind, and names what fits where not all does."""

import json
import random
import re

import train_classifier
import train_sql_generator
import train_summarizer
from finetune.training.checks import preflight as module
from train_sql_generator import Flags

import mlflow
import numpy as np
import pytest
import torch
from conftest import CLASSIFIER_FLAGS, DEMO_BASE, SUMMARIZER_FLAGS, call
from packed import linear_memory, trainer  # noqa: F401 (a fixture)

SQL_FLAGS = ("--base-model", DEMO_BASE, "--score-rows", 0, "--max-steps", 2)


def test_weights_random_state_and_mode_are_as_before(trainer):
    trainer.model.eval()
    weights = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    found = module.preflight(trainer, Flags())
    assert found.tokens <= 1000
    assert found.peak_bytes > 0
    assert found.step_seconds > 0
    assert found.generation_seconds > 0
    assert found.every_n_layers == 0
    assert all(torch.equal(weight, weights[name]) for name, weight in trainer.model.state_dict().items())
    assert states[:2] == (random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(states[2], torch.get_rng_state())
    assert trainer.optimizer is None
    assert not trainer.model.training
    assert all(weight.grad is None for weight in trainer.model.parameters())


def test_too_long_a_batch_is_refused_with_one_that_fits(trainer, monkeypatch):
    linear_memory(monkeypatch, trainer, a_token=100)
    monkeypatch.setattr(module, "memory_limit", lambda: 70_000)
    flags = Flags(checkpoint_every_n_layers="0")
    with pytest.raises(module.InputError, match=r"do not fit into .*--max-tokens-per-batch \d+\.") as error:
        module.preflight(trainer, flags)
    trainer.data_collator.max_tokens = int(re.search(r"batch (\d+)", str(error.value))[1])
    assert trainer.data_collator.max_tokens < 700
    assert module.preflight(trainer, flags).peak_bytes < 0.95 * 70_000


def test_layers_are_recomputed_only_as_far_as_memory_asks(trainer, monkeypatch):
    linear_memory(monkeypatch, trainer, a_token=100)
    for limit, expected in ((10**6, 0), (80_000, 4), (60_000, 2), (30_000, 1)):
        trainer.args.activation_checkpointing = False
        monkeypatch.setattr(module, "memory_limit", lambda limit=limit: limit)
        assert module.preflight(trainer, Flags()).every_n_layers == expected
        assert trainer.args.activation_checkpointing == (expected > 0)
    monkeypatch.setattr(module, "memory_limit", lambda: 900)
    with pytest.raises(module.InputError, match="not one of them does"):
        module.preflight(trainer, Flags())


@pytest.mark.parametrize(("fits", "sentence"), [(2, "--max-tokens-per-batch"), (0, "--checkpoint-every-n-layers 1")])
def test_out_of_memory_is_an_answer(trainer, monkeypatch, fits, sentence):
    original, rows = trainer.training_step, []

    def training_step(model, inputs, items=None):
        rows.append(int(inputs["packs"][0]["position_ids"].eq(0).sum()))
        if rows[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(model, inputs, items)

    monkeypatch.setattr(trainer, "training_step", training_step)
    with pytest.raises(module.InputError, match=sentence):
        module.preflight(trainer, Flags(checkpoint_every_n_layers="0"))
    assert rows[0] == 1


@pytest.mark.parametrize("script", ["sql", "labels", "summaries"])
def test_planning_prints_json_and_trains_nothing(
    script, few_rows, tiny_roberta, terms, tiny_t5, reports, tmp_path, capsys, monkeypatch
):
    main, *flags = {
        "sql": (train_sql_generator.main, *SQL_FLAGS, "--dataset", few_rows),
        "labels": (train_classifier.main, "--base-model", tiny_roberta, "--dataset", terms, *CLASSIFIER_FLAGS),
        "summaries": (train_summarizer.main, "--base-model", tiny_t5, "--dataset", reports, *SUMMARIZER_FLAGS),
    }[script]
    monkeypatch.setattr(mlflow, "start_run", None)
    assert call(main, *flags, "--preflight-only", "--output-dir", tmp_path / "outputs") is None
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] >= found["rows"] > 0
    assert (found["generation_seconds"] is None) == (script == "labels")
    assert list(tmp_path.rglob("*.*")) == []


def test_checkpointing_of_some_layers_trains_the_same_weights(few_rows, tmp_path, capsys):
    weights = []
    for layers in ("0", "2"):
        flags = (*SQL_FLAGS, "--dataset", few_rows, "--checkpoint-every-n-layers", layers, "--preflight", "false",
                 "--max-train-rows", 16, "--max-validation-rows", 4, "--per-device-train-batch-size", 4)  # fmt: skip
        assert call(train_sql_generator.main, *flags, "--output-dir", tmp_path) is None
        run_id = capsys.readouterr().out.split()[-1]
        weights.append((tmp_path / run_id / "checkpoint-2" / "adapter_model.safetensors").read_bytes())
        assert mlflow.get_run(run_id).data.params["activation_checkpointing"] == str(layers == "2")
    assert weights[0] == weights[1]


@pytest.mark.parametrize("given", ["some", "-1", "1.5"])
def test_an_impossible_number_of_layers_is_refused(given, few_rows):
    error = call(train_sql_generator.main, *SQL_FLAGS, "--dataset", few_rows, "--checkpoint-every-n-layers", given)
    assert f"--checkpoint-every-n-layers {given} is neither auto nor a number" in error


IN_FLOAT32 = "--compute-dtype fp32: products of matrices are 33 times as fast in it here"


@pytest.mark.parametrize(
    ("work", "can_drop_rows", "faster", "sentence"),
    [
        ((3000, 188, 3500, 100), True, {}, ""),
        ((3000, 200, 7200, 0), True, {}, "--max-steps 33 or --max-train-rows 500: about 20 min"),
        ((3000, 200, 7200, 0), False, {}, "--max-steps 33: about 20 min"),
        ((3000, 200, 6000, 1200), False, {}, "--max-steps 40: about 40 min"),
        ((3000, 200, 400, 36000), True, {}, ""),
        ((3000, 200, 7200, 0), False, {"fp32": 33.3}, f"--max-steps 33: about 20 min; {IN_FLOAT32}"),
    ],
)
def test_a_long_training_is_told_what_would_be_short(work, can_drop_rows, faster, sentence):
    found = module.shorter(module.Workload(*work), can_drop_rows, faster)
    assert found == (sentence and f"to be done sooner: {sentence}")


@pytest.mark.parametrize("steps", [-1, 400])
def test_the_preflight_says_it_of_a_slow_machine(trainer, monkeypatch, steps):
    original = module.one_step

    def slow(trainer, rows):
        step = original(trainer, rows)
        step.seconds = 0.2 * step.tokens
        return step

    monkeypatch.setattr(module, "one_step", slow)
    trainer.args.max_steps = steps
    found = module.preflight(trainer, Flags())
    assert "--max-steps" in found.shorter
    assert ("--max-train-rows" in found.shorter) == (steps < 0)
    assert found.shorter in found.format()
    assert json.loads(found.to_json())["shorter"] == found.shorter
