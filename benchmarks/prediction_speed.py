"""Prediction rows a second: one row at a time against batches, merged weights, and guesses from the prompt.

Run: python benchmarks/prediction_speed.py [--model runs:/<id>/model]. The arms take turns. Without a model one is
trained first, on the demo. Each arm's answers are compared, token by token, with greedy decoding one by one, and
with that by the same weights: merged ones are in float32 on a CPU, where those of 4 bits compute in bfloat16.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.logged_models.opening import open_model
from finetune.models.restoring import Loading
from finetune.models.sql_writer import SqlWriter
from finetune.rows.files.reading import read_rows
from finetune.runs import tracking
from finetune.runs.checkpoints import checkpoints_in

DATA = ROOT / "demo" / "text_to_sql.jsonl"


def train(folder: str, *flags: str) -> str:
    """Train the demo base for a minute and return its last checkpoint."""
    command = [
        sys.executable, str(ROOT / "train_sql_generator.py"), "--base-model", str(ROOT / "demo" / "sql-base"),
        "--dataset", str(DATA), "--max-steps", "90", "--learning-rate", "2e-3", "--score-rows", "0",
        "--output-dir", folder, "--disable-tqdm", "true", "--max-validation-rows", "48",
        *flags,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found = checkpoints_in(Path(folder) / done.stdout.split()[-1])
    return str(found[max(found)])


def one_by_one(writer: SqlWriter, prompts: list[list[int]]) -> list:
    """Answer single questions as predict.py does: names are guessed from the prompt."""
    return [writer.write([ids])[0] for ids in prompts]


def main() -> None:
    """Time the arms in turns and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="runs:/<id>/model or a checkpoint folder")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if flags.model:
            tracking.connect()
        logged = open_model(flags.model or train(folder))
        writer, merged = logged.load(), logged.load(Loading(merged=True))
    rows = [row for row in read_rows(DATA) if row["split"] == "test"][: flags.rows]
    prompts = writer.encode(rows)
    size = flags.batch_size
    arms = {
        "one by one": lambda: writer.write(prompts, batch_size=1),
        f"batches of {size}": lambda: writer.write(prompts, batch_size=size),
        "merged, one by one": lambda: merged.write(prompts, batch_size=1),
        f"merged, batches of {size}": lambda: merged.write(prompts, batch_size=size),
        "merged, single questions, guesses": lambda: one_by_one(merged, prompts),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    answers = {}
    for _ in range(flags.repeats):
        for name, answer in arms.items():
            start = time.perf_counter()
            answers[name] = [generation.token_ids for generation in answer()]
            seconds[name].append(time.perf_counter() - start)
    slowest = statistics.median(seconds["one by one"])
    print(f"{len(rows)} rows, {flags.repeats} repeats, medians")
    print("| arm | rows/s | ratio | same as one by one | as one by one of the same weights |")
    print("| --- | --- | --- | --- | --- |")
    for name, times in seconds.items():
        median = statistics.median(times)
        own = "merged, one by one" if name.startswith("merged") else "one by one"
        same = [
            f"{sum(a == b for a, b in zip(answers[name], answers[other], strict=True))} of {len(rows)}"
            for other in ("one by one", own)
        ]
        print(f"| {name} | {len(rows) / median:.2f} | {slowest / median:.2f} | {' | '.join(same)} |")


if __name__ == "__main__":
    main()
