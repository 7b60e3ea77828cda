"""The prompt in MLflow's prompt registry: one version a text, linked; what refuses it fails nothing."""

from dataclasses import replace

import log_model
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


def test_a_store_that_refuses_is_said_and_fails_no_logging(made, caplog):
    run, _ = made
    before = mlflow.get_registry_uri()
    mlflow.set_registry_uri("uc:http://127.0.0.1:9")
    try:
        assert call(log_model.main, run.info.run_id, "--no-reload-check", "--name", "again") is None
        assert "the prompt is not in the prompt registry" in caplog.text
        refused = call(log_model.main, run.info.run_id, "--no-reload-check", "--register", "a", "--alias", "b")
        assert refused.startswith("--register a: the model registry of uc:http://127.0.0.1:9 refuses: ")
    finally:
        mlflow.set_registry_uri(before)
