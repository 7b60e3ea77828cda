"""Adapters that training does not write are refused before PEFT builds anything of them."""

import json
import pickle
import shutil
from pathlib import Path

from finetune import InputError
from finetune.models.bases.loading import load_encoder_decoder
from finetune.models.card import CLASSIFICATION, SUMMARIZATION
from finetune.models.files import adapter_files

import damage
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_roberta, tiny_t5) -> dict[str, Path]:
    """A checkpoint of two tasks."""
    folder, bases = tmp_path_factory.mktemp("made"), {CLASSIFICATION: tiny_roberta, SUMMARIZATION: tiny_t5}
    return {task: damage.make_checkpoint(task, base, folder / task / "checkpoint-5") for task, base in bases.items()}


@pytest.fixture(params=[CLASSIFICATION, SUMMARIZATION])
def checkpoint(made, request, tmp_path) -> Path:
    """A checkpoint of each task, to be changed."""
    return shutil.copytree(made[request.param], tmp_path / "checkpoint-5")


@pytest.fixture
def unbuilt(monkeypatch):
    """PEFT must not be reached."""

    def refuse(*_, **__):
        raise AssertionError("PEFT was asked to load it")

    monkeypatch.setattr(PeftModel, "from_pretrained", refuse)


def refused(folder: Path) -> str:
    """Return the sentence that a checkpoint ends in, which names the file and comes soon."""
    with pytest.raises(InputError) as found, damage.guarded(folder):
        damage.answer(folder)
    assert str(folder) in str(found.value)
    assert any(mend in str(found.value) for mend in ("take another checkpoint", "log it again with log_model.py"))
    return str(found.value)


def configure(folder: Path, **fields) -> None:
    """Change fields of an adapter's configuration."""
    path = folder / adapter_files.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer_replication", [[0, 100000]]), ("layer_replication", [[0, 2], [1, 3]]),
        ("target_modules", "(a+)+$"), ("target_modules", ".*"), ("target_modules", "all-linear"),
        ("target_modules", [f"layer.{n}" for n in range(10**6)]), ("target_modules", ["(a+)+$"]),
        ("target_modules", []), ("target_modules", None),
        ("exclude_modules", "(a+)+$"), ("layers_to_transform", list(range(10**6))), ("layers_to_transform", 3),
        ("layers_pattern", "(a+)+$"), ("rank_pattern", {"(a+)+$": 4}), ("rank_pattern", {"query": 10**9}),
        ("alpha_pattern", {".*": 1}), ("modules_to_save", ["encoder"]), ("modules_to_save", "classifier"),
        ("r", 10**6), ("r", 0), ("r", -4), ("r", 4.0), ("r", "4"), ("r", True), ("r", 8),
        ("lora_alpha", float("nan")), ("lora_alpha", 1e300), ("lora_dropout", 2), ("bias", "all"),
        ("peft_type", "ADALORA"), ("peft_type", "XLORA"), ("peft_type", "PROMPT_TUNING"), ("peft_type", None),
        ("task_type", "FEATURE_EXTRACTION"), ("task_type", None), ("use_dora", 1), ("use_rslora", "yes"),
        ("init_lora_weights", "pissa"), ("init_lora_weights", "loftq"), ("init_lora_weights", False),
        ("init_lora_weights", 1), ("eva_config", {"rho": -1}), ("eva_config", {"other": 1}),
        ("loftq_config", {"loftq_bits": 4}), ("corda_config", {"a": 1}), ("megatron_config", {"a": 1}),
        ("megatron_core", "os"), ("trainable_token_indices", [1]), ("target_parameters", ["a"]),
        ("auto_mapping", {"base_model_class": "a", "parent_library": "os"}), ("runtime_config", {"a": 1}),
        ("alora_invocation_tokens", [1]), ("lora_bias", True), ("fan_in_fan_out", True), ("adapters", {"a": "/x"}),
        ("base_model_name_or_path", 7), ("revision", ["x"]), ("peft_version", {"a": 1}),
    ],
)  # fmt: skip
def test_a_configuration_that_training_does_not_write_is_refused(made, tmp_path, unbuilt, field, value):
    folder = shutil.copytree(made[CLASSIFICATION], tmp_path / "checkpoint-5")
    configure(folder, **{field: value})
    assert field in refused(folder) or field == "r"


def test_a_configuration_of_another_version_is_taken(checkpoint):
    """Fields that PEFT did not have, or has no more, are there or not, and empty."""
    path = checkpoint / adapter_files.CONFIG
    fields = json.loads(path.read_text())
    for name in ("peft_version", "lora_bias", "corda_config", "target_parameters", "qalora_group_size", "kasa_config"):
        fields.pop(name)
    path.write_text(json.dumps(fields | {"a_field_of_later": None, "another": {}, "third": False}))
    damage.answer(checkpoint)


@pytest.mark.parametrize("name", adapter_files.PICKLES)
@pytest.mark.parametrize("alone", [True, False])
def test_a_pickle_is_refused_and_not_opened(checkpoint, unbuilt, name, alone, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (checkpoint / name).write_bytes(pickle.dumps(Evil()))
    if alone:
        (checkpoint / adapter_files.WEIGHTS).unlink()
    if not alone or name == "adapter_model.bin":
        assert "pickle" in refused(checkpoint)
    else:
        assert refused(checkpoint)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../../x.safetensors", "/etc/passwd", "sub/x.safetensors", "x.bin", 7, "a\0.safetensors"]
)
@pytest.mark.parametrize("place", ["adapter", "base", "merged"])
def test_an_index_that_names_files_elsewhere_is_refused(made, tiny_t5, tmp_path, name, place):
    folder = shutil.copytree(made[SUMMARIZATION], tmp_path / "checkpoint-5")
    base = shutil.copytree(tiny_t5, tmp_path / "base")
    if place == "merged":
        shutil.copytree(tiny_t5, folder / "merged")
    index = {"adapter": folder, "base": base, "merged": folder / "merged"}[place] / "model.safetensors.index.json"
    (index.parent / "model.safetensors").rename(index.parent / "x.bin") if place != "adapter" else None
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"shared.weight": name}}))
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json") as found:
        load_encoder_decoder(str(base), None, None) if place == "base" else damage.answer(folder)
    assert "names" in str(found.value) or "weight_map" in str(found.value)


def test_an_index_of_files_beside_it_is_taken(tiny_t5, tmp_path):
    model = load_encoder_decoder(str(tiny_t5), None, None)
    model.save_pretrained(tmp_path / "base", max_shard_size="100KB")
    assert (tmp_path / "base" / adapter_files.INDEX).is_file()
    load_encoder_decoder(str(tmp_path / "base"), None, None)


@pytest.mark.parametrize("how", ["missing", "renamed", "rank", "width", "integers", "empty", "more", "NaN", "infinite"])
def test_weights_that_are_not_the_adapters_are_refused(checkpoint, how):
    path = checkpoint / adapter_files.WEIGHTS
    weights = load_file(path)
    first = sorted(name for name in weights if "lora_A" in name)[0]
    change = {
        "missing": {first: None},
        "renamed": {first: None, first.replace("lora_A", "lora_C"): weights[first]},
        "rank": {first: weights[first][:2].clone()},
        "width": {first: weights[first][:, :-1].clone()},
        "integers": {first: weights[first].to(torch.int64)},
        "empty": dict.fromkeys(weights),
        "more": {"base_model.model.other.weight": torch.ones(2)},
        "NaN": {first: torch.full_like(weights[first], float("nan"))},
        "infinite": {first: torch.full_like(weights[first], float("inf"))},
    }[how]
    kept = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
    save_file(kept, path)
    with pytest.raises(InputError) as found:
        damage.answer(checkpoint)
    sentence = str(found.value)
    assert "does not match the adapter" in sentence if how == "width" else str(path) in sentence


def test_a_missing_file_is_named(checkpoint):
    (checkpoint / adapter_files.WEIGHTS).unlink()
    assert f"has no {adapter_files.WEIGHTS}" in refused(checkpoint)
