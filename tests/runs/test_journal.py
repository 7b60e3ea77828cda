"""The journal: written at once, delivered in order, once, and kept where it cannot be."""

import json
import sqlite3
import time
from contextlib import closing
from types import SimpleNamespace
from unittest.mock import MagicMock

from finetune.runs import environment, lifecycle, tracking
from finetune.runs.sending import delivery, journal
from finetune.training.callbacks import CheckpointCallback

import mlflow
import pytest


@pytest.fixture
def server(monkeypatch):
    """A switch: with `away` set, MLflow does not answer."""

    class Switch:
        away = False

    def check(*_, **__):
        if Switch.away:
            raise ConnectionError("refused")

    for name in ("log_batch", "log_artifact", "set_terminated", "create_run"):
        known = getattr(mlflow.MlflowClient, name)
        monkeypatch.setattr(mlflow.MlflowClient, name, lambda *a, known=known, **k: check() or known(*a, **k))
    monkeypatch.setattr(journal, "is_reachable", lambda *_: not Switch.away)
    monkeypatch.setattr(delivery, "is_reachable", lambda *_, **__: not Switch.away)
    monkeypatch.setenv(environment.PATIENCE, "0.3")
    return Switch


def points(run_id: str, key: str = "loss") -> list[tuple[int, float]]:
    """Return the points of a metric."""
    return [(point.step, point.value) for point in mlflow.MlflowClient().get_metric_history(run_id, key)]


def log(steps) -> None:
    """Log a loss a step."""
    for step in steps:
        journal.active_journal().metrics({"loss": 1 / step}, step)


def test_what_is_logged_while_the_server_is_away_arrives_when_it_is_back(server, tmp_path):
    with lifecycle.run("journal", tmp_path) as run_id:
        log(range(1, 4))
        server.away = True
        start = time.time()
        log(range(4, 9))
        tracking.set_tag("said", "while away")
        tracking.log_text("text", "folder/file.txt")
        end = time.time()
        time.sleep(0.5)
        server.away = False
    assert points(run_id) == [(step, 1 / step) for step in range(1, 9)]
    history = mlflow.MlflowClient().get_metric_history(run_id, "loss")
    assert all(start <= point.timestamp / 1000 + 0.001 and point.timestamp / 1000 <= end for point in history[3:])
    run = mlflow.get_run(run_id)
    assert (run.info.status, run.data.tags["said"]) == ("FINISHED", "while away")
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/folder/file.txt") == "text"
    assert not (tmp_path / run_id / "spool").exists()


def test_a_database_that_is_held_or_away_is_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "held.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    before = mlflow.get_tracking_uri()
    tracking.connect()
    try:
        assert delivery.is_reachable()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert not delivery.is_reachable(0.2)
        assert delivery.is_reachable()
        path.rename(tmp_path / "away.db")
        assert not delivery.is_reachable()
        assert not path.exists()
        path.touch()  # Without MLflow's tables.
        assert not delivery.is_reachable()
        mlflow.set_tracking_uri("postgresql+psycopg://u@127.0.0.1:1/x")
        assert not delivery.is_reachable()
    finally:
        mlflow.set_tracking_uri(before)


def test_what_cannot_be_sent_is_kept_and_synced_once(server, tmp_path, caplog):
    with lifecycle.run("journal", tmp_path) as run_id:
        log(range(1, 4))
        journal.active_journal().wait(5)
        server.away = True
        log(range(4, 6))
        tracking.log_dict({"a": 1}, "values.json")
    assert mlflow.get_run(run_id).info.status == "RUNNING"
    assert f"log_model.py {run_id} --sync {tmp_path / run_id}" in caplog.text
    spool = tmp_path / run_id / "spool"
    # The process was killed while it wrote a line, and before it counted what it had sent.
    with (spool / "journal.jsonl").open("a") as file:
        file.write('{"op": "metrics", "poi')
    (spool / "sent").write_text("")
    server.away = False
    assert lifecycle.sync(run_id, tmp_path / run_id) == run_id
    assert points(run_id) == [(step, 1 / step) for step in range(1, 6)]
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    assert tracking.load_artifact_json(run_id, "values.json") == {"a": 1}
    assert not spool.exists()
    with pytest.raises(tracking.InputError, match="nothing to sync"):
        lifecycle.sync(run_id, tmp_path)


def test_a_point_that_is_computed_again_is_not_logged_again(tmp_path):
    with lifecycle.run("journal", tmp_path) as run_id:
        log(range(1, 6))
    with lifecycle.run("journal", tmp_path / run_id, resume=mlflow.get_run(run_id)):
        journal.active_journal().metrics({"loss": 99}, 4)
        log(range(6, 8))
    assert points(run_id) == [(step, 1 / step) for step in range(1, 8)]


def test_a_line_that_was_cut_off_does_not_take_the_next_with_it(tmp_path):
    with lifecycle.run("journal", tmp_path) as run_id:
        log([1])
    spool = tmp_path / run_id / "spool"
    spool.mkdir()
    (spool / "run.json").write_text(json.dumps({"run_id": run_id}))
    point = {"op": "metrics", "number": 1, "points": [["loss", 0.5, 5, 2]]}
    (spool / "journal.jsonl").write_text(json.dumps(point) + '\n{"op": "metr')
    with lifecycle.run("journal", tmp_path / run_id, resume=mlflow.get_run(run_id)):
        log([3])
        journal.active_journal().wait(5)
        assert [entry["points"][0][3] for entry in journal.read_entries(spool / "journal.jsonl")] == [2, 3]
    assert sorted(points(run_id)) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_a_parameter_that_has_changed_becomes_a_tag(tmp_path):
    with lifecycle.run("journal", tmp_path) as run_id:
        tracking.log_params({"a": "1", "b": "2"})
    with lifecycle.run("journal", tmp_path / run_id, resume=mlflow.get_run(run_id)):
        tracking.log_params({"a": "1", "b": "3", "c": "4"})
    run = mlflow.get_run(run_id)
    assert (run.data.params, run.data.tags["param_drift.b"]) == ({"a": "1", "b": "2", "c": "4"}, "2 -> 3")
    assert "param_drift.a" not in run.data.tags


def test_what_mlflow_refuses_is_kept_and_does_not_hold_up_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "ATTEMPTS", 2)
    with lifecycle.run("journal", tmp_path) as run_id:
        log([1])
        journal.active_journal().metrics({"no|such|name": 1}, 1)
        log([2])
    assert points(run_id) == [(1, 1.0), (2, 0.5)]
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    (entry,) = [json.loads(line) for line in (tmp_path / run_id / "spool" / "rejected.jsonl").read_text().splitlines()]
    assert entry["points"][0][:2] == ["no|such|name", 1.0]
    assert "Invalid value" in entry["error"]
    with pytest.raises(tracking.InputError, match="1 of 1 entries are not in MLflow"):
        lifecycle.sync(run_id, tmp_path / run_id)
    known = delivery.Delivery._apply_metrics
    monkeypatch.setattr(
        delivery.Delivery, "_apply_metrics", lambda *given: known(given[0], [{"points": [["name", 1.0, 5, 1]]}])
    )
    assert lifecycle.sync(run_id, tmp_path / run_id) == run_id
    assert points(run_id, "name") == [(1, 1.0)]
    assert not (tmp_path / run_id / "spool").exists()


def test_writing_never_raises(tmp_path, caplog):
    with lifecycle.run("journal", tmp_path) as run_id:
        running = journal.active_journal()
        running._lines.close()  # As on a disk that is full.
        log([1])
        tracking.log_dict({1: object()}, "values.json")
        running.file("a/b.txt", lambda path: (_ for _ in ()).throw(OSError("No space left on device")))
    assert "not kept on disk until MLflow has it" in caplog.text
    assert "a/b.txt was not logged" in caplog.text
    assert points(run_id) == [(1, 1.0)]


def test_an_entry_that_the_disk_did_not_take_does_not_shift_the_count(tmp_path):
    with lifecycle.run("journal", tmp_path) as run_id:
        log([1])
    spool = tmp_path / run_id / "spool"
    spool.mkdir()
    (spool / "run.json").write_text(json.dumps({"run_id": run_id}))
    lines = [{"op": "metrics", "number": n, "points": [["loss", 1 / n, n, n]]} for n in (2, 4, 5)]  # 3 is missing.
    (spool / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (spool / "sent").write_text("3")
    assert lifecycle.sync(run_id, tmp_path / run_id) == run_id
    assert {step for step, _ in points(run_id)} == {1, 4, 5}


def test_a_run_without_a_server_is_made_later_once(server, tmp_path):
    server.away = True
    with lifecycle.run("journal", tmp_path, online=False) as name:
        log(range(1, 4))
    assert name.startswith("offline-")
    server.away = False
    header = json.loads((tmp_path / name / "spool" / "run.json").read_text())
    assert header["run_id"] is None
    # Cut off after the run was made, before its id was written down.
    tags = header["tags"] | {delivery.OFFLINE_TAG: name}
    experiment = delivery.find_experiment("journal")
    made = mlflow.MlflowClient().create_run(experiment, header["start_time"], tags).info.run_id
    with pytest.raises(tracking.InputError, match="not in MLflow yet"):
        tracking.find_run(f"{name}0")
    run_id = lifecycle.sync(name, tmp_path)
    assert run_id == made == tracking.find_run(name).info.run_id
    assert points(run_id) == [(step, 1 / step) for step in range(1, 4)]
    with pytest.raises(tracking.InputError, match="nothing to sync"):
        lifecycle.sync(name, tmp_path)


@pytest.mark.parametrize(
    ("with_best", "step", "stops", "is_model"),
    [(True, 1, False, True), (True, 2, True, False), (False, 1, False, False), (False, 2, True, True),
     (False, 1, True, True)],
)  # fmt: skip
def test_of_best_checkpoints_the_one_that_training_ends_with(with_best, step, stops, is_model, tmp_path, monkeypatch):
    running = MagicMock()
    monkeypatch.setattr(journal, "active_journal", lambda: running)
    args = SimpleNamespace(output_dir=tmp_path, load_best_model_at_end=with_best, save_strategy="epoch")
    state = SimpleNamespace(best_global_step=1, global_step=step, max_steps=2)
    CheckpointCallback("best", MagicMock()).on_save(args, state, SimpleNamespace(should_training_stop=stops))
    assert running.checkpoint.call_args.kwargs["model"] is is_model
