"""The prompt in MLflow's prompt registry: one version a text, linked; what refuses it fails nothing."""

import json
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import log_model
from finetune.logged_models.entries import ready_models
from finetune.models.card import Card
from finetune.models.prompts import Prompt
from finetune.registering.prompts import prompt_name, record_prompt

import mlflow
import pytest
from conftest import call
from made_runs import make_run

ROW = {"question": "a {{b}} \\1 $x é\n", "context": "CREATE TABLE t (a INT) -- {x}"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with a checkpoint that was never trained, logged; its card."""
    folder = tmp_path_factory.mktemp("prompts")
    run = make_run(folder, {10: 1.0})
    assert call(log_model.main, run.info.run_id, "--no-reload-check") is None
    return run, Card.read(folder / "checkpoint-10")


def newest(run) -> str:
    return mlflow.get_run(run.info.run_id).outputs.model_outputs[-1].model_id


def test_logging_registers_the_prompt_that_gives_the_text_of_training(made):
    run, card = made
    (linked,) = [
        tag for name, tag in mlflow.get_run(run.info.run_id).data.tags.items() if name == "mlflow.linkedPrompts"
    ]
    assert mlflow.get_logged_model(newest(run)).tags["mlflow.linkedPrompts"] == linked
    assert f'"name": "{prompt_name("text-to-sql")}"' in linked
    version = record_prompt(run, card, newest(run))
    loaded = mlflow.genai.load_prompt(version.uri)
    assert loaded.format(**ROW) == Prompt(card.prompt).render(ROW)


def test_the_same_text_makes_no_version_whatever_came_between(made):
    run, card = made
    first = record_prompt(run, card, newest(run))
    other = record_prompt(run, replace(card, prompt="$context\n$question now:\n"), newest(run))
    assert (other.name, other.version) == (first.name, first.version + 1)
    assert record_prompt(run, card, newest(run)).version == first.version
    assert record_prompt(run, replace(card, prompt=other.template.replace("{{", "${").replace("}}", "}")),
                         newest(run)).version == other.version  # fmt: skip


@pytest.mark.parametrize("text", ["$question {{context}}", "$question {{ x }}", "{% if a %}$question{% endif %}"])
def test_a_text_that_mlflow_would_read_otherwise_is_said_and_not_registered(made, text, caplog):
    run, card = made
    assert record_prompt(run, replace(card, prompt=text), newest(run)) is None
    assert "the prompt is not in the prompt registry: its own text has braces" in caplog.text


@contextmanager
def registry(read: int, write: int):
    """A model registry that answers so to who reads and who writes, as a server without the right or without one."""
    codes = {403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST", 501: ""}

    class Refusing(BaseHTTPRequestHandler):
        def answer(self, status):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.dumps({"error_code": codes[status], "message": "it says no"}) if codes[status] else "<html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self):
            self.answer(read)

        def do_POST(self):
            self.answer(write)

        def log_message(self, *arguments):
            pass

    server, before = ThreadingHTTPServer(("127.0.0.1", 0), Refusing), mlflow.get_registry_uri()
    Thread(target=server.serve_forever, daemon=True).start()
    mlflow.set_registry_uri(f"http://127.0.0.1:{server.server_port}")
    try:
        yield
    finally:
        mlflow.set_registry_uri(before)
        server.shutdown()


def test_a_registry_that_refuses_is_said_and_fails_no_logging(made, caplog, capsys):
    run_id = made[0].info.run_id
    logging_it = (run_id, "--no-reload-check", "--name", "again")
    with registry(404, 403):
        assert call(log_model.main, *logging_it) is None
        assert "the prompt is not in the prompt registry: this user has no right to it there" in caplog.text
        refused = call(log_model.main, *logging_it, "--register", "a", "--alias", "b")
        assert refused.startswith("--register a: the model registry of http://127.0.0.1:")
        assert "refuses: this user has no right to it there (" in refused
        assert refused.endswith("nothing of a was changed.")
    assert capsys.readouterr().out.splitlines() == [f"runs:/{run_id}/again"] * 2


@pytest.mark.parametrize("status", [403, 501])
def test_a_registry_that_cannot_be_read_is_said_before_the_work(made, status):
    with registry(status, status):
        refused = call(log_model.main, made[0].info.run_id, "--name", "never", "--register", "a", "--alias", "b")
    assert refused.startswith("--register a: the model registry of http://127.0.0.1:")
    assert not ready_models(made[0], "never")


def test_a_name_that_a_prompt_has_is_refused(made):
    record_prompt(*made, newest(made[0]))
    refused = call(log_model.main, made[0].info.run_id, "--no-reload-check", "--register", "text-to-sql-prompt")
    assert "--register text-to-sql-prompt: the model registry of " in refused
