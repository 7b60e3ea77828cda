"""Corrected answers as rows of training: read, cleaned, kept apart from what is held out, and trained on."""

import json
import random
from types import SimpleNamespace

import predict
import train_classifier
import train_sql_generator
from finetune import InputError
from finetune.predicting.traces import Record, Traces, step
from finetune.rows.corrections import corrected_rows
from finetune.rows.mixing import Weighted, parse_sets
from finetune.rows.splits.holdout import hold_out_by_text
from finetune.rows.sql.loading import load_questions
from finetune.rows.with_corrections import load_with_corrections

import encoders
import mlflow
import pytest
from conftest import DEMO_BASE, demo_rows

QUESTIONS = ("question", "context", "answer")


def correct(experiment: str, *pairs: tuple[dict, dict]) -> None:
    """Leave answers with what is right in an experiment, as the page does."""
    random.seed()  # Ids of traces are drawn at random, which a test before has perhaps seeded.
    found = mlflow.get_experiment_by_name(experiment)
    number = found.experiment_id if found else mlflow.create_experiment(experiment)
    run_id = mlflow.MlflowClient().create_run(number).info.run_id
    card = SimpleNamespace(run_id=run_id, task="any", prompt="")
    traces = Traces(SimpleNamespace(card=card, model_id=None), False, "page")
    for inputs, expected in pairs:
        steps = []
        with step(steps, "write"):
            pass
        traces.judge(Record(inputs, {"sql": "wrong"}, steps), False, expected)
    assert traces.close(120) == [], traces.trouble


def flags(dataset: list[str]) -> SimpleNamespace:
    return SimpleNamespace(
        dataset=dataset, column=None, validation_fraction=0.2, split_by="auto", dialect="sqlite", encoding="utf-8",
        clean=True, rows=True, allow_leaks=False, max_train_rows=None, train_percent=None, distractor_columns=0,
    )  # fmt: skip


def test_corrections_are_cleaned_and_kept_apart_from_held_out_rows(few_rows):
    held_out = demo_rows("validation")[0]
    bird = {"question": "How many birds fly?", "context": "CREATE TABLE bird (name TEXT, flies INTEGER)"}
    correct(
        "corrected",
        (bird, {"answer": "SELECT COUNT(*) FROM bird"}),
        (bird, {"answer": "SELECT COUNT(*) FROM bird WHERE flies = 1"}),
        (bird | {"question": "Name them."}, {"answer": "SELECT name FORM bird WHERE"}),
        ({name: held_out[name] for name in ("question", "context")}, {"answer": held_out["answer"]}),
        ({"text": "a text"}, {"labels": ["x"]}),
        (bird | {"question": "Never corrected?"}, {}),
    )
    rows = corrected_rows("mlflow:corrected", QUESTIONS)
    assert [row["answer"] for row in rows if row["question"] == bird["question"]] == [
        "SELECT COUNT(*) FROM bird WHERE flies = 1"  # The newest alone.
    ]
    assert len(rows) == 3
    assert corrected_rows("mlflow:corrected", ("text",)) == [{"text": "a text", "labels": ["x"]}]
    loaded, _ = load_questions(flags([str(few_rows), "mlflow:corrected"]), 1)
    questions = [row["question"] for row in loaded.train]
    assert bird["question"] in questions
    assert "Name them." not in questions  # Its SQL is none.
    assert held_out["question"] not in questions
    assert held_out["question"] in [row["question"] for row in loaded.validation]


def test_a_corrected_question_of_the_test_part_does_not_train(tmp_path):
    rows = [row | {"split": part} for part in ("train", "validation", "test") for row in demo_rows(part)[:20]]
    path, tested = tmp_path / "rows.jsonl", rows[-1]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    bird = {"question": "How many birds fly?", "context": "CREATE TABLE bird (name TEXT, flies INTEGER)"}
    correct(
        "corrected-tests",
        (bird, {"answer": "SELECT COUNT(*) FROM bird"}),
        ({name: tested[name] for name in ("question", "context")}, {"answer": tested["answer"]}),
    )
    loaded, _ = load_questions(flags([str(path), "mlflow:corrected-tests"]), 1)
    questions = [row["question"] for row in loaded.train]
    assert bird["question"] in questions
    assert tested["question"] not in questions


def test_corrected_texts_stand_behind_the_training_rows(tmp_path):
    correct(
        "corrected-articles",
        ({"article": "A new one about rain."}, {"summary": "Rain."}),
        ({"article": "Number  3 is HELD out."}, {"summary": "Else."}),
    )
    path = tmp_path / "rows.jsonl"
    rows = [{"article": f"Number {n} is here.", "summary": str(n), "split": "train"} for n in range(3)]
    rows.append({"article": "Number 3 is held out.", "summary": "3", "split": "validation"})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns, given = ("article", "summary"), {}
    names = [str(path), "mlflow:corrected-articles"]
    found = load_with_corrections(names, columns, None, 1, "utf-8", given, hold_out_by_text)
    assert [row["summary"] for row in found.train] == ["0", "1", "2", "Rain."]
    assert found.source == str(path)  # Which the gate compares with the file of --if-better.
    assert found.origin == f"{path} + corrected answers of corrected-articles"
    with pytest.raises(InputError, match="one data set"):
        load_with_corrections([str(path), str(path)], columns, None, 1, "utf-8", given, hold_out_by_text)


@pytest.mark.parametrize(
    ("own", "corrected", "given", "expected"),
    [
        ([{"x": 1, "y": 0}, {"x": 0, "y": 0}], {"labels": ["y"]}, {"label_columns": ["x", "y"]},
         [[1, 0], [0, 0], [0, 1]]),
        ([{"labels": [1, 1, 0]}, {"labels": [0, 0, 1]}], {"labels": ["z"]}, {"labels": ["x", "y", "z"]},
         [[1, 1, 0], [0, 0, 1], [0, 0, 1]]),
        ([{"label": 1}, {"label": 0}], {"label": "yes"}, {}, [[1], [0], [1]]),
        ([{"label": 1}, {"label": 0}], {"label": "ham"}, {"labels": ["ham", "spam"]}, [[1], [0], [0]]),
        ([{"label": "a"}, {"label": "b"}], {"label": "b"}, {}, [[0], [1], [1]]),
    ],
)  # fmt: skip
def test_corrected_labels_are_read_beside_rows_that_write_theirs_otherwise(
    tmp_path, request, own, corrected, given, expected
):
    experiment, path = f"labels-{request.node.callspec.id}", tmp_path / "rows.jsonl"
    correct(experiment, ({"text": "a new one"}, corrected), ({"article": "of another task"}, {"summary": "s"}),
            ({"text": "of other labels"}, {"label" if "labels" in corrected else "labels": "b"}))  # fmt: skip
    rows = [{"text": f"{split} {n}", "split": split} | row for split in ("train", "validation")
            for n, row in enumerate(own)]  # fmt: skip
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    asked = train_classifier.Flags(base_model="b", dataset=[str(path), f"mlflow:{experiment}"], **given)
    loaded = train_classifier.load_data(asked, 1)
    assert [row["text"] for row in loaded.train] == ["train 0", "train 1", "a new one"]
    args = train_classifier.ClassifierTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    _, splits = train_classifier.encode(loaded, asked, args, encoders.tokenizer())
    assert splits["train"].actual.tolist() == expected


@pytest.mark.parametrize(
    ("name", "part"),
    [("none-such", "no experiment none-such"), ("empty", "none was corrected"), ("", "no experiment"),
     ("99999", "there is no")],
)  # fmt: skip
def test_an_experiment_without_corrections_is_a_sentence(name, part):
    if mlflow.get_experiment_by_name("empty") is None:
        mlflow.create_experiment("empty")
    with pytest.raises(InputError, match=part):
        corrected_rows(f"mlflow:{name}", QUESTIONS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.jsonl", "mlflow:e"], [Weighted("a.jsonl"), Weighted("mlflow:e")]),
        (["a.jsonl", "mlflow:7"], [Weighted("a.jsonl"), Weighted("mlflow:7")]),
        (["a.jsonl:2", "mlflow:e:3"], [Weighted("a.jsonl", 2), Weighted("mlflow:e", 3)]),
        (["mlflow:e"], [Weighted("mlflow:e")]),
    ],
)
def test_an_experiment_is_one_of_several_sets(given, expected):
    assert parse_sets(given) == expected


@pytest.mark.slow
def test_the_whole_round_wrong_answer_correction_training_right_answer(logged_model, few_rows, tmp_path, capsys):
    asked = ("--context", "CREATE TABLE bird (name TEXT, flies INTEGER)", "--question", "Which of them can fly?")
    right = "SELECT name FROM bird WHERE flies = 1"
    predict.main([logged_model["uri"], *asked])
    assert capsys.readouterr().out.strip() != right
    experiment = mlflow.get_experiment_by_name("sql-generator")
    (trace, *_) = mlflow.search_traces(
        locations=[experiment.experiment_id], order_by=["timestamp_ms DESC"], return_type="list"
    )
    mlflow.log_expectation(trace_id=trace.info.trace_id, name="answer", value=right)
    train_sql_generator.main([
        "--base-model", str(DEMO_BASE), "--dataset", f"{few_rows}:1", "mlflow:sql-generator:1", "--output-dir",
        str(tmp_path), "--max-steps", "20", "--learning-rate", "3e-3", "--score-rows", "0", "--no-preflight",
        "--per-device-train-batch-size", "8", "--eval-strategy", "no", "--save-strategy", "steps", "--save-steps", "20",
        "--load-best-model-at-end", "false", "--log-checkpoints", "none", "--distractor-columns", "0", "--allow-leaks",
    ])  # fmt: skip
    folder = tmp_path / capsys.readouterr().out.split()[-1] / "checkpoint-20"
    predict.main([str(folder), *asked])
    assert capsys.readouterr().out.strip() == right
