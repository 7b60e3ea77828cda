"""What cannot be logged is said before the work, or after its result is printed: never by a traceback."""

import json
import shutil

import evaluate_model
import log_model
import predict
from finetune import InputError
from finetune.logged_models import refusals
from finetune.logged_models.entries import logged_models
from finetune.logged_models.opening import LoggedModel, open_model
from finetune.runs import tracking
from finetune.runs.checkpoints import folder_of

import mlflow
import pytest
import requests
from conftest import call, demo_rows
from made_runs import make_run
from mlflow.exceptions import MlflowException, RestException
from servers import Server

PASSWORD = "secret-of-the-test"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with one checkpoint, and the checkpoint."""
    folder = tmp_path_factory.mktemp("made")
    return make_run(folder, {10: 1.0}), folder / "checkpoint-10"


@pytest.fixture(scope="module")
def flags(tmp_path_factory) -> tuple:
    """A short evaluation."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in demo_rows("test")[:2]))
    return ("--dataset", path, "--distractor-columns", 0)


@pytest.fixture
def no_work(monkeypatch):
    """Make it an error to load a base."""

    def fail(*arguments, **options):
        raise AssertionError("the base was loaded")

    monkeypatch.setattr(LoggedModel, "load", fail)


@pytest.mark.parametrize(
    "name", ["", " ", "../x", "a/b", "/a", ".hidden", "a%", "a,b", "a=b", "a\nb", "a;b", "x" * 200, "a ", "a'b", "$(x)"]
)
def test_names_that_mlflow_refuses_or_that_make_paths_are_refused_first(name, flags, no_work):
    assert "--name" in call(evaluate_model.main, "runs:/0123abc/model", *flags, "--name", name)


@pytest.mark.parametrize("name", ["test", "test_2", "holdout 2026-11", "a.b", "Prüfung", "a:b"])
def test_names_that_mlflow_takes_are_taken(name, flags, no_work):
    assert "no run 0123abc" in call(evaluate_model.main, "runs:/0123abc/model", *flags, "--name", name)
    mlflow.utils.validation._validate_metric_name(f"{name}_exec_accuracy")


def test_a_deleted_run_is_said_before_the_work(made, flags, no_work):
    run, checkpoint = made
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    client.delete_run(run_id)
    try:
        scored = call(evaluate_model.main, checkpoint, *flags)
        logged = call(log_model.main, run_id)
        synced = call(log_model.main, run_id, "--sync", checkpoint.parent)
    finally:
        client.restore_run(run_id)
    assert "--no-log" in scored
    for text in (scored, logged, synced):
        assert f"`mlflow runs restore --run-id {run_id}`" in text


def test_a_run_of_another_store_is_said_before_the_work(made, flags, no_work, tmp_path):
    for name, fields in (("elsewhere", {"run_id": "f" * 32}), ("nowhere", {"run_id": None})):
        other = shutil.copytree(made[1], tmp_path / name / "checkpoint-10")
        card = json.loads((other / "finetune.json").read_text())
        (other / "finetune.json").write_text(json.dumps(card | fields))
        text = call(evaluate_model.main, other, *flags)
        assert ("there is no run ffff" in text) if name == "elsewhere" else ("of which run it is" in text)
        assert "--no-log" in text


def test_artifacts_that_cannot_be_written_are_said_before_the_work(made, flags, no_work, monkeypatch):
    monkeypatch.setattr(refusals.os, "access", lambda *arguments, **options: False)
    with pytest.raises(InputError, match="which this user may not write"):
        refusals.check_rights(made[0])


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("database is locked"), OSError(28, "No space left on device"),
        requests.ConnectionError("refused"),
        RestException({"error_code": "PERMISSION_DENIED", "message": "Permission denied"}),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_the_scores_are_printed_where_they_cannot_be_logged(made, flags, error, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(tracking, "log_dataset", fail)
    refused = call(evaluate_model.main, made[1], *flags, "--json")
    assert json.loads(capsys.readouterr().out)["name"] == "test"
    assert "cannot be written" in refused
    assert "printed above" in refused


def test_who_may_only_read_is_told_before_the_work(made, flags, no_work, monkeypatch):
    def refuse(*arguments):
        raise RestException({"error_code": "PERMISSION_DENIED", "message": "Permission denied"})

    monkeypatch.setattr(mlflow.MlflowClient, "set_tag", refuse)
    for text in (call(evaluate_model.main, made[1], *flags), call(log_model.main, made[0].info.run_id)):
        assert f"run {made[0].info.run_id} of {mlflow.get_tracking_uri()} cannot be written" in text
        assert "this user has no right to it there" in text
    assert not logged_models(made[0])


@pytest.fixture
def reader(tmp_path_factory, monkeypatch):
    """A server with a run, of which this process may then only read."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    server = Server(tmp_path_factory.mktemp("guarded"), auth=True).start()
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    mlflow.set_tracking_uri(server.uri)
    folder = tmp_path_factory.mktemp("made")
    run = make_run(folder, {10: 1.0}, mlflow.create_experiment("guarded"))
    assert call(log_model.main, run.info.run_id, "--no-reload-check") is None
    body = {"username": "reader", "password": "the password of a reader"}
    url = f"{server.uri}/api/2.0/mlflow/users/create"
    requests.post(url, json=body, auth=("admin", PASSWORD), timeout=30).raise_for_status()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", body["username"])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", body["password"])
    yield run, folder / "checkpoint-10"
    mlflow.set_tracking_uri(before)
    server.stop()


@pytest.mark.slow
def test_a_server_that_lets_only_read_is_told_before_the_work(reader, flags, no_work):
    run, checkpoint = reader
    for text in (call(evaluate_model.main, checkpoint, *flags), call(log_model.main, run.info.run_id)):
        assert f"run {run.info.run_id} of {mlflow.get_tracking_uri()} cannot be written" in text
        assert "this user has no right to it there" in text
    (model,) = logged_models(run)
    for uri in (f"runs:/{run.info.run_id}", f"runs:/{run.info.run_id}/model/", model.model_id):
        assert open_model(uri).model_id == model.model_id  # Reading is not refused.


@pytest.mark.parametrize(
    "record",
    [[], 7, "x", {}, {"step": "10"}, {"step": 10}, {"step": 10, "token_ids": []}, {"step": 10, "token_ids": [7]},
     {"step": 10, "scores": [["a"]]}, {"step": 10, "token_ids": [[7]], "margins": [[0.5]]},
     {"step": 10, "token_ids": [[7]], "margins": 7}],
)  # fmt: skip
def test_a_damaged_record_of_the_trained_models_answers_is_said_before_anything_is_logged(made, record):
    run, client = made[0], mlflow.MlflowClient()
    try:
        client.log_dict(run.info.run_id, record, "reload_check.json")
        sentence = call(log_model.main, run.info.run_id, "--no-reload-check")
    finally:
        client.log_dict(run.info.run_id, {"step": 7, "token_ids": [[7]]}, "reload_check.json")
    assert "reload_check.json of run" in sentence
    assert "damaged" in sentence
    assert not logged_models(run)


def test_answers_of_another_number_than_the_sample_has_are_said(made, monkeypatch):
    run, checkpoint = made
    record = {"step": 10, "token_ids": [[7]]}
    monkeypatch.setattr("finetune.runs.reload_check.recorded_answers", lambda *_: record)
    monkeypatch.setattr("finetune.runs.reload_check.replay", lambda *_: [[7], [8]])
    with pytest.raises(InputError, match="1 answers, and the card 2 rows"):
        log_model.reload_check(run.info.run_id, checkpoint, "runs:/x/model", 0.1)


def test_a_card_without_a_sample_is_said_before_anything_is_logged(made):
    run, checkpoint = made
    text = (checkpoint / "finetune.json").read_text()
    try:
        card = {name: value for name, value in json.loads(text).items() if name != "sample"}
        (checkpoint / "finetune.json").write_text(json.dumps(card))
        assert "sample is missing" in call(log_model.main, run.info.run_id, "--no-reload-check")
    finally:
        (checkpoint / "finetune.json").write_text(text)
    assert not logged_models(run)


@pytest.mark.parametrize(
    ("reference", "said"),
    [("", "no run is named"), (" ", "no run is named"), ("runs:/", "no run is named"), ("models:/a", "run models:/a"),
     ("/etc/passwd", "no run /etc/passwd"), ("offline-'; DROP", "no run offline-'; DROP"), ("a\0b", "no run a"),
     ("offline-0a", "not in MLflow yet"), ("runs:/x/model", "no run x in"), ("postgresql://u:pw@host/x", "u:***@host")],
)  # fmt: skip
def test_what_is_no_run_is_said(reference, said):
    assert said in call(log_model.main, reference)


@pytest.mark.parametrize("tag", ["/" + "a" * 5000, "/a\0b", "/proc/self/fd", "relative", "~", "/etc/passwd"])
def test_a_folder_that_cannot_be_one_is_not_followed(made, tag):
    run, checkpoint = made
    client = mlflow.MlflowClient()
    client.set_tag(run.info.run_id, "finetune.checkpoints", tag)
    try:
        assert folder_of(client.get_run(run.info.run_id)) is None
        assert "has no checkpoint in" in call(log_model.main, run.info.run_id, "--no-reload-check")
    finally:
        client.set_tag(run.info.run_id, "finetune.checkpoints", str(checkpoint.parent))


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000])
def test_names_that_no_file_can_have_end_in_a_sentence(made, name, tmp_path):
    run, checkpoint = made
    for main, *arguments in (
        (predict.main, name, "--text", "a"), (predict.main, checkpoint, "--input", f"{name}.jsonl"),
        (predict.main, checkpoint, "--question", "q", "--context", "c", "--output", tmp_path / f"{name}.csv"),
        (predict.main, checkpoint, "--question", "q", "--context", "c", "--output", tmp_path / name / "a.csv"),
        (predict.main, checkpoint, "--question", "q", "--database", f"{name}.db"),
        (predict.main, checkpoint, "--question", "q", "--context", "c", "--base-model", name),
        (evaluate_model.main, checkpoint, "--dataset", f"{name}.jsonl"),
        (evaluate_model.main, name, "--dataset", "rows.jsonl"), (log_model.main, name),
        (log_model.main, run.info.run_id, "--sync", name),
    ):  # fmt: skip
        assert call(main, *arguments), arguments
