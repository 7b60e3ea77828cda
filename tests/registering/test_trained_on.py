"""Rows that a run trained on are not those that its model is let through by."""

import json
from argparse import Namespace
from pathlib import Path

from finetune import InputError
from finetune.registering.trained_on import refuse_rows_of_training
from finetune.runs import tracking

import mlflow
import pytest

ROW = {"text": "a", "labels": ["b"]}


def trained_on(source: Path):
    """Return a run whose training rows came from a file, a folder or a pattern, as `load_rows` names it."""
    run_id, path = mlflow.MlflowClient().create_run("0").info.run_id, str(source.resolve())
    tracking.log_dataset(run_id, [{"text": path}], ("text",), path, "train_rows", "training")
    return mlflow.get_run(run_id)


def write(path: Path, **more) -> Path:
    path.write_text(json.dumps(ROW | more))
    return path


@pytest.mark.parametrize("source", ["train.jsonl", ".", "*.jsonl", "**/train.*"])
def test_a_file_of_the_training_is_refused_however_it_was_named(tmp_path, source):
    train, other = write(tmp_path / "train.jsonl"), write(tmp_path / "other.json")
    run = trained_on(tmp_path / source)
    with pytest.raises(InputError, match="trained on"):
        refuse_rows_of_training(Namespace(dataset=train, split="test"), [ROW], run)
    refuse_rows_of_training(Namespace(dataset=other, split="test"), [ROW], run)


def test_a_copy_of_rows_that_another_run_trained_on_is_known_by_its_own_name(tmp_path):
    train, first = write(tmp_path / "train.jsonl"), trained_on(tmp_path / "first.jsonl")
    mlflow.MlflowClient().log_param(first.info.run_id, "data.source", f"{train} + corrected answers of e")
    with pytest.raises(InputError, match="trained on"):
        refuse_rows_of_training(Namespace(dataset=train, split="test"), [ROW], mlflow.get_run(first.info.run_id))


@pytest.mark.parametrize("split", ["train", "Train", "training"])
def test_the_part_for_training_is_refused_however_it_is_spelt(tmp_path, split):
    train = write(tmp_path / "train.jsonl", split=split)
    with pytest.raises(InputError, match="trained on"):
        refuse_rows_of_training(Namespace(dataset=train, split=split), [ROW | {"split": split}], trained_on(train))
    refuse_rows_of_training(Namespace(dataset=train, split="test"), [ROW | {"split": "test"}], trained_on(train))
