"""Columns under other names, and rows of other shapes."""

import json
import logging

from finetune import InputError
from finetune.rows.files.columns import QUESTIONS, SUMMARIES, TEXTS, Names, parse_columns, read_columns
from finetune.rows.files.reading import read_rows, stream_rows
from finetune.rows.loading import load_rows, load_training_rows

import pytest

ROW = {"question": "How many?", "context": "CREATE TABLE a (x INT)", "answer": "SELECT COUNT(*) FROM a"}
TABLES = "CREATE TABLE a (x INT);\nCREATE TABLE b (y TEXT DEFAULT ')', -- a) note\n z VARCHAR(3)) ENGINE=InnoDB;"


def read(row, required=QUESTIONS, given=None, trained=None):
    return read_columns([row], required, given or {}, "the rows", trained)[0][0]


def renamed(**columns):
    return {columns.get(name, name): value for name, value in ROW.items()}


@pytest.mark.parametrize(
    "row",
    [
        renamed(question="Question", context="CONTEXT", answer=" Answer "),
        renamed(question="sql_prompt", context="sql_context", answer="sql") | {"id": 3},
        renamed(answer="query") | {"db_id": "a"},
        renamed(answer="SQL") | {"evidence": ""},
    ],
)
def test_names_in_other_letters_and_of_well_known_sets_are_recognised(row):
    found = read(row)
    assert {name: found[name] for name in ROW} == ROW
    assert found.get("id") == row.get("id")


def test_named_columns_win_and_others_stay():
    row = renamed(question="q", context="schema") | {"question": "another", "split": "train"}
    given = parse_columns(["question=q", "context=Schema"], QUESTIONS)
    assert read(row, given=given) == ROW | {"split": "train"}
    assert read({"t": "a", "L": "x"}, TEXTS, {"text": "t", "label": "L"}) == {"text": "a", "label": "x"}
    assert read({"t": "a"}, TEXTS, trained={"text": "t", "label": "gone"}) == {"text": "a"}
    # The names of training are taken where the task's own are not there.
    assert read({"text": "own", "t": "a"}, TEXTS, trained={"text": "t"}) == {"text": "own", "t": "a"}


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        (("dialogue", "summary"), "dialogue"), (("document", "summary"), "document"), (("text", "summary"), "text"),
        (("article", "highlights"), "article"), (("article", "abstract"), "article"),
        (("text", "document", "dialogue", "article", "summary"), "article"),
        (("text", "document", "dialogue", "Summary"), "dialogue"),
    ],
)  # fmt: skip
def test_columns_of_summarisation_sets(columns, taken):
    found = read({name: f"the {name}" for name in columns}, SUMMARIES)
    assert (found["article"], found["summary"].lower()) == (f"the {taken}", f"the {columns[-1]}".lower())


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["question"], "expected NAME=COLUMN"), (["question="], "expected NAME=COLUMN"), (["=x"], "there is no "),
        (["text=x"], "there is no text; expected question, context, answer"),
        (["question=a", "question=b"], "names question twice: a and b"),
        (["question=a", "answer=a"], "gives the column a two meanings"),
    ],
)  # fmt: skip
def test_flags_that_cannot_be_meant(given, reason):
    with pytest.raises(InputError, match=reason):
        parse_columns(given, QUESTIONS)


@pytest.mark.parametrize(
    ("row", "required", "given", "reason"),
    [
        (renamed(answer="reply"), QUESTIONS, {}, "found question, context, reply, expected question, context, answer"),
        (renamed(answer="reply"), QUESTIONS, {}, "--column answer=COLUMN"),
        ({"a": 1}, QUESTIONS, {}, "no column question, context, answer; found a"),
        (ROW, QUESTIONS, {"question": "absent"}, "--column question=absent: the rows have no column absent; found"),
        ({"Text": "a", "TEXT": "b"}, TEXTS, {}, "have the columns Text and TEXT; say which is meant"),
        ({"db_id": "a", "question": "q", "query": "s"}, QUESTIONS, {}, "as in Spider.*no column context.*schema.sql"),
        ({"db_id": 1, "question": "q", "SQL": "s", "evidence": ""}, QUESTIONS, {}, "as in BIRD.*sqlite3 FILE .schema"),
    ],
)
def test_columns_that_are_not_there(row, required, given, reason):
    with pytest.raises(InputError, match=reason):
        read(row, required, given)


def test_a_column_split_in_capitals_keeps_test_rows_out(tmp_path, caplog):
    rows = [
        {"Question": f"q{i}", "Context": f"CREATE TABLE t (c{i} INT)", "Answer": "SELECT 1", "Split": part}
        for i, part in enumerate(["train", "test", "validation"] * 3)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.INFO):
        found = load_rows(str(tmp_path / "rows.json"), QUESTIONS, 0.5, 0)
    assert [len(part) for part in found.parts.values()] == [3, 3, 3]
    assert found.columns == {"question": "Question", "context": "Context", "answer": "Answer", "split": "Split"}
    assert "question is Question, context is Context" in caplog.text


def chat(*messages, role="role", content="content"):
    return [{role: who, content: what} for who, what in messages]


SQL = ("assistant", "SELECT 1")
ASKED = f"Answer in SQL.\n### Tables:\n{TABLES}\n\n### Question\nWhat's the sum (all) of x?\n### SQL"


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"messages": chat(("system", TABLES), ("user", "How many?"), SQL)}, "How many?"),
        ({"messages": chat(("system", f"You write SQL for: {TABLES}"), ("user", "How many?"), SQL)}, "How many?"),
        ({"messages": chat(("user", f"{TABLES}\nHow many?"), SQL)}, "How many?"),
        ({"messages": chat(("system", "Be brief."), ("user", f"Question: How many?\n{TABLES}"), SQL)}, "How many?"),
        ({"messages": json.dumps(chat(("user", f"{TABLES}\nQ: How many?"), SQL))}, "How many?"),
        ({"conversations": chat(("human", f"{TABLES} How many?"), ("gpt", "SELECT 1"), role="from", content="value")},
         "How many?"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": f"{TABLES}\nHow many?"}]},
                       {"role": "assistant", "content": "```sql\nSELECT 1\n```"}]}, "How many?"),
        ({"prompt": ASKED, "completion": "SELECT 1"}, "Answer in SQL.\nWhat's the sum (all) of x?"),
        ({"prompt": chat(("user", f"{TABLES}\nHow many?")), "completion": chat(SQL)}, "How many?"),
        ({"instruction": "How many?", "input": TABLES, "output": "SELECT 1"}, "How many?"),
        ({"instruction": TABLES, "input": "How many?", "response": "SELECT 1"}, "How many?"),
        ({"instruction": f"{TABLES}\n\n-- How many?", "input": "", "output": "SELECT 1"}, "How many?"),
        ({"instruction": f"{TABLES}\nHow many?", "output": "SELECT 1"}, "How many?"),
    ],
)  # fmt: skip
def test_rows_of_a_chat_a_prompt_or_an_instruction(row, question):
    assert read(row | {"split": "train"}) == {
        "split": "train", "question": question, "context": TABLES, "answer": "SELECT 1"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": chat(("user", TABLES + " How?"), SQL, ("user", "And?"), SQL)}, "2 of user, 2 of assistant"),
        ({"messages": chat(("user", f"{TABLES} How?"))}, "0 of assistant; expected one question and one answer"),
        ({"messages": chat(("user", f"{TABLES} How?"), ("tool", "x"), SQL)}, "a message of tool"),
        ({"messages": chat(("system", TABLES), ("user", f"{TABLES} How?"), SQL)}, "statements in two messages"),
        ({"messages": chat(("user", "How many?"), SQL)}, "has no CREATE TABLE statements"),
        ({"messages": chat(("user", TABLES), SQL)}, "no question beside them"),
        ({"messages": "How many?"}, "must be a list of objects with role and content"),
        ({"messages": [{"role": "user", "content": None}]}, "the message of user has no text"),
        ({"messages": None}, "must be a list of objects"),
        ({"prompt": "How many?", "completion": "SELECT 1"}, "has no CREATE TABLE statements"),
        ({"prompt": None, "completion": "SELECT 1"}, "prompt is 'None'; expected a text"),
        ({"instruction": "How?", "input": f"{TABLES} And why?", "output": "SELECT 1"}, "found besides: 'And why"),
        ({"instruction": f"Use {TABLES}", "input": TABLES, "output": "SELECT 1"}, "CREATE TABLE statements alone"),
        ({"instruction": "How?", "input": TABLES, "output": 5}, "output is '5'; expected a text"),
    ],
)
def test_rows_that_cannot_be_taken_apart(row, reason):
    with pytest.raises(InputError, match=f"row 1 of the rows.*{reason}"):
        read(row)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("question,sql", '"How many, in all?",SELECT 1'),
        ("Question;SQL", "How many, in all?;SELECT 1"),
        ("\ufeffQUESTION;Query;Note", "How many, in all?;SELECT 1;x"),
        ("\ufeffSQL Query\tQuestion", "SELECT 1\tHow many, in all?"),
        ("id,Gold-SQL, question ", '7,SELECT 1,"How many, in all?"'),
    ],
)
def test_a_table_of_questions_and_sql_needs_no_names_where_a_database_brings_the_schema(tmp_path, header, line):
    path = tmp_path / "pairs.csv"
    path.write_text(f"{header}\r\n{line}\r\n", encoding="utf-8")
    context = "CREATE TABLE a (x INT)"
    rows, _ = load_training_rows(str(path), QUESTIONS, fill=lambda rows: [row | {"context": context} for row in rows])
    assert {name: rows.train[0][name] for name in QUESTIONS} == {
        "question": "How many, in all?", "context": context, "answer": "SELECT 1",
    }  # fmt: skip
    # In prediction the question alone.
    names = Names(QUESTIONS, ("question",), {}, None)
    assert names.read(next(stream_rows(path, raw=True)))["question"] == "How many, in all?"
    # In evaluation, by the names of training or without.
    assert (
        read_columns(read_rows(path), QUESTIONS, {}, "rows", {"answer": "gone"}, ("question", "answer"))[1]["answer"]
        in header
    )


def test_two_columns_that_could_be_meant_are_refused():
    twice = {"question": "q", "context": "c", "SQL query": "SELECT 2", "Sql_Query": "SELECT 1"}
    with pytest.raises(InputError, match=r"have the columns SQL query and Sql_Query; .*: --column answer=COLUMN\.$"):
        read(twice)
