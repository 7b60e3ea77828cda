"""The prompt's token ids about a user's database: the same in training, evaluation, prediction and the logged model."""

import sqlite3
from argparse import Namespace
from contextlib import closing

import predict
from finetune.databases.contexts import choose_contexts, fill_contexts
from finetune.databases.database import open_database
from finetune.logged_models.opening import open_model
from finetune.models.prompts import Prompt
from finetune.models.sql_writer import SqlWriter, open_tokenizer
from finetune.predicting.tasks.questions import Questions
from finetune.rows.files.columns import QUESTIONS, Names
from finetune.rows.packing import IGNORED
from finetune.rows.sql.encoding import encode_parts

import mlflow
import pytest

ROWS = [
    {"question": "How many order items have a unit price of more than 5?", "answer": "SELECT COUNT(*) FROM OrderItem"},
    {"question": "Who is O'Neill?", "answer": 'SELECT * FROM "the people"'},
    {"question": "Which straße?", "answer": 'SELECT "straße" FROM "group"'},
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


@pytest.mark.parametrize(("tables", "values"), [(None, 0), (None, 3), (["auto"], 0), (["auto"], 3)])
def test_a_prompt_has_the_same_token_ids_wherever_it_is_made(mixed, logged_model, tables, values):
    logged = open_model(logged_model["uri"])
    prompt, (tokenizer, limit) = Prompt(logged.card.prompt), open_tokenizer(logged.adapter, logged.card, None)
    template = mlflow.models.Model.load(logged_model["uri"]).metadata["prompt_template"]

    def scored(part: str) -> list[dict]:
        database = open_database(mixed, tables, values)
        return choose_contexts(fill_contexts(ROWS, database), database, part)

    split = encode_parts({"validation": scored("validation rows")}, prompt, tokenizer, "auto", limit)[0]["validation"]
    trained = [
        [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == IGNORED]
        for row in split.dataset
    ]
    evaluated = SqlWriter(None, tokenizer, logged.card).encode(scored("test"))
    read = [asked_by_predict(logged, open_database(mixed, tables, values), row["question"]) for row in ROWS]
    predicted = SqlWriter(None, tokenizer, logged.card).encode(read)
    served = [tokenizer(template.format(prompt=prompt.model_input(row)))["input_ids"] for row in read]
    assert trained == evaluated == predicted == served
    assert len(trained) == 3
    assert ("/*" in read[0]["context"]) == bool(values)


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
