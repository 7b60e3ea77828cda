"""demo/build/build_plain.py: plain questions about everyday things, and the file they are in."""

import json
import re
from random import Random

from finetune.making_questions.asking import ask
from finetune.making_questions.words import plural, singular, spaced
from metrics.sql_execution.queries import normalize_sql
from run_real_demo import SHOP

import build_plain
import plain_schemas
import pytest
from conftest import ROOT

ROWS = [json.loads(line) for line in build_plain.FILE.read_text(encoding="utf-8").splitlines()]


def names(rows: list[dict]) -> set[str]:
    """Return the singular names of the tables of rows."""
    found = {name for row in rows for name in re.findall(r"CREATE TABLE (\w+)", row["context"])}
    return {singular(spaced(name)) for name in found}


def test_the_file_is_what_the_script_builds():
    assert [row for split, size in build_plain.SIZES.items() for row in build_plain.rows_of(split, size)] == ROWS


def test_no_part_has_a_table_of_another_or_of_the_shop():
    parts = [names([row for row in ROWS if row["split"] == split]) for split in build_plain.SIZES]
    parts.append({"product", "customer", "purchase"})
    assert all(parts)
    assert len(set().union(*parts)) == sum(map(len, parts))
    assert (ROOT / SHOP).is_file()


def test_each_query_can_be_scored():
    assert all(normalize_sql(row["answer"]) for row in ROWS)


def test_questions_read_as_sentences():
    for row in ROWS:
        assert row["question"][0].isupper()
        assert not re.search(r"[{}]|  |None", row["question"]), row["question"]
        assert row["question"].rstrip(".?").split()[-1] != "that"


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        ("OrderLine", "order line", "order lines"), ("cities", "city", "cities"), ("Bus", "bus", "buses"),
        ("box", "box", "boxes"), ("classes", "class", "classes"), ("status", "status", "statuses"),
        ("lamp_post", "lamp post", "lamp posts"), ("toys", "toy", "toys"),
    ],
)  # fmt: skip
def test_names_are_read_as_words(name, one, many):
    assert singular(spaced(name)) == one
    assert plural(one) == many


def test_a_join_follows_the_key_in_each_style():
    line = "member: name, city | loan -> member: days"
    for seed in range(20):
        tables = plain_schemas.read(line, Random(seed))
        context = "; ".join(table.create_statement() for table in tables)
        for turn in range(30):
            question, sql = ask(Random(f"{seed} {turn}"), tables)
            build_plain.check(context, sql)
            assert (" JOIN " in sql) == ("T1" in sql), question
