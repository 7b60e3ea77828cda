"""One model against another on the same rows, from the command line."""

import json
import shutil
from pathlib import Path

import evaluate_model

import mlflow
from conftest import DEMO_DATA, call


def test_a_model_and_a_checkpoint_of_its_run_answer_the_same_rows(logged_model, trained_run, tmp_path, capsys):
    checkpoints = sorted(Path(trained_run["folder"], trained_run["id"]).glob("checkpoint-*"))
    shutil.copytree(checkpoints[0], tmp_path / "checkpoint-1")
    flags = ("--dataset", DEMO_DATA, "--max-rows", 6, "--distractor-columns", 0, "--name", "pair", "--json")
    found = call(evaluate_model.main, logged_model["uri"], *flags, "--against", tmp_path / "checkpoint-1")
    assert found is None
    card, against = map(json.loads, capsys.readouterr().out.splitlines())
    assert (card["name"], against["name"]) == ("pair", "pair_against")
    assert against["scores"]["exec_accuracy"]["first"] == card["exec_accuracy"]
    assert "No difference can be told from 6 questions" in against["conclusion"]
    run = mlflow.get_run(trained_run["id"])
    assert run.data.metrics["pair_against_exec_accuracy_p"] == against["scores"]["exec_accuracy"]["p"]
    assert run.data.tags["finetune.against.pair"] == str(tmp_path / "checkpoint-1")


def test_the_same_model_and_another_task_are_refused(logged_model, classifier_run):
    flags = ("--dataset", DEMO_DATA, "--max-rows", 6)
    assert "is the model" in call(evaluate_model.main, logged_model["uri"], *flags, "--against", logged_model["uri"])
    checkpoint = next(Path(classifier_run["folder"], classifier_run["id"]).glob("checkpoint-*"))
    refused = call(evaluate_model.main, logged_model["uri"], *flags, "--against", checkpoint)
    assert "give a model of the same task" in refused.lower()


def test_before_training_the_base_was_asked(trained_run):
    metrics = mlflow.get_run(trained_run["id"]).data.metrics
    assert metrics["before_training_exec_accuracy_base"] == 0
    assert "Before training the base answers 0 of 10 such questions right (0 % to 28 %)".replace(" %", "%") in (
        trained_run["process"].stderr
    )
