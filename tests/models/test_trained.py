"""Trained models of each task: a row goes through all of them alike."""

from pathlib import Path
from types import SimpleNamespace

from finetune.logged_models.opening import open_model
from finetune.logged_models.writing.checkpoints_as_models import log_checkpoint
from finetune.models.card import CLASSIFICATION, SUMMARIZATION, TEXT_TO_SQL
from finetune.models.classifier.classifier import Classifier
from finetune.models.classifier.labels import Labels
from finetune.models.restoring import Loading
from finetune.models.sql_writer import SqlWriter
from finetune.models.summarizer.summarizer import Summarizer
from finetune.models.trained import kind_of

import damage
import mlflow
import pytest
from conftest import byte_level_tokenizer, make_base

KINDS = {TEXT_TO_SQL: SqlWriter, CLASSIFICATION: Classifier, SUMMARIZATION: Summarizer}
ROWS = [
    {"question": f"How many {what}?", "context": f"CREATE TABLE {what} (a TEXT)", "text": f"a page of {what}",
     "article": f"It rained on {what}.", "id": what}
    for what in ("cats", "dogs", "other cats and dogs")
]  # fmt: skip
ANSWERED = {SqlWriter: {"sql", "ended", "token_ids"}, Classifier: {"labels", "scores"},
            Summarizer: {"summary", "ended", "token_ids"}}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request, tmp_path_factory, tiny_roberta, tiny_t5) -> Path:
    """A checkpoint of a task that was never trained."""
    folder = tmp_path_factory.mktemp("made")
    decoder = make_base(folder / "base", byte_level_tokenizer())
    base = {TEXT_TO_SQL: decoder, CLASSIFICATION: tiny_roberta, SUMMARIZATION: tiny_t5}[request.param]
    return damage.make_checkpoint(request.param, base, folder / "checkpoint-5")


def few(model) -> dict:
    return {} if isinstance(model, Classifier) else {"max_new_tokens": 4}


def test_a_row_is_encoded_answered_and_shown(checkpoint):
    logged = open_model(str(checkpoint))
    model = logged.load()
    assert type(model) is KINDS[logged.card.task] is kind_of(logged.card.task)
    read = [{name: row[name] for name in model.columns} for row in ROWS]
    answers = model.answer(model.encode(read), 2, **few(model))
    assert [set(answer) for answer in answers] == [ANSWERED[type(model)]] * 3
    alone = [answer for row in read for answer in model.answer(model.encode([row]), 1, **few(model))]
    assert [model.line(answer) for answer in answers] == [model.line(answer) for answer in alone]
    assert all("\n" not in model.line(answer) for answer in answers)
    assert model.checked_by in answers[0]
    assert set(logged.parameters) >= set(few(model))


def test_a_logged_model_answers_as_the_folder_it_was_logged_from(checkpoint, tracking_store):
    run = mlflow.MlflowClient().create_run("0")
    log_checkpoint(run, checkpoint, "model")
    logged = open_model(f"runs:/{run.info.run_id}/model")
    answers = [one.answer(one.encode(ROWS), 2, **few(one)) for one in (logged.load(), logged.load(), open_model(
        str(checkpoint)).load())]  # fmt: skip
    assert answers[0] == answers[1] == answers[2]


def test_a_folder_alone_is_enough(checkpoint):
    logged = open_model(str(checkpoint))
    alone, opened = kind_of(logged.card.task).load(checkpoint), logged.load()
    assert alone.answer(alone.encode(ROWS), 2, **few(alone)) == opened.answer(opened.encode(ROWS), 2, **few(opened))


def test_long_texts_are_read_as_asked_and_nothing_is_written_into_the_card(checkpoint):
    logged = open_model(str(checkpoint))
    before = logged.card.values()
    for how in ("truncate", "window"):
        model = logged.load(Loading(long_texts=how))
        long = {name: "word " * 200 for name in ("text", "article")} | {"question": "q", "context": "c"}
        encoded = model.encode([long])
        if not isinstance(model, SqlWriter):
            assert (len(encoded.owners) > 1) == (how == "window")
    assert logged.card.values() == before
    assert open_model(str(checkpoint)).card.values() == before


@pytest.mark.parametrize(
    ("task", "names", "labels", "expected"),
    [("binary", ["no", "yes"], ["no"], False), ("binary", ["no", "yes"], ["yes"], True),
     ("multilabel", ["a", "b"], [], False), ("multilabel", ["a", "b"], ["b"], True),
     ("multiclass", ["a", "b", "c"], ["a"], True)],
)  # fmt: skip
def test_a_text_with_a_label_is_found(task, names, labels, expected):
    classifier = Classifier(None, None, SimpleNamespace(labels=Labels(task, tuple(names))))
    assert classifier.finds({"labels": labels, "scores": {}}) is expected


def test_labels_are_shown_with_their_scores_in_one_line():
    classifier = Classifier(None, None, {})
    assert classifier.line({"labels": ["a", "b"], "scores": {"a": 0.914, "b": 0.5}}) == "a 0.91, b 0.50"
    assert classifier.line({"labels": ["no"], "scores": {"yes": 0.1}}) == "no"
    assert classifier.line({"labels": [], "scores": {"a": 0.1}}) == "none"
