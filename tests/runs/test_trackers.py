"""Trackers beside MLflow: a failure of theirs is a warning."""

import sys
import time
from types import SimpleNamespace

from finetune.runs import trackers

import pandas as pd
from conftest import LONGEST_WAIT


class Broken:
    """A W&B run whose service is gone."""

    id = "run"

    def log(self, *_):
        raise ConnectionError("the service is gone")


def test_training_goes_on_where_wandb_fails(monkeypatch, caplog):
    fake = SimpleNamespace(run=Broken(), Table=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    trackers.show_metrics({"loss": 1.0}, 3, "run")
    trackers.show_table(pd.DataFrame([{"a": [1]}]), "table", "run")
    assert caplog.text.count("not sent to W&B") == 2
    trackers.show_metrics({"loss": 1.0}, 3, "another run")
    assert caplog.text.count("not sent to W&B") == 2


def test_without_wandb_nothing_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    trackers.show_metrics({"loss": 1.0}, 3, "run")
    assert trackers.open_wandb_run() is None
    assert "wandb" not in sys.modules


def test_the_command_that_wandb_records_has_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    given = ["train.py", "--dataset", "https://u:hunter2@host/rows", "--hub-token", "hunter2", "--run-name", "mine"]
    monkeypatch.setattr(sys, "argv", given)
    trackers.start_wandb("0123", "experiment", "mine")
    trackers.finish_wandb(failed=False)
    assert sys.argv == given
    (written,) = tmp_path.rglob("*.wandb")
    deadline = time.monotonic() + LONGEST_WAIT
    while b"@host/rows" not in written.read_bytes():  # W&B's own process writes it, on a busy machine after the end.
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert b"https://u:***@host/rows" in written.read_bytes()
    assert not any(b"hunter2" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
