"""Batch prediction on Spark: a cluster of two workers, each a process of its own, gives what predict.py gives."""

import csv
import json
import shutil
import sys

import predict
from finetune.logged_models.opening import open_model
from finetune.rows.files.reading import stream_rows

import mlflow
import pytest
from conftest import call, demo_rows, run_script

TWO_WORKERS = {
    "PYSPARK_SUBMIT_ARGS": "--master local-cluster[2,1,1500] pyspark-shell", "PYSPARK_PYTHON": sys.executable,
    "OMP_NUM_THREADS": "1",
}  # fmt: skip
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")


def read_parts(folder) -> list[dict]:
    """Return the rows that Spark has written."""
    if folder.suffix == ".csv":
        return [row for path in folder.glob("part-*") for row in stream_rows(path)]
    return [json.loads(line) for path in folder.glob("part-*") for line in path.read_text().splitlines()]


@pytest.mark.slow
@needs_java
def test_two_workers_write_the_sql_that_predict_writes(logged_model, tmp_path, capsys):
    source, target = tmp_path / "rows.csv", tmp_path / "answers.csv"
    given = {"id": "007", "sql": ' my "own",\nSQL '}
    rows = [given | {"question": row["question"], "context": row["context"]} for row in demo_rows("test")[:12]]
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    flags = (logged_model["uri"], "--input", source)
    done = run_script("predict.py", *flags, "--output", target, "--engine", "spark", **TWO_WORKERS)
    assert done.stdout == f"{target}\n", done.stderr[-3000:]
    assert "local-cluster[2,1,1500]: 2 partitions" in done.stderr
    assert len(list(target.glob("part-*"))) == 2
    precision = open_model(logged_model["uri"]).card.compute_dtype  # Plain MLflow loads the base so, unquantised.
    assert call(predict.main, *flags, "--precision", precision, "--json", "--batch-size", 1) is None
    expected = {row["question"]: row["predicted_sql"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    written = read_parts(target)
    assert all(row | given == row for row in written)
    found = {row["question"]: row["predicted_sql"] for row in written}
    # What the logged model writes is cut at the end of the SQL alone; white space around it is not told apart.
    assert {question: sql.strip() for question, sql in found.items()} == expected


@pytest.mark.slow
@needs_java
def test_two_workers_find_the_labels_that_predict_finds(logged_classifier, terms, tmp_path, capsys):
    target = tmp_path / "found.jsonl"
    version = mlflow.register_model(f"models:/{open_model(logged_classifier['uri']).model_id}", "on-spark").version
    mlflow.MlflowClient().set_registered_model_alias("on-spark", "champion", version)
    flags = ("models:/on-spark@champion", "--input", terms / "test.jsonl")
    done = run_script("predict.py", *flags, "--output", target, "--engine", "spark", **TWO_WORKERS)
    assert done.stdout == f"{target}\n", done.stderr[-3000:]
    assert call(predict.main, *flags, "--json") is None
    expected = {row["text"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    found = read_parts(target)
    assert {row["text"] for row in found} == expected.keys()
    for row in found:
        assert row["labels"] == expected[row["text"]]["labels"]  # as given
        assert row["predicted_labels"] == expected[row["text"]]["predicted_labels"]
        assert row["scores"] == pytest.approx(expected[row["text"]]["scores"], abs=1e-5)


def test_what_does_not_go_with_spark_is_refused(tmp_path):
    spark = ("--engine", "spark")
    assert "--input and --output" in call(predict.main, "runs:/x/model", *spark)
    both = ("--input", "s3://bucket/rows.jsonl", "--output", "s3://bucket/answers.jsonl")
    assert "not the folder" in call(predict.main, tmp_path, *spark, *both)
    assert "--json does not go with" in call(predict.main, "runs:/x/model", *spark, *both, "--json")
