"""Questions to a database: what is said where one may not fit it, what a pipe sees, and how Ctrl-C ends it."""

import json
import logging
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import time

from finetune import InputError
from finetune.databases.database import open_database
from finetune.predicting.dialogue import Dialogue

import pytest
from conftest import LONGEST_WAIT, ROOT

LIBRARY = """CREATE TABLE Author (AuthorId INTEGER PRIMARY KEY, FullName TEXT, Country TEXT);
CREATE TABLE Book (BookId INTEGER PRIMARY KEY, Title TEXT, AuthorId INTEGER REFERENCES Author, Pages INTEGER);
INSERT INTO Author VALUES (1, 'Ursula Le Guin', 'US');"""
MANY = "INSERT INTO Book (Title) VALUES " + ", ".join(["('x')"] * 99) + ";"
SHOP = "CREATE TABLE order_items (qty INTEGER, unit_price REAL); CREATE TABLE customers (customer_name TEXT);"


def database(tmp_path, script: str):
    path = tmp_path / "own.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()
    return open_database(str(path))


def hold(database, question: str, sql: str, **options) -> None:
    Dialogue(database, execute=True, **options).hold([{"question": question, "context": ""}], lambda *_: sql)


@pytest.mark.parametrize(
    ("script", "question", "sql", "shown"),
    [
        (
            LIBRARY, "What is the salary of each librarian?", "SELECT salary FROM Author",
            "not executed: no such column: salary (retries: 0). The question may not fit the database: no table or"
            " column knows salary, librarian.",
        ),
        (
            LIBRARY, "Which Authors live in 'Rome'?", "SELECT FullName FROM Authors",
            "not executed: the table Authors is not one of Author, Book; did you mean Author? (retries: 0). The"
            " question may not fit the database: no table or column knows live.",
        ),
        (
            SHOP, "How many items has each customer ordered?", "SELECT count FROM customers",
            "not executed: no such column: count (retries: 0). The question may not fit the database.",
        ),
        (
            SHOP, "Which employees have a manager?", "SELECT name FROM employees WHERE manager = 1",
            "not executed: the table employees is not one of customers, order_items (retries: 0). The question may not"
            " fit the database: no table or column knows employees, manager.",
        ),
    ],
)  # fmt: skip
def test_an_error_says_which_words_no_name_knows(tmp_path, script, question, sql, shown):
    with pytest.raises(InputError) as error:
        hold(database(tmp_path, script), question, sql)
    assert str(error.value) == shown


def test_a_query_that_was_stopped_says_nothing_of_the_question(tmp_path):
    sql = "SELECT COUNT(*) FROM " + ", ".join(f"Book AS b{n}" for n in range(9))
    library = database(tmp_path, LIBRARY + MANY)
    with pytest.raises(InputError) as error:
        hold(library, "How many books are there?", sql, timeout=0.3)
    assert str(error.value) == "the database says: stopped after 0.3 seconds (--timeout) (retries: 0)."


def test_json_has_the_words_beside_the_error_and_beside_an_empty_result(tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    library, options = database(tmp_path, LIBRARY), {"layout": "json", "interactive": True}
    hold(library, "Which dragons are there?", "SELECT dragon FROM Book", **options)
    hold(library, "Which books are about dragons?", "SELECT Title FROM Book WHERE Title LIKE '%dragon%'", **options)
    hold(library, "Which books are there?", "SELECT Title FROM Book", **options)
    hold(library, "Which authors like dragons?", "SELECT FullName FROM Author", **options)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["unknown_words"] == found[1]["unknown_words"] == ["dragons"]
    assert found[0]["error"] == "not executed: no such column: dragon"
    assert found[1]["rows"] == []
    # Nothing is said of an empty result whose question fits, and of rows that are there.
    assert "unknown_words" not in found[2] | found[3]
    assert caplog.text.count("The question may not fit the database: no table or column knows dragons.") == 2


def test_a_piped_dialogue_shows_each_question_before_its_answer(tmp_path, capsys, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    library = database(tmp_path, LIBRARY)
    rows = [{"question": "How  many?", "context": ""}, {"question": "Who?", "context": ""}]
    queries = {"How  many?": "SELECT COUNT(*) AS n FROM Author", "Who?": "SELECT FullName FROM Author"}
    shown = {}
    for layout in ("table", "csv", "json"):
        Dialogue(library, True, True, layout).hold(rows, lambda _, question: queries[question])
        shown[layout], err = capsys.readouterr()
        assert "question>" not in err
    assert [line.strip() for line in shown["table"].splitlines()] == [
        "question> How many?", "SELECT COUNT(*) AS n FROM Author", "n", "1",
        "question> Who?", "SELECT FullName FROM Author", "FullName", "Ursula Le Guin",
    ]  # fmt: skip
    assert shown["csv"] == "n\n1\nFullName\nUrsula Le Guin\n"
    assert caplog.messages == ["question> How many?", queries["How  many?"], "question> Who?", queries["Who?"]]
    assert [json.loads(line)["question"] for line in shown["json"].splitlines()] == ["How  many?", "Who?"]


CODE = """
import time
from finetune import console
from finetune.databases.database import open_database
from finetune.predicting.dialogue import Dialogue
from finetune.predicting.stdin_lines import Lines

def write_sql(context, question):
    if question == "generate":
        console.print_result("generating")
        while True:
            sum(range(1000))
    return "SELECT COUNT(*) FROM " + ", ".join(f"Book AS b{n}" for n in range(9))

def main():
    rows = ({"question": line, "context": ""} for _, line in Lines())
    Dialogue(open_database("DATABASE"), True, True, timeout=300).hold(rows, write_sql)

console.run(main)
"""


@pytest.mark.parametrize(
    ("typed", "awaited", "key", "status"),
    [
        ("", "question> ", "\x03", 130),
        ("generate\n", "generating", "\x03", 130),
        ("query\n", "SELECT COUNT", "\x03", 130),
        ("", "question> ", "\x04", 0),
    ],
    ids=["prompt", "generation", "query", "end"],
)
def test_ctrl_c_and_ctrl_d_end_a_dialogue_cleanly(tmp_path, typed, awaited, key, status):
    database(tmp_path, LIBRARY + MANY)
    code = CODE.replace("DATABASE", str(tmp_path / "own.db"))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown = _read_until(terminal, "question> ")
    os.write(terminal, typed.encode())
    shown += _read_until(terminal, awaited) if typed else ""
    time.sleep(0.5 if typed.startswith("query") else 0)  # until the query runs
    os.write(terminal, key.encode())
    shown += _read_until(terminal, None)
    _, found = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(found) == status, shown
    assert "Traceback" not in shown
    if status:
        assert shown.splitlines()[-1] == "error: stopped by a signal."


def _read_until(terminal: int, awaited: str | None) -> str:
    """Return what a terminal shows until a text, or until its program has ended."""
    shown, deadline = "", time.monotonic() + LONGEST_WAIT
    while awaited is None or awaited not in shown:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # The program has ended.
            break
        if not piece:
            break
        shown += piece.decode(errors="replace")
    return shown


def test_no_query_process_is_left_by_ctrl_c(tmp_path):
    """The process of a query ends with the one that asked, also where that was sent the signal alone."""
    database(tmp_path, LIBRARY + MANY)
    code = CODE.replace("DATABASE", str(tmp_path / "own.db"))
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    process.stdin.write("query\n")
    process.stdin.flush()
    assert process.stdout.readline() == "question> query\n"
    assert process.stdout.readline().startswith("SELECT COUNT")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LONGEST_WAIT)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: stopped by a signal."
    assert "Traceback" not in err
