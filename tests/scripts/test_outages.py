"""Servers that stop for seconds or for good, and a disk that is full. Part of `make faults`."""

import itertools
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import faults
import mlflow
import pytest
from conftest import DEMO_BASE
from safetensors.torch import load_file
from servers import Server

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("outages")]
NEVER = -1
STEPS = int(os.environ.get("FAULT_STEPS", "300"))


@pytest.fixture
def flags(few_rows, tmp_path) -> tuple:
    """A training of a minute or more."""
    return (
        "--base-model", DEMO_BASE, "--dataset", few_rows, "--per-device-train-batch-size", 4, "--max-validation-rows",
        8, "--score-rows", 4, "--save-steps", 100, "--eval-steps", 100, "--logging-steps", 1, "--disable-tqdm", "true",
        "--output-dir", tmp_path / "outputs",
    )  # fmt: skip


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that this process, and what it starts, uses."""
    server, before = Server(tmp_path / "server").start(), mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    mlflow.set_tracking_uri(server.uri)
    yield server
    server.stop()
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("seconds", [0, 5, 30, 120, NEVER])
def test_no_point_is_lost(seconds, flags, server, tmp_path):
    log, output = tmp_path / "log", tmp_path / "outputs"
    steps = STEPS * 3 // 2 if seconds == 120 else STEPS
    process = faults.start("train_sql_generator", (*flags, "--max-steps", steps), log, FINETUNE_PATIENCE="5")
    assert faults.when(lambda: list(output.glob("*/spool/journal.jsonl")), process)
    time.sleep(8)  # Into training.
    away = [time.time(), float("inf")]
    if seconds:
        server.stop()
    if seconds > 0:
        time.sleep(seconds)
        assert process.is_alive(), "the training was over before the server came back: set FAULT_STEPS"
        server.start()
        away[1] = time.time()
    run_id = faults.finish(process, log, timeout=900).strip()
    if seconds == NEVER:
        server.start()
        faults.finish(faults.start("log_model", (run_id, "--sync", output / run_id), log), log)
    check_history(run_id, output / run_id, steps)
    if seconds:
        here, gone = step_times(run_id, away)
        print(f"outage of {seconds} s: 0 points lost; median step with server {here:.0f} ms, without {gone:.0f} ms")


def step_times(run_id: str, away: list[float]) -> tuple[float, float]:
    """Return the median milliseconds of a step while the server was there and while it was not.

    Within one run, as the machine is faster at one time than at another.
    """
    times = [point.timestamp for point in mlflow.MlflowClient().get_metric_history(run_id, "loss")]
    steps = [(start / 1000, end - start) for start, end in itertools.pairwise(times)]
    gone = [length for start, length in steps if away[0] < start < away[1]]
    here = [length for start, length in steps if not away[0] < start < away[1]]
    return statistics.median(here), statistics.median(gone)


def check_history(run_id: str, folder: Path, steps: int) -> None:
    """Assert that everything the Trainer logged is in the run once, as are parameters and files."""
    run, client = mlflow.get_run(run_id), mlflow.MlflowClient()
    assert run.info.status == "FINISHED"
    state = json.loads((folder / f"checkpoint-{steps}" / "trainer_state.json").read_text())
    expected = {(key, entry["step"]): entry[key] for entry in state["log_history"] for key in entry if key != "step"}
    found = [(key, point) for key in run.data.metrics for point in client.get_metric_history(run_id, key)]
    points = {(key, point.step): point.value for key, point in found}
    assert len(found) == len(points)
    assert {place: points.get(place) for place in expected} == expected
    times = [point.timestamp for key, point in found if key == "loss"]
    assert max(times) - min(times) > 1000 * 0.8 * run.data.metrics["train_runtime"]
    assert run.data.params["lora.r"] == "32"
    assert {"arguments.json", "figures", "parameters.json", "scorecard", "checkpoints"} <= {
        artifact.path for artifact in client.list_artifacts(run_id)
    }
    assert not (folder / "spool").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_leaves_the_checkpoint_before_it(flags, tmp_path):
    """A disk of 18 MB takes one checkpoint of the demo's adapter with its optimiser state, not two."""
    disk, log = tmp_path / "outputs", tmp_path / "log"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=18m", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        short = (*flags, "--max-steps", 6, "--save-steps", 2, "--eval-steps", 2, "--log-checkpoints", "none")
        faults.finish(faults.start("train_sql_generator", short, log), log, status=2)
        message = log.with_suffix(".err").read_text()
        assert "is full" in message
        assert "Free some space there" in message
        assert "Traceback" not in message
        (folder,) = disk.iterdir()
        assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]
        assert load_file(folder / "checkpoint-2" / "adapter_model.safetensors")
        assert mlflow.get_run(folder.name).info.status == "FAILED"
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        assert faults.finish(faults.start("train_sql_generator", ("--resume", folder.name), log), log).strip()
        assert (folder / "checkpoint-6").is_dir()
    finally:
        subprocess.run(["umount", disk], check=True)
