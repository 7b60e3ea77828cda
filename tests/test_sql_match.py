"""The syntax-tree match: known answers."""

from finetune.sql_match import same_query, share_of_matches

import pytest

SAME = [
    ("SELECT a FROM t WHERE x = 'b' AND y>3 AND z = 1", 'select A from T where z=1 and y > 3 and x="b";'),
    ("SELECT a FROM t WHERE x = 1 OR y = 2", "SELECT a FROM t WHERE y = 2 OR x = 1"),
    ("SELECT a FROM t WHERE x = 1 AND (y = 2 OR z = 3)", "SELECT a FROM t WHERE (z=3 OR y=2) AND x=1"),
    ("SELECT a FROM t WHERE n = 'O''Neil'", 'SELECT a FROM t WHERE n = "O\'Neil"'),
    ("SELECT COUNT(*) FROM t", "SELECT count( * )\nFROM t"),
    ("SELECT a FROM t WHERE b <> 3", "SELECT a FROM t WHERE b != 3"),
]
DIFFERENT = [
    ("SELECT a FROM t", "SELECT b FROM t"),
    ("SELECT a FROM t WHERE n = 'B'", "SELECT a FROM t WHERE n = 'b'"),
    ("SELECT a FROM t WHERE x = 1 AND (y = 2 OR z = 3)", "SELECT a FROM t WHERE x = 1 AND y = 2 OR z = 3"),
    ("SELECT a FROM t WHERE x = 1", "SELECT a FROM t"),
    ("SELECT a FROM t LIMIT 1", "SELECT a FROM t LIMIT 2"),
    ("SELECT a FROM t", "SELECT a FROM t; SELECT 1"),
    ("SELECT a FROM t", "SELECT a FROM t ### Question how"),
    ("SELECT a FROM t", "The answer is a."),
    ("SELECT a FROM t", ""),
    ("SELECT a FROM t", "DROP TABLE t"),
    ("not sql at all", "not sql at all"),
]


@pytest.mark.parametrize(("gold", "predicted"), SAME)
def test_layout_and_order_of_operands_do_not_count(gold, predicted):
    assert same_query(gold, predicted)


@pytest.mark.parametrize(("gold", "predicted"), DIFFERENT)
def test_other_queries_and_other_text_do_not_match(gold, predicted):
    assert not same_query(gold, predicted)


def test_the_share_counts_every_row():
    assert share_of_matches(["SELECT a FROM t"] * 4, ["SELECT a FROM t", "", "x", "select a from t"]) == 0.5
