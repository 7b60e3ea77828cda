"""Train, log and predict on the embedded default, on the CPU. Run: make demo

Every step is one of the scripts, called as a user calls it.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from finetune import console, tracking
from metrics.sql_execution.queries import same_query

import mlflow

BASE, DATA = "demo/sql-base", "demo/text_to_sql.jsonl"
TRAINING = ["--learning-rate", "2e-3"]  # ten times the default: so small a base takes and needs larger steps


def script(name: str, *arguments: str) -> str:
    """Run one script and return the last line of its stdout."""
    print(f"\n$ python {name} {' '.join(arguments)}", flush=True)
    command = [sys.executable, str(FOLDER.parent / name), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=FOLDER.parent, check=False)
    if done.returncode:
        sys.exit(f"{name} failed with status {done.returncode}; its messages stand above.")
    return done.stdout.strip().splitlines()[-1]


def predict(uri: str, rows: Path, folder: str, *flags: str) -> list[dict]:
    """Return the test rows with the answers of predict.py."""
    output = Path(folder) / f"answers{'-'.join(flags)}.jsonl"
    # The longest gold query has 98 tokens; the base never stops by itself.
    limit = ("--param", "max_new_tokens=112")
    script("predict.py", uri, "--input", str(rows), "--output", str(output), *limit, *flags)
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Run the three scripts, then compare the base with the adapter on the test rows."""
    start = time.monotonic()
    tracking.connect()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # Nothing here comes from the Hub: do not look there.
    run_id = script("train_sql_generator.py", "--base-model", BASE, "--dataset", DATA, *TRAINING)
    uri = script("log_model.py", run_id)
    rows = [json.loads(line) for line in (FOLDER.parent / DATA).read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        test = Path(folder) / "test.jsonl"
        test.write_text("".join(json.dumps(row) + "\n" for row in rows if row["split"] == "test"), encoding="utf-8")
        before = predict(uri, test, folder, "--no-adapter")
        after = predict(uri, test, folder)
    report(run_id, uri, before, after)
    print(f"{(time.monotonic() - start) / 60:.1f} minutes in all")


def report(run_id: str, uri: str, before: list[dict], after: list[dict]) -> None:
    """Print three answers side by side, the scores, and the commands to go on with; log the scores."""
    print("\nThree held-out questions (their tables and columns are in no training row)")
    for base, adapted in list(zip(before, after, strict=True))[:3]:
        answer = " ".join(base["sql"].split())
        print(f"\n  question  {base['question']}\n  schema    {base['context']}\n  gold      {base['answer']}")
        print(f"  base      {answer[:150]}{'...' * (len(answer) > 150)}\n  adapter   {adapted['sql']}")
    scores = {}
    for name, answers in (("base", before), ("adapter", after)):
        scores[f"test_match_{name}"] = sum(same_query(row["answer"], row["sql"]) for row in answers) / len(answers)
        scores[f"test_ended_{name}"] = sum(row["ended"] for row in answers) / len(answers)
    with mlflow.start_run(run_id=run_id):
        mlflow.log_metrics(scores)
    print(f"\nHeld-out score, {len(after)} questions (same query as gold, by normalised syntax tree)")
    for name in ("base", "adapter"):
        print(f"  {name:<8} {scores[f'test_match_{name}']:6.1%}   ends by itself {scores[f'test_ended_{name}']:6.1%}")
    print(f"\nrun id: {run_id}\n\nGo on with")
    print(f"  .venv/bin/mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}")
    print(
        f"  .venv/bin/python predict.py {uri} --context 'CREATE TABLE head (age INTEGER)'"
        " --question 'How many heads have an age of more than 56?'"
    )


if __name__ == "__main__":
    logging.disable(logging.INFO)
    try:
        main()
    except console.InputError as error:
        sys.exit(f"error: {error}")
