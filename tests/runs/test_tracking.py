"""A run ends as it went, and keeps every parameter."""

from contextlib import suppress
from pathlib import Path

from finetune import InputError
from finetune.runs import lifecycle, tracking
from finetune.runs.sending import journal

import mlflow
import pytest


def status_after(error: BaseException | None, folder: Path) -> tuple[str, str]:
    """Return the status and the id of a run in which an exception was raised."""
    with suppress(KeyboardInterrupt, RuntimeError), lifecycle.run("statuses", folder) as run_id:
        if error:
            raise error
    return mlflow.get_run(run_id).info.status, run_id


def test_a_run_ends_as_it_went(tmp_path):
    assert status_after(None, tmp_path)[0] == "FINISHED"
    assert status_after(KeyboardInterrupt(), tmp_path)[0] == "KILLED"
    status, run_id = status_after(RuntimeError("out of memory"), tmp_path)
    assert status == "FAILED"
    error = mlflow.artifacts.load_text(f"runs:/{run_id}/error.txt")
    assert "RuntimeError: out of memory" in error
    assert not any((tmp_path / run_id).iterdir())  # Nothing is left to be sent.


def test_no_parameter_is_dropped_for_its_length(tmp_path):
    with lifecycle.run("parameters", tmp_path) as run_id:
        tracking.log_parameters({"lora": {"r": 8, "long": "x" * 20_000}}, training={"seed": 42})
    parameters = mlflow.get_run(run_id).data.params
    assert parameters["lora.r"] == "8"
    assert parameters["lora.long"] == "x" * tracking.MAX_PARAMETER_LENGTH
    whole = tracking.load_artifact_json(run_id, "parameters.json")
    assert whole["lora"]["long"] == "x" * 20_000
    assert whole["training"] == {"seed": 42}


def test_data_sets_are_inputs_with_a_digest_of_every_row(tmp_path):
    rows = [{"a": str(i), "b": "x"} for i in range(12_000)]
    digests = []
    with lifecycle.run("data-sets", tmp_path) as run_id:
        for last in ("1", "2"):
            given = [*rows, {"a": last, "b": "x"}]
            tracking.log_dataset(run_id, given, ("a",), "owner/name", f"rows{last}", "training", from_hub=True)
    for logged in mlflow.get_run(run_id).inputs.dataset_inputs:
        digests.append(logged.dataset.digest)
        assert logged.dataset.source_type == "hugging_face"
        assert '"num_rows": 12001' in logged.dataset.profile
    assert len(set(digests)) == 2


def test_an_unknown_run_is_named():
    with pytest.raises(InputError, match="no run 0123abc"):
        tracking.find_run("runs:/0123abc/model")
    assert tracking.load_artifact_json("0123abc", "parameters.json") is None


def test_a_server_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 does not answer"):
        tracking.connect()


def test_rows_that_a_database_has_made_others_are_refused_with_its_name(tmp_path):
    """What stands in the database is in the rows too: --dataset alone may not be what has changed."""
    rows, url = [{"question": "q", "context": "c"}], "postgresql://reader:secret@h/shop"
    with lifecycle.run("rows", tmp_path) as run_id:
        tracking.log_dataset(run_id, rows, ("question",), "own.csv", "train_rows", "training", False, url)
        for database, shown in ((url, "what --database postgresql://reader:***@h/shop makes of them"), (None, "")):
            journal.active_journal(run_id).known_digests = {"train_rows": "0" * 16}
            with pytest.raises(InputError, match="give the same data with --dataset") as refused:
                tracking.log_dataset(run_id, rows, ("question",), "own.csv", "train_rows", "training", False, database)
            assert shown in str(refused.value)
            assert ("--database" in str(refused.value)) is bool(database)
