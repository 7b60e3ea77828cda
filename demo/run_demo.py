"""Train, log, score and predict on the embedded default, on the CPU. Run: make demo

Every step is one of the scripts, called as a user calls it.
"""

import logging
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from finetune import InputError

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

import build_shop
from finetune.runs import tracking

import mlflow

BASE, DATA = "demo/sql-base", "demo/text_to_sql.jsonl"
SHOP_QUESTION = "What is the average age of all customers?"
# Ten times the default rate: so small a base takes and needs larger steps. 1,800 of 3,000 rows, one evaluation and no
# scorecard of validation, so that it takes minutes without bfloat16 too; the test rows are scored below.
TRAINING = ["--learning-rate", "2e-3", "--max-train-rows", "1800", "--score-rows", "0"]
TRAINING += ["--eval-strategy", "epoch", "--save-strategy", "epoch"]
# The base never stops, so that each batch takes 256 steps, whatever its size.
SCORING = ["--max-rows", "150", "--batch-size", "64"]


def script(name: str, *arguments: str) -> list[str]:
    """Run one script and return the lines of its stdout."""
    print(f"\n$ python {name} {shlex.join(arguments)}", flush=True)
    command = [sys.executable, str(FOLDER.parent / name), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=FOLDER.parent, check=False)
    if done.returncode:
        sys.exit(f"{name} failed with status {done.returncode}; its messages stand above.")
    return done.stdout.rstrip().splitlines()


def main() -> None:
    """Run the scripts one after the other, then show three answers and the commands to go on with."""
    start = time.monotonic()
    tracking.connect()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # Nothing here comes from the Hub: do not look there.
    build_shop.build()
    run_id = script("train_sql_generator.py", "--base-model", BASE, "--dataset", DATA, *TRAINING)[-1]
    uri = script("log_model.py", run_id)[-1]
    scorecard = script("evaluate_model.py", uri, "--dataset", DATA, *SCORING)
    show_examples(tracking.load_artifact_json(run_id, "scorecard/test.json"))
    print("\nHeld-out score: tables and columns that are in no training row\n\n" + "\n".join(scorecard))
    answer = script("predict.py", uri, "--database", "demo/shop.db", "--question", SHOP_QUESTION, "--execute")
    print("\n".join(answer))
    show_end(run_id, f"predict.py {uri} --database demo/shop.db --execute --interactive", start)


def show_end(run_id: str, command: str, start: float) -> None:
    """Print the run, the commands to go on with, and how long it took since `start`."""
    print(f"\nrun id: {run_id}\n\nGo on with")
    print(f"  .venv/bin/mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}")
    print(f"  .venv/bin/python {command}")
    print(f"{(time.monotonic() - start) / 60:.1f} minutes in all")


def show_examples(table: dict) -> None:
    """Print the first three answers of base and adapter side by side."""
    print("\nThree held-out questions")
    for values in table["data"][:3]:
        row = dict(zip(table["columns"], values, strict=True))
        answer = " ".join(row["base_sql"].split())
        print(f"\n  question  {row['question']}\n  schema    {row['schema']}\n  gold      {row['gold']}")
        print(f"  base      {answer[:150]}{'...' * (len(answer) > 150)}\n  adapter   {row['adapter_sql']}")


if __name__ == "__main__":
    logging.disable(logging.INFO)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
