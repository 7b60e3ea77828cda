"""--tables auto: which tables a question is about, by its words and by the keys between tables."""

import os
import sqlite3
import time
from contextlib import closing

from finetune.databases.contexts import JUDGED_ON, choose_contexts, fill_contexts, tables_of
from finetune.databases.database import open_database
from finetune.databases.schema.choosing import LIMIT, Chooser
from finetune.databases.schema.reading import Key
from finetune.databases.schema.words import unknown_words, words_of
from metrics.sql_execution.schemas import read_schema

import psycopg
import pytest

TABLES = {
    "Author": ["AuthorId", "FullName", "BirthDate"], "Book": ["BookId", "Title", "PublisherId"],
    "BookAuthor": ["BookId", "AuthorId"], "borrower": ["borrower_id", "name", "address"],
    "Loan": ["LoanId", "BookId", "borrower_id", "DueDate"], "order": ["id", "supplier_city"],
    "Publisher": ["PublisherId", "Name", "Straße"], "view_of_dues": ["due", "title"],
}  # fmt: skip
KEYS = [
    Key("BookAuthor", ("BookId",), "Book", ("BookId",)), Key("BookAuthor", ("AuthorId",), "Author", ("AuthorId",)),
    Key("Book", ("PublisherId",), "Publisher", ("PublisherId",)), Key("Loan", ("BookId",), "Book", ("BookId",)),
    Key("Loan", ("borrower_id",), "borrower", ("borrower_id",)),
]  # fmt: skip


def many_tables(count: int = 200) -> list[str]:
    """Return statements for a database of so many tables: the library among others that have names of their own."""
    library = [
        f'CREATE TABLE "{name}" ({", ".join(f"{chr(34)}{c}{chr(34)} TEXT" for c in columns)})'
        for name, columns in TABLES.items()
    ]
    others = [
        f"CREATE TABLE stock{n}_item (id INTEGER, weight{n} REAL, name TEXT)" for n in range(count - len(library))
    ]
    return library + others


def make(path, statements) -> str:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("BookAuthors", ["book", "author"]), ("order_items2024", ["order", "item", "2024"]),
        ("HTTPRequest", ["http", "request"]), ("Categories, boxes; statuses", ["category", "box", "statuse"]),
        ("Straße café", ["strasse", "cafe"]), ("address bus", ["address", "bus"]), ("", []),
    ],
)  # fmt: skip
def test_names_and_questions_are_split_alike(text, words):
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("How many authors are there?", {"Author"}),
        ("Which AUTHORS wrote which books?", {"Author", "Book", "BookAuthor"}),
        ("List the titles that each author has written", {"Author", "Book", "BookAuthor"}),
        ("How many book authors are there?", {"BookAuthor"}),
        ("Which borrowers have a loan?", {"borrower", "Loan"}),
        ("What did each borrower, by full name of the author, borrow?", {"borrower", "Author", "Loan", "BookAuthor"}),
        ("All orders, please", {"order"}),
        ("In which strasse is the publisher?", {"Publisher"}),
    ],
)
def test_tables_are_chosen_by_words_and_joined_by_keys(question, wanted):
    choice = Chooser(TABLES, KEYS).choose(question)
    assert wanted <= set(choice.tables)
    assert choice.fits
    assert [table for table in TABLES if table in choice.tables] == list(choice.tables)  # the database's order
    assert Chooser(TABLES, KEYS).choose(question) == choice


def test_a_table_that_a_chosen_one_refers_to_comes_along():
    assert "Publisher" in Chooser(TABLES, KEYS).choose("titles of all books").tables
    assert "Publisher" not in Chooser(TABLES, []).choose("titles of all books").tables


@pytest.mark.parametrize("question", ["Which cafés are there?", "Which cafe\u0301s are there?", "List all CAFES"])
@pytest.mark.parametrize("name", ["cafe", "Café", "CAFES"])
def test_a_table_that_is_chosen_by_a_word_is_known_by_it(name, question):
    tables = {name: ["id"], "other": ["id"]}
    choice = Chooser(tables, []).choose(question)
    assert (choice.tables, choice.fits) == ((name,), True)
    assert unknown_words(question, tables) == []


@pytest.mark.parametrize("question", ["", "???", "Wie viele gibt es?", "the of a"])
def test_a_question_none_of_whose_words_fit_gets_the_tables_that_the_most_keys_meet_at(question):
    choice = Chooser(TABLES, KEYS, limit=2).choose(question)
    assert (choice.tables, choice.fits) == (("Book", "BookAuthor"), False)


def test_there_are_never_more_tables_than_fit():
    tables = {f"a{number}": ["word", "other"] for number in range(50)}
    chooser = Chooser(tables, [Key(f"a{n}", ("word",), "a49", ("word",)) for n in range(49)])
    assert len(chooser.choose("which word").tables) <= LIMIT
    assert len(chooser.choose("nothing").tables) == LIMIT


@pytest.fixture
def many(tmp_path):
    return open_database(make(tmp_path / "many.db", many_tables()), ["auto"])


def test_two_hundred_tables_are_read_and_chosen_from(many, tmp_path, postgresql_database):
    with psycopg.connect(host=postgresql_database.partition("host=")[2], user="postgres", autocommit=True) as server:
        server.execute("CREATE DATABASE many")
    url = postgresql_database.replace("/postgres?", "/many?")
    with psycopg.connect(host=postgresql_database.partition("host=")[2], user="postgres", dbname="many") as server:
        for statement in many_tables():
            server.execute(statement)
    start = time.monotonic()
    for database in (many, open_database(url, ["auto"])):
        assert len(database.columns) == 200
        assert {"Author", "Book"} <= set(read_names(database.context_of("Which authors wrote a book?")))
        assert database.run('SELECT COUNT(*) FROM "stock7_item"', 5, 20).rows == [[0]]  # Not told of, and readable.
    assert time.monotonic() - start < 120
    assert os.listdir(tmp_path) == ["many.db"]


def read_names(context: str) -> list[str]:
    return [part.split("(")[0].removeprefix("CREATE TABLE ").strip(' "') for part in context.split("; ")]


def test_a_training_row_has_the_tables_of_its_gold_and_some_that_it_does_not_need(many):
    rows = [
        {"question": f"How many books, {n}?", "answer": "SELECT COUNT(*) FROM loan JOIN Stock7_item"} for n in range(9)
    ]
    filled = fill_contexts([*rows, {"question": "q", "context": "CREATE TABLE own (a TEXT)", "answer": "a"}], many)
    assert {row["context"] for row in filled[:9]} == {many.statements}
    train = choose_contexts(filled, many, "train rows", seed=1)
    assert train[9] == filled[9]
    assert train == choose_contexts(filled[::-1], many, "train rows", seed=1)[::-1]  # whatever the order of rows
    assert train != choose_contexts(filled, many, "train rows", seed=2)
    for row in train[:9]:
        assert {"Loan", "stock7_item", "Book"} <= set(read_names(row["context"]))
        assert len(read_names(row["context"])) <= LIMIT
        assert JUDGED_ON not in row


def test_a_row_that_is_scored_gets_what_prediction_would_and_is_judged_with_its_gold(many, caplog):
    rows = fill_contexts([{"question": "How many books?", "answer": "SELECT COUNT(*) FROM stock7_item"}], many)
    (row,) = choose_contexts(rows, many, "validation rows")
    assert row["context"] == many.context_of("How many books?")
    assert "stock7_item" not in row["context"]
    assert "stock7_item" in read_schema(row[JUDGED_ON])
    assert "for 0 of 1 questions all tables of their SQL are chosen; 1 lack one (such as stock7_item)" in caplog.text


def test_the_tables_of_a_query_are_found_in_any_letter_case_and_not_its_with_entries(many):
    sql = 'WITH book AS (SELECT * FROM AUTHOR) SELECT * FROM book WHERE x IN (SELECT id FROM "ORDER")'
    assert sorted(tables_of(sql, many)) == ["Author", "order"]
    assert tables_of("SELECT FROM nothing (", many) == []
