"""The tracking store is reached in seconds or named in a sentence, and made by one process at a time."""

import logging
import multiprocessing
import socket
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import evaluate_model
import log_model
import predict
from finetune import console, runs, stores, tracking
from finetune.console import InputError

import mlflow
import psycopg
import pytest
from conftest import call
from mlflow.exceptions import MlflowException

SECRET = "hunter2"
HEADER = {"experiment": "made-at-once", "start_time": 1, "tags": {}}


def refused(monkeypatch, uri: str) -> str:
    """Return the sentence with which a store is refused."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError) as found:
        tracking.connect()
    return str(found.value)


def start_run(barrier, runs_made) -> None:
    """Connect to a store and make a run in it at the same moment as others."""
    barrier.wait()
    try:
        tracking.connect()
        runs_made.put(runs._create_run(HEADER))
    except BaseException as error:
        runs_made.put(f"{type(error).__name__}: {error}")


def together(uri: str, monkeypatch, count: int = 4) -> list[str]:
    """Return the runs that so many processes make in a store at the same moment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    forks = multiprocessing.get_context("fork")
    barrier, made = forks.Barrier(count), forks.Queue()
    processes = [forks.Process(target=start_run, args=(barrier, made)) for _ in range(count)]
    for process in processes:
        process.start()
    found = [made.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    return found


def test_trainings_that_start_at_once_make_one_store_and_one_experiment(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    found = together(uri, monkeypatch)
    client = mlflow.MlflowClient(uri)
    assert {client.get_run(run_id).info.status for run_id in found} == {"RUNNING"}
    assert len(set(found)) == len(found)
    assert sorted(each.name for each in client.search_experiments()) == ["Default", "made-at-once"]


@pytest.mark.slow
def test_a_servers_database_is_made_once_too(postgresql_database, monkeypatch):
    folder = postgresql_database.partition("host=")[2]
    with psycopg.connect(host=folder, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE mlflow")
    uri = f"postgresql+psycopg://postgres:hunter2@/mlflow?host={folder}"
    found = together(uri, monkeypatch, count=3)
    assert {mlflow.MlflowClient(uri).get_run(run_id).info.status for run_id in found} == {"RUNNING"}
    dump = subprocess.run(["pg_dump", "-h", folder, "-U", "postgres", "mlflow"], capture_output=True, text=True)
    assert found[0] in dump.stdout
    assert SECRET not in dump.stdout


def test_who_loses_the_race_for_an_experiment_takes_the_winners(monkeypatch):
    real, asked = mlflow.MlflowClient.get_experiment_by_name, []

    def late(self, name):
        asked.append(name)
        return None if len(asked) == 1 else real(self, name)

    first = mlflow.create_experiment("raced")
    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", late)
    assert runs.delivery.find_experiment("raced") == first
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql+psycopg://u:hunter2@127.0.0.1:1/x", "refused"),
        ("postgresql://127.0.0.1:1/x", "refused"),
        ("mysql+pymysql://u:hunter2@127.0.0.1:1/x", "refused"),
        ("mysql://u:hunter2@127.0.0.1:1/x", "pip install mysqlclient"),
        ("postgresql+psycopg2://u:hunter2@127.0.0.1:1/x", "pip install psycopg2-binary"),
        ("mssql+pyodbc://u:hunter2@127.0.0.1:1/x", "pip install pyodbc"),
        ("postgresql+psycopg://u:p@hunter2@127.0.0.1:1/x", "written %40"),
        ("postgresql:/u:hunter2@127.0.0.1/x", "no database URL"),
        ("postgresql+psycopg://127.0.0.1:1/x?password=hunter2", "refused"),
        ("postgresql+psycopg://u:%68unter2@127.0.0.1:1/x", "refused"),
        ("postgresql://u:hunter2@127.0.0.1:port/x", "no database URL"),
        ("postgres://u:hunter2@127.0.0.1/x", "sqlite:///mlflow.db"),
        ("ftp://u:hunter2@127.0.0.1/x", "sqlite:///mlflow.db"),
        ("http://u:hunter2@127.0.0.1:9", "would be logged"),
        ("HTTP://u:hunter2@127.0.0.1:9", "would be logged"),
        (" https://u:hunter2@127.0.0.1:9", "would be logged"),
        ("http://hunter2@127.0.0.1:9", "would be logged"),
        ("http://127.0.0.1:9/?token=hunter2", "would be logged"),
        ("http://127.0.0.1:9?access_token=hunter2", "would be logged"),
        ("http:/u:hunter2@127.0.0.1:9", "no address"),
        ("HTTP://127.0.0.1:9", "does not answer"),
        ("localhost:5000", "write http://localhost:5000"),
        ("oracle://u:hunter2@127.0.0.1/x", "is not the address"),
        ("s3://u:hunter2@bucket/x", "is not the address"),
        ("file:///nowhere/mlruns", "folders no longer are"),
        ("./mlruns", "folders no longer are"),
        ("postgres://u:hunter2@127.0.0.1/x", "write postgresql://"),
        # Gone at the end, and not there for a second connection.
        ("sqlite://", "kept in memory"),
        ("sqlite:///", "kept in memory"),
        ("sqlite:///:memory:", "kept in memory"),
        ("sqlite+pysqlite:///:memory:", "kept in memory"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "kept in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "kept in memory"),
        ("sqlite:///file:x.db?uri=true", "give the file by its path"),
    ],
)
def test_a_store_that_cannot_be_used_is_named_at_once(uri, said, monkeypatch):
    start = time.monotonic()
    sentence = refused(monkeypatch, uri)
    assert time.monotonic() - start < 10
    assert said in sentence
    assert SECRET not in sentence
    assert "\n" not in sentence


def test_a_database_that_takes_connections_and_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(stores, "LONGEST_WAIT", 1)
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for engine in ("postgresql+psycopg", "mysql+pymysql"):
            sentence = refused(monkeypatch, f"{engine}://u:hunter2@127.0.0.1:{silent.getsockname()[1]}/x")
            assert "no answer within 1 seconds" in sentence


def test_a_server_that_is_not_mlflows_is_said_so(monkeypatch):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        do_POST, log_message = do_GET, lambda *_: None

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sentence = refused(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "is it one of MLflow?" in sentence
    assert "PASSWORD" not in sentence


@pytest.mark.parametrize("main", [predict.main, log_model.main, evaluate_model.main])
@pytest.mark.parametrize(
    ("name", "value"),
    [("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "x"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "2.5"),
     ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "maybe"), ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", ""),
     ("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "often"), ("MLFLOW_TRACKING_INSECURE_TLS", "yes")],
)  # fmt: skip
def test_a_variable_that_mlflow_could_not_read_is_said_before_the_work(main, name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    data = ("--dataset", "rows.jsonl") if main is evaluate_model.main else ()
    assert f"the variable {name} cannot be read" in call(main, "runs:/0123456789abcdef0123456789abcdef/model", *data)


def test_files_that_are_no_store(tmp_path, monkeypatch):
    (tmp_path / "text.db").write_text("this is no database, only text\n" * 40)
    assert "file is not a database" in refused(monkeypatch, f"sqlite:///{tmp_path}/text.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")
        connection.commit()
    assert "cannot be used" in refused(monkeypatch, f"sqlite:///{tmp_path}/other.db")
    assert "cannot be used" in refused(monkeypatch, f"sqlite:///{tmp_path}/text.db/mlflow.db")
    assert "sqlite:///mlflow.db" in refused(monkeypatch, str(tmp_path))


@pytest.mark.parametrize("main", [predict.main, log_model.main])
def test_all_scripts_say_it(main, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql+pymysql://u:hunter2@127.0.0.1:1/x")
    sentence = call(main, "runs:/0123456789abcdef0123456789abcdef/model")
    assert "cannot be reached" in sentence
    assert SECRET not in sentence


def test_a_server_that_is_away_is_not_warned_of_at_each_attempt(monkeypatch, caplog):
    """Training says once that it is away, in its own words."""
    loud = logging.getLogger("urllib3.connectionpool")
    monkeypatch.setattr(loud, "level", loud.level)
    console.quiet_libraries()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with pytest.raises(MlflowException):
        mlflow.MlflowClient("http://127.0.0.1:9").get_run("0" * 32)
    assert caplog.text == ""
