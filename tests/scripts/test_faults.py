"""Kills at random moments: every run goes on, ends with the reference's weights, and has its metrics step by step.

`make faults` runs all of them; FAULT_SEED chooses other moments.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import faults
import mlflow
import pytest
from conftest import CLASSIFIER_FLAGS, DEMO_BASE, SUMMARIZER_FLAGS
from safetensors.torch import load_file

SEED = int(os.environ.get("FAULT_SEED", "0"))
SCRIPTS = ("train_sql_generator", "train_classifier", "train_summarizer")
# Moment of the kill: at a share of the training's time, in a save, or in an upload.
MOMENTS = [*(("time", number) for number in ("SIGKILL", "SIGTERM") for _ in range(5)),
           *((phase, number) for phase in ("save", "upload") for number in ("SIGKILL", "SIGTERM")
             for _ in range(3 if number == "SIGKILL" else 2))]  # fmt: skip
KILLS = [(SCRIPTS[index % 3], *moment, index) for index, moment in enumerate(MOMENTS)]


@pytest.fixture(scope="module")
def flags(few_rows, terms, tiny_roberta, reports, tiny_t5) -> dict[str, tuple]:
    """Flags of a short training for each script, with dropout: its random numbers are part of the state."""
    return {
        "train_sql_generator": (
            # Two processes that time products could take two types; their weights are compared to the bit.
            "--compute-dtype", "fp32",
            "--base-model", DEMO_BASE, "--dataset", few_rows, "--max-steps", 24, "--per-device-train-batch-size", 2,
            "--max-train-rows", 40, "--max-validation-rows", 8, "--score-rows", 4, "--save-steps", 4, "--eval-steps",
            4, "--logging-steps", 3, "--lora-dropout", 0.1, "--disable-tqdm", "true", "--log-checkpoints", "all",
        ),
        "train_classifier": ("--base-model", tiny_roberta, "--dataset", terms, *CLASSIFIER_FLAGS, "--logging-steps",
                             3, "--lora-dropout", 0.1),
        "train_summarizer": ("--base-model", tiny_t5, "--dataset", reports, *SUMMARIZER_FLAGS, "--logging-steps", 3,
                             "--lora-dropout", 0.1),
    }  # fmt: skip


@pytest.fixture(scope="module")
def references(flags, tmp_path_factory) -> dict:
    """An uninterrupted run of each script, made when it is asked for: its id, folder and seconds of training."""
    made = {}

    def reference(script: str) -> dict:
        if script not in made:
            folder = tmp_path_factory.mktemp(script)
            log = folder / "log"
            run_id = faults.finish(faults.start(script, (*flags[script], "--output-dir", folder), log), log).strip()
            seconds = mlflow.get_run(run_id).data.metrics["train_runtime"]
            made[script] = {"id": run_id, "folder": folder / run_id, "seconds": seconds}
        return made[script]

    return reference


def moment(phase: str, folder: Path, seconds: float, chance: random.Random):
    """Return the condition that says when to kill."""
    delay = chance.uniform(0, seconds)
    if phase == "time":  # From the first logged point on; later than a share of the time is in scoring, too.
        began = []

        def passed():
            if not began and list(folder.glob("*/spool/journal.jsonl")):
                began.append(time.monotonic())
            return bool(began) and time.monotonic() - began[0] > 1 + delay

        return passed
    skip = chance.randrange(3)
    seen = set()

    def cut():
        if phase == "save":  # A checkpoint that has no card yet is being written.
            now = {path for path in folder.glob("*/checkpoint-*") if not (path / "finetune.json").exists()}
        else:  # One that lies in the spool is being uploaded, or waits for it.
            now = {path.parent for path in folder.glob("*/spool/checkpoints/*/checkpoint-*")}
        seen.update(now)
        return len(seen) > skip and bool(now)

    return cut


def check_equal(run_id: str, folder: Path, reference: dict) -> None:
    """Assert that a run ended as the reference: status, weights of the last step bit for bit, every metric."""
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    last = max(reference["folder"].glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])).name
    one, other = (load_file(path / last / "adapter_model.safetensors") for path in (folder, reference["folder"]))
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in other)
    found, expected = faults.history(run_id), faults.history(reference["id"])
    assert found.keys() == expected.keys()
    for name in expected:
        assert sorted(found[name]) == sorted(expected[name]), name
    models = {model.name for model in search_models(run_id)}
    assert models == {model.name for model in search_models(reference["id"])}


def search_models(run_id: str) -> list:
    """Return the models of a run that are ready."""
    run = mlflow.get_run(run_id)
    found = mlflow.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'", output_format="list"
    )
    return [model for model in found if model.status == "READY"]


def kill_and_resume(script, phase, name, index, flags, references, tmp_path) -> None:
    """Kill a training at a moment, resume it, every second time from another folder, and compare."""
    reference, chance = references(script), random.Random(f"{SEED} {index}")
    output, log = tmp_path / "outputs", tmp_path / "log"
    process = faults.start(script, (*flags[script], "--output-dir", output), log)
    came = faults.when(moment(phase, output, reference["seconds"], chance), process)
    if process.is_alive():
        os.kill(process.pid, getattr(signal, name))
    process.join(120)
    (folder,) = output.iterdir()
    run_id, status = folder.name, mlflow.get_run(folder.name).info.status
    steps = sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))
    print(f"{script} {name} in {phase}: {'hit' if came else 'missed'}, exit {process.exitcode}, {status}, {steps}")
    assert came, "the moment did not come; the training was over before"
    if name == "SIGTERM":
        assert process.exitcode == 143
        assert status == "KILLED"
        assert f"--resume {run_id}" in log.with_suffix(".err").read_text()
    else:
        assert (process.exitcode, status) == (-signal.SIGKILL, "RUNNING")
    extra = ()
    if index % 2 and name == "SIGTERM":  # Another machine: nothing but the run is left.
        shutil.rmtree(output)
        extra = ("--output-dir", tmp_path / "elsewhere")
        folder = tmp_path / "elsewhere" / run_id
    done = faults.start(script, ("--resume", run_id, *extra), log)
    assert faults.finish(done, log).strip() == run_id
    assert "was " + status in mlflow.get_run(run_id).data.tags["finetune.resumed"]
    check_equal(run_id, folder, reference)
    assert not (folder / "spool").exists()


@pytest.mark.faults
@pytest.mark.parametrize(("script", "phase", "name", "index"), KILLS)
def test_killed_at_a_random_moment_a_run_goes_on(script, phase, name, index, flags, references, tmp_path):
    kill_and_resume(script, phase, name, index, flags, references, tmp_path)


# The short version: one kill of each kind.
@pytest.mark.parametrize(
    ("script", "phase", "name", "index"),
    [
        pytest.param("train_sql_generator", "save", "SIGKILL", 100, marks=pytest.mark.faults),
        pytest.param("train_classifier", "time", "SIGTERM", 101, marks=pytest.mark.faults),
    ],
)
def test_killed_a_run_goes_on(script, phase, name, index, flags, references, tmp_path):
    kill_and_resume(script, phase, name, index, flags, references, tmp_path)
