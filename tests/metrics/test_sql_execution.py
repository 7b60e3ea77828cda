"""The execution score: known answers, for the syntax-tree match too."""

import json
import sqlite3
import subprocess
import sys

from metrics.sql_execution import judge, summarize, wilson
from metrics.sql_execution.conditions import Atom, holds
from metrics.sql_execution.queries import QueryError, parse, resolve, same_query
from metrics.sql_execution.schemas import read_schema

import evaluate
import pytest
from conftest import ROOT

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


CONTEXT = "CREATE TABLE head (age INTEGER, name VARCHAR, born_state VARCHAR)"
COUNT = "SELECT COUNT(*) FROM head WHERE age > 56"
NAMES = 'SELECT name, age FROM head WHERE born_state = "Ohio" AND age > 56'
TWO = "CREATE TABLE a (id INTEGER, x VARCHAR); CREATE TABLE b (a_id INTEGER, y INTEGER)"
JOINED = (
    "SELECT T1.x, COUNT(*) FROM a AS T1 JOIN b AS T2 ON T1.id = T2.a_id GROUP BY T1.id ORDER BY COUNT(*) DESC LIMIT 1"
)
RIGHT = [
    (CONTEXT, COUNT, COUNT),
    (CONTEXT, COUNT, "select count(1)\nfrom HEAD as h where not h.age <= 56 -- counted\n;"),
    (CONTEXT, COUNT, 'SELECT COUNT("name") FROM head WHERE "age" > "56"'),
    (CONTEXT, NAMES, "SELECT name, age FROM head WHERE age >= 57 AND born_state IN ('ohio')"),
    (CONTEXT, NAMES, "SELECT name, age FROM (SELECT * FROM head WHERE 56 < age) WHERE 'Ohio' = born_state"),
    (CONTEXT, "SELECT name FROM head ORDER BY age", "SELECT name FROM head ORDER BY head.age ASC"),
    (CONTEXT, "SELECT AVG(age) FROM head", "SELECT SUM(age) * 1.0 / COUNT(*) FROM head"),
    (TWO, JOINED, JOINED.replace("LIMIT", "\nLIMIT").replace("T2", "c")),
    (TWO, "SELECT x FROM a WHERE id IN (SELECT a_id FROM b)",
     "SELECT x FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a_id = id)"),
]  # fmt: skip
WRONG = [
    (CONTEXT, COUNT, "SELECT COUNT(*) FROM head"),
    (CONTEXT, COUNT, "SELECT COUNT(*) FROM head WHERE age >= 56"),
    (CONTEXT, COUNT, "SELECT COUNT(DISTINCT name) FROM head WHERE age > 56"),
    (CONTEXT, NAMES, NAMES.replace("AND", "OR")),
    (CONTEXT, NAMES, NAMES.replace("Ohio", "Ohi")),
    (CONTEXT, NAMES, NAMES.replace("name, age", "age, name")),
    (CONTEXT, NAMES, NAMES.replace("name, age", "born_state, age")),
    (CONTEXT, NAMES, NAMES.replace("SELECT", "SELECT DISTINCT")),
    (CONTEXT, "SELECT name FROM head ORDER BY age", "SELECT name FROM head"),
    (CONTEXT, "SELECT MAX(age) FROM head WHERE name = 'x'", "SELECT MAX(age) FROM head"),
    (TWO, JOINED, JOINED.replace("DESC", "ASC")),
    (TWO, JOINED, JOINED.replace("T2.a_id", "T2.y")),
    (TWO, "SELECT x FROM a JOIN b ON id = a_id", "SELECT x FROM a LEFT JOIN b ON id = a_id"),
]  # fmt: skip
INVALID = [
    ("The answer is 56.", "cannot be parsed"),
    ("", "empty"),
    ("   ", "empty"),
    ("SELECT 1; DROP TABLE head", "2 statements"),
    ("DROP TABLE head", "not a query"),
    ('SELECT "nmae" FROM head', "no such column: nmae"),
    ("SELECT name FROM head WHERE \"nmae\" = 'x'", "no such column: nmae"),
    ('SELECT name FROM head GROUP BY "nmae"', "no such column: nmae"),
    ("SELECT nmae FROM head", "invalid"),
    ("SELECT name FROM heads", "invalid"),
    ("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n", "did not finish"),
    ("SELECT COUNT(*) FROM head" + ", head" * 12, "invalid"),
    ("SELECT load_extension('x')", "invalid"),
    ("SELECT name FROM head " + "JOIN head " * 60, "more than 10 joins"),
    ("SELECT name FROM " + "(SELECT * FROM " * 40 + "head" + ")" * 40, "nested more than 100 deep"),
    ("SELECT replace(hex(zeroblob(100000)), '0', 'aaaaaaaa') FROM head AS a, head AS b", "invalid"),
    ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "cannot be parsed"),
    ("SELECT name FROM head WHERE " + " OR ".join(["age = 1"] * 5000), "longer than"),
]


@pytest.mark.parametrize(("context", "gold", "predicted"), RIGHT)
def test_the_same_query_in_other_words_is_right(context, gold, predicted):
    verdict = judge(predicted, gold, context)
    assert (verdict.usable, verdict.valid, verdict.right, verdict.reason) == (True, True, True, "")


@pytest.mark.parametrize(("context", "gold", "predicted"), WRONG)
def test_a_small_error_shows_on_some_database(context, gold, predicted):
    verdict = judge(predicted, gold, context)
    assert (verdict.usable, verdict.valid, verdict.right) == (True, True, False)
    assert verdict.reason == "another result"
    assert verdict.difference.startswith("CREATE TABLE")
    assert "-- prediction: [" in verdict.difference


@pytest.mark.parametrize(("predicted", "reason"), INVALID, ids=[f"{text[:30]}-{why}" for text, why in INVALID])
def test_what_is_no_query_of_the_schema_is_invalid(predicted, reason):
    verdict = judge(predicted, COUNT, CONTEXT)
    assert (verdict.usable, verdict.valid, verdict.right) == (True, False, False)
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("context", "gold"),
    [
        (CONTEXT, "SELECT COUNT(nmae) FROM head"),
        (CONTEXT, "not sql"),
        (CONTEXT, "SELECT name FROM head WHERE 1 > 2"),
        ("CREATE TABLE order (group)", COUNT),
        ("ATTACH 'file.db' AS x; CREATE TABLE head (age INTEGER)", COUNT),
    ],
)
def test_a_prediction_is_never_right_against_unusable_gold(context, gold, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verdict = judge(gold, gold, context)
    assert (verdict.usable, verdict.right, verdict.valid, verdict.exact) == (False, False, False, False)
    assert verdict.reason.startswith("gold is unusable")
    assert not list(tmp_path.iterdir())  # ATTACH would have made a file.


def test_letter_case_of_text_counts_in_the_stricter_score_alone():
    gold, folded = "SELECT age FROM head WHERE name = 'Bob'", "SELECT age FROM head WHERE name = 'bob'"
    assert judge(gold, gold, CONTEXT).right_case_sensitive
    verdict = judge(folded, gold, CONTEXT)
    assert (verdict.right, verdict.right_case_sensitive, verdict.exact) == (True, False, False)


def test_a_quoted_name_that_is_no_column_is_a_literal_only_where_it_is_compared_with_one():
    schema = read_schema(CONTEXT)
    tree = parse('SELECT "name" FROM head WHERE born_state = "name" OR name = "5th"')
    resolve(tree, schema)
    assert tree.sql("sqlite") == 'SELECT "name" FROM head WHERE born_state = "name" OR name = \'5th\''
    with pytest.raises(QueryError, match="no such column: x"):
        resolve(parse('SELECT name FROM head WHERE "x" = "5th"'), schema)


def test_evaluate_loads_the_metric_by_path_and_scores_every_row():
    metric = evaluate.load(str(ROOT / "metrics" / "sql_execution"))
    golds = [COUNT, COUNT, COUNT, "nonsense"]
    found = metric.compute(predictions=[COUNT, "SELECT 1", "no idea", COUNT], references=golds, schemas=[CONTEXT] * 4)
    assert (found["exec_accuracy"], found["valid"], found["exact_ast"]) == (1 / 3, 2 / 3, 1 / 3)
    assert (found["coverage"], found["rows"], found["rows_scored"]) == (0.75, 4, 3)
    assert (found["exec_accuracy_low"], found["exec_accuracy_high"]) == wilson(1, 3)
    third = {"exec_accuracy": 1 / 3, "rows": 3}
    assert found["by_shape"] == {"one table": third, "aggregate": third}


@pytest.mark.parametrize("pattern", ["abc", "%abc", "abc%", "%abc%", "a%c", "a_c%", "%a%b%c%", "_", "%", "", "A%B%"])
def test_like_is_sqlites(pattern):
    texts = ["abc", "xabc", "abcx", "xabcx", "a", "ac", "abbc", "cab", "AxBxC", "", "a%c", "abcabc", "b\nc"]
    with sqlite3.connect(":memory:") as connection:
        for text in texts:
            (expected,) = connection.execute("SELECT ? LIKE ?", (text, pattern)).fetchone()
            assert holds(Atom(((0, "t"), "c"), "like", (pattern,)), text) == bool(expected), text
    assert not holds(Atom(((0, "t"), "c"), "like", ("%a" * 60 + "b",)), "a" * 60)


def test_the_interval_is_wilsons():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Newcombe (1998), method 3
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.slow
def test_a_verdict_does_not_depend_on_the_process():
    """Databases are drawn from the row alone: not from the hashes of strings, nor from addresses."""
    sides = ["SELECT x FROM a WHERE id > 3", "SELECT x FROM a JOIN b ON id = a_id WHERE y < 5 OR y > 9"]
    three = "SELECT DISTINCT age, name, born_state FROM head"
    set_operations = [(TWO, f" {word} ".join(sides)) for word in ("INTERSECT", "EXCEPT")]
    queries = [(CONTEXT, COUNT), (CONTEXT, three), (TWO, JOINED), *set_operations]
    code = (
        "import sys, json; from metrics.sql_execution.sql_execution import judge\n"
        "for context, gold in json.loads(sys.argv[1]): print(judge('SELECT 1', gold, context).difference)"
    )
    outputs = set()
    for seed in "12":
        command = [sys.executable, "-c", code, json.dumps(queries)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONHASHSEED": seed}
        )
        outputs.add(done.stdout)
    (output,) = outputs
    assert output.count('CREATE TABLE "a"') == 3


def test_the_summary_of_nothing_has_no_score():
    assert summarize([])["rows_scored"] == 0
