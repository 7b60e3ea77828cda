"""Labels: the task found from the data, names and numbers, and what is refused."""

from finetune import InputError
from finetune.models.classifier.labels import Labels
from finetune.rows.labels import balanced_sample, count_labels, find_labels, read_names, spell_out, warn_of_labels

import numpy as np
import pytest


def rows(*labels, column="labels") -> list[dict]:
    return [{"text": "t", column: label} for label in labels]


@pytest.mark.parametrize(
    ("given", "task", "names"),
    [
        (rows([0], [2], []), "multilabel", ("0", "2")),
        (rows(["b"], ["a", "b"]), "multilabel", ("a", "b")),
        (rows(0, 1, column="label"), "binary", ("no", "yes")),
        (rows(True, False, column="label"), "binary", ("no", "yes")),
        (rows("ham", "spam", column="label"), "binary", ("ham", "spam")),
        (rows("a", "b", "c", column="label"), "multiclass", ("a", "b", "c")),
        (rows("0", "2", "1", column="label"), "multiclass", ("0", "1", "2")),
        (rows("[0, 1]", "[]"), "multilabel", ("0", "1")),
        (rows(np.array([1]), np.array([]), np.array([0])), "multilabel", ("0", "1")),
        (rows("billing;bug", "", "bug"), "multilabel", ("billing", "bug")),
        (rows('["a;b"]', "[]"), "multilabel", ("a;b",)),
        (rows(-1, 0, 1, column="label"), "multiclass", ("-1", "0", "1")),
        (rows(-1, 1, column="label"), "binary", ("-1", "1")),
        (rows("28043", "9100", "28043", column="label"), "binary", ("9100", "28043")),
        (rows(2019, 2021.0, 2020, column="label"), "multiclass", ("2019", "2020", "2021")),
        (rows("1", "²", column="label"), "binary", ("1", "²")),
        (rows("a ", "b", " a", column="label"), "binary", ("a", "b")),
    ],
)
def test_task_and_names_are_found_from_the_data(given, task, names):
    found = find_labels(given, None, None)
    assert (found.task, found.names) == (task, names)


def test_a_class_keeps_its_number_where_others_are_missing():
    found = find_labels(rows([0], [2], []), None, None)
    assert found.encode(rows([2], [0]), "").tolist() == [[0, 1], [1, 0]]
    with pytest.raises(InputError, match=r"has the label 1; expected one of 0, 2\. Mend .* --labels"):
        found.encode(rows([1]), "")


@pytest.mark.parametrize(
    "given",
    [
        rows([0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]), rows("[0, 0, 1]", "[1, 0, 0]", "[0, 1, 1]", "[0, 0, 0]"),
        rows([False, False, True], [True, False, False], [False, True, True], [False] * 3),
        rows([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0] * 3),
        rows(*map(np.array, ([0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]))),
    ],
)  # fmt: skip
def test_a_zero_or_one_a_label_needs_their_names_and_is_read_as_such(given):
    for names in (None, ["a", "b"]):
        with pytest.raises(InputError, match=r"lists of 3 zeros and ones, one a label, and --labels gives [02] names"):
            spell_out(given, names, None, "the training rows")
    found, is_multi_hot = spell_out(given, ["a", "b", "c"], None, "the training rows")
    assert is_multi_hot
    assert [row["labels"] for row in found] == [["c"], ["a"], ["b", "c"], []]
    labels = find_labels(found, None, ["a", "b", "c"])
    assert count_labels(found, labels) == "Labels of 4 training rows: a 1, b 1, c 2, none of them 1"
    # Another part is read alike, whatever its lists look like by themselves.
    assert spell_out(rows([0, 1, 1]), ["a", "b", "c"], None, "the validation rows", True)[0][0]["labels"] == ["b", "c"]
    with pytest.raises(InputError, match=r"row 1 of the validation rows: labels are \[2\]"):
        spell_out(rows([2]), ["a", "b", "c"], None, "the validation rows", True)


@pytest.mark.parametrize(
    "given", [rows([0], [1]), rows([0, 2], [1, 0]), rows(["a", "b"], ["b", "a"]), rows([0, 1], [1])]
)
def test_lists_of_names_and_numbers_are_no_zeros_and_ones(given):
    assert spell_out(given, ["a", "b", "c"], None, "rows") == (given, False)


def test_columns_of_zeros_and_ones_are_labels():
    given = [{"toxic": "1", "rude": 0}, {"toxic": "false", "rude": True}, {"toxic": 0.0, "rude": "0"}]
    found, _ = spell_out(given, None, ["toxic", "rude"], "rows")
    assert [row["labels"] for row in found] == [["toxic"], ["rude"], []]
    with pytest.raises(InputError, match="row 1 of rows: toxic is 'x'; expected 0 or 1"):
        spell_out([{"toxic": "x", "rude": 1}], None, ["toxic", "rude"], "rows")
    with pytest.raises(InputError, match="no column late"):
        spell_out(given, None, ["toxic", "late"], "rows")


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
        (rows([0, 0, 1], "a", column="label"), None, None, "a list of labels belongs into a column `labels`"),
        (rows("[0, 0, 1]", "a", column="label"), None, None, "a list of labels belongs into a column `labels`"),
        (rows(0.5, 1.0, column="label"), None, None, "has the label 0.5; a class is a name or a whole number"),
        (rows([["a"]], ["b"]), None, None, "expected a name or a number"),
        (rows('["a"', "[]"), None, None, 'names with semicolons between them, billing;bug; not \'["a"\''),
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


def test_labels_that_differ_in_case_or_cannot_be_measured_are_named(caplog):
    warn_of_labels(("a", "b"), np.array([[1, 0], [0, 1], [0, 0]]), Labels("multilabel", ("a", "b")))
    assert not caplog.text
    warn_of_labels(("a", "A", "b"), np.array([[1, 0, 0], [1, 0, 0]]), Labels("multilabel", ("a", "A", "b")))
    assert "the labels a and A differ" in caplog.text
    assert "labels that no validation row has, which count as 0 in macro_f1: A, b." in caplog.text
    assert '"none of them" counts as 0 in macro_f1' in caplog.text


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
