"""Foreign columns in a schema are spelled as its tables spell their own."""

import re
from dataclasses import dataclass

from finetune.rows.sql.distractors import distract
from finetune.rows.sql.spelling import Spelling, words
from metrics.sql_execution.schemas import read_schema

import pytest


def row(answer: str, context: str) -> dict:
    return {"question": "Who?", "context": context, "answer": answer}


@dataclass
class Case:
    context: str
    pattern: str  # of each column
    dialect: str = "sqlite"


STYLES = [
    Case("CREATE TABLE Album (AlbumId INT, AlbumTitle TEXT, UnitPrice NUMERIC)", r"[A-Z][a-zA-Z0-9]*"),
    Case("CREATE TABLE album (albumId INT, id INT, unitPrice NUMERIC)", r"[a-z][a-zA-Z0-9]*"),
    Case("CREATE TABLE ALBUM (ALBUM_ID INT, TITLE TEXT)", r"[A-Z0-9_]+"),
    Case("CREATE TABLE album (album_id INT, title TEXT)", r"[a-z0-9_]+"),
    Case('CREATE TABLE "Log" ("Log Id" INT, "Unit Price" INT)', r'"[A-Z][\w ]*"'),
    Case("CREATE TABLE [dbo].[Log] ([Log Id] INT, [Unit] INT)", r"\[[A-Z][\w ]*\]", "tsql"),
    Case("CREATE TABLE `log` (`log_id` INT, `unit` INT)", r"`[a-z0-9_]+`", "mysql"),
    Case('CREATE TABLE "log" ("logId" INT, "unit" INT)', r'"[a-z][a-zA-Z0-9]*"', "postgres"),
]


@pytest.mark.parametrize("case", STYLES, ids=lambda case: case.context[:30])
def test_foreign_columns_are_spelled_like_their_tables_own(case):
    others = [
        row(
            "SELECT 1", 'CREATE TABLE a (NumTstTakr INT, "Academic Year" INT, total_cost INT, "Enrollment (K-12)" INT)'
        ),
        row("SELECT 1", 'CREATE TABLE b (weight INT, RACE_NAME INT, firstPlace INT, "order" INT)'),
    ]
    changed = set()
    for seed in range(5):
        first, *_ = distract([row("SELECT 2", case.context), *others], 3, seed, dialect=case.dialect)
        changed.add(first["context"])
        names = [part.rpartition(" ")[0] for part in first["context"].partition("(")[2].rstrip(")").split(", ")]
        assert len(names) > 3
        assert [len(table.columns) for table in read_schema(first["context"], case.dialect).values()] == [len(names)]
        for name in names:
            assert re.fullmatch(case.pattern, name), first["context"]
    assert len(changed) > 1


def test_names_are_told_apart_into_words():
    assert words("CDSCode") == ["CDS", "Code"]
    assert words("Enrollment (K-12)") == ["Enrollment", "K", "12"]
    assert words("win__percentage2") == ["win", "percentage2"]
    assert Spelling(["`Unit Price`", "`Log Id`"]).write("total_cost") == "`Total Cost`"
