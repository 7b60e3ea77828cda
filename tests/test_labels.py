"""Labels: the task found from the data, names and numbers, and what is refused."""

from finetune.console import InputError
from finetune.labels import Labels, balanced_sample, find_labels, read_names

import numpy as np
import pytest


def rows(*labels, column="labels") -> list[dict]:
    return [{"text": "t", column: label} for label in labels]


@pytest.mark.parametrize(
    ("given", "task", "names"),
    [
        (rows([0], [2], []), "multilabel", ("0", "1", "2")),
        (rows(["b"], ["a", "b"]), "multilabel", ("a", "b")),
        (rows(0, 1, column="label"), "binary", ("no", "yes")),
        (rows(True, False, column="label"), "binary", ("no", "yes")),
        (rows("ham", "spam", column="label"), "binary", ("ham", "spam")),
        (rows("a", "b", "c", column="label"), "multiclass", ("a", "b", "c")),
        (rows("0", "2", "1", column="label"), "multiclass", ("0", "1", "2")),
        (rows("[0, 1]", "[]"), "multilabel", ("0", "1")),
        (rows(np.array([1]), np.array([])), "multilabel", ("0", "1")),
    ],
)
def test_task_and_names_are_found_from_the_data(given, task, names):
    found = find_labels(given, None, None)
    assert (found.task, found.names) == (task, names)


def test_rows_become_zeros_and_ones():
    labels = Labels("multilabel", ("a", "b", "c"))
    assert labels.encode(rows(["c", 0], [], ["1"]), "").tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert Labels("multiclass", ("a", "b")).encode(rows("b", 0, column="label"), "").tolist() == [[0, 1], [1, 0]]
    two = Labels("binary", ("ham", "spam"))
    assert two.encode(rows("spam", 0, True, column="label"), "").tolist() == [[1], [0], [1]]
    assert two.encode(rows([3], []), "").tolist() == [[1], [0]]  # a list asks whether there is any


def test_a_label_that_never_occurs_is_kept_with_a_warning(caplog):
    labels = find_labels(rows([0], [2], []), None, ["a", "b", "c"])
    assert labels.names == ("a", "b", "c")
    assert "in no training row, and kept: the labels b" in caplog.text


@pytest.mark.parametrize(
    ("given", "task", "names", "part"),
    [
        (rows([0], [3]), None, ["a", "b"], "row 2 of the training rows has the label 3; expected one of a, b"),
        (rows(["a"], ["x"]), None, ["a", "b"], "the label 'x'"),
        (rows([0], [-1]), None, None, "the label -1"),
        (rows([0], [0]), None, None, "all training rows have the same labels (0)"),
        (rows([], []), None, None, "all training rows have the same labels (none)"),
        (rows("a", "a", column="label"), None, None, "all training rows have the same labels (a)"),
        (rows("a", "", column="label"), None, None, "row 2 of the training rows has no label"),
        (rows([0], "x"), None, None, "row 2 of the training rows: labels must be a list"),
        (rows([0], None), None, None, "labels must be a list"),
        (rows("a", "b", column="label"), "multilabel", None, "--task multilabel needs a list `labels`"),
        (rows([0], [1]), "multiclass", None, "--task multiclass needs one `label`"),
        (rows("a", "b", "c", column="label"), "binary", None, "there are a, b, c"),
        ([{"text": "t"}], None, None, "neither labels nor label; found text"),
    ],
)  # fmt: skip
def test_what_is_refused(given, task, names, part):
    with pytest.raises(InputError) as error:
        find_labels(given, task, names)
    assert part in str(error.value)


def test_names_from_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("Choice of law\n\nArbitration\n")
    assert read_names([str(tmp_path / "names.txt")]) == ["Choice of law", "Arbitration"]
    with pytest.raises(InputError, match="no file"):
        read_names([str(tmp_path / "none.txt")])
    with pytest.raises(InputError, match="a name twice"):
        read_names(["a", "a"])


def test_a_debug_sample_is_balanced():
    actual = np.zeros((100, 2))
    actual[:10, 1] = 1
    chosen = balanced_sample(actual, Labels("multilabel", ("a", "b")), 12, seed=0)
    assert len(chosen) == 12
    assert sum(index < 10 for index in chosen) == 6
