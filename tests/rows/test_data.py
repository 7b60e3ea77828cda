"""Rows from files and folders, and splits that keep schemas apart."""

import json
import re
from functools import partial

from finetune import InputError
from finetune.rows import loading
from finetune.rows.files.reading import read_rows
from finetune.rows.loading import check_writable
from finetune.rows.splits.schema_split import split_by_schema

import pandas as pd
import pytest
from conftest import DEMO_DATA, demo_rows

COLUMNS = ("question", "context", "answer")
ROWS = [{"question": f"q{i}", "context": f"CREATE TABLE t{i} (c{i // 2} INT)", "answer": f"a{i}"} for i in range(20)]


load_rows = partial(loading.load_rows, hold_out=split_by_schema)


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


@pytest.mark.parametrize("spelling", ["validation", "Val", "dev", "VALID", " validation "])
def test_parts_are_known_by_their_usual_names(tmp_path, spelling):
    marked = [row | {"split": part} for row, part in zip(ROWS, ["Training", spelling, "TEST"] * 7, strict=False)]
    rows = load_rows(str(write(tmp_path / "rows.jsonl", marked)), COLUMNS, None, 0)
    assert [len(part) for part in rows.parts.values()] == [7, 7, 6]
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "training.jsonl", ROWS[:9])
    write(folder / f"{spelling.strip()}.csv", ROWS[9:12])
    (folder / "README.md").write_text("other files do not count")
    (folder / "training_notes.csv").write_text("a,b\n1,2\n")
    assert [len(part) for part in load_rows(str(folder), COLUMNS, None, 0).parts.values()] == [9, 3]


def test_rows_marked_test_never_train(tmp_path):
    marked = [row | {"split": "train" if number % 2 else "test"} for number, row in enumerate(ROWS)]
    path = write(tmp_path / "rows.jsonl", marked)
    rows = load_rows(str(path), COLUMNS, 0.2, 0)
    assert rows.test == marked[::2]
    assert sorted(row["question"] for row in rows.train + rows.validation) == sorted(
        r["question"] for r in marked[1::2]
    )
    with pytest.raises(InputError, match="has no validation part"):
        load_rows(str(path), COLUMNS, None, 0)


@pytest.mark.parametrize("value", ["holdout", "", None, "trian", 3])
def test_a_part_that_is_not_known_is_refused_with_its_row(tmp_path, value):
    marked = [row | {"split": "train"} for row in ROWS]
    marked[4]["split"] = value
    with pytest.raises(InputError, match=r"row 5 of .*: split is .*; expected train, validation or test"):
        load_rows(str(write(tmp_path / "rows.jsonl", marked)), COLUMNS, 0.2, 0)


def test_files_of_one_part_and_patterns_are_read_together(tmp_path, monkeypatch):
    for number in range(2):
        write(tmp_path / f"train-0000{number}-of-00002.parquet", ROWS[number * 5 : number * 5 + 5])
    write(tmp_path / "validation.jsonl", ROWS[10:])
    assert load_rows(str(tmp_path), COLUMNS, None, 0).train == ROWS[:10]
    rows = load_rows(str(tmp_path / "train-*.parquet"), COLUMNS, 0.2, 0)
    assert len(rows.train) + len(rows.validation) == 10
    monkeypatch.chdir(tmp_path)
    assert len(load_rows("train-*.parquet", COLUMNS, 0.2, 0).train) == len(rows.train)


def test_what_is_missing_is_counted_and_what_is_no_text_is_refused(tmp_path, caplog):
    given = [*ROWS, ROWS[0] | {"question": None}, ROWS[0] | {"answer": "  "}, {"question": "q", "context": "c"}]
    rows = load_rows(str(write(tmp_path / "rows.jsonl", given)), COLUMNS, 0.2, 0)
    assert len(rows.train) + len(rows.validation) == 20
    assert sum(map(int, re.findall(r"([0-9]+) of [0-9]+ lack", caplog.text))) == 3
    for value, kind in ((5, "5, a number"), (["a"], "['a'], a list"), (True, "True, a truth value")):
        write(tmp_path / "rows.jsonl", [*ROWS[:3], ROWS[3] | {"question": value}])
        with pytest.raises(InputError, match=re.escape(f"question is {kind}; expected a text")):
            load_rows(str(tmp_path / "rows.jsonl"), COLUMNS, 0.2, 0)


def test_no_schema_is_on_both_sides_of_a_split():
    train, validation = split_by_schema(ROWS, 0.2, seed=1)
    assert sorted(row["question"] for row in train + validation) == sorted(row["question"] for row in ROWS)
    assert 4 <= len(validation) <= 5
    columns = [{row["context"].split("(")[1] for row in part} for part in (train, validation)]
    assert not columns[0] & columns[1]
    assert split_by_schema(ROWS, 0.2, seed=1) == (train, validation)
    assert split_by_schema(ROWS, 0.2, seed=2) != (train, validation)


def test_one_schema_only_cannot_be_split():
    with pytest.raises(InputError, match="same schema"):
        split_by_schema([ROWS[0]] * 5, 0.2, 0)


def test_checking_an_output_folder_leaves_nothing_behind(tmp_path):
    check_writable(str(tmp_path / "a" / "b"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(str(tmp_path / "file" / "below"))
