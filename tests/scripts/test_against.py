"""One model against another on the same rows, from the command line."""

import json
import shutil
from pathlib import Path

import evaluate_model
from finetune.models.card import CARD

import mlflow
import pytest
from conftest import DEMO_DATA, ROOT, call


def test_a_model_and_a_checkpoint_of_its_run_answer_the_same_rows(logged_model, trained_run, tmp_path, capsys):
    checkpoints = sorted(Path(trained_run["folder"], trained_run["id"]).glob("checkpoint-*"))
    shutil.copytree(checkpoints[0], tmp_path / "checkpoint-1")
    flags = ("--dataset", DEMO_DATA, "--max-rows", 6, "--distractor-columns", 0, "--name", "pair", "--json")
    found = call(evaluate_model.main, logged_model["uri"], *flags, "--against", tmp_path / "checkpoint-1")
    assert found is None
    card, against = map(json.loads, capsys.readouterr().out.splitlines())
    assert (card["name"], against["name"]) == ("pair", "pair_against")
    assert against["scores"]["exec_accuracy"]["first"] == card["exec_accuracy"]
    assert against["conclusion"] == "No difference from the other can be told from 6 questions."
    run = mlflow.get_run(trained_run["id"])
    assert run.data.metrics["pair_against_exec_accuracy_p"] == against["scores"]["exec_accuracy"]["p"]
    assert run.data.tags["finetune.against.pair"] == str(tmp_path / "checkpoint-1")


ABOUT_THE_SHOP = [
    {"question": "How many customers are there?", "answer": "SELECT COUNT(*) FROM customer"},
    {"question": "What are the names of the products?", "answer": "SELECT name FROM product"},
    {"question": "How many a?", "answer": "SELECT COUNT(a) FROM t", "context": "CREATE TABLE t (a INT)"},
]


@pytest.fixture
def about_the_shop(tmp_path) -> Path:
    """Two questions about demo/shop.db, and one with a schema of its own."""
    path = tmp_path / "shop.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ABOUT_THE_SHOP))
    return path


def changed(checkpoint: Path, folder: Path, **settings) -> Path:
    """Copy a checkpoint with other settings on its card."""
    shutil.copytree(checkpoint, folder)
    path = folder / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def test_two_models_on_a_database_and_rows_with_a_schema_of_their_own(
    logged_model, trained_run, about_the_shop, tmp_path, capsys, caplog
):
    checkpoints = sorted(Path(trained_run["folder"], trained_run["id"]).glob("checkpoint-*"))
    other = changed(checkpoints[0], tmp_path / "checkpoint-1")
    flags = ("--dataset", about_the_shop, "--database", ROOT / "demo/shop.db", "--json", "--no-log")
    assert call(evaluate_model.main, logged_model["uri"], *flags, "--against", other) is None
    card, against = map(json.loads, capsys.readouterr().out.splitlines())
    assert card["exec_accuracy_database_rows"] == against["scores"]["exec_accuracy_database"]["rows"] == 2
    assert against["scores"]["exec_accuracy"]["rows"] == 3
    assert "2 questions" in against["conclusion"]
    assert f"1 of 3 rows of {about_the_shop} have a `context` of their own" in caplog.text


def test_a_model_that_was_trained_with_other_values_is_refused(logged_model, trained_run, about_the_shop, tmp_path):
    checkpoints = sorted(Path(trained_run["folder"], trained_run["id"]).glob("checkpoint-*"))
    other = changed(checkpoints[0], tmp_path / "checkpoint-1", sample_values=3)
    flags = ("--dataset", about_the_shop, "--database", ROOT / "demo/shop.db", "--no-log", "--against", other)
    refused = call(evaluate_model.main, logged_model["uri"], *flags)
    assert "the model was trained with --values 0, the one to compare it with had --values 3" in refused


def test_the_same_model_and_another_task_are_refused(logged_model, classifier_run):
    flags = ("--dataset", DEMO_DATA, "--max-rows", 6)
    assert "is the model" in call(evaluate_model.main, logged_model["uri"], *flags, "--against", logged_model["uri"])
    checkpoint = next(Path(classifier_run["folder"], classifier_run["id"]).glob("checkpoint-*"))
    refused = call(evaluate_model.main, logged_model["uri"], *flags, "--against", checkpoint)
    assert "give a model of the same task" in refused.lower()


def test_before_training_the_base_was_asked(trained_run):
    metrics = mlflow.get_run(trained_run["id"]).data.metrics
    assert metrics["before_training_exec_accuracy_base"] == 0
    assert "Before training the base answers 0 of 10 held-out questions right (0 % to 28 %)".replace(" %", "%") in (
        trained_run["process"].stderr
    )
