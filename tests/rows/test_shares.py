"""A percentage of the training rows: nested, by label, the same for the same seed."""

from collections import Counter
from itertools import pairwise

from finetune.rows.loading import Rows
from finetune.rows.splits.shares import by_label, take_percent

import pytest

COMMON = [{"text": f"text {n}", "labels": ["often"] if n % 2 else []} for n in range(200)]
RARE = [{"text": f"rare {n}", "labels": ["rare", "often"]} for n in range(3)] + [{"text": "once", "labels": ["once"]}]


def taken(rows: list[dict], percent: int | None, seed: int = 42, groups=by_label) -> list[str]:
    found = take_percent(Rows(list(rows), None, "", ""), percent, seed, groups)
    return [row["text"] for row in found.train]


def test_smaller_shares_are_within_larger_ones_and_rare_labels_stay():
    rows = [*COMMON[:100], *RARE, *COMMON[100:]]
    shares = [taken(rows, percent) for percent in (1, 5, 25, 50, 100)]
    for smaller, larger in pairwise(shares):
        assert set(smaller) < set(larger)
    assert shares[-1] == [row["text"] for row in rows]  # in their order
    for share, percent in zip(shares, (1, 5, 25, 50, 100), strict=True):
        labels = Counter(label for row in rows if row["text"] in share for label in row["labels"] or ["none"])
        assert labels.keys() == {"often", "none", "rare", "once"}
        assert abs(labels["none"] - percent) <= 1
        assert len(share) <= len(rows) * percent / 100 + 4  # of each group one at least


def test_a_label_that_stands_only_beside_rarer_ones_stays_too():
    rows = [
        {"text": f"{label}{n}", "labels": [label, "beside"] if n == 4 else [label]} for label in "ab" for n in range(5)
    ]
    for seed in range(20):
        assert {"a4", "b4"} & set(taken(rows, 1, seed))


def test_another_seed_draws_other_rows_and_without_a_percentage_all_stay():
    assert taken(COMMON, 25) == taken(COMMON, 25) != taken(COMMON, 25, seed=0)
    assert taken(COMMON, None) == taken(COMMON, 100)


@pytest.mark.parametrize("key", ["label", "labels"])
def test_single_labels_numbers_and_cells_of_text_are_labels_too(key):
    values = [[0], [1], "1", "often;1"] if key == "labels" else [0, 1, "1", "often"]
    rows = [{"text": f"{value} {n}", key: value} for n in range(9) for value in values]
    labels = {label for row in rows if row["text"] in taken(rows, 1) for label in by_label(row)}
    assert labels == {"0", "1", "often"}


def test_corrected_answers_behind_the_rows_are_taken_alike():
    corrections = Rows(RARE[:2], None, "mlflow:answers", "")
    rows = Rows([*COMMON, *RARE[:2]], None, "", "", corrections=[corrections])
    take_percent(rows, 50, 42, by_label)
    assert len(corrections.train) == 1
    assert rows.train[-1] is corrections.train[0]
    assert len(rows.train) == 101
