"""Rows from files and folders, and splits that keep schemas apart."""

import json

from finetune.console import InputError
from finetune.data import check_writable, load_rows, read_rows, split_by_schema

import pandas as pd
import pytest
from conftest import DEMO_DATA, demo_rows

COLUMNS = ("question", "context", "answer")
ROWS = [{"question": f"q{i}", "context": f"CREATE TABLE t{i} (c{i // 2} INT)", "answer": f"a{i}"} for i in range(20)]


def write(path, rows):
    frame = pd.DataFrame(rows)
    {
        ".jsonl": lambda: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
        ".json": lambda: path.write_text(json.dumps(rows)),
        ".csv": lambda: frame.to_csv(path, index=False),
        ".parquet": lambda: frame.to_parquet(path),
    }[path.suffix]()
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, suffix):
    rows = [*ROWS, {"question": "NA", "context": "None", "answer": "null"}]
    assert read_rows(write(tmp_path / f"rows{suffix}", rows)) == rows


def test_a_folder_brings_its_own_split(tmp_path):
    write(tmp_path / "train.jsonl", ROWS[:15])
    write(tmp_path / "validation.csv", ROWS[15:])
    rows = load_rows(str(tmp_path), COLUMNS, 0.1, 0)
    assert (rows.train, rows.validation) == (ROWS[:15], ROWS[15:])


def test_a_folder_without_validation_rows_is_refused(tmp_path):
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "test.jsonl", ROWS)
    with pytest.raises(InputError, match="exactly one validation file"):
        load_rows(str(tmp_path), COLUMNS, 0.1, 0)


def test_the_split_column_is_followed_and_test_rows_are_left_alone():
    rows = load_rows(str(DEMO_DATA), COLUMNS, 0.5, 0)
    assert rows.train == demo_rows("train")
    assert rows.validation == demo_rows("validation")


def test_no_schema_is_on_both_sides_of_a_split():
    train, validation = split_by_schema(ROWS, 0.2, seed=1)
    assert sorted(row["question"] for row in train + validation) == sorted(row["question"] for row in ROWS)
    assert 4 <= len(validation) <= 5
    columns = [{row["context"].split("(")[1] for row in part} for part in (train, validation)]
    assert not columns[0] & columns[1]
    assert split_by_schema(ROWS, 0.2, seed=1) == (train, validation)
    assert split_by_schema(ROWS, 0.2, seed=2) != (train, validation)


@pytest.mark.parametrize("fraction", [0, 1, -0.5])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(InputError, match="between 0 and 1"):
        split_by_schema(ROWS, fraction, 0)


def test_one_schema_only_cannot_be_split():
    with pytest.raises(InputError, match="same schema"):
        split_by_schema([ROWS[0]] * 5, 0.2, 0)


def test_checking_an_output_folder_leaves_nothing_behind(tmp_path):
    check_writable(str(tmp_path / "a" / "b"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(str(tmp_path / "file" / "below"))
