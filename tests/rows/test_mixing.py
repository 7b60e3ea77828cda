"""Several data sets trained on together: their weights, what of them trains, and what is said of it."""

import json
import logging
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import train_sql_generator
from finetune import InputError
from finetune.databases.database import open_database
from finetune.rows.files.columns import QUESTIONS
from finetune.rows.loading import load_training_rows
from finetune.rows.mixing import Weighted, counts_of, parse_sets
from finetune.rows.sql.loading import load_questions
from finetune.training.flags.recorded_flags import absolute

import mlflow
import pytest
from conftest import DEMO_BASE, ROOT, call, demo_rows

SHOP = ROOT / "demo/shop.db"
OWN = [
    ("How many customers are there?", "SELECT COUNT(*) FROM customer"),
    ("What are the names of all customers?", "SELECT name FROM customer"),
    ("List the cities of all customers.", "SELECT city FROM customer"),
]


@pytest.fixture
def own(tmp_path) -> Path:
    """A spreadsheet of three questions about the shop that train, and one that is held out."""
    lines = [f"{question};{sql};train" for question, sql in OWN]
    lines.append("Which customers live in Rome?;SELECT name FROM customer WHERE city = 'Rome';validation")
    path = tmp_path / "own.csv"
    path.write_text("Question;SQL;split\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def other(tmp_path) -> Path:
    """Twenty rows with their schemas, four of them marked validation."""
    rows = demo_rows("train")[:16] + demo_rows("validation")[:4]
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def flags(dataset, **others) -> SimpleNamespace:
    given = {"column": None, "validation_fraction": 0.1, "encoding": "utf-8", "clean": True, "dialect": "sqlite",
             "allow_leaks": True, "distractor_columns": 0, "max_train_rows": None, "split_by": "auto",
             "train_percent": None,
             "rows": True}  # fmt: skip
    return SimpleNamespace(**given | {"dataset": dataset} | others)


def load(dataset, **others):
    return load_questions(flags(dataset, **others), 7, open_database(str(SHOP)))[0]


@pytest.mark.parametrize(
    ("sizes", "weights", "counts"),
    [
        ([48, 2000], [3, 1], [6000, 2000]),
        ([48, 2000], [None, None], [48, 2000]),
        ([48, 2000], [2, None], [4000, 2000]),
        ([100, 100], [1, 1], [100, 100]),
        ([100, 10], [1, 1], [100, 100]),
        ([7, 3, 5], [0.5, 0.25, 0.25], [10, 5, 5]),
        ([1000, 1], [1, 1000], [1000, 1000000]),
    ],
)
def test_an_epoch_has_each_set_whole_and_the_shares_of_the_weights(sizes, weights, counts):
    assert counts_of(sizes, weights) == counts


def test_names_and_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("own.csv", "own.csv:3", "a.jsonl", "b.jsonl"):
        Path(name).write_text("")
    assert parse_sets("own.csv:3") == [Weighted("own.csv:3")]  # there is such a file
    assert parse_sets("lex_glue:unfair_tos") == parse_sets(["lex_glue:unfair_tos"]) == [Weighted("lex_glue:unfair_tos")]
    assert parse_sets("owner/name:3") == [Weighted("owner/name:3")]  # of a single one, as ever: a configuration
    given = ["a.jsonl:2.5", "owner/name:2", "owner/name:part:2", "[ab].jsonl:1", "other:part", "own.csv:3"]
    assert parse_sets(given) == [
        Weighted("a.jsonl", 2.5), Weighted("owner/name", 2), Weighted("owner/name:part", 2), Weighted("[ab].jsonl", 1),
        Weighted("other:part"), Weighted("own.csv:3"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["own.csv:0", "b.csv"], "own.csv:0: the weight must be a number above 0"),
        (["own.csv:-1", "b.csv"], "must be a number above 0"),
        (["own.csv:nan", "b.csv"], "must be a number above 0"),
        (["owner/name:inf", "b.csv"], "must be a number above 0"),
        (["own.csv:three", "b.csv"], "three is no weight; expected own.csv:2"),
        (["own.csv:", "b.csv"], "nothing is no weight"),
        (["own.csv:3"], "a weight says how several sets are mixed"),
        (["own.csv:3", "own.csv"], "names own.csv twice"),
    ],
)
def test_what_is_no_weight_is_refused(given, shown):
    with pytest.raises(InputError, match=shown):
        parse_sets(given)


def test_sets_are_mixed_by_weight_and_measured_on_the_first(own, other, caplog):
    caplog.set_level(logging.INFO)
    rows = load([f"{own}:3", f"{other}:1"])
    counts = Counter(row["question"] for row in rows.train)
    assert [counts[question] for question, _ in OWN] == [16, 16, 16]
    assert len(rows.train) == 64
    assert [row["question"] for row in rows.validation] == ["Which customers live in Rome?"]
    assert (
        f"An epoch: 48 rows of {own} (each about 16 times), 16 rows of {other}; validation rows are of" in caplog.text
    )
    assert f"{other}: 4 of its rows are marked validation or test, and are left out" in caplog.text
    # Rows with a schema keep it, the others have the database's.
    contexts = {row["question"]: row["context"] for row in rows.train}
    statements = open_database(str(SHOP)).statements
    assert all(contexts[question] == statements for question, _ in OWN)
    assert all(contexts[row["question"]] == row["context"] for row in demo_rows("train")[:16])
    # The order is drawn by the seed: not one set after the other, and the same again.
    assert {row["question"] in dict(OWN) for row in rows.train[:16]} == {True, False}
    again = load([f"{own}:3", f"{other}:1"])
    assert again.train == rows.train
    assert not any("data set" in row for row in rows.train)


def test_the_one_schema_of_the_measured_set_is_no_leak_and_a_shared_question_is(own, other):
    assert load([str(own), str(other)], allow_leaks=False).validation
    line = {
        "question": "Which customers live in Rome?",
        "context": "CREATE TABLE t (a TEXT)",
        "answer": "SELECT a FROM t",
        "split": "train",
    }
    other.write_text(other.read_text() + json.dumps(line) + "\n")
    with pytest.raises(InputError, match=r"100\.0% of the validation rows share"):
        load([str(own), str(other)], allow_leaks=False)


def test_without_weights_they_are_joined_and_rows_are_cut_before_they_are_repeated(own, other):
    rows = load([str(own), str(other)])
    assert len(rows.train) == 19
    rows = load([f"{own}:1", f"{other}:1"], max_train_rows=5)
    assert Counter(row["question"] in dict(OWN) for row in rows.train) == {True: 3, False: 3}
    with pytest.raises(InputError, match=r"no training row of it is left among the first 3 \(--max-train-rows\)"):
        load([f"{own}:1", f"{other}:1"], max_train_rows=3)
    with pytest.raises(InputError, match="an epoch would have 16,000,016 rows"):
        load([f"{own}:1000000", f"{other}:1"])


def test_a_set_that_only_trains_needs_no_validation_part_and_no_columns_of_the_first(own, other, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "train.jsonl").write_text(other.read_text())
    rows = load([str(own), str(folder)], column=["answer=SQL"])
    assert len(rows.train) == 19
    (folder / "dev.jsonl").write_text(other.read_text())
    assert load_training_rows(str(folder), QUESTIONS)[1] == 24
    with pytest.raises(InputError, match="no column context"):
        load_training_rows(str(own), QUESTIONS)


def test_paths_of_several_sets_are_made_absolute(own, other, monkeypatch):
    monkeypatch.chdir(own.parent)
    given = ["--dataset", "own.csv:3", "other.jsonl", "--max-steps", "1", "--base-model=own.csv", "--tables", "own.csv"]
    folder = os.path.realpath(own.parent)
    assert absolute(given) == [
        "--dataset", f"{folder}/own.csv:3", f"{folder}/other.jsonl", "--max-steps", "1",
        f"--base-model={folder}/own.csv", "--tables", "own.csv",
    ]  # fmt: skip


def test_a_training_of_two_sets_is_logged_with_both_and_goes_on(own, other, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flags.yaml").write_text("dataset:\n  - own.csv:3\n  - other.jsonl\n")
    given = ("--config", "flags.yaml", "--base-model", DEMO_BASE, "--database", SHOP, "--max-steps", 2, "--save-steps",
             1, "--eval-steps", 1, "--per-device-train-batch-size", 2, "--score-rows", 0, "--no-preflight",
             "--output-dir", tmp_path / "out", "--disable-tqdm", "true", "--allow-leaks", "--log-checkpoints",
             "none", "--max-time", "1s", "--distractor-columns", 0)  # fmt: skip
    assert call(train_sql_generator.main, *given) is None
    run_id = capsys.readouterr().out.split()[-1]
    run = mlflow.get_run(run_id)
    found = {entry.dataset.name: entry.dataset for entry in run.inputs.dataset_inputs}
    assert set(found) == {"train_rows", "validation_rows", "train_rows_of_set_1", "train_rows_of_set_2"}
    assert "own.csv" in found["train_rows_of_set_1"].source
    assert "other.jsonl" not in found["validation_rows"].source
    assert "other.jsonl" in found["train_rows_of_set_2"].source
    assert len({entry.digest for entry in found.values()}) == 4
    assert run.data.params["data.train_rows"] == "64"
    assert run.data.params["data.source"] == f"{own.resolve()} + {other.resolve()}"
    monkeypatch.chdir("/")
    mlflow.MlflowClient().set_terminated(run_id, "KILLED")
    refused = call(train_sql_generator.main, "--resume", run_id, "--dataset", f"{own}:2", other)
    assert "its train rows are not those that it was trained on" in refused
    assert call(train_sql_generator.main, "--resume", run_id) is None
