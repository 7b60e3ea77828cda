"""Rows about one database held out by the shape of their queries, and what the leak report says of that."""

import json
from collections import Counter
from random import Random
from types import SimpleNamespace

from finetune import InputError
from finetune.rows.splits.leaks import leak_report, refuse_leaks, tell_leaks
from finetune.rows.splits.query_shapes import query_shape
from finetune.rows.splits.question_split import ANY_SIZE, QuestionSplit, grouped, question_shape
from finetune.rows.splits.schema_split import hold_out_groups, schema_of_row
from finetune.rows.sql.loading import load_questions

import pytest

CONTEXT = "CREATE TABLE Loan (Id INTEGER, Name TEXT, Day DATE); CREATE TABLE Member (Id INTEGER, City TEXT)"
FLAGS = {
    "column": None, "validation_fraction": 0.2, "split_by": "auto", "encoding": "utf-8", "clean": True,
    "dialect": "sqlite", "allow_leaks": False, "distractor_columns": 0, "train_percent": None, "rows": True,
}  # fmt: skip


def row(question: str, answer: str, **others) -> dict:
    return {"question": question, "context": CONTEXT, "answer": answer} | others


def rows_of_one_schema() -> list[dict]:
    """Sixty rows of one schema, a third of one shape: the same question with other numbers."""
    rows = [row(f"Who has loan {n}?", f"SELECT Name FROM Loan WHERE Id = {n}") for n in range(20)]
    for column in ("Id", "Name", "Day"):
        for n, aggregate in enumerate(("COUNT", "MIN", "MAX", "AVG")):
            sql = f"SELECT {aggregate}({column}) FROM Loan WHERE Name = "
            rows += [row(f"{aggregate} of {column} for {name}?", f"{sql}'{name}'") for name in ("Ann", "Bo")]
            rows.append(row(f"{aggregate} {column}, {n}", f"SELECT {aggregate}({column}) FROM Loan LIMIT {n + 1}"))
    return [*rows, *(row(f"City {n}?", f"SELECT City FROM Member ORDER BY Id LIMIT {n}") for n in (1, 2, 3, 4))]


def shapes(rows: list[dict]) -> set[str]:
    return {query_shape(row["answer"], row["context"]) for row in rows}


@pytest.mark.parametrize(
    "queries",
    [
        [
            "SELECT Name FROM Loan WHERE Id = 5", "select L.name from loan as L where L.id=7;",
            'SELECT "Name" FROM Loan WHERE (Id = -5)', "SELECT Name AS n FROM Loan WHERE 5 = Id",
        ],
        ['SELECT Id FROM Loan WHERE Name = "Ann"', "SELECT Id FROM Loan WHERE Name = 'Bob''s'"],
        [
            "SELECT COUNT(*) AS n, City FROM Member GROUP BY City ORDER BY n DESC LIMIT 1",
            "SELECT COUNT(*), m.City FROM Member m GROUP BY m.City ORDER BY COUNT(*) DESC LIMIT 5",
        ],
        [
            "SELECT Name FROM Loan a JOIN Member b ON a.Id = b.Id WHERE b.City = 'x' AND a.Day > '2020-01-01'",
            "SELECT Loan.Name FROM Loan JOIN Member ON Member.Id = Loan.Id WHERE Day > '1' AND City = 'y'",
        ],
        ["SELECT Name FROM Loan WHERE Id IN (1, 2, 3)", "SELECT Name FROM Loan WHERE Id IN (5)"],
        ["SELECT Name FROM Loan WHERE Id > 5", "SELECT Name FROM Loan WHERE 7 < Id"],
        ["SELECT Id FROM Loan WHERE Day <= '2020-01-01'", "SELECT Id FROM Loan WHERE '1999-01-01' >= Day"],
        ["WITH x AS (SELECT Id FROM Loan) SELECT Id FROM x", "WITH y AS (SELECT Id FROM Loan) SELECT Id FROM y"],
        ["SELECT 'no query", "select  'NO query"],
    ],
)  # fmt: skip
def test_a_shape_knows_no_literals_aliases_and_letter_case(queries):
    assert len({query_shape(sql, CONTEXT) for sql in queries}) == 1


def test_shapes_differ_in_columns_operators_and_clauses():
    queries = [
        "SELECT Name FROM Loan WHERE Id = 5", "SELECT Day FROM Loan WHERE Id = 5", "SELECT Name FROM Loan WHERE Id > 5",
        "SELECT Name FROM Loan", "SELECT Name FROM Loan WHERE Id = 5 LIMIT 1", "SELECT Id FROM Loan WHERE Name = 'x'",
        "SELECT MAX(Name) FROM Loan WHERE Id = 5", "SELECT DISTINCT Name FROM Loan WHERE Id = 5",
        "SELECT Name FROM Loan WHERE Id < 5", "SELECT Name FROM Loan WHERE Id >= 5",
    ]  # fmt: skip
    assert len({query_shape(sql, CONTEXT) for sql in queries}) == len(queries)
    postgres = [f"SELECT Name FROM Loan WHERE EXTRACT(YEAR FROM Day) = {n}::int" for n in (1999, 2024)]
    assert len({query_shape(sql, CONTEXT, "postgres") for sql in postgres}) == 1


@pytest.mark.parametrize(
    "questions",
    [
        ["Who owes more than 5 euros?", "Who owes more than 7.50 euros?", "who owes more  than -3 euros?"],
        ["Which loans are from 'Ann'?", "Which loans are from “Bo”?"],
        ['Who took "War and Peace"?', "Who took 'Emma'?", "Who took «1984»?"],
        ["Who was born before 1950-05-01?", "Who was born before 2/3/1960?", "Who was born before 1960?"],
    ],
)
def test_questions_that_differ_in_numbers_and_quoted_texts_have_one_shape(questions):
    assert len({question_shape(question) for question in questions}) == 1


def test_apostrophes_are_no_quotes_and_numbers_in_names_none():
    questions = [
        "Ann's loans and Bo's?",
        "Ann's books and Bo's?",
        "the readers' books, Bo's?",
        "table T3?",
        "table T4?",
    ]
    assert len({question_shape(question) for question in questions}) == len(questions)


def asked(rows: list[dict]) -> set[str]:
    return {question_shape(row["question"]) for row in rows}


def test_a_held_out_question_is_no_training_one_with_another_number_though_its_sql_is_written_otherwise():
    queries = ("SELECT COUNT(*) FROM Loan WHERE Id > {}", "SELECT COUNT(Id) FROM Loan WHERE {} < Id AND Id IS NOT NULL")
    rows = [row(f"How many loans have an id of more than {n}?", queries[n % 2].format(n)) for n in range(20)]
    rows = rows_of_one_schema() + rows
    for seed in range(8):
        train, validation = map(asked, QuestionSplit()(rows, 0.2, seed))
        assert not train & validation
    train, validation = map(asked, QuestionSplit("row")(rows, 0.2, 0))
    assert train & validation


@pytest.mark.parametrize("seed", range(5))
def test_with_one_schema_whole_shapes_are_held_out(seed):
    rows, split = rows_of_one_schema(), QuestionSplit()
    train, validation = split(rows, 0.2, seed)
    assert split.used == "query"
    assert not shapes(train) & shapes(validation)
    assert 10 <= len(validation) <= 15  # A shape that a third of the rows have is not what is held out.
    assert sorted(map(json.dumps, train + validation)) == sorted(map(json.dumps, rows))
    assert QuestionSplit()(rows, 0.2, seed) == (train, validation)
    assert QuestionSplit()(rows, 0.2, seed + 9) != (train, validation)


def test_with_two_schemas_whole_schemas_are_held_out():
    other = "CREATE TABLE city (name TEXT)"
    rows = [*rows_of_one_schema(), row("q", "SELECT name FROM city", context=other)]
    split = QuestionSplit()
    assert [row["context"] for row in split(rows, 0.1, 0)[1]] == [other]
    assert split.used == "schema"
    by_query = QuestionSplit("query")(rows, 0.2, 0)
    assert not shapes(by_query[0]) & shapes(by_query[1])


def test_by_row_equal_questions_and_equal_queries_stay_together():
    rows = [row(f"Question {n // 2}?", f"SELECT Name FROM Loan WHERE Id = {n}") for n in range(40)]
    rows += [row("Other words", "select name from loan where id = 3")]
    train, validation = QuestionSplit("row")(rows, 0.2, 0)
    assert 7 <= len(validation) <= 12
    assert not {row["question"] for row in train} & {row["question"] for row in validation}
    assert leak_report(train, validation, "row")["share"] == 0


def test_one_shape_only_is_refused_with_what_to_do():
    rows = [row(f"Loan {n}?", f"SELECT Name FROM Loan WHERE Id = {n}") for n in range(9)]
    with pytest.raises(
        InputError, match=r"all 9 rows have the same shape.*numbers, texts and aliases alone.*--split-by row"
    ):
        QuestionSplit()(rows, 0.2, 0)
    with pytest.raises(InputError, match="give more"):
        QuestionSplit("row")([rows[0]] * 3, 0.2, 0)


def test_groups_that_share_any_key_are_one():
    rows = [{"n": n} for n in range(5)]
    keys = [("a", 1), ("b", 2), ("c", 1), ("b", 3), ("d", 4)]
    assert [[row["n"] for row in group] for group in grouped(rows, keys)] == [[0, 2], [1, 3], [4]]


def test_a_group_too_large_is_passed_over_and_the_smallest_is_the_last_resort():
    groups = [[{"g": g}] * size for g, size in enumerate([30, 2, 3, 1, 30, 2])]
    for seed in range(6):
        counts = Counter(row["g"] for row in hold_out_groups(groups, 0.06, seed)[1])
        assert 4 <= counts.total() <= 6
        assert not counts.keys() & {0, 4}
    assert {row["g"] for row in hold_out_groups([groups[0], groups[1] * 9], 0.05, 1)[1]} == {1}


def load(tmp_path, rows: list[dict], **flags):
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    return load_questions(SimpleNamespace(**FLAGS | flags, dataset=str(tmp_path / "rows.json")), 0)


def test_a_run_from_before_there_was_a_choice_holds_out_what_it_held_out():
    """The rule of then: schemas in the order that the seed draws, until there are enough rows, however large one is."""
    large = [row(f"{n}?", "SELECT 1") | {"context": "CREATE TABLE a (x INT)"} for n in range(60)]
    small = [row(f"{n}!", "SELECT 1") | {"context": f"CREATE TABLE t (c{n} INT)"} for n in range(40)]
    groups = sorted({schema_of_row(one) for one in large + small})
    sizes = set()
    for seed in range(40):
        order = list(groups)
        Random(seed).shuffle(order)
        held: list[str] = []
        for group in order[:-1]:
            if sum(60 if name == schema_of_row(large[0]) else 1 for name in held) < 10:
                held.append(group)
        split = QuestionSplit(ANY_SIZE)
        train, validation = split(large + small, 0.1, seed)
        assert list(dict.fromkeys(map(schema_of_row, validation))) == held
        assert (len(train) + len(validation), split.used, split.by) == (100, "schema", "schema")
        sizes.add(len(validation) > 60)
    assert sizes == {True, False}  # The large schema was held out by some seed, as it would not be now.


def test_a_run_says_how_rows_were_held_out_and_needs_no_allow_leaks(tmp_path, caplog):
    rows, findings = load(tmp_path, rows_of_one_schema())
    assert rows.split_by == "20% held out by query"
    leaks = findings["leaks"]
    assert (leaks["share"], leaks["shared_query_shape"], leaks["counted"]) == (0, 0, ["question", "gold_sql"])
    assert leaks["shared_schema"] == leaks["validation_rows"] == len(rows.validation)
    assert "measures" not in caplog.text


def test_parts_of_the_users_own_with_one_schema_are_a_warning_and_not_refused(tmp_path, caplog):
    rows = [given | {"split": "dev" if n % 5 == 0 else "train"} for n, given in enumerate(rows_of_one_schema())]
    _, findings = load(tmp_path, rows)
    assert findings["leaks"]["share"] == 0
    assert findings["leaks"]["shared_query_shape"] > 5
    assert "--split-by query" in caplog.text
    with pytest.raises(InputError, match="share a question or the gold SQL"):
        load(tmp_path, [*rows, rows[1] | {"split": "dev"}])
    load(tmp_path, [*rows, rows[1] | {"split": "dev"}], allow_leaks=True)
    caplog.clear()
    load(tmp_path, rows, split_by="query")
    assert "--split-by query has no effect" in caplog.text


def test_parts_with_several_schemas_still_may_not_share_one():
    train = [row("a", "SELECT Id FROM Loan"), row("b", "SELECT x FROM t", context="CREATE TABLE t (x INT)")]
    report = leak_report(train, [row("c", "SELECT Name FROM Loan")])
    assert report["share"] == 1
    with pytest.raises(InputError, match="a schema"):
        refuse_leaks(report)
    random = leak_report(train[:1], [row("c", "SELECT Id FROM Loan AS x")], "row")
    assert (random["share"], random["shared_query_shape"]) == (0, 1)
    refuse_leaks(random)
    tell_leaks(random)
