"""benchmarks/classifier_folds.py: side by side is as alone, and folds hide documents."""

import sys
from functools import partial

from finetune.models.classifier.encoder import EncoderClassifier
from finetune.training.weighting import Weighting
from train_classifier import Flags, build_model

import numpy as np
import pytest
import torch
from conftest import ROOT
from encoders import make_encoder

sys.path.insert(0, str(ROOT / "benchmarks"))
import classifier_folds
import stacked_training
from stacked_training import Settings, StackedLora, Texts

SETTINGS = Settings(epochs=2, dropout=0.0, batch=8, learning_rate=1e-2, rank=4, alpha=8)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT whose states have no dropout of their own."""
    folder = make_encoder(tmp_path_factory.mktemp("encoders") / "bert", "bert")
    config = folder / "config.json"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('_dropout_prob": 0.1', '_dropout_prob": 0.0'), encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def texts() -> Texts:
    """60 random texts with 3 labels."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 60, (60, 24), generator=random)
    lengths = torch.randint(3, 24, (60,), generator=random)
    targets = (torch.rand(60, 3, generator=random) < 0.3).float()
    return Texts(ids, torch.zeros_like(ids), lengths, targets)


def trained(bert, texts, replicas) -> list[dict]:
    weights = torch.full((len(replicas), 3), 1.5)
    model = stacked_training.build(bert, [one["seed"] for one in replicas], torch.zeros(len(replicas), 3) - 1, SETTINGS)
    return stacked_training.train(model, texts, replicas, weights, SETTINGS)


def test_side_by_side_is_as_alone(bert, texts):
    """Other rows, lengths and held-out rows, and one replica whose gradient is far above the bound."""
    replicas = [
        {"rows": np.arange(0, 40), "held_out": np.arange(40, 60), "seed": 3},
        {"rows": np.arange(10, 50), "held_out": np.arange(0, 10), "seed": 8},
        {"rows": np.arange(20, 60), "held_out": np.arange(5, 17), "seed": 3},
    ]
    together = trained(bert, texts, replicas)
    for one, found in zip(replicas, together, strict=True):
        (alone,) = trained(bert, texts, [one])
        assert list(found) == ["1", "2", "average"]
        for name, logits in alone.items():
            assert logits.shape == (len(one["held_out"]), 3)
            np.testing.assert_allclose(found[name], logits, atol=2e-3)


def test_a_step_has_the_gradients_of_the_script(bert, texts):
    """The same first weights in the model of train_classifier.py: the same logits and gradients."""
    flags = Flags(base_model=bert, lora_r=4, lora_alpha=8, lora_dropout=0.0, compute_dtype="fp32")
    bias = torch.tensor([-1.0, -2.0, -0.5])
    script, _, _ = build_model(flags, None, partial(EncoderClassifier, outputs=3, pooling="mean", bias=bias))
    stacked = stacked_training.build(bert, [5], bias[None], SETTINGS)
    head = script.get_base_model().classifier.modules_to_save["default"]
    pairs = [(stacked.classifier.weight, head.weight), (stacked.classifier.bias, head.bias)]
    adapted = dict(script.get_base_model().encoder.named_modules())
    for name, module in stacked.encoder.named_modules():
        if isinstance(module, StackedLora):
            pairs += [(module.A, adapted[name].lora_A["default"].weight)]
            pairs += [(module.B, adapted[name].lora_B["default"].weight)]
    with torch.no_grad():
        for mine, theirs in pairs:
            theirs.copy_(mine.normal_(std=0.1)[0])
    assert len(pairs) == 2 + 2 * 6 * 2  # two layers of six products
    weights = torch.tensor([[1.5, 2.0, 1.0]])
    rows = np.array([[4, 9, 30, -1]])
    stacked.train()
    stacked_training.step(stacked, texts, rows, texts.lengths.numpy(), weights, SETTINGS)
    script.train()
    numbers = torch.tensor([4, 9, 30])
    outputs = script(**texts.batch(numbers, 24))
    Weighting("multilabel", weights[0], bias).loss(outputs, texts.targets[numbers]).backward()
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.grad[0], theirs.grad, atol=1e-5, rtol=1e-3)


def test_micro_batches_add_up_to_the_step(bert, texts, monkeypatch):
    gradients = []
    for at_a_time in (10**6, 50):
        monkeypatch.setattr(stacked_training, "TOKENS_AT_A_TIME", at_a_time)
        model = stacked_training.build(bert, [5, 6], torch.zeros(2, 3), SETTINGS)
        rows = np.array([[1, 2, 3, 4, 5], [7, 8, 9, 10, -1]])
        stacked_training.step(model, texts, rows, texts.lengths.numpy(), torch.ones(2, 3), SETTINGS)
        gradients.append(model.classifier.weight.grad)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_a_document_is_in_one_fold():
    random = np.random.default_rng(0)
    documents = [f"d{number}" for number in random.integers(0, 20, 600)]
    actual = (random.random((600, 3)) < 0.1).astype(np.float32)
    folds = classifier_folds.folds_of(documents, actual)
    assert set(folds) == set(range(5))
    assert all(len(set(folds[np.array(documents) == name])) == 1 for name in documents)
    assert min(np.bincount(folds)) > 80


def test_logits_are_kept_to_the_256th():
    logits = np.random.default_rng(0).normal(size=(50, 8)) * 5
    np.testing.assert_allclose(classifier_folds.unpack(classifier_folds.pack(logits)), logits, atol=1 / 500)
