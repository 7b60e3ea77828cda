"""Training against a real server: one that lets in who is known, goes away, comes back, or never was there."""

import json
import time
from pathlib import Path

import faults
import mlflow
import pytest
from conftest import CLASSIFIER_FLAGS, logged_models
from servers import Server

pytestmark = pytest.mark.xdist_group("server")
PASSWORD = "secret-of-the-test"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server."""
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


@pytest.fixture
def on_server(server, monkeypatch):
    """Let this process, and what it starts, use the server."""
    yield from use(server, monkeypatch)


@pytest.fixture
def on_guarded_server(tmp_path_factory, monkeypatch):
    """Let this process, and what it starts, use a server with users as its administrator."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    server = Server(tmp_path_factory.mktemp("guarded"), auth=True).start()
    yield from use(server, monkeypatch)
    server.stop()


def use(server: Server, monkeypatch):
    """Use a server until the test is over."""
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    mlflow.set_tracking_uri(server.uri)
    yield server
    mlflow.set_tracking_uri(before)


@pytest.fixture
def flags(terms, tiny_roberta, tmp_path) -> tuple:
    """A short training of the classifier."""
    return ("--base-model", tiny_roberta, "--dataset", terms, *CLASSIFIER_FLAGS, "--logging-steps", 1,
            "--output-dir", tmp_path / "outputs")  # fmt: skip


def logged_points(folder: Path) -> set[tuple[str, int]]:
    """Return which metrics the Trainer logged at which step, from its own record."""
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return {(key, entry["step"]) for entry in history for key in entry if key != "step"}


def check_complete(run_id: str, folder: Path, steps: int = 40) -> None:
    """Assert that a run is finished, with each point once, at its own time, and with all files."""
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    client = mlflow.MlflowClient()
    found = {key: client.get_metric_history(run_id, key) for key in run.data.metrics}
    assert [point.step for point in found["loss"]] == list(range(1, steps + 1))
    times = [point.timestamp for point in found["loss"]]
    assert times == sorted(times)
    assert len(set(times)) > steps / 2  # When they were computed, not when they were sent.
    expected = logged_points(folder)
    points = [(key, point.step) for key, history in found.items() for point in history]
    assert expected <= set(points)
    assert len(points) == len(set(points))
    assert run.data.params["lora.r"] == "16"
    assert {"arguments.json", "figures", "labels.json", "scores", "parameters.json", "reload_check.json",
            "checkpoints"} <= {artifact.path for artifact in client.list_artifacts(run_id)}  # fmt: skip
    assert len(run.inputs.dataset_inputs) == 3
    models = mlflow.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'", output_format="list",
        order_by=[{"field_name": "metrics.eval_macro_f1", "ascending": False}],
    )  # fmt: skip
    assert sorted(model.name for model in models) == [
        "checkpoint-10",
        "checkpoint-20",
        "checkpoint-30",
        "checkpoint-40",
    ]
    best = max(found["eval_macro_f1"], key=lambda point: point.value).value
    assert next(m.value for m in models[0].metrics if m.key == "eval_macro_f1") == best


@pytest.mark.slow
def test_credentials_are_nowhere_and_a_wrong_password_is_refused(on_guarded_server, flags, tmp_path):
    log = tmp_path / "log"
    # Such a server takes its time for each request, and a model is many.
    short = (*flags, "--num-train-epochs", 1, "--log-checkpoints", "best")
    run_id = faults.finish(faults.start("train_classifier", short, log), log).strip()
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert len(logged_models(run)) == 1
    # In parameters, tags, metrics (the database), artifacts, checkpoints, and what is printed.
    written = [path for folder in (on_guarded_server.folder, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 50
    for path in written:
        if path.name != "auth.ini":
            assert PASSWORD.encode() not in path.read_bytes(), path
    wrong = faults.start("train_classifier", flags, log, MLFLOW_TRACKING_PASSWORD="guessed-wrong")
    faults.finish(wrong, log, status=2)
    message = log.with_suffix(".err").read_text()
    assert "refuses" in message
    assert "MLFLOW_TRACKING_PASSWORD" in message
    assert "guessed-wrong" not in message
    inside = faults.start(
        "train_classifier", flags, log, MLFLOW_TRACKING_URI=on_guarded_server.uri.replace("//", "//a:b@")
    )
    faults.finish(inside, log, status=2)
    assert "would be logged" in log.with_suffix(".err").read_text()


@pytest.mark.faults
def test_a_server_that_goes_away_and_comes_back_has_everything(on_server, flags, tmp_path):
    log, output = tmp_path / "log", tmp_path / "outputs"
    process = faults.start("train_classifier", flags, log)
    assert faults.when(lambda: list(output.glob("*/checkpoint-10/finetune.json")), process)
    on_server.stop()
    assert faults.when(lambda: list(output.glob("*/checkpoint-30/finetune.json")), process)  # Training goes on.
    on_server.start()
    run_id = faults.finish(process, log).strip()
    check_complete(run_id, output / run_id)
    assert "MLflow answers again" in log.with_suffix(".err").read_text()
    assert not (output / run_id / "spool").exists()


@pytest.mark.faults
def test_what_a_server_that_stays_away_has_missed_is_synced_by_hand(on_server, flags, tmp_path, monkeypatch):
    log, output = tmp_path / "log", tmp_path / "outputs"
    process = faults.start("train_classifier", flags, log, FINETUNE_PATIENCE="3")
    assert faults.when(lambda: list(output.glob("*/checkpoint-10/finetune.json")), process)
    on_server.stop()
    run_id = faults.finish(process, log).strip()
    (command,) = [line for line in log.with_suffix(".err").read_text().splitlines() if "--sync" in line]
    assert command.split()[1:] == ["log_model.py", run_id, "--sync", str(output / run_id)]
    on_server.start()
    assert mlflow.get_run(run_id).info.status == "RUNNING"
    assert faults.finish(faults.start("log_model", command.split()[2:], log), log).strip() == run_id
    check_complete(run_id, output / run_id)
    # Nothing is left to send.
    faults.finish(faults.start("log_model", command.split()[2:], log), log, status=2)


@pytest.mark.faults
def test_a_training_without_a_server_becomes_a_run_later(on_server, flags, tmp_path):
    log, output = tmp_path / "log", tmp_path / "outputs"
    on_server.stop()
    faults.finish(faults.start("train_classifier", flags, log), log, status=2)
    assert "--offline-ok" in log.with_suffix(".err").read_text()
    start = time.time()
    offline = faults.start("train_classifier", (*flags, "--offline-ok"), log, FINETUNE_PATIENCE="3")
    name = faults.finish(offline, log).strip()
    assert name.startswith("offline-")
    end = time.time()
    on_server.start()
    run_id = faults.finish(faults.start("log_model", (name, "--sync", output / name), log), log).strip()
    check_complete(run_id, output / name)
    run = mlflow.get_run(run_id)
    assert start < run.info.start_time / 1000 < run.info.end_time / 1000 < end
    cards = [json.loads(path.read_text()) for path in (output / name).glob("checkpoint-*/finetune.json")]
    assert {card["run_id"] for card in cards} == {run_id}
    assert (
        faults.finish(faults.start("log_model", (run_id, "--no-reload-check"), log), log) == f"runs:/{run_id}/model\n"
    )
