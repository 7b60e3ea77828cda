"""A decoder as a classifier, by the scripts: train, stop, go on, log in each form, predict, score."""

import json
from contextlib import redirect_stdout
from io import StringIO

import evaluate_model
import log_model
import predict
import train_classifier
from finetune.models.card import Card
from finetune.models.classifier.classifier import Classifier

import bitsandbytes as bnb
import mlflow
import numpy as np
import pytest
import torch
from conftest import CLASSIFIER_FLAGS, call, stop_after
from encoders import CLAUSES, LABELS, make_decoder, write_rows
from safetensors.torch import load_file

TEXTS = [*CLAUSES.values(), "welcome to our site ."]


@pytest.fixture(scope="module")
def decoder_run(terms, tmp_path_factory):
    """A training of a tiny Llama, each layer computed twice: its id, its folder and its flags."""
    folder = tmp_path_factory.mktemp("decoders")
    base = make_decoder(folder / "llama", "llama")
    flags = ("--base-model", base, "--dataset", terms, *CLASSIFIER_FLAGS, "--num-train-epochs", 2,
             "--checkpoint-every-n-layers", 1, "--tfidf", "none")  # fmt: skip
    with redirect_stdout(StringIO()) as printed:
        train_classifier.main([str(flag) for flag in (*flags, "--output-dir", folder / "outputs")])
    run_id = printed.getvalue().split()[-1]
    return {"id": run_id, "folder": folder / "outputs" / run_id, "flags": flags}


def scores(uri: str, folder, capsys) -> np.ndarray:
    """Return what predict.py says of the texts, shape (texts, labels)."""
    rows = write_rows(folder / "texts.jsonl", [{"text": text} for text in TEXTS])
    assert call(predict.main, uri, "--input", rows, "--json") is None
    found = [json.loads(line)["scores"] for line in capsys.readouterr().out.splitlines()]
    return np.array([[row[name] for name in LABELS] for row in found])


def test_it_learns_with_all_linear_layers_in_4_bits_and_a_head_in_float32(decoder_run):
    card, checkpoint = Card.read(decoder_run["folder"] / "checkpoint-20"), decoder_run["folder"] / "checkpoint-20"
    run = mlflow.get_run(decoder_run["id"])
    assert (card.pooling, run.data.params["script.pooling"]) == ("last", "last")
    assert run.data.metrics["test_macro_f1"] > 0.8
    model = Classifier.load(checkpoint).model
    quantised = [name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert len(quantised) == 2 * 7  # q, k, v, o and the three of the MLP, in each layer
    assert all(name.endswith("base_layer") for name in quantised)  # and each has an adapter
    head = load_file(checkpoint / "adapter_model.safetensors")["base_model.model.classifier.weight"]
    assert (head.shape, head.dtype) == ((3, 64), torch.float32)


@pytest.mark.slow
def test_it_goes_on_to_the_same_weights(decoder_run, tmp_path, capsys, monkeypatch):
    stop_after(monkeypatch, 13)
    assert call(train_classifier.main, *decoder_run["flags"], "--output-dir", tmp_path, "--max-time", "1h") is None
    run_id = capsys.readouterr().out.split()[-1]
    assert call(train_classifier.main, "--resume", run_id) is None
    whole, resumed = (
        load_file(folder / "checkpoint-20" / "adapter_model.safetensors")
        for folder in (decoder_run["folder"], tmp_path / run_id)
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_its_logged_model_says_the_same(decoder_run, tmp_path, capsys):
    uri = f"runs:/{decoder_run['id']}/model"
    assert call(log_model.main, decoder_run["id"], "--no-reload-check") is None
    capsys.readouterr()
    found = scores(uri, tmp_path, capsys)
    assert found[:3].argmax(1).tolist() == [0, 1, 2]
    served = mlflow.pyfunc.load_model(uri).predict(TEXTS)
    np.testing.assert_allclose([[row[name] for name in LABELS] for row in served["scores"]], found, atol=1e-5)


@pytest.mark.slow
def test_merged_and_as_onnx_it_says_the_same(decoder_run, tmp_path, capsys):
    run_id = decoder_run["id"]
    assert call(log_model.main, run_id, "--export", "onnx") is None
    # The merged one is asked below.
    assert call(log_model.main, run_id, "--mode", "merged", "--name", "merged", "--no-reload-check") is None
    tags = mlflow.get_run(run_id).data.tags
    assert (tags["reload_parity"], tags["onnx_parity"]) == ("pass", "pass")
    capsys.readouterr()
    trained = scores(f"runs:/{run_id}/model", tmp_path, capsys)
    for name in ("model-onnx", "merged"):
        np.testing.assert_allclose(scores(f"runs:/{run_id}/{name}", tmp_path, capsys), trained, atol=1e-3)


def test_a_file_is_scored_with_it_and_long_texts_in_windows(decoder_run, terms, tmp_path, capsys):
    uri = f"runs:/{decoder_run['id']}/checkpoint-20"
    assert call(evaluate_model.main, uri, "--dataset", terms / "test.jsonl", "--name", "again") is None
    assert mlflow.get_run(decoder_run["id"]).data.metrics["again_macro_f1"] > 0.8
    capsys.readouterr()
    long = f"{'welcome to our site and ' * 20}{CLAUSES['Arbitration']}"
    found = {}
    for how in ("truncate", "window"):
        assert call(predict.main, uri, "--text", long, "--json", "--long-texts", how) is None
        found[how] = json.loads(capsys.readouterr().out)["scores"]["Arbitration"]
    assert found["truncate"] < found["window"]
