"""Several queries for one question: which is taken, what is said of that, and what the score says of it."""

import json
import logging
import sqlite3
from contextlib import closing

from finetune import InputError
from finetune.databases.candidates import MOST, check_candidates, choose, finds
from finetune.databases.database import QueryFailed, Result, open_database
from finetune.databases.safe_sql import Refused
from finetune.models.generation import Generation
from finetune.predicting.dialogue import Dialogue
from finetune.reports.scorecards.candidates import take_candidates
from finetune.reports.scorecards.on_database import OnDatabase, judge_on_database
from finetune.reports.sql_scorecard import Answers, Scorecard
from metrics.sql_execution.sql_execution import judge

import pytest

FAILS, DROP = "SELECT nope FROM Book", "DROP TABLE Book"
NOTHING, NULL = "SELECT Title FROM Book WHERE Id = 9", "SELECT MAX(Price) FROM Book"
FINDS, OTHER = "SELECT Title FROM Book WHERE Id = 2", "SELECT COUNT(*) FROM Book"
QUESTION = {"question": "Which book is the second?", "context": ""}


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    path = tmp_path_factory.mktemp("books") / "books.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE Book (Id INTEGER, Title TEXT, Price REAL);"
            "INSERT INTO Book VALUES (1, 'A', NULL), (2, 'B', NULL)"
        )
    return open_database(str(path))


@pytest.mark.parametrize(
    ("queries", "taken", "looked_at"),
    [
        ([FINDS, OTHER], FINDS, 1),
        ([FAILS, FINDS, OTHER], FINDS, 2),
        ([NOTHING, FAILS, NULL, DROP, OTHER, FINDS], OTHER, 5),
        ([FAILS, NOTHING, NULL], NOTHING, 3),
        ([NOTHING, FAILS], NOTHING, 2),
        ([FAILS, DROP], FAILS, 2),
        ([FAILS], FAILS, 1),
    ],
)
def test_the_likeliest_that_finds_something_is_taken(books, queries, taken, looked_at):
    asked = []

    def run(sql):
        asked.append(sql)
        try:
            return books.run(sql, 10, 5)
        except (Refused, QueryFailed) as error:
            return error

    assert choose(iter(queries), run)[0] == taken
    assert asked == queries[:looked_at]


def test_a_count_of_0_is_an_answer_and_nulls_alone_are_none():
    assert finds(Result(["n"], [[0]], False))
    assert finds(Result(["n"], [[None], [""]], False))
    assert not finds(Result(["n"], [[None, None]], False))
    assert not finds(Result(["n"], [], False))
    assert not finds(QueryFailed("gone"))


@pytest.mark.parametrize("count", [0, -1, MOST + 1])
def test_a_number_of_candidates_that_no_question_gets(count):
    with pytest.raises(InputError, match=f"--candidates {count} must lie between 1 and {MOST}"):
        check_candidates(count)


def ask(books, first: str, others: list[str] | None, **options) -> Dialogue:
    more = None if others is None else lambda context, question, sql: others
    Dialogue(books, execute=True, **options).hold([QUESTION], lambda context, question: first, more)


def test_what_is_taken_is_shown_and_said(books, capsys, caplog):
    ask(books, NOTHING, [FAILS, FINDS])
    assert capsys.readouterr().out.splitlines() == [NOTHING, FINDS, "Title", "    B"]
    assert "the likeliest SQL finds nothing. Another candidate is taken in its place; see whether" in caplog.text
    caplog.clear()
    ask(books, FAILS, [FINDS], layout="json")
    found = json.loads(capsys.readouterr().out)
    assert (found["sql"], found["first_sql"], found["rows"]) == (FINDS, FAILS, [["B"]])
    assert "the likeliest SQL is not taken: no such column: nope" in caplog.text
    caplog.clear()
    for first, others in ((FINDS, [OTHER]), (NOTHING, [FAILS]), (NOTHING, [])):
        ask(books, first, others, layout="json")
        found = json.loads(capsys.readouterr().out)
        assert (found["sql"], "first_sql" in found) == (first, False)
    assert not caplog.text


def test_where_no_candidate_runs_the_first_one_s_error_stands_and_retries_follow(books, capsys):
    with pytest.raises(InputError, match=r"no such column: nope .*retries: 0"):
        ask(books, FAILS, [DROP, FAILS])
    answers, others = [FAILS, FINDS], []
    dialogue = Dialogue(books, execute=True, retries=1, layout="json")
    found = dialogue.answer("Which?", lambda question: answers.pop(0), lambda sql: others.append(sql) or [DROP])
    assert (found.sql, found.retries, found.result.rows) == (FINDS, 1, [["B"]])
    assert others == [FAILS]  # Once, of the first answer.


def test_without_candidates_the_first_answer_is_what_it_was(books, capsys, caplog):
    caplog.set_level(logging.WARNING)
    ask(books, NOTHING, None)
    assert capsys.readouterr().out.splitlines() == [NOTHING, "(no rows)"]
    assert not caplog.text


class Writer:
    """One who knows other answers by heart."""

    def __init__(self, others: dict[int, list[str]]):
        self.known, self.asked = others, []

    def others(self, prompt, count, first, **parameters):
        self.asked.append(prompt[0])
        return [generation(text) for text in self.known[prompt[0]]][: count - 1]


def generation(text: str) -> Generation:
    return Generation(text, [1], True)


def rows_about(books, count: int) -> list[dict]:
    return [{"question": "q", "context": books.statements, "answer": FINDS}] * count


def test_other_answers_are_asked_for_where_the_first_finds_nothing_alone(books):
    rows = [
        *rows_about(books, 4),
        {"question": "q", "context": "CREATE TABLE x (a INTEGER)", "answer": "SELECT a FROM x"},
    ]
    first = [generation(text) for text in (FINDS, FAILS, NOTHING, FAILS, FAILS)]
    writer = Writer({1: [DROP, FINDS], 2: [FAILS], 3: [DROP, DROP, FINDS]})
    asked = [(row, [place], answer) for place, (row, answer) in enumerate(zip(rows, first, strict=True))]
    taken = take_candidates(writer, asked, OnDatabase(books, candidates=3), 20)
    assert [answer.text for answer in taken] == [FINDS, FINDS, NOTHING, FAILS, FAILS]
    assert writer.asked == [1, 2, 3]
    fenced = [(rows[0], [0], generation(f"x{FINDS}")), (rows[0], [1], generation(f"x{FAILS}"))]
    unwrapped = take_candidates(
        Writer({1: [f"x{OTHER}"]}), fenced, OnDatabase(books, candidates=3), 20, lambda t: t[1:]
    )
    assert [answer.text for answer in unwrapped] == [f"x{FINDS}", f"x{OTHER}"]


def test_the_scorecard_says_what_the_first_answers_alone_would_have_had(books):
    rows = rows_about(books, 4)

    def answers(texts: list[str], first: list[str], others: int) -> Answers:
        judged, known = judge_on_database(texts, rows, books), judge_on_database(first, rows, books)
        found = [judge(text, FINDS, books.statements) for text in texts]
        return Answers([generation(text) for text in texts], found, 1.0, 0, judged, known, others)

    base = answers([FAILS] * 4, [FAILS] * 4, 0)
    card = Scorecard(rows, base, answers([FINDS] * 3 + [FAILS], [FINDS] + [FAILS] * 3, 2))
    assert (card.metrics["exec_accuracy_database"], card.metrics["exec_accuracy_database_first"]) == (0.75, 0.25)
    assert "first answers alone 25.0%; 2 of the answers are another candidate" in card.format("test")
    assert "75.0% of 4 questions right on the database (95 %: 30.1% to 95.4%), by the base 0.0%, of first answers" in (
        card.headline("test")
    )
