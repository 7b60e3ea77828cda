"""A linear SVM beside each training: fitted on whatever rows there are, its share chosen, and what is said of both."""

import logging
import warnings

from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import Encoded
from finetune.reports.classifier_scores import FOLDS
from finetune.reports.linear_svm import fitting
from finetune.reports.linear_svm.comparing import beside_svm, groups_of
from finetune.reports.linear_svm.fitting import LONGEST_TERM, fit_svm, some_of, takes, warn_of_unknown
from finetune.reports.linear_svm.mixing import SHARES, choose
from finetune.rows.labelled_texts import LabelledTexts

import numpy as np
import pytest

TASKS = {
    "multilabel": Labels("multilabel", ("a", "b")), "binary": Labels("binary", ("no", "yes")),
    "multiclass": Labels("multiclass", ("a", "b", "c")),
}  # fmt: skip


def part(task: str, count: int = 60, documents: list[str] | None = None) -> LabelledTexts:
    """Return rows whose last output depends on a word, the others on the number of the row."""
    numbers = np.arange(count)
    texts = [f"row {number % 7} says {'blue' if number % 3 == 2 else 'green'}" for number in numbers]
    actual = np.eye(3)[numbers % 3][:, -TASKS[task].outputs :].astype(np.float32)
    return LabelledTexts(texts, actual, Encoded([], numbers, 0, texts), documents)


@pytest.mark.parametrize("task", TASKS)
def test_a_share_is_chosen_only_where_it_helps(task):
    rows, labels = part(task), TASKS[task]
    distances = fit_svm(rows).distances(rows.texts)
    assert distances.shape == rows.actual.shape
    noise = np.random.default_rng(0).normal(size=rows.actual.shape).astype(np.float32)
    helped = choose(noise, labels, rows.actual, distances)
    assert helped.share in SHARES[1:]
    assert (helped.thresholds is None) == (task == "multiclass")
    right = (8 * rows.actual - 4).astype(np.float32)
    assert choose(right, labels, rows.actual, noise).share == 0
    alone = choose(noise, labels, rows.actual)
    assert alone.share == 0
    assert (choose(noise, labels, rows.actual, 0 * noise).decided == alone.decided).all()


def test_the_share_is_the_one_that_ranks_best_whatever_its_thresholds():
    # F1 is best where the five highest of ten are taken, with or without the SVM; with it the wrong one is fourth.
    actual = np.tile([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], 20)[:, None].astype(np.float32)
    logits = np.tile([1, 1, 1, 1, 2, -5, -5, -5, -5, -5], 20)[:, None].astype(np.float32)
    distances = np.tile([3, 3, 3, 0, 0, 0, 0, 0, 0, 0], 20)[:, None].astype(np.float32)
    assert choose(logits, TASKS["binary"], actual, distances).share == 0.5  # Larger ones rank in the same order.


@pytest.mark.parametrize("task", TASKS)
def test_share_and_thresholds_do_not_see_the_rows_that_they_decide(task):
    rows, random = part(task, 200), np.random.default_rng(0)
    fifth = np.arange(200) % FOLDS == 0
    logits = rows.actual + random.normal(size=rows.actual.shape).astype(np.float32)
    distances = (rows.actual - 0.5) * np.where(fifth, 8, 0)[:, None] + 0.1 * logits[::-1]
    other = np.where(fifth[:, None], np.roll(rows.actual, 1, axis=0), rows.actual)
    first, second = (choose(logits, TASKS[task], actual, distances) for actual in (rows.actual, other))
    assert first.share != second.share  # By what the fifth says of the SVM.
    assert (first.decided[fifth] == second.decided[fifth]).all()


def test_the_share_does_not_depend_on_what_thresholds_make_up_for():
    rows, random = part("multilabel", 200), np.random.default_rng(0)
    logits, distances = (random.normal(size=rows.actual.shape).astype(np.float32) + rows.actual for _ in range(2))
    shares = {choose(logits, TASKS["multilabel"], rows.actual, distances + np.float32(moved)).share
              for moved in ([0, 0], [3, -3], [-3, 3])}  # fmt: skip
    assert len(shares) == 1


@pytest.mark.parametrize("task", TASKS)
def test_scores_and_difference_are_metrics_of_the_run(task):
    rows, labels = part(task), TASKS[task]
    distances = fit_svm(rows).distances(rows.texts)
    beside = beside_svm("test", labels, rows, rows.actual.astype(np.int64), distances)
    metrics, main = beside.metrics(), "f1" if task == "binary" else "macro_f1"
    assert metrics[f"test_svm_{main}"] == pytest.approx(beside.pair.second)
    assert beside.pair.first == 1
    low, high, p = (metrics[f"test_svm_difference_{end}"] for end in ("low", "high", "p"))
    assert low <= metrics["test_svm_difference"] <= high
    assert 0 < p <= 1


def test_what_is_said_where_the_model_is_better_and_where_it_is_not():
    rows, labels = part("binary", 120), TASKS["binary"]
    right = rows.actual.astype(np.int64)
    good, poor = 4 * rows.actual - 2, np.random.default_rng(0).normal(size=rows.actual.shape)
    found = {name: beside_svm(part, labels, rows, decided, distances.astype(np.float32))
             for name, part, decided, distances in (
                 ("better", "test", right, poor), ("ahead", "validation", right, poor), ("same", "test", right, good),
                 ("worse", "test", 1 - right, good))}  # fmt: skip
    said = {name: beside.sentence(120, 120) for name, beside in found.items()}
    assert said["better"].startswith("The model is better than a linear SVM on TF-IDF: f1 of the SVM")
    assert said["ahead"].startswith(
        "The model is ahead of a linear SVM on TF-IDF on the rows that chose its thresholds"
    )
    assert said["same"].startswith("The model is not shown to be better than a linear SVM on TF-IDF, a minute of work")
    assert said["worse"].startswith("A linear SVM on TF-IDF, a minute of work at most, is better: f1 of the SVM 1.000")
    assert [name for name, beside in found.items() if beside.is_better] == ["better"]
    assert "than a linear SVM on TF-IDF of 30 of the 120 training texts: f1" in found["better"].sentence(30, 120)


@pytest.mark.parametrize(("count", "missed"), [(8, 2), (4, 4), (400, 4)])
def test_of_few_rows_that_differ_nobody_is_said_to_be_better_or_as_good(count, missed):
    """An interval alone is above 0 where four rows are all there are, or all that differ of many."""
    actual = np.ones((count, 1), dtype=np.float32)
    texts = [f"text {number}" for number in range(count)]
    rows = LabelledTexts(texts, actual, Encoded([], np.arange(count), 0, texts))
    some = np.ones_like(actual)
    some[:missed] = -1
    for decided, distances in ((actual, some), (actual - (some < 0), actual)):
        beside = beside_svm("test", TASKS["binary"], rows, decided.astype(np.int64), distances, [0.5])
        assert abs(beside.pair.difference) > 0
        assert not beside.is_better
        assert beside.sentence(9, 9).startswith("The model is not shown to be better than a linear SVM")


def test_documents_are_drawn_where_rows_name_enough_of_them():
    groups, unit = groups_of(["b", "a", "b", "c", "d", "e", "f"], 7)
    assert (groups.tolist(), unit) == ([0, 1, 0, 2, 3, 4, 5], "documents")
    assert groups_of(["a", "b"] * 3, 6)[1] == groups_of(None, 6)[1] == "texts"
    assert groups_of(None, 5000)[0].max() == 1999
    assert groups_of([f"id {number}" for number in range(5000)], 5000)[0].max() == 1999  # A document a row.


def test_documents_widen_the_interval_where_their_rows_are_alike():
    rows = part("binary", 240, [str(number // 20) for number in range(240)])
    decided = rows.actual.astype(np.int64)
    decided[:60] = 1 - decided[:60]  # All of three documents wrong.
    distances = (4 * rows.actual - 2).astype(np.float32)
    by_document = beside_svm("test", TASKS["binary"], rows, decided, distances)
    rows.documents = None
    by_text = beside_svm("test", TASKS["binary"], rows, decided, distances)
    assert by_document.pair.difference == by_text.pair.difference
    assert by_document.pair.high - by_document.pair.low > by_text.pair.high - by_text.pair.low


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("texts", [["a", "b", "!"], ["one text", "one text", "two texts"]])
def test_few_rows_labels_of_all_or_none_and_no_words_at_all(task, texts):
    labels = TASKS[task]
    actual = np.zeros((3, labels.outputs), dtype=np.float32)
    actual[:, -1] = 1
    rows = LabelledTexts(texts, actual, Encoded([], np.arange(3), 0, texts))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distances = fit_svm(rows).distances([*texts, ""])
    assert np.isfinite(distances).all()
    assert (distances == distances[0]).all()
    for count in (1, 3):  # rows to choose on
        few = LabelledTexts(texts[:count], actual[:count], Encoded([], np.arange(count), 0, texts[:count]))
        chosen = choose(distances[:count], labels, few.actual, distances[:count])
        beside = beside_svm("validation", labels, few, chosen.decided, distances[:count])
        assert chosen.share == 0
        assert beside.pair.difference == 0


def test_of_very_many_texts_some_are_read_and_of_many_labels_fewer(monkeypatch, caplog):
    monkeypatch.setattr(fitting, "MAX_CHARACTERS", 105)
    texts = [f"text number {number:03d}" for number in range(50)]
    kept = some_of(texts, 1)
    assert 100 / 15 <= len(kept) <= 100 / 15 + 1
    assert f"reads {len(kept)} of 50 training texts" in caplog.text
    assert kept.tolist() == sorted(set(kept.tolist())) == some_of(texts, 1).tolist()
    assert len(some_of(texts, 200)) < len(kept)
    assert len(some_of(["x" * 1000, "y" * 1000], 1)) == 1
    assert "blue" not in fit_svm(part("binary"), np.arange(2)).terms
    monkeypatch.setattr(fitting, "MAX_TERMS", 5)
    assert len(fit_svm(part("binary")).terms) == 5


def test_terms_by_outputs_are_bounded_and_of_very_many_labels_there_is_no_svm(monkeypatch, caplog):
    monkeypatch.setattr(fitting, "MAX_WEIGHTS", 12)
    assert fit_svm(part("multiclass")).weights.shape == (4, 3)
    assert takes(300)
    assert not takes(4271)
    assert "at most 300 labels, and these are 4271" in caplog.text


def test_terms_that_are_no_words_are_left_out_as_if_they_were_not_there():
    """A file's header holds the terms, 100 MB at most."""
    rows = part("binary")
    plain = fit_svm(rows)
    rows.texts = [f"{text}. {'QmFz' * 200}{number}" for number, text in enumerate(rows.texts)]
    found = fit_svm(rows)
    assert max(map(len, found.terms)) <= LONGEST_TERM
    assert found.terms == plain.terms
    np.testing.assert_allclose(found.distances(rows.texts), plain.distances(part("binary").texts), atol=1e-6)


@pytest.mark.parametrize("held_out", ["任何争议均应通过具有约束力的仲裁解决。", "row says blue"])
def test_texts_of_which_it_knows_no_word_are_said(held_out, caplog):
    caplog.set_level(logging.INFO)
    rows = part("binary")
    svm = fit_svm(rows)
    warn_of_unknown(svm, svm.distances([held_out] * 3 + rows.texts[:1]))
    assert ("3 of 4 validation texts have no word that the linear SVM knows" in caplog.text) == (held_out[0] != "r")
    assert "fitting a linear SVM on TF-IDF beside the model: 60 training texts" in caplog.text
