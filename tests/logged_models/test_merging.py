"""predict.py --merge: the weights that 4 bits stand for with the adapter in them, and the same answers."""

import json

import predict
from finetune.logged_models.opening import open_model
from finetune.models import restoring
from finetune.models.restoring import Loading

import bitsandbytes as bnb
import pytest
import torch
from conftest import call, demo_rows


@torch.inference_mode()
def test_merged_weights_compute_what_base_and_adapter_compute_in_float32(trained_run):
    logged = open_model(str(trained_run["folder"] / trained_run["id"] / "checkpoint-24"))
    writer = logged.load(Loading(merged=True))
    merged = writer.model
    assert not any(isinstance(module, bnb.nn.Linear4bit) for module in merged.modules())
    assert {weight.dtype for weight in merged.parameters()} == {torch.float32}
    model = logged.load(Loading(compute_dtype="fp32")).model
    ids = torch.tensor(writer.encode(demo_rows("test")[:1]))
    torch.testing.assert_close(merged(ids).logits, model(ids).logits, atol=1e-3, rtol=0)
    with model.disable_adapter():
        assert (merged(ids).logits - model(ids).logits).abs().max() > 0.5


def test_answers_do_not_depend_on_the_batch(trained_run, tmp_path, capsys):
    checkpoint = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    rows = [{key: row[key] for key in ("question", "context")} for row in demo_rows("test")[:8]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--input", tmp_path / "rows.jsonl", "--merge", "--json", "--token-ids", "--param", "max_new_tokens=32")
    answers = []
    for size in (1, 8):
        assert call(predict.main, checkpoint, *flags, "--batch-size", size) is None
        answers.append(capsys.readouterr().out.splitlines())
    assert answers[0] == answers[1]
    assert len(answers[0]) == 8


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--precision", "nf4"), "leave out --precision nf4"),
        (("--no-adapter",), "leave out --precision nf4 and --no-adapter"),
    ],
)
def test_flags_that_do_not_go_with_it(trained_run, flags, sentence):
    checkpoint = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    assert sentence in call(predict.main, checkpoint, "--merge", "--question", "q", "--context", "c", *flags)


def test_without_memory_it_is_refused(trained_run, monkeypatch):
    checkpoint = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    monkeypatch.setattr(restoring, "memory_limit", lambda: 10**6)
    error = call(predict.main, checkpoint, "--merge", "--question", "q", "--context", "c")
    assert "--merge: the merged weights take 0.0 GB of 0.0 GB" in error
