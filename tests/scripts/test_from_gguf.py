"""demo/from_gguf.py: a model folder of a GGUF file, and what it refuses; tiny files made in process."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import from_gguf
from finetune.models.bases.loading import open_base

import numpy as np
import pytest
import torch
from conftest import call
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed: `make smollm2`")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"
TEXTS = [
    "SELECT COUNT(*) FROM head WHERE age > 56",
    "How many heads are older than 56?",
    "CREATE TABLE head (age TEXT)",
]
# name here -> name there; the layers' are put behind their number.
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    """Return a byte-level tokenizer of a few hundred tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(special_tokens=SPECIAL, initial_alphabet=alphabet))
    return tokenizer


@pytest.fixture(scope="module")
def llama(bpe) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=bpe.get_vocab_size(), num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False,
        rms_norm_eps=1e-5, **sizes,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def write_gguf(path: Path, llama, bpe, kind: str = "F32", architecture: str = "llama", **changes) -> Path:
    """Write a model as llama.cpp's converter does.

    Args:
        kind: number format of the matrices.
        changes: `skip`, a part of the names of tensors to leave out; `parts`; `tokenizer`, its kind, None for none.
    """
    writer, config = gguf.GGUFWriter(path, architecture), llama.config
    if changes.get("tokenizer", "gpt2"):
        add_tokenizer(writer, bpe, changes.get("tokenizer", "gpt2"))
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    if "parts" in changes:
        writer.add_uint16("split.count", changes["parts"])
    for name, weights in llama.state_dict().items():
        if changes.get("skip", "\0") not in name:
            add_tensor(writer, there(name), in_its_order(name, weights, config), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer, bpe: Tokenizer, kind: str) -> None:
    state = json.loads(bpe.to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].get)
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in state["merges"]])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def there(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in NAMES:
        return f"{NAMES[stem]}.weight"
    number, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{number}.{LAYER[part]}.weight"


def in_its_order(name: str, weights: torch.Tensor, config):
    """Return queries and keys with the halves of each head interleaved, as llama.cpp's rotation wants them."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            weights = weights.reshape(count, 2, -1, weights.shape[1]).transpose(1, 2).reshape(weights.shape)
    return weights.numpy().copy()


def add_tensor(writer, name: str, weights, kind: str) -> None:
    raw = gguf.GGMLQuantizationType[kind]
    if weights.ndim == 1 or kind == "F32":
        writer.add_tensor(name, weights)
    elif kind == "Q8_1":  # A kind of intermediate results, which nothing makes weights of again.
        raw_size = weights.size // 32 * 40  # bytes
        writer.add_tensor(name, np.zeros((len(weights), raw_size // len(weights)), np.uint8), raw_dtype=raw)
    else:
        writer.add_tensor(name, gguf.quants.quantize(weights, raw), raw_dtype=raw)


def convert(file: Path, folder: Path) -> str | None:
    return call(from_gguf.main, file, folder)


def logits(model, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(TEXTS[0], return_tensors="pt")).logits


def test_the_folder_has_the_models_weights_and_tokenizer(llama, bpe, tmp_path, caplog):
    folder = tmp_path / "models" / "tiny"
    caplog.set_level("INFO")
    assert convert(write_gguf(tmp_path / "tiny.gguf", llama, bpe), folder) is None
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert torch.allclose(logits(model, tokenizer), logits(llama, tokenizer), atol=1e-5)
    assert [tokenizer(text)["input_ids"] for text in TEXTS] == [bpe.encode(text).ids for text in TEXTS]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (SPECIAL[1], SPECIAL[2], SPECIAL[2])
    assert tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False) == "a<|im_end|>"
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (2, 2)
    assert "quantised" not in caplog.text


def test_the_folder_is_a_base_and_holds_nothing_else(llama, bpe, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()  # Empty, that will do.
    assert convert(write_gguf(tmp_path / "tiny.gguf", llama, bpe), folder) is None
    assert {path.name for path in folder.iterdir()} == {
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == (folder / "config.json").stat().st_mode & 0o777
    assert open_base(SimpleNamespace(base_model=str(folder), base_revision=None, max_length=64), "decoder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "tiny.gguf"]


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_it_says_that_weights_were_quantised_and_to_what(llama, bpe, tmp_path, caplog, kind):
    caplog.set_level("INFO")
    assert convert(write_gguf(tmp_path / "tiny.gguf", llama, bpe, kind), tmp_path / "tiny") is None
    assert f"They were quantised before, to {kind};" in caplog.text
    assert f"% {kind}, " in caplog.text
    assert "a little differently" in caplog.text
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    near, there = model.model.layers[0].mlp.up_proj.weight, llama.model.layers[0].mlp.up_proj.weight
    assert 0 < (near - there).abs().max() < 0.02


def test_a_file_of_half_precision_is_not_called_quantised(llama, bpe, tmp_path, caplog):
    caplog.set_level("INFO")
    assert convert(write_gguf(tmp_path / "tiny.gguf", llama, bpe, "F16"), tmp_path / "tiny") is None
    assert "% F16, " in caplog.text
    assert "quantised" not in caplog.text


def test_files_beside_it_do_not_count(llama, bpe, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer_config.json").write_text("not JSON")
    assert convert(write_gguf(tmp_path / "tiny.gguf", llama, bpe), tmp_path / "tiny") is None


def refused(file: Path, folder: Path) -> str:
    """Return the sentence of a refusal that has left nothing behind."""
    before = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else None
    sentence = convert(file, folder)
    assert sentence is not None
    assert "\n" not in sentence
    assert before == (sorted(folder.parent.iterdir()) if folder.parent.is_dir() else None)
    return sentence


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a GGUF file: it begins with b''"),
        (b"PK\x03\x04 a zip", r"is not a GGUF file: it begins with b'PK\\x03\\x04'"),
        (b"version https://git-lfs.github.com/spec/v1", "is not a GGUF file"),
        (b"GGUF", "cut short or damaged"),
        (b"GGUF\x09\x00\x00\x00" + bytes(16), "newer than the package gguf"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 32, "cut short or damaged"),
    ],
)
def test_what_is_no_gguf_is_refused(tmp_path, content, said):
    (tmp_path / "tiny.gguf").write_bytes(content)
    assert said.replace("\\\\", "\\") in refused(tmp_path / "tiny.gguf", tmp_path / "tiny")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_short_is_refused(llama, bpe, tmp_path, share):
    file = write_gguf(tmp_path / "tiny.gguf", llama, bpe)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert "is cut short or damaged" in refused(file, tmp_path / "tiny")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "clip"}, "a model of the architecture clip"),
        ({"architecture": "no-such"}, "a model of the architecture no-such"),
        ({"kind": "Q8_1"}, "Q8_1"),
        ({"tokenizer": "no-such"}, "cannot read"),
        ({"tokenizer": None}, "cannot read"),
        ({"skip": "layers.1.mlp"}, "lacks 3 of the weights of the architecture llama, such as model.layers.1.mlp"),
        ({"skip": "embed_tokens"}, "lacks 1 of the weights"),
        ({"parts": 3}, "is one of 3 parts"),
    ],
)
def test_what_transformers_cannot_read_is_refused(llama, bpe, tmp_path, changes, said):
    assert said in refused(write_gguf(tmp_path / "tiny.gguf", llama, bpe, **changes), tmp_path / "tiny")


def test_an_unknown_quantisation_is_refused(llama, bpe, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", llama, bpe)
    name = b"blk.0.ffn_up.weight"
    data = file.read_bytes()
    # Behind the name: the number of dimensions, two of them, the kind.
    place = data.index(name) + len(name) + 4 + 2 * 8
    file.write_bytes(data[:place] + (999).to_bytes(4, "little") + data[place + 4 :])
    assert "(999) is not a valid GGMLQuantizationType" in refused(file, tmp_path / "tiny")


def test_places_that_are_taken_are_refused(llama, bpe, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", llama, bpe)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    assert "is there already; give a folder that is new or empty" in refused(file, taken)
    assert (taken / "notes.txt").read_text() == "mine"
    assert "is there already" in refused(file, file)
    assert f"cannot be written: {file} is a file" in refused(file, file / "inside")
    assert f"{file} is a file" in refused(file, file / "far" / "inside")
    assert "cannot be read: Is a directory" in refused(taken, tmp_path / "tiny")
    assert "cannot be read: No such file" in refused(tmp_path / "none.gguf", tmp_path / "tiny")


def test_a_full_disk_is_refused_before_the_work(llama, bpe, tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", llama, bpe)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "and 0.0 GB are free" in refused(file, tmp_path / "tiny")


def test_the_package_is_asked_for_where_it_is_not_installed(llama, bpe, tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", llama, bpe)
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "the package gguf is not installed; run `make smollm2`" in refused(file, tmp_path / "tiny")
