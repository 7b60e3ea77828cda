"""Train, log, ask, score on the embedded default, on the CPU. Run: make demo

Every step is one of the scripts, called as a user calls it.
"""

import json
import logging
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER / "build")]

import build_shop
from finetune import InputError
from finetune.databases.database import Database, QueryFailed, open_database
from finetune.databases.safe_sql import Refused
from finetune.runs import tracking
from steps import Steps, script, show_end

BASE, DATA, SHOP = "demo/sql-base", "demo/text_to_sql.jsonl", "demo/shop.db"
# Plain questions with the SQL that is right, to set the answers beside. They are worded as in training: of 23 that
# were tried, 12 were answered right; "How many customers live in Oslo?" was not.
QUESTIONS = {
    "What is the average age of all customers?": "SELECT AVG(age) FROM customer",
    "How many customers are there with city Oslo?": "SELECT COUNT(*) FROM customer WHERE city = 'Oslo'",
    "What is the name of the products with a price above 200?": "SELECT name FROM product WHERE price > 200",
    "What is the name of the product with the highest price?": "SELECT name FROM product ORDER BY price DESC LIMIT 1",
    "How many products are there for each category?": "SELECT category, COUNT(*) FROM product GROUP BY category",
}
# Ten times the default rate: so small a base takes and needs larger steps. 1,800 of 3,000 rows, one evaluation and no
# scorecard of validation, so that it takes minutes without bfloat16 too; the test rows are scored below.
TRAINING = ["--learning-rate", "2e-3", "--max-train-rows", "1800", "--score-rows", "0"]
TRAINING += ["--eval-strategy", "epoch", "--save-strategy", "epoch"]
# The base never stops, so that each batch takes 256 steps, whatever its size.
SCORING = ["--max-rows", "150", "--batch-size", "64"]


def main() -> None:
    """Run the scripts one after the other, then show two answers and the commands to go on with."""
    steps = Steps(4)
    build_shop.build()
    steps.begin(
        "Train", "3 to 6 min", "A LoRA adapter on a 4-bit base learns to answer with SQL, from 1,800 questions."
    )
    run_id = script("train_sql_generator.py", "--base-model", BASE, "--dataset", DATA, *TRAINING)[-1]
    steps.begin(
        "Log",
        "30 s",
        "The adapter becomes a model in MLflow, is loaded anew and has to answer as before.",
    )
    uri = script("log_model.py", run_id)[-1]
    steps.begin(
        "Ask", "20 s", "Plain questions about a shop, worded as in training; other wordings it often gets wrong."
    )
    ask_the_shop(script("predict.py", uri, "--database", SHOP, given="\n".join(QUESTIONS)))
    steps.begin("Score", "1 to 2 min", "Base and trained model answer 150 questions whose tables and columns are in no"
                " training row.")  # fmt: skip
    scores = script("evaluate_model.py", uri, "--dataset", DATA, *SCORING, "--json")
    show_scores([json.loads(line) for line in scores])
    show_examples(tracking.load_artifact_json(run_id, "scorecard/test.json"))
    show_end(run_id, f"predict.py {uri} --database {SHOP} --execute --interactive", steps.start)


def ask_the_shop(answers: list[str]) -> None:
    """Print each question with the SQL that the model wrote, what that returns, and whether it is right."""
    shop, right = open_database(str(build_shop.FILE), None), 0
    for (question, gold), sql in zip(QUESTIONS.items(), answers, strict=True):
        found, expected = run(shop, sql), run(shop, gold)
        right += found == expected
        shown = "right" if found == expected else f"wrong, it is {shorten(expected)}"
        print(f"\n  {question}\n    {shorten(sql)}\n    {shorten(found)} ({shown})")
    print(f"\n  {right} of {len(QUESTIONS)} right")


def run(shop: Database, sql: str) -> str:
    """Return the rows of a query in any order as a line, or why there are none."""
    try:
        rows = shop.run(sql, 100, 10).rows
    except (Refused, QueryFailed) as error:
        return f"no answer: {error}"
    return "; ".join(sorted(", ".join(map(str, row)) for row in rows)) or "no rows"


def shorten(text: str) -> str:
    """Return a text as a line of at most 150 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 150 else f"{text[:147]}..."


def show_scores(scores: list[dict]) -> None:
    """Print how many of the held-out questions are answered right, with and without training."""
    kinds = ("as they are", "with foreign columns, without types")
    print(f"\n  {'share answered right':<38}{'base':>8}{'trained':>10}")
    for kind, found in zip(kinds, scores, strict=True):
        print(f"  {kind:<38}{found['exec_accuracy_base']:>8.1%}{found['exec_accuracy']:>10.1%}")


def show_examples(table: dict) -> None:
    """Print the first two answers of base and adapter side by side."""
    print("\n  Two of the 150 questions; the names are invented, so that no model can know an answer by heart")
    for values in table["data"][:2]:
        row = dict(zip(table["columns"], values, strict=True))
        print(f"\n  question  {row['question']}\n  schema    {shorten(row['schema'])}\n  right     {row['gold']}")
        print(f"  base      {shorten(row['base_sql'])}\n  trained   {row['adapter_sql']}")


if __name__ == "__main__":
    logging.disable(logging.INFO)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
