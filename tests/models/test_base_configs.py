"""The base's configuration: what changes what it computes is refused by name, what does not is let be."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import predict
from finetune.models.bases.configs import changed_fields, read_config
from finetune.models.bases.loading import fingerprint
from finetune.models.card import CARD, Card
from finetune.models.restoring import find_base

import pytest
from conftest import DEMO_BASE, ROOT, call


def edited(base: Path, folder: Path, name: str = "config.json", **fields) -> Path:
    """Copy a base to a folder, with other fields in one of its files."""
    shutil.copytree(base, folder)
    file = folder / name
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(before | fields))
    return folder


@pytest.mark.parametrize(
    ("base", "field", "value"),
    [
        ("sql-base", "rms_norm_eps", 0.1), ("sql-base", "num_attention_heads", 4), ("sql-base", "hidden_act", "gelu"),
        ("sql-base", "rope_parameters", {"rope_theta": 5e5, "rope_type": "default"}), ("sql-base", "head_dim", 31),
        ("sql-base", "sliding_window", 16), ("sql-base", "tie_word_embeddings", False), ("sql-base", "unknown", 1),
        ("t5-base", "layer_norm_epsilon", 0.1), ("t5-base", "relative_attention_num_buckets", 8),
        ("t5-base", "decoder_start_token_id", 1), ("t5-base", "feed_forward_proj", "gated-gelu"),
    ],
)  # fmt: skip
def test_a_field_that_changes_the_answers_is_named(base, field, value, tmp_path):
    recorded = read_config(str(ROOT / "demo" / base))
    moved = edited(ROOT / "demo" / base, tmp_path / "moved", **{field: value})
    assert field in changed_fields(recorded, str(moved))
    assert fingerprint(moved) == fingerprint(ROOT / "demo" / base)  # The weights alone do not tell.


def test_a_parameter_of_generation_that_is_not_set_here_counts(tmp_path):
    recorded = read_config(str(DEMO_BASE))
    moved = edited(DEMO_BASE, tmp_path / "moved", "generation_config.json", no_repeat_ngram_size=2, temperature=0.5)
    assert changed_fields(recorded, str(moved)) == (
        "generation_config.json.no_repeat_ngram_size 2 (in training None)"
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"torch_dtype": "float16", "dtype": "float32"}, {"transformers_version": "4.40.0"}, {"_name_or_path": "x/y"},
        {"use_cache": False}, {"initializer_range": 0.5}, {"id2label": {"0": "a"}}, {"attention_dropout": 0.5},
    ],
)  # fmt: skip
def test_what_changes_no_answer_is_let_be(fields, tmp_path):
    recorded = read_config(str(DEMO_BASE))
    assert changed_fields(recorded, str(edited(DEMO_BASE, tmp_path / "moved", **fields))) == ""


def test_a_default_may_be_spelled_out_or_left_out(tmp_path):
    recorded = read_config(str(DEMO_BASE))
    without = {name: value for name, value in recorded.items() if name not in ("hidden_act", "rope_parameters")}
    assert changed_fields(without, str(DEMO_BASE)) == ""
    older = edited(DEMO_BASE, tmp_path / "older", rope_theta=10000.0)  # As transformers 4 wrote it.
    fields = json.loads((older / "config.json").read_text())
    del fields["rope_parameters"]
    (older / "config.json").write_text(json.dumps(fields))
    assert changed_fields(recorded, str(older)) == ""


def test_dropout_counts_where_training_goes_on(tmp_path):
    moved = edited(DEMO_BASE, tmp_path / "moved", attention_dropout=0.5)
    assert "attention_dropout" in changed_fields(read_config(str(DEMO_BASE)), str(moved), in_training=True)


def test_predict_refuses_an_edited_decoder(trained_run, tmp_path):
    checkpoint = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    moved = edited(DEMO_BASE, tmp_path / "moved", rms_norm_eps=0.1)
    done = call(predict.main, checkpoint, "--question", "q", "--context", "c", "--base-model", moved)
    assert "no longer matches the adapter" in done
    assert "rms_norm_eps 0.1 (in training 1e-06)" in done


def test_predict_refuses_an_edited_encoder(classifier_run, tiny_roberta, tmp_path):
    folder = classifier_run["folder"] / classifier_run["id"]
    moved = edited(tiny_roberta, tmp_path / "moved", layer_norm_eps=0.5)
    assert "layer_norm_eps 0.5" in call(predict.main, folder / "checkpoint-40", "--text", "a", "--base-model", moved)


def test_predict_refuses_an_edited_encoder_decoder(summarizer_run, tiny_t5, tmp_path):
    folder = summarizer_run["folder"] / "outputs" / summarizer_run["id"]
    moved = edited(tiny_t5, tmp_path / "moved", num_heads=2)
    assert "num_heads 2" in call(predict.main, folder / "checkpoint-16", "--text", "a", "--base-model", moved)


def test_a_card_from_before_is_still_recognised(trained_run, tmp_path):
    """It has the fingerprint of the weights alone."""
    card = Card.read(trained_run["folder"] / trained_run["id"] / "checkpoint-24")
    assert card.base_config["rms_norm_eps"] == 1e-06
    old = replace(card, base_config=None)
    assert find_base(old, None) == (str(DEMO_BASE), None)
    assert find_base(old, str(edited(DEMO_BASE, tmp_path / "moved"))) == (str(tmp_path / "moved"), None)
    old.write(tmp_path)
    assert "base_config" not in (tmp_path / CARD).read_text()
    assert Card.read(tmp_path) == old


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_config_that_is_none_is_a_sentence(text, trained_run, tmp_path):
    moved = edited(DEMO_BASE, tmp_path / "moved")
    (moved / "config.json").write_text(text)
    checkpoint = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    done = call(predict.main, checkpoint, "--question", "q", "--context", "c", "--base-model", moved)
    assert str(moved / "config.json") in done
