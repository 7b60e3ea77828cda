"""Runs, checkpoints and models of the code before cards were classes: they load, predict and go on as they did.

`kept_before_card_classes.zip` holds a store with a run of each task that was stopped after two of four steps, their
checkpoints, logged models, bases and rows, what was predicted then (expected.json), and the adapters of the same
trainings that were not stopped.
"""

import json
import os
import sqlite3
import zipfile
from pathlib import Path

import log_model
import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune.logged_models.opening import open_model
from finetune.models.card import CARD, Card, ClassifierCard, SqlCard, SummarizerCard

import mlflow
import pytest
import torch
from conftest import ROOT, call
from safetensors.torch import load_file

KEPT = ROOT / "tests" / "models" / "kept_before_card_classes.zip"
THEN = "/before/kept"  # where the files were
SCRIPTS = {"sql": train_sql_generator, "classifier": train_classifier, "summarizer": train_summarizer}
CARDS = {"sql": SqlCard, "classifier": ClassifierCard, "summarizer": SummarizerCard}
TASKS = sorted(SCRIPTS)
TEXT = {".json", ".jsonl", ".yaml", ""}


def settle(folder: Path) -> None:
    """Make what the files say of their own place true of a folder."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in TEXT:
            path.write_text(path.read_text().replace(THEN, str(folder)))
    with sqlite3.connect(folder / "mlflow.db") as store:
        for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in store.execute(f'PRAGMA table_info("{table}")').fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    store.execute(f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)', (THEN, str(folder)))
    store.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder with the files from before, its store the one in use."""
    folder, before = tmp_path_factory.mktemp("kept"), os.environ["MLFLOW_TRACKING_URI"]
    with zipfile.ZipFile(KEPT) as file:
        file.extractall(folder)
    settle(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    yield folder
    os.environ["MLFLOW_TRACKING_URI"] = before
    mlflow.set_tracking_uri(before)


@pytest.fixture(params=TASKS)
def run(request, kept):
    """A task, what is known of its run, and its checkpoint."""
    expected = json.loads((kept / "expected.json").read_text())[request.param]
    return request.param, expected, kept / "outputs" / expected["run"] / "checkpoint-2"


def test_the_cards_of_a_checkpoint_and_of_a_model_load(run):
    task, expected, checkpoint = run
    written = json.loads((checkpoint / CARD).read_text())
    card, logged = Card.read(checkpoint), open_model(f"runs:/{expected['run']}/model")
    assert type(card) is type(logged.card) is CARDS[task]
    sample = [{"text": text} for text in written["sample"]] if task == "classifier" else written["sample"]
    assert card.values() == {name: value for name, value in written.items() if value != {}} | {"sample": sample}
    assert not card.unknown
    assert logged.card.values() == {name: value for name, value in card.values().items() if name != "sample"} | {
        "step": 2
    }
    assert logged.step == 2


def said(kept: Path, task: str, model: str, capsys) -> list[dict]:
    """Return what a model says of the rows that were asked then."""
    tokens = () if task == "classifier" else ("--token-ids", "--param", "max_new_tokens=8")
    asked = ("--input", kept / f"{task}-input.jsonl", "--json", "--compute-dtype", "recorded", *tokens)
    assert call(predict.main, model, *asked) is None
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("which", ["checkpoint", "model"])
def test_they_predict_as_they_did(run, which, kept, capsys):
    task, expected, checkpoint = run
    found = said(kept, task, {"checkpoint": str(checkpoint), "model": f"runs:/{expected['run']}/model"}[which], capsys)
    if task == "classifier":
        assert [row["labels"] for row in found] == [row["labels"] for row in expected["said"]]
        for row, then in zip(found, expected["said"], strict=True):
            assert row["scores"] == pytest.approx(then["scores"], abs=1e-3)
    else:
        assert found == expected["said"]


def test_a_checkpoint_is_logged_again_and_says_the_same(run, kept, capsys):
    task, expected, _ = run
    assert call(log_model.main, expected["run"], "--name", "again", "--no-reload-check") is None
    uri = capsys.readouterr().out.split()[-1]
    then, now = (said(kept, task, model, capsys) for model in (f"runs:/{expected['run']}/model", uri))
    assert now == then


def test_a_run_goes_on_to_where_it_would_have_come(run, kept):
    task, expected, checkpoint = run
    before = Card.read(checkpoint)
    assert call(SCRIPTS[task].main, "--resume", expected["run"]) is None
    assert mlflow.get_run(expected["run"]).info.status == "FINISHED"
    if task == "classifier":  # The SVM is beside it, and no part of a model that was begun without.
        assert mlflow.get_run(expected["run"]).data.metrics["svm_share"] == 0
    end = checkpoint.with_name("checkpoint-4")
    found, whole = load_file(end / "adapter_model.safetensors"), load_file(kept / f"{task}-at-the-end.safetensors")
    assert found.keys() == whole.keys()
    assert all(torch.allclose(found[name], whole[name], atol=1e-4) for name in whole)
    learned = {"epoch", "thresholds", "metrics"}
    assert Card.read(end).values().keys() == before.values().keys()
    assert all(value == before.values()[name] for name, value in Card.read(end).values().items() if name not in learned)
