"""The prompt's token ids about a user's database: the same in training, evaluation, prediction and the logged model."""

import json
import sqlite3
from argparse import Namespace
from contextlib import closing
from pathlib import Path

import evaluate_model
import predict
from finetune.databases.database import open_database
from finetune.logged_models.opening import open_model
from finetune.models.prompts import Prompt
from finetune.models.sql_writer import SqlWriter, open_tokenizer
from finetune.predicting.tasks.questions import Questions
from finetune.reports.scorecards.evaluations import SqlEvaluation
from finetune.rows.files.columns import QUESTIONS, Names
from finetune.rows.packing import IGNORED
from finetune.rows.sql.encoding import encode_questions
from finetune.rows.sql.loading import load_questions

import mlflow
import pytest
from conftest import DEMO_BASE

ROWS = [
    {"question": "How many order items have a unit price of more than 5?", "answer": "SELECT COUNT(*) FROM OrderItem"},
    {"question": "Who is O'Neill?", "answer": 'SELECT * FROM "the people"'},
    {"question": "Which straße?", "answer": 'SELECT "straße" FROM "group"'},
]
OTHERS = [
    {"question": "Which notes of the group?", "answer": 'SELECT note FROM "group"'},
    {"question": "Which order has the highest unit price?", "answer": 'SELECT MAX("unit price") FROM OrderItem'},
]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> str:
    """A database whose names need quotes, are words of SQL, or are not ASCII; a view, a column without a type."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            'CREATE TABLE OrderItem (OrderItemId INTEGER PRIMARY KEY, "unit price" NUMERIC(8, 2), person_id REFERENCES'
            ' "the people");'
            'CREATE TABLE "the people" (id INTEGER PRIMARY KEY, "o\'name" VARCHAR(40), born);'
            'CREATE TABLE "group" ("order" INTEGER, "straße" TEXT, note TEXT);'
            'CREATE VIEW dear AS SELECT OrderItemId, "unit price" * 2 AS twice FROM OrderItem;'
            "INSERT INTO \"the people\" VALUES (1, 'O''Neill */ $question {x}', '1990-01-02');"
            "INSERT INTO OrderItem VALUES (1, 5.5, 1)"
        )
    return str(path)


def asked_by_predict(logged, database, question: str) -> dict:
    """Return what predict.py reads of a question about a database."""
    flags = Namespace(
        database="x", context=None, base_model=None, question=question, input=None, told=False, interactive=False
    )
    flags.names = Names(QUESTIONS, ("question",), {}, logged.card.columns)
    task = Questions(flags, logged, database)
    task.check({})
    (row,) = task.rows()
    return task.read(row)


def prompts_of(split) -> list[list[int]]:
    """Return the ids of the prompts in rows that train or are evaluated."""
    rows = (zip(row["input_ids"], row["labels"], strict=True) for row in split.dataset)
    return [[token for token, label in row if label == IGNORED] for row in rows]


def in_training(path: Path, database, logged, tokenizer) -> dict[str, list[list[int]]]:
    """Return what train_sql_generator.py makes of a file's questions about a database, by part."""
    flags = Namespace(
        dataset=str(path), column=None, validation_fraction=0.2, split_by="auto", encoding="utf-8", clean=True,
        rows=True, dialect="sqlite", allow_leaks=False, distractor_columns=0, base_model=str(DEMO_BASE),
        max_length="auto", max_train_rows=None, max_validation_rows=500, train_percent=None,
    )  # fmt: skip
    rows, _ = load_questions(flags, 0, database)
    splits = encode_questions(rows, flags, Prompt(logged.card.prompt), None, tokenizer)
    return {name: prompts_of(split) for name, split in splits.items()}


def in_evaluation(path: Path, logged, tokenizer, *arguments) -> list[list[int]]:
    """Return what evaluate_model.py makes of the same file."""
    flags = evaluate_model.parse(["uri", "--dataset", str(path), "--split", "validation", "--no-log", *arguments])
    rows = evaluate_model.name_columns(evaluate_model.load(flags), QUESTIONS, flags, logged)
    return SqlWriter(None, tokenizer, logged.card).encode(SqlEvaluation(flags, logged).prepare(rows))


@pytest.mark.parametrize(("tables", "values"), [(None, 0), (None, 3), (["auto"], 0), (["auto"], 3)])
def test_a_prompt_has_the_same_token_ids_wherever_it_is_made(mixed, logged_model, tables, values, tmp_path):
    logged = open_model(logged_model["uri"])
    prompt, (tokenizer, _) = Prompt(logged.card.prompt), open_tokenizer(logged.adapter, logged.card, None)
    template = mlflow.models.Model.load(logged_model["uri"]).metadata["prompt_template"]
    marked = [row | {"split": "dev"} for row in ROWS] + [row | {"split": "train"} for row in OTHERS]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in marked))
    given = [*(["--tables", *tables] if tables else []), *(["--values", str(values)] if values else [])]

    def opened():
        return open_database(mixed, tables, values)

    trained = in_training(path, opened(), logged, tokenizer)
    evaluated = in_evaluation(path, logged, tokenizer, "--database", mixed, *given)
    read = [asked_by_predict(logged, opened(), row["question"]) for row in ROWS]
    predicted = SqlWriter(None, tokenizer, logged.card).encode(read)
    served = [tokenizer(template.format(prompt=prompt.model_input(row)))["input_ids"] for row in read]
    assert trained["validation"] == evaluated == predicted == served
    assert len(evaluated) == len(ROWS)
    assert ("/*" in read[0]["context"]) == bool(values)
    if not tables:  # With --tables auto a training row has tables beside those that are chosen.
        asked = [asked_by_predict(logged, opened(), row["question"]) for row in OTHERS]
        assert sorted(trained["train"]) == sorted(SqlWriter(None, tokenizer, logged.card).encode(asked))


def test_predict_says_which_tables_it_chose_and_when_no_word_fits(mixed, logged_model, capsys, caplog):
    caplog.set_level("INFO")
    flags = [logged_model["uri"], "--database", mixed, "--tables", "auto"]
    predict.main([*flags, "--question", "How many order items are there?"])
    assert "tables for 'How many order items are there?': OrderItem, " in caplog.text
    assert len(capsys.readouterr().out.splitlines()) == 1
    caplog.clear()
    predict.main([*flags, "--question", "Wie viele?", "--values", "1", "--json"])
    assert "None of its words is in the name of a table or column" in caplog.text
    monitor = [record for record in caplog.records if "its context is not read" in record.message]
    assert not monitor
