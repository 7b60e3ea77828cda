"""Texts to scores to labels: windows, thresholds and metrics, on examples worked out by hand."""

from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import decide, encode_texts, join_pieces, to_scores
from finetune.reports.classifier_scores import (
    FOLDS,
    choose_thresholds,
    confident_mistakes,
    decide_crossfitted,
    score_labels,
)
from finetune.training.callbacks import parse_duration
from finetune.training.weighting import Weighting
from metrics.unfair_tos.unfair_tos import score

import numpy as np
import pytest
import torch
from encoders import tokenizer
from sklearn.metrics import average_precision_score, f1_score

TWO = Labels("multilabel", ("a", "b"))


def test_a_long_text_is_cut_or_becomes_windows_that_overlap():
    words, texts = tokenizer(), ["short", "welcome to our site and " * 20]
    cut = encode_texts(words, texts, 32, window=False)
    assert (len(cut.pieces), cut.long_texts, cut.owners.tolist()) == (2, 1, [0, 1])
    windows = encode_texts(words, texts, 32, window=True)
    assert windows.long_texts == 1
    assert windows.owners[0] == 0
    assert set(windows.owners[1:]) == {1}
    assert all(piece["length"] <= 32 for piece in windows.pieces)
    whole = words(texts[1])["input_ids"][1:-1]
    first, second = (piece["input_ids"][1:-1] for piece in windows.pieces[1:3])
    assert first == whole[: len(first)]
    assert first[-8:] == second[:8]  # a quarter of 32
    assert set(whole) == {i for piece in windows.pieces[1:] for i in piece["input_ids"][1:-1]}


def test_a_text_has_what_any_of_its_windows_has():
    logits, owners = np.array([[1.0, -1], [-2, 3], [0, 0]], dtype=np.float32), np.array([0, 0, 1])
    assert join_pieces(logits, owners, TWO).tolist() == [[1, 3], [0, 0]]
    assert join_pieces(logits, owners, Labels("multiclass", ("a", "b"))).tolist() == [[-0.5, 1], [0, 0]]


def test_scores_and_decisions():
    logits = np.array([[0.0, 2.0]], dtype=np.float32)
    assert to_scores(logits, TWO)[0, 0] == 0.5
    classes = Labels("multiclass", ("a", "b"))
    assert to_scores(logits, classes).sum() == pytest.approx(1)
    assert decide(np.array([[0.4, 0.6]]), classes, None).tolist() == [[0, 1]]
    assert decide(np.array([[0.4, 0.6]]), TWO, [0.3, 0.7]).tolist() == [[1, 0]]


def test_thresholds_separate_what_can_be_separated():
    scores = np.array([[0.9, 0.01], [0.8, 0.02], [0.2, 0.06], [0.1, 0.07]] * 10)
    actual = np.array([[1, 0], [1, 0], [0, 1], [0, 1]] * 10)
    found = choose_thresholds(scores, actual)
    assert 0.2 < found[0] < 0.8
    assert 0.02 < found[1] < 0.06
    assert (decide(scores, TWO, found) == actual).all()
    assert choose_thresholds(scores, np.zeros_like(actual)) == [0.5, 0.5]


def test_a_threshold_that_few_rows_have_chosen_is_drawn_towards_those_of_the_other_labels():
    random = np.random.default_rng(0)
    actual = np.zeros((1000, 3), dtype=int)
    actual[:400, 0] = actual[:400, 1] = 1
    actual[:6, 2] = 1  # six rows, whose scores say little
    scores = 1 / (1 + np.exp(-(random.normal(0, 1, actual.shape) + 3 * actual - [1.5, 1.5, 3.5])))
    alone, together = ([choose_thresholds(scores[:, [label]], actual[:, [label]])[0] for label in range(3)],
                       choose_thresholds(scores, actual))  # fmt: skip
    moved = np.abs(np.subtract(together, alone))
    assert moved[2] > 3 * moved[:2].max()
    assert min(alone[2], np.mean(alone)) < together[2] < max(alone[2], np.mean(alone))
    separated = choose_thresholds(np.where(actual > 0, [0.9, 0.9, 0.02], [0.1, 0.1, 0.01]), actual)
    assert 0.01 < separated[2] < 0.02  # It is drawn hardly.


def test_thresholds_are_drawn_towards_the_one_that_is_best_for_all_labels_not_towards_their_mean():
    random = np.random.default_rng(0)
    actual = np.zeros((1000, 3), dtype=int)
    actual[:100, 0] = actual[:300, 1] = actual[:6, 2] = 1
    odds = random.normal(0, 1, actual.shape) + 3 * actual - [0, 3.5, 4]
    odds[:, 0] = np.where(actual[:, 0], 6, -6)  # Any threshold serves the first label, whose own is in the middle.
    scores = 1 / (1 + np.exp(-odds))
    alone = [choose_thresholds(scores[:, [label]], actual[:, [label]])[0] for label in range(3)]
    assert alone[1] < alone[2] < (alone[0] * alone[1]) ** 0.5
    assert alone[1] < choose_thresholds(scores, actual)[2] < alone[2]


def test_crossfitted_decisions_do_not_see_the_rows_they_decide():
    random = np.random.default_rng(0)
    scores, actual = random.random((500, 2)), (random.random((500, 2)) < 0.02).astype(int)
    decided, fifth = decide_crossfitted(scores, TWO, actual), np.arange(500) % FOLDS == 0
    other = np.where(fifth[:, None], 1 - actual, actual)
    again = decide_crossfitted(scores, TWO, other)
    assert (again[fifth] == decided[fifth]).all()
    assert (again[~fifth] != decided[~fifth]).any()


def test_the_metrics_of_each_task():
    random = np.random.default_rng(0)
    actual, scores = (random.random((200, 2)) < 0.2).astype(np.float32), random.random((200, 2))
    decided = (scores > 0.5).astype(int)
    found, expected = score_labels(TWO, scores, decided, actual), score(decided, actual.astype(int))
    assert found["macro_f1"] == expected["macro_f1"]
    assert found["recall/b"] == expected["per_label"][1]["recall"]
    one = score_labels(Labels("binary", ("no", "yes")), scores[:, :1], decided[:, :1], actual[:, :1])
    assert one["f1"] == pytest.approx(f1_score(actual[:, 0], decided[:, 0]))
    assert one["pr_auc"] == pytest.approx(average_precision_score(actual[:, 0], scores[:, 0]))
    assert one["accuracy"] == pytest.approx((actual[:, 0] == decided[:, 0]).mean())
    classes = np.eye(3)[random.integers(0, 3, 50)]
    several = score_labels(Labels("multiclass", ("a", "b", "c/d?")), classes, classes.astype(int), classes)
    assert several["macro_f1"] == several["f1/c_d_"] == 1


def test_the_surest_mistakes_come_first():
    scores, actual = np.array([[0.9, 0.1], [0.6, 0.02]]), np.array([[0, 0], [0, 1]])
    mistakes = confident_mistakes(TWO, ["one", "two"], scores, decide(scores, TWO, [0.5, 0.5]), actual)
    assert [(m["text"], m["label"], m["mistake"], m["actual"]) for m in mistakes] == [
        ("two", "b", "there, but missed", "b"),
        ("one", "a", "not there, but found", "none"),
        ("two", "a", "not there, but found", "b"),
    ]
    assert len(confident_mistakes(TWO, ["one", "two"], scores, 1 - actual, actual, limit=2)) == 2


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_the_first_bias_is_where_the_weighted_loss_is_least(task):
    random = np.random.default_rng(0)
    columns = random.choice(3, 400, p=[0.8, 0.15, 0.05])
    actual = np.eye(3)[columns].astype(np.float32)
    weighting = Weighting.of(actual, Labels(task, ("a", "b", "c")), 0.5)
    bias = weighting.bias.clone().requires_grad_()
    loss = weighting.loss({"logits": bias.expand(400, 3)}, torch.from_numpy(actual))
    loss.backward()
    assert bias.grad.abs().max() < 1e-4
    # Summed in parts over the optimiser step it is the same.
    parts = [weighting.loss({"logits": bias.expand(200, 3)}, torch.from_numpy(half), actual.size)
             for half in (actual[:200], actual[200:])]  # fmt: skip
    assert sum(parts).item() == pytest.approx(loss.item(), rel=1e-5)


def test_durations():
    assert [parse_duration(text) for text in ("90s", "45m", "2h", "1h30m", None, "0")] == [
        90,
        2700,
        7200,
        5400,
        None,
        None,
    ]
