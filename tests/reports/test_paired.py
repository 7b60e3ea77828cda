"""Two on the same rows: known p values, intervals, and the words for them."""

from finetune.reports.paired import Paired, f1_of, mcnemar, paired_means, paired_scores, rows_needed, sentence

import numpy as np
import pytest
from sklearn.metrics import f1_score


def test_mcnemar_is_exact_and_counts_both_sides():
    found = mcnemar([True] * 7 + [False] * 3, [True] + [False] * 6 + [True] + [False] * 2)
    assert (found.only_first, found.only_second, found.rows) == (6, 1, 10)
    assert found.p == pytest.approx(2 * (1 + 7) / 2**7)
    assert (found.first, found.second, found.difference) == (0.7, 0.2, pytest.approx(0.5))
    assert found.low < 0.5 < found.high
    assert found.verdict == "no difference can be told"
    assert mcnemar([True] * 9, [False] * 9).verdict == "better"
    assert mcnemar([False] * 9, [True] * 9).verdict == "worse"
    assert mcnemar([True] * 9, [True] * 9).p == 1
    assert mcnemar([], []).rows == 0


def test_the_bootstrap_is_the_same_each_time_and_two_sided():
    random = np.random.default_rng(1)
    one = random.random(60)
    near, far = one + random.normal(0, 0.2, 60), one + 0.1 + random.normal(0, 0.02, 60)
    assert paired_means(one, near) == paired_means(one, near)
    assert paired_means(one, near).verdict == "no difference can be told"
    found, turned = paired_means(far, one), paired_means(one, far)
    assert found.verdict == "better"
    assert turned.verdict == "worse"
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))
    assert paired_means(one, one).p == 1


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_f1_by_weights_is_that_of_the_rows_repeated(average):
    random = np.random.default_rng(0)
    decided, actual = random.integers(0, 2, (30, 4)), random.integers(0, 2, (30, 4))
    counts = random.multinomial(30, np.full(30, 1 / 30), size=3)
    expected = [
        f1_score(np.repeat(actual, c, axis=0), np.repeat(decided, c, axis=0), average=average, zero_division=0)
        for c in counts
    ]
    score = f1_of(decided, actual, average)
    assert score(counts.astype(float)) == pytest.approx(expected)
    assert f1_of(decided, actual, average, only_there=True)(counts.astype(float)) == pytest.approx(expected)
    twice = f1_of(np.concatenate([decided, decided]), np.concatenate([actual, actual]), average)
    same = paired_scores(twice, 30)
    assert (same.p, same.low, same.high) == (1, 0, 0)
    assert same.first == same.second == pytest.approx(score(np.ones((1, 30)))[0])


def test_macro_f1_of_a_sample_can_be_that_of_the_labels_in_it():
    actual = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]])  # the third in no row
    decided = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    samples = np.array([[1.0, 1, 1], [3, 0, 0], [0, 3, 0]])
    both = [f1_of(decided, actual, "macro", only_there=there)(samples) for there in (False, True)]
    assert both[0] == pytest.approx([(2 / 3 + 2 / 3) / 3, 1 / 3, 1 / 3])
    assert both[1] == pytest.approx([(2 / 3 + 2 / 3) / 3, 1 / 2, 1 / 2])


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 12])
def test_few_rows_that_all_differ_one_way_are_told_only_where_chance_would_not(rows):
    found = paired_means([0.9] * rows, [0.2] * rows)
    assert found.p == pytest.approx(2 / 2**rows)
    assert found.verdict == ("better" if rows > 5 else "no difference can be told")
    assert mcnemar([True] * rows, [False] * rows).p == pytest.approx(found.p)


def test_p_of_right_and_wrong_is_that_of_mcnemar():
    random = np.random.default_rng(3)
    for _ in range(20):
        one, two = random.random((2, 10)) < 0.5
        assert paired_means(one, two).p == pytest.approx(mcnemar(one, two, interval=False).p)
    one, two = random.random((2, 40)) < [[0.8], [0.5]]
    assert paired_means(one, two).p == pytest.approx(mcnemar(one, two).p, abs=0.02)


def test_f1_of_few_texts_is_told_by_exchange_of_their_answers():
    actual, wrong = np.ones((4, 1)), np.zeros((4, 1))
    score = f1_of(np.concatenate([actual, wrong]), np.concatenate([actual, actual]), "micro")
    found = paired_scores(score, 4)
    assert (found.first, found.second, found.p) == (1, 0, 2 / 2**4)
    assert found.verdict == "no difference can be told"
    six = f1_of(np.repeat([[1], [0]], 60, axis=0), np.ones((120, 1)), "micro")
    assert paired_scores(six, 60).verdict == "better"
    assert paired_scores(six, 60) == paired_scores(six, 60)


def test_one_row_is_not_rows():
    assert sentence(mcnemar([True], [False]), "the base") == (
        "1 question is too few to tell it from the base (p = 1); a difference like this one would take about 6"
    )
    assert sentence(paired_means([1], [1]), "the other", "articles") == (
        "no difference from the other can be told from 1 article"
    )


def test_words_claim_no_more_than_the_interval_allows():
    few = mcnemar([True] * 7 + [False] * 3, [True] + [False] * 6 + [True] + [False] * 2)
    assert sentence(few, "the base").startswith("10 questions are too few to tell it from the base (p = 0.12)")
    assert "would take about" in sentence(few, "the base")
    many = mcnemar([True] * 40, [False] * 40)
    assert sentence(many, "the base") == "better than the base (p = 1.8e-12, 40 questions)"
    same = Paired(0.5, 0.5, -0.1, 0.1, 1.0, 20, 2, 2)
    assert sentence(same, "the base") == "no difference from the base can be told from 20 questions"


def test_rows_needed_is_that_of_the_textbook():
    # Connor 1987: discordant 0.3, difference 0.1, power 0.8, alpha 0.05: 234 pairs.
    assert rows_needed(0.6, 0.5, 0.3) == pytest.approx(234, abs=3)
    assert rows_needed(0.5, 0.5, 0.3) is None
