"""The folder of a run with one line of each kind in its spool, made by hand."""

import json
import shutil
from pathlib import Path

import mlflow


def new_run(**tags) -> mlflow.entities.Run:
    """Make a run in an experiment whose artifacts are in the tests' own folder."""
    experiment = mlflow.get_experiment_by_name("classifier").experiment_id
    return mlflow.MlflowClient().create_run(experiment, tags=tags)


def make_spool(folder: Path, run_id: str, checkpoint: Path) -> Path:
    """Write a spool with one line of each kind and return the run's folder."""
    spool = folder / "spool"
    (spool / "files" / "1").mkdir(parents=True)
    (spool / "files" / "1" / "values.json").write_text("{}")
    shutil.copytree(checkpoint, spool / "checkpoints" / "2" / "checkpoint-5")
    (spool / "run.json").write_text(json.dumps({"run_id": run_id}))
    pair = ["validation_rows", "0" * 16]
    dataset = {"name": "rows", "digest": "0" * 16, "source_type": "local", "source": "{}", "schema": None}
    lines = [
        {"op": "metrics", "points": [["loss", 0.5, 1700000000000, 1]], "dataset": pair},
        {"op": "metrics", "points": [["eval_loss", 0.25, 1700000000001, 5]]},
        {"op": "params", "values": {"a": "1"}},
        {"op": "tags", "values": {"said": "so"}},
        {"op": "untag", "name": "said"},
        {"op": "input", "dataset": dataset, "context": "training"},
        {"op": "file", "file": "files/1/values.json", "folder": "tables", "table": "tables/values.json"},
        {"op": "checkpoint", "folder": "checkpoints/2/checkpoint-5", "model": False, "again": False, "keep": [5],
         "dataset": pair},
        {"op": "end", "status": "FINISHED", "time": 1700000000002},
    ]  # fmt: skip
    text = "".join(json.dumps({"number": number} | line) + "\n" for number, line in enumerate(lines, start=1))
    (spool / "journal.jsonl").write_text(text)
    return folder


def make_card(folder: Path, run_id: str) -> Path:
    """Write a checkpoint with a card, as far as one is looked for, and return it."""
    folder.mkdir(parents=True)
    card = {
        "task": "classification", "base_model": "base", "base_revision": None, "quantization": None, "max_length": 8,
        "labels": {"task": "binary", "names": ["no", "yes"]}, "pooling": "mean", "long_texts": "truncate",
        "thresholds": [0.5], "run_id": run_id,
    }  # fmt: skip
    (folder / "finetune.json").write_text(json.dumps(card))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    (folder / "trainer_state.json").write_text("{}")
    return folder
