"""Single answers as traces: what they hold, which answers leave one, and a store that is away holds up nothing."""

import json
import logging
import random
import socket
import time
from types import SimpleNamespace

import predict
from finetune.databases.database import QueryFailed, open_database
from finetune.predicting.dialogue import Dialogue
from finetune.predicting.traces import Record, Traces, save_corrections, step

import mlflow
import pytest
from conftest import CONTEXT, QUESTIONS


def traces_of(experiment: str) -> list:
    found = mlflow.get_experiment_by_name(experiment).experiment_id
    return mlflow.search_traces(locations=[found], return_type="list", order_by=["timestamp_ms DESC"])


def answered(rows: list | None = None) -> Record:
    steps = []
    with step(steps, "write", question="q") as one:
        one.outputs = {"sql": "SELECT 1"}
    with step(steps, "check and run", sql="SELECT 1") as one:
        one.outputs = {"verdict": "passed", "row_count": 1, "rows": rows or []}
    return Record({"question": "q", "context": "c"}, {"sql": "SELECT 1"}, steps)


def logged(run_id: str) -> SimpleNamespace:
    card = SimpleNamespace(run_id=run_id, task="text-to-sql", prompt="Q: $question C: $context")
    return SimpleNamespace(card=card, model_id=None)


@pytest.fixture
def run_of_traces() -> str:
    """A run in an experiment of its own; ids of traces are drawn at random, which a test before has perhaps seeded."""
    random.seed()
    experiment = mlflow.get_experiment_by_name("traces") or mlflow.get_experiment(mlflow.create_experiment("traces"))
    return mlflow.MlflowClient().create_run(experiment.experiment_id).info.run_id


@pytest.mark.parametrize("with_rows", [False, True])
def test_a_trace_has_prompt_verdict_times_and_what_was_said(run_of_traces, with_rows):
    traces, record = Traces(logged(run_of_traces), with_rows, "page"), answered([["Oslo"]])
    traces.keep(record)
    assert record.is_sent.wait(60), traces.trouble
    traces.judge(record, False, {"answer": "SELECT 2"})
    assert traces.close(60) == []
    trace = traces_of("traces")[0]
    root, written, ran = trace.data.spans
    assert written.inputs == {"question": "q", "prompt": "Q: q C: c"}
    assert ran.outputs == {"verdict": "passed", "row_count": 1} | ({"rows": [["Oslo"]]} if with_rows else {})
    assert root.start_time_ns == record.steps[0].began
    assert root.end_time_ns == record.steps[1].ended
    assert [(one.name, one.value) for one in trace.info.assessments] == [("right", False), ("answer", "SELECT 2")]


def test_a_judgement_at_once_is_kept_once(run_of_traces):
    traces, record = Traces(logged(run_of_traces), False, "page"), answered()
    traces.keep(record)
    traces.judge(record, True, {})
    assert traces.close(60) == []
    assert [(one.name, one.value) for one in traces_of("traces")[0].info.assessments] == [("right", True)]


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        (["--question", QUESTIONS[0], "--context", CONTEXT], 1),
        (["--question", QUESTIONS[0], "--context", CONTEXT, "--no-trace"], 0),
        (["--question", QUESTIONS[0], "--context", CONTEXT, "--no-adapter"], 0),
        (["--input", "rows"], 0),
    ],
)
def test_a_single_answer_leaves_a_trace_a_batch_none(logged_model, tmp_path, capsys, flags, count):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": q, "context": CONTEXT}) + "\n" for q in QUESTIONS))
    before = len(traces_of("sql-generator"))
    predict.main([logged_model["uri"], *(str(rows) if flag == "rows" else flag for flag in flags)])
    found = traces_of("sql-generator")
    assert len(found) - before == count
    if count:
        assert found[0].data.spans[0].inputs == {"question": QUESTIONS[0], "context": CONTEXT}
        printed = capsys.readouterr().out.split()
        assert found[0].data.spans[0].outputs["sql"].split() == printed


@pytest.mark.parametrize("with_rows", [False, True])
def test_of_an_error_of_the_database_the_kind_alone_is_kept(run_of_traces, with_rows):
    kept = []
    run = SimpleNamespace(
        run=lambda *_: (_ for _ in ()).throw(QueryFailed("DataError: invalid date: 'Oslo 7'")), tables={}
    )
    dialogue = Dialogue(run, True, True, "none", retries=1, keep=kept.append)
    dialogue.hold([{"question": "q", "context": "c"}], lambda context, question: f"SELECT {len(question)}")
    traces = Traces(logged(run_of_traces), with_rows, "page")
    traces.keep(kept[0])
    assert traces.close(60) == [], traces.trouble
    spans = traces_of("traces")[0].data.spans
    assert len(spans) == 5  # The question is asked again, with the error.
    told = str([(span.inputs, span.outputs) for span in spans])
    assert ("Oslo" in told) == with_rows
    assert told.count("the database says: DataError") == 5  # Run twice, asked again in question and prompt, answered.


def test_a_text_leaves_a_trace_with_the_model_of_it(logged_classifier):
    predict.main([logged_classifier["uri"], "--text", "We may end this at any time."])
    trace = traces_of("classifier")[0]
    assert trace.data.spans[0].inputs == {"text": "We may end this at any time."}
    assert trace.info.trace_metadata["mlflow.modelId"].startswith("m-")


def test_each_answer_of_a_dialogue_is_kept_with_its_verdict(sqlite_database, capsys):
    database, kept = open_database(sqlite_database), []
    dialogue = Dialogue(database, execute=True, interactive=True, keep=kept.append)
    table = next(iter(database.columns))
    rows = [{"question": sql, "context": "c"} for sql in (f"SELECT COUNT(*) FROM {table}", f"DROP TABLE {table}", "?")]
    dialogue.hold(rows, lambda context, question: question)
    assert [record.inputs for record in kept] == rows
    assert [record.steps[-1].outputs["verdict"] for record in kept] == ["passed", "refused", "refused"]
    assert kept[0].steps[-1].outputs["row_count"] == 1
    assert all("rows" not in record.outputs for record in kept)
    assert "error" in kept[1].outputs


@pytest.fixture
def hanging_store(monkeypatch):
    """A tracking server that takes connections and never answers."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    listening, before = socket.create_server(("127.0.0.1", 0)), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"http://127.0.0.1:{listening.getsockname()[1]}")
    yield
    mlflow.set_tracking_uri(before)
    listening.close()


@pytest.mark.parametrize("keeps_trying", [False, True])
def test_a_store_that_hangs_holds_up_nothing(hanging_store, caplog, tmp_path, monkeypatch, keeps_trying):
    monkeypatch.chdir(tmp_path)
    traces, record = Traces(logged("0" * 32), False, "page", keeps_trying), answered()
    began = time.monotonic()
    traces.keep(record)
    traces.judge(record, False, {"answer": "SELECT 2"})
    assert time.monotonic() - began < 1
    with caplog.at_level(logging.WARNING):
        left = traces.close(0.5)
    assert time.monotonic() - began < 5
    assert "are not in MLflow" in caplog.text
    path = save_corrections(left)
    (row,) = {line: json.loads(line) for line in path.read_text().splitlines()}.values()
    assert row == {"question": "q", "context": "c", "answer": "SELECT 2"}
    traces.thread.join(30)  # It ends before the store is the usual one again.
