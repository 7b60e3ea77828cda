"""A training about a database: what its run says of it, what it never says, and how it goes on."""

import csv
from pathlib import Path

import train_sql_generator
from finetune.databases.database import open_database
from finetune.training.flags.recorded_flags import absolute, hides_database

import mlflow
import psycopg
import pytest
from conftest import DEMO_BASE, ROOT, call, stop_after

SECRET = "topsecret"
PAIRS = [
    ("How many users are there?", "SELECT COUNT(*) FROM users", "train"),
    ("How many orders are there?", "SELECT COUNT(*) FROM orders", "train"),
    ("What is the average age of all users?", "SELECT AVG(age) FROM users", "train"),
    ("What is the highest total of an order?", "SELECT MAX(total) FROM orders", "validation"),
    ("What are the names of all users?", "SELECT name FROM users", "validation"),
]


@pytest.fixture
def pairs(tmp_path) -> Path:
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer", "split"), *PAIRS])
    return tmp_path / "pairs.csv"


def texts_of(run_id: str, folder: Path) -> str:
    """Return all that a run holds as text: parameters, tags, and its artifacts that are text."""
    run, client = mlflow.get_run(run_id), mlflow.MlflowClient()
    files = Path(client.download_artifacts(run_id, "", str(folder))).rglob("*")
    texts = [path.read_text() for path in files if path.suffix in (".json", ".txt", ".sql", ".yaml")]
    return "\n".join([str(run.data.params), str(run.data.tags), *texts])


def test_a_run_has_the_schema_and_no_password_and_goes_on_with_the_same_tables_only(
    pairs, postgresql_database, tmp_path, monkeypatch, capsys, caplog
):
    host = postgresql_database.partition("host=")[2]
    with psycopg.connect(host=host, user="postgres", autocommit=True) as server:
        server.execute("CREATE DATABASE altered")
    with psycopg.connect(host=host, user="postgres", dbname="altered") as server:
        server.execute("CREATE TABLE users (id INTEGER)")
        server.execute("CREATE TABLE orders (id INTEGER)")
    url = f"postgresql://reader:{SECRET}@/postgres?host={host}"
    stop_after(monkeypatch, 1)
    train_sql_generator.main([
        "--base-model", str(DEMO_BASE), "--dataset", str(pairs), "--database", url, "--tables", "users", "orders",
        "--values", "2", "--allow-leaks", "--max-steps", "2", "--score-rows", "0", "--output-dir", str(tmp_path / "o"),
        "--max-time", "1h", "--save-steps", "1", "--eval-steps", "1", "--no-preflight",
    ])  # fmt: skip
    run_id = capsys.readouterr().out.strip()
    params, whole = mlflow.get_run(run_id).data.params, texts_of(run_id, tmp_path)
    database = open_database(url, ["users", "orders"], values=2)
    assert SECRET not in whole + caplog.text
    assert params["script.database"] == f"postgresql://reader:***@/postgres?host={host}"
    assert (params["data.schema_sha256"], params["data.schema_tables"]) == (database.digest, "2")
    assert (params["script.distractor_columns"], params["script.values"]) == ("0", "2")
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/schema.sql") == database.statements
    assert "'name 0'" in database.statements
    recorded = mlflow.artifacts.load_dict(f"runs:/{run_id}/arguments.json")
    assert str(recorded["settings"]["max_length"]) == params["script.max_length"] != "auto"

    resume = ("--resume", run_id)
    assert "its URL had a password, which no run records" in call(train_sql_generator.main, *resume)
    error = call(train_sql_generator.main, *resume, "--database", url.replace("/postgres?", "/altered?"))
    assert "the tables of --database are not those that it was trained on" in error
    assert SECRET not in error
    assert "max-length" in call(train_sql_generator.main, *resume, "--database", url, "--max-length", 4000)
    assert call(train_sql_generator.main, *resume, "--database", postgresql_database, "--trust-role") is None
    ended = mlflow.get_run(run_id)
    assert ended.info.status == "FINISHED"
    assert ended.data.params["script.max_length"] == params["script.max_length"]
    assert "reader:***@" in ended.data.tags["param_drift.database"]


def test_paths_of_a_database_are_recorded_whole(monkeypatch):
    monkeypatch.chdir(ROOT / "demo")
    whole = str(ROOT / "demo/shop.db")
    for given, kept in (
        ("shop.db", whole), ("sqlite:///shop.db", f"sqlite:///{whole}"), (f"sqlite:///{whole}", f"sqlite:///{whole}"),
        ("sqlite:///shop.db?mode=ro", f"sqlite:///{whole}?mode=ro"), ("absent.db", "absent.db"),
        ("postgresql://reader@h/shop", "postgresql://reader@h/shop"),
    ):  # fmt: skip
        assert absolute(["--database", given, "--seed", "1"]) == ["--database", kept, "--seed", "1"]
        assert absolute([f"--database={given}"]) == [f"--database={kept}"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--database", "postgresql://u:***@h/db"], True), (["--database=mysql://h/x?password=***"], True),
        (["--database", "postgresql://u@h/db"], False), (["--seed", "1"], False), ([], False),
        (["--database=mysql://u:***@h/x", "--database", "shop.db"], False), (["--database"], False),
    ],
)  # fmt: skip
def test_a_hidden_password_is_seen(arguments, expected):
    assert hides_database(arguments) is expected


def test_foreign_columns_are_for_rows_with_schemas_of_their_own():
    kind = train_sql_generator.Flags
    assert [kind().distractor_columns, kind(database="shop.db").distractor_columns] == [4, 0]
    assert kind(distractor_columns=2).distractor_columns == 2
    assert kind(database="shop.db", distractor_columns=3).distractor_columns == 3
