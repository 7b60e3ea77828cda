"""Cards: what every version wrote is taken, and nothing else."""

import json
from dataclasses import FrozenInstanceError, replace

from finetune import InputError
from finetune.models.card import CARD, Card, ClassifierCard, SqlCard, SummarizerCard

import pytest
from spools import make_card

SQL = {
    "task": "text-to-sql", "base_model": "mistralai/Mistral-7B-v0.1", "base_revision": "0" * 40, "quantization": None,
    "prompt": "$context $question", "max_length": 512,
    "sample": [{"context": "", "question": "?", "prompt_ids": [1, 2]}],
}  # fmt: skip
CLASSES = {
    "task": "classification", "base_model": "/base", "base_revision": None, "max_length": 512, "pooling": "mean",
    "quantization": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
    "labels": {"task": "multilabel", "names": ["a", "b"]}, "long_texts": "window", "thresholds": [0.5, 0.25],
    "metrics": {"f1": float("nan")}, "sample": [{"text": "a text"}],
}  # fmt: skip
SUMMARIES = {
    "task": "summarization", "base_model": "google-t5/t5-small", "base_revision": "main", "quantization": None,
    "max_length": 512, "prompt": "summarize: $article", "columns": {"article": "dialogue", "summary": "summary"},
    "long_texts": "truncate", "sample": [{"article": "It rained."}],
    "generation": {"max_new_tokens": 40, "num_beams": 1, "no_repeat_ngram_size": 0},
}  # fmt: skip
LATER = {"base_fingerprint": "0" * 16, "compute_dtype": "bf16", "run_id": "0" * 32, "epoch": 0.5, "dialect": "tsql",
         "sample_values": 3, "step": 5, "a_field_of_a_later_version": [1]}  # fmt: skip


@pytest.mark.parametrize("card", [SQL, CLASSES, SUMMARIES])
def test_cards_of_all_versions_are_taken(card):
    added = {"dialect": "sqlite"} if card is SQL else {}  # Older data was all SQLite's.
    assert Card.parse(card, "card").values() == card | added
    assert Card.parse(card | LATER, "card").values() == card | LATER
    without = {name: value for name, value in card.items() if name != "sample"}  # Of a logged model.
    assert Card.parse(without, "card").values() == without | added
    assert Card.parse(card, "card").sample == card["sample"]
    assert replace(Card.parse(card, "card"), sample=[]).values() == without | added


def test_what_an_older_file_lacks_has_its_default(tmp_path):
    sql, classes, summaries = (Card.parse(card, "card") for card in (SQL, CLASSES, SUMMARIES))
    assert [type(card) for card in (sql, classes, summaries)] == [SqlCard, ClassifierCard, SummarizerCard]
    for card in (sql, classes, summaries):
        assert (card.base_fingerprint, card.base_config, card.compute_dtype, card.epoch, card.step) == (None,) * 5
        assert (card.run_id, card.unknown) == ("", {})
    assert (sql.dialect, sql.generation, sql.columns, sql.metrics) == ("sqlite", {}, None, {})
    assert [card.trained_in for card in (sql, classes, summaries)] == ["bf16", "bf16", "fp32"]
    assert [card.inputs for card in (sql, classes)] == [[{"context": "", "question": "?"}], CLASSES["sample"]]
    # What is not known is not written either: "compute_dtype": null would be refused by the code before.
    for card in (sql, classes, summaries):
        card.write(tmp_path)
        assert {*json.loads((tmp_path / CARD).read_text())} <= {*SQL, *CLASSES, *SUMMARIES, "dialect"}
        assert repr(Card.read(tmp_path)) == repr(card)  # A NaN is not equal to itself.


@pytest.mark.parametrize("card", [SQL, CLASSES, SUMMARIES])
def test_null_is_what_is_missing_but_not_in_a_field_that_every_file_has(card):
    nulls = dict.fromkeys(("base_fingerprint", "base_config", "run_id", "epoch"))
    assert Card.parse(card | nulls, "card").values() == Card.parse(card, "card").values()
    written = Card.parse(card | {"base_revision": None, "quantization": None}, "card").values()
    assert (written["base_revision"], written["quantization"]) == (None, None)
    assert Card.parse(CLASSES | {"thresholds": None}, "card").values()["thresholds"] is None


def test_texts_of_an_older_classifier_are_rows(tmp_path):
    (tmp_path / CARD).write_text(json.dumps(CLASSES | {"sample": ["a text", {"text": "another"}]}))
    card = Card.read(tmp_path)
    assert card.sample == card.inputs == [{"text": "a text"}, {"text": "another"}]
    card.write(tmp_path)
    assert json.loads((tmp_path / CARD).read_text())["sample"] == card.sample


@pytest.mark.parametrize("card", [SQL, CLASSES, SUMMARIES])
def test_what_another_version_wrote_stays_in_a_file_that_is_written_again(card, tmp_path):
    others = {"a_field_of_a_later_version": [1], "unknown": {"a": 1}, "kinds": "x"}
    (tmp_path / CARD).write_text(json.dumps(card | others))
    replace(Card.read(tmp_path), run_id="1").write(tmp_path)
    found = json.loads((tmp_path / CARD).read_text())
    assert found["run_id"] == "1"
    assert {name: found[name] for name in others} == others
    assert [path.name for path in tmp_path.iterdir()] == [CARD]


@pytest.mark.parametrize("card", [SQL, CLASSES, SUMMARIES])
def test_nothing_writes_into_a_card(card):
    card = Card.parse(card, "card")
    for name in ("long_texts", "run_id", "thresholds", "task", "other"):
        with pytest.raises(FrozenInstanceError):
            setattr(card, name, "x")


def test_the_card_of_another_task_is_told():
    with pytest.raises(InputError, match="card is the card of a model for text-to-sql, expected one for summarization"):
        SummarizerCard.parse(SQL, "card")
    assert SqlCard.parse(SQL, "card").task == "text-to-sql"


@pytest.mark.parametrize(
    ("card", "name", "value"),
    [
        (SQL, "task", "other"), (SQL, "task", None), (SQL, "task", ["text-to-sql"]), (SQL, "base_model", None),
        (SQL, "base_model", ""), (SQL, "base_model", "a\0b"), (SQL, "base_model", {"a": 1}),
        (SQL, "base_model", "x" * 10**5), (SQL, "base_model", "x" * 300),
        (SQL, "base_revision", "../../x"), (SQL, "base_revision", 7),
        (SQL, "max_length", -1), (SQL, "max_length", 1e3), (SQL, "max_length", 10**30), (SQL, "max_length", True),
        (SQL, "prompt", "no variable"), (SQL, "prompt", "$"), (SQL, "prompt", 7), (SQL, "sample", []),
        (SQL, "sample", [{"question": "?"}]), (SQL, "sample", [{"question": 7, "context": "", "prompt_ids": [1]}]),
        (SQL, "sample", [{"question": "", "context": "", "prompt_ids": "1"}]), (SQL, "sample", {"a": 1}),
        (SQL, "quantization", "nf4"), (SQL, "quantization", {"bnb_4bit_quant_type": "x"}),
        (SQL, "quantization", {"bnb_4bit_compute_dtype": "os"}), (SQL, "quantization", {"load_in_4bit": "yes"}),
        (SQL, "compute_dtype", "bfloat16"), (SQL, "run_id", "../x"), (SQL, "epoch", "1"), (SQL, "dialect", 7),
        (SQL, "step", "5"), (SQL, "base_fingerprint", 7),
        (CLASSES, "labels", None), (CLASSES, "labels", {"task": "multilabel", "names": []}),
        (CLASSES, "labels", {"task": "multilabel", "names": ["a", "a"]}), (CLASSES, "thresholds", [0.5]),
        (CLASSES, "labels", {"task": "binary", "names": ["a"]}), (CLASSES, "thresholds", [0.5, 2]),
        (CLASSES, "thresholds", [0.5, float("nan")]), (CLASSES, "thresholds", "0.5"), (CLASSES, "pooling", "max"),
        (CLASSES, "long_texts", None), (CLASSES, "metrics", [1]), (CLASSES, "sample", [7]),
        (SUMMARIES, "columns", {"article": "a"}), (SUMMARIES, "columns", ["a", "b"]),
        (SUMMARIES, "generation", {"num_beams": 10**6}), (SUMMARIES, "generation", {"assistant_model": "x"}),
        (SUMMARIES, "generation", None), (SUMMARIES, "sample", [{"article": None}]),
    ],
)  # fmt: skip
def test_a_value_that_training_does_not_write_is_named(card, name, value):
    with pytest.raises(InputError, match=r"^card.* is damaged: ") as found:
        Card.parse(card | {name: value}, "card")
    assert name.removesuffix("s") in str(found.value)
    assert len(str(found.value)) < 1500


@pytest.mark.parametrize("card", [SQL, CLASSES, SUMMARIES])
def test_a_field_that_is_missing_is_named(card):
    for name in card.keys() - {"sample", "metrics"}:
        with pytest.raises(InputError, match=f"^card is damaged: {name} is missing; take another checkpoint"):
            Card.parse({other: value for other, value in card.items() if other != name}, "card")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"7", b"null", b"\xff", b"[" * 10**6, b'{"task": 1e999}', b"\0" * 99]
)
def test_what_is_no_card_is_told_with_its_file(tmp_path, text):
    folder = make_card(tmp_path / "checkpoint-5", "0")
    (folder / "finetune.json").write_bytes(text)
    with pytest.raises(InputError, match=r"checkpoint-5/finetune.json is damaged: .*; take another checkpoint"):
        Card.read(folder)


def test_a_file_too_large_for_a_card_is_not_read(tmp_path):
    folder = make_card(tmp_path / "checkpoint-5", "0")
    with (folder / "finetune.json").open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(InputError, match="more than 64 MB"):
        Card.read(folder)


def test_a_folder_without_a_card_is_told(tmp_path):
    with pytest.raises(InputError, match=r"finetune\.json"):
        Card.read(tmp_path)
    assert json.loads(json.dumps(SQL)) == SQL
