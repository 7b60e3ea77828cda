"""The linear SVM that travels with a classifier: as scikit-learn counts, one file, and no other file than was saved."""

from dataclasses import replace
from types import SimpleNamespace

from finetune import InputError
from finetune.logged_models.writing import onnx_export
from finetune.models.card import ClassifierCard
from finetune.models.classifier.classifier import Classifier
from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import Encoded, to_scores
from finetune.models.classifier.tfidf import FILE, TfidfSvm
from finetune.reports.linear_svm.fitting import fit_svm
from finetune.rows.labelled_texts import LabelledTexts

import numpy as np
import pytest
import torch
from encoders import LABELS, labelled_rows
from safetensors.numpy import save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

THREE = Labels("multilabel", LABELS)


def part(count: int, seed: int, labels: Labels = THREE, texts: list[str] | None = None) -> LabelledTexts:
    """Return labelled texts without token ids."""
    rows = labelled_rows(count, seed)
    texts = texts or [row["text"] for row in rows]
    return LabelledTexts(texts, labels.encode(rows, "rows"), Encoded([], np.arange(count), 0, texts))


@pytest.fixture(scope="module")
def svm() -> TfidfSvm:
    return fit_svm(part(120, 0))


def test_distances_are_those_of_scikit_learn(svm):
    """Repeated words, capitals, letters of other alphabets, no known word, no word at all."""
    train, texts = part(120, 0), [*part(40, 1).texts, "WE may may may Suspend; we MAY", "Straße über", "x", ""]
    counter = TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True).fit(train.texts)
    known, asked = counter.transform(train.texts), counter.transform(texts)
    expected = [LinearSVC(random_state=0, dual=True).fit(known, truth).decision_function(asked)
                for truth in train.actual.T]  # fmt: skip
    assert np.abs(svm.distances(texts) - np.stack(expected, axis=1)).max() < 1e-6
    assert svm.terms == counter.get_feature_names_out().tolist()


def test_the_file_holds_all_of_it(svm, tmp_path):
    (tmp_path / FILE).write_bytes(svm.data)
    read = TfidfSvm.read(tmp_path, svm.digest, 3)
    assert (read.terms, read.data, read.digest) == (svm.terms, svm.data, svm.digest)
    assert (read.distances(part(9, 2).texts) == svm.distances(part(9, 2).texts)).all()


def damaged(svm: TfidfSvm, how: str) -> bytes:
    """Return a file that is not what was saved, or, with its digest, not what training writes."""
    if how == "bytes":
        return svm.data[:-1] + bytes([svm.data[-1] ^ 1])
    change = {
        "cut": {"idf": svm.idf[:-1]}, "nan": {"intercepts": np.full(3, np.nan, np.float32)},
        "outputs": {"intercepts": svm.intercepts[:2], "weights": svm.weights[:, :2]},
        "double": {"idf": svm.idf.astype(np.float64)}, "twice": {"terms": [svm.terms[0], *svm.terms[:-1]]},
        "numbers": {"terms": list(range(len(svm.terms)))},
    }[how]  # fmt: skip
    return replace(svm, **change).data


@pytest.mark.parametrize("how", ["bytes", "cut", "nan", "outputs", "double", "twice", "numbers"])
def test_another_file_is_refused_in_a_sentence(svm, how, tmp_path):
    data = damaged(svm, how)
    (tmp_path / FILE).write_bytes(data)
    digest = svm.digest if how == "bytes" else TfidfSvm.digest.func(SimpleNamespace(data=data))
    with pytest.raises(InputError, match=r"tfidf.safetensors is (damaged|not what was saved)") as refused:
        TfidfSvm.read(tmp_path, digest, 3)
    assert "take another checkpoint" in str(refused.value)


@pytest.mark.parametrize("content", [None, b"", b"{}", "no metadata"])
def test_a_file_that_is_gone_or_none_is_refused_in_a_sentence(svm, content, tmp_path):
    if content == "no metadata":
        save_file({"idf": svm.idf}, tmp_path / FILE)
    elif content is not None:
        (tmp_path / FILE).write_bytes(content)
    data = (tmp_path / FILE).read_bytes() if content is not None else b""
    with pytest.raises(InputError, match=r"tfidf.safetensors cannot be read"):
        TfidfSvm.read(tmp_path, TfidfSvm.digest.func(SimpleNamespace(data=data)), 3)


def card(**fields) -> ClassifierCard:
    return ClassifierCard(base_model="x", base_revision=None, quantization=None, max_length=9, labels=THREE,
                          pooling="mean", long_texts="truncate", thresholds=[0.5] * 3, **fields)  # fmt: skip


def test_the_card_says_so_and_one_without_is_as_before(svm):
    has = {"share": 0.5, "digest": svm.digest}
    values = card(tfidf=has).values()
    assert ClassifierCard.parse(values, "card").tfidf == has
    assert "tfidf" not in card().values()
    assert ClassifierCard.parse(card().values(), "card").tfidf is None


@pytest.mark.parametrize(
    "value", [1, [], {}, {"share": 1.0}, {"share": -1, "digest": "0" * 64}, {"share": 1, "digest": "../x"},
              {"share": float("nan"), "digest": "0" * 64}, {"share": 1, "digest": "0" * 64, "file": "/etc/x"}],
)  # fmt: skip
def test_another_value_in_the_card_is_refused(value):
    with pytest.raises(InputError, match="tfidf is"):
        ClassifierCard.parse(card().values() | {"tfidf": value}, "card")


@pytest.mark.parametrize("share", [0.5, None])
def test_an_onnx_file_is_said_to_be_without_the_svm(svm, share, tmp_path, monkeypatch, caplog):
    card(tfidf={"share": share, "digest": svm.digest} if share else None).write(tmp_path)
    monkeypatch.setattr(onnx_export.Classifier, "load", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        onnx_export.export_onnx(tmp_path, tmp_path)
    assert ("model.onnx has the adapter's logits alone" in caplog.text) == bool(share)


def test_a_classifier_adds_the_distances_of_whole_texts_to_its_logits(svm):
    class Model(torch.nn.Module):
        """Logits of 0.25 for all texts."""

        device = torch.device("cpu")

        def forward(self, input_ids, **others):
            return SimpleNamespace(logits=torch.full((len(input_ids), 3), 0.25))

    pieces = [{"input_ids": [1], "length": 1}] * 2
    texts = ["nothing that it knows", "any dispute shall be resolved by binding arbitration and not in court"]
    tokenizer = SimpleNamespace(pad=lambda columns, return_tensors: Batch(columns))
    encoded = Encoded(pieces, np.arange(2), 0, texts)
    alone = Classifier(Model(), tokenizer, card())
    both = Classifier(Model(), tokenizer, card(tfidf={"share": 2.0, "digest": svm.digest}), svm)
    assert np.allclose(alone.score(encoded), to_scores(np.full((2, 3), 0.25), THREE))
    assert np.allclose(both.score(encoded), to_scores(0.25 + 2 * svm.distances(texts), THREE))
    assert both.name(both.score(encoded), both.decide(both.score(encoded)))[1]["labels"] == ["Arbitration"]


class Batch(dict):
    """What a tokenizer returns."""

    def __init__(self, columns):
        super().__init__(input_ids=torch.tensor([column["input_ids"] for column in columns]))

    def to(self, device):
        return self
