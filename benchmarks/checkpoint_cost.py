"""What it costs to put checkpoints into MLflow: the same training with `--log-checkpoints` none, best and all.

The arms are interleaved. Printed are the seconds of training as a ratio to `none` (median of the repeats), and what
the run takes in the artifact store. `python benchmarks/checkpoint_cost.py --repeats 3`
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow

FOLDER = Path(__file__).parent.parent
MODES = ("none", "best", "all")


def train(mode: str, scratch: Path, flags: list[str]) -> tuple[float, int, list[str]]:
    """Return seconds of training, bytes of the artifacts, and what the script says of each checkpoint."""
    place = Path(tempfile.mkdtemp(dir=scratch))
    uri = f"sqlite:///{place / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("sql-generator", artifact_location=(place / "artifacts").as_uri())
    command = [sys.executable, str(FOLDER / "train_sql_generator.py"), *flags, "--output-dir", str(place / "outputs"),
               "--log-checkpoints", mode, "--verbose"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"MLFLOW_TRACKING_URI": uri}
    )
    seconds = mlflow.get_run(done.stdout.strip()).data.metrics["train_runtime"]
    size = sum(path.stat().st_size for path in (place / "artifacts").rglob("*") if path.is_file())
    return seconds, size, re.findall(r"is in MLflow: (.*)", done.stderr)


def main() -> None:
    """Run the arms and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument("--save-steps", type=int, default=10)
    flags = parser.parse_args()
    training = [
        "--base-model", str(FOLDER / "demo" / "sql-base"), "--dataset", str(FOLDER / "demo" / "text_to_sql.jsonl"),
        "--max-steps", str(flags.max_steps), "--save-steps", str(flags.save_steps), "--eval-steps",
        str(flags.save_steps), "--score-rows", "0", "--max-validation-rows", "50", "--disable-tqdm", "true",
        "--learning-rate", "2e-3",
    ]  # fmt: skip
    found = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(flags.repeats):
            for mode in MODES:
                found[mode].append(train(mode, Path(scratch), training))
    base = statistics.median(seconds for seconds, _, _ in found["none"])
    print(f"{'--log-checkpoints':<20}{'training':>10}{'ratio':>8}{'artifacts':>12}  a checkpoint")
    for mode, runs in found.items():
        seconds, size = statistics.median(run[0] for run in runs), runs[0][1]
        last = runs[-1][2][-1] if runs[-1][2] else "stays on the disk"
        print(f"{mode:<20}{seconds:>8.1f} s{seconds / base:>8.2f}{size / 1e6:>9.1f} MB  {last}")


if __name__ == "__main__":
    main()
