"""docs/add_a_task.md: a fourth task from the parts, as it stands there, without a change to the package."""

import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import mlflow
import pytest
from conftest import ROOT, kill_training, last_line, run_script
from safetensors.torch import load_file

GOOD, BAD = ("lovely", "great", "fine", "fresh"), ("awful", "dirty", "cold", "late")
FLAGS = ("--max-length", 64, "--num-train-epochs", 3, "--save-strategy", "epoch",
         "--eval-strategy", "epoch", "--metric-for-best-model", "loss", "--log-checkpoints", "none")  # fmt: skip


def text_of(random: Random, good: int) -> str:
    words = [random.choice(GOOD) for _ in range(good)] + [random.choice(BAD) for _ in range(4 - good)]
    random.shuffle(words)
    return f"the room was {' and '.join(words)}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The two files of the page, and reviews whose stars go by their words."""
    folder, random = tmp_path_factory.mktemp("rater"), Random(0)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add_a_task.md").read_text(), flags=re.DOTALL)
    for block in blocks:
        for name, sign in (("rater.py", "class Rater:"), ("train_rater.py", "def main(")):
            if sign in block:
                (folder / name).write_text(block)
    rows = [(number, random.randint(0, 4)) for number in range(240)]
    reviews = [
        {
            "text": f"{text_of(random, good)} {number}",
            "stars": 1 + good,
            "split": "train" if number < 200 else "validation",
        }
        for number, good in rows
    ]
    (folder / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reviews))
    return folder


@pytest.fixture(scope="module")
def run(folder, tiny_roberta) -> dict:
    """A training of it, logged."""
    flags = ("--base-model", tiny_roberta, "--dataset", folder / "reviews.jsonl", *FLAGS)
    done = run_script(folder / "train_rater.py", *flags, "--output-dir", folder / "whole", PYTHONPATH=str(ROOT))
    return {"id": last_line(done), "flags": flags, "output": folder / "whole"}


def test_the_logged_model_rates_in_plain_mlflow(run):
    model = mlflow.pyfunc.load_model(f"runs:/{run['id']}/model")
    good, bad = model.predict(["the room was lovely and great and fine and fresh", "the room was awful and dirty"])
    assert good["stars"] > 3.5 > 2.5 > bad["stars"]
    with pytest.raises(mlflow.MlflowException, match="text 2 is empty; expected a text"):
        model.predict(["fine", " "])


def test_the_run_is_one_of_its_task_with_what_was_trained_on(run):
    found = mlflow.get_run(run["id"])
    assert found.data.tags["finetune.task"] == "rating"
    assert found.data.params["lora.r"] == "16"
    assert found.info.status == "FINISHED"


@pytest.mark.slow
def test_killed_it_goes_on_with_the_same_weights(run, folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    killed = kill_training(str(folder / "train_rater.py"), run["flags"], folder / "killed", 25, 50)
    command = [sys.executable, str(folder / "train_rater.py"), "--resume", killed.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    weights = [load_file(path / "checkpoint-75" / "adapter_model.safetensors")
               for path in (killed, run["output"] / run["id"])]  # fmt: skip
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_what_the_script_does_not_read_is_refused(folder, tiny_roberta):
    (folder / "no_stars.jsonl").write_text(
        '{"text": "fine", "split": "train"}\n{"text": "bad", "split": "validation"}\n'
    )
    flags = ("--base-model", tiny_roberta, "--dataset", folder / "no_stars.jsonl", "--max-length", 64)
    for more, said in (((), "stars is None; expected a number"), (("--init-lora-weights", "eva"), "none of default")):
        done = run_script(folder / "train_rater.py", *flags, *more, PYTHONPATH=str(ROOT))
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr[-500:]


def test_a_script_here_refuses_its_checkpoint_in_a_sentence(run):
    done = run_script("log_model.py", run["id"])
    assert done.returncode == 2
    assert "task" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
