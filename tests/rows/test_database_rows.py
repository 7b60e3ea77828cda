"""Rows that have a question and its SQL only: the database brings their schema."""

import csv

from finetune.databases.contexts import fill_contexts
from finetune.databases.database import open_database
from finetune.rows.files.columns import QUESTIONS
from finetune.rows.loading import load_rows
from finetune.rows.splits.schema_split import split_by_schema

import pytest
from conftest import ROOT

SHOP = ROOT / "demo/shop.db"


@pytest.fixture(scope="module")
def shop():
    return open_database(str(SHOP))


def test_a_row_without_a_context_gets_the_text_that_prediction_gives(shop):
    given = "CREATE TABLE t (a INTEGER)"
    rows = [{"question": "q", "answer": "a"}, {"question": "q", "context": " ", "answer": "a"}, {"context": given}]
    assert [row["context"] for row in fill_contexts(rows, shop)] == [shop.statements, shop.statements, given]


def test_a_file_needs_a_question_and_its_sql_only(tmp_path, shop):
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["Question", "SQL", "split"], ["How many?", "SELECT 1", "train"], ["a?", "SELECT 2", "dev"]])
    given = {"answer": "SQL"}
    rows = load_rows(
        str(path), QUESTIONS, 0.1, 0, given=given, hold_out=split_by_schema, fill=lambda r: fill_contexts(r, shop)
    )
    assert rows.train[0]["context"] == rows.validation[0]["context"] == shop.statements
    assert rows.train[0]["answer"] == "SELECT 1"
