"""One command that measures and tests this collection on a GPU, the most telling first.

Run: python benchmarks/gpu_session.py --results gpu.jsonl [--minutes 25] [--dry-run]. Each step runs in a process of
its own, in a dry run in this one, and writes each result the moment it is there, as a line of JSON; the table for
benchmarks/LOG.md comes last, on stdout. Started again with the same --results it goes on with the first step that has
not come to its end. A step that fails is written down with the end of its output, and the next one begins. On a CPU,
--dry-run walks through all of it with a base of a few layers. For a machine without a network see
benchmarks/carry_wheels.sh.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Step:
    """A step: the function in gpu_steps.py, or a command; minutes on an H100."""

    name: str
    minutes: float
    command: tuple[str, ...] = ()
    dry: bool = True


TRAINER = ("benchmarks/training_speed.py", "--random-base")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
STEPS = [
    Step("versions", 1),
    Step("packed_parity", 1),
    Step("attention", 1),
    Step("nf4_products", 1),
    Step("training", 4),
    Step("reference", 1),
    Step("decode_shapes", 1),
    Step("compiled", 2),
    Step("profile", 1),
    Step("decoding", 2),
    Step("scripts", 6),
    Step("gpu_tests", 3, (*PYTEST, "tests/scripts/test_gpu.py")),
    Step("trainer", 6, (*TRAINER, "--repeats", "1", "--rows", "128", "--eval-every", "16"), dry=False),
]


def main() -> None:
    """Run the steps that are not yet in the results, as long as there is time; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("gpu.jsonl"), help="JSON lines; goes on where they end")
    parser.add_argument("--minutes", type=float, default=60, help="begin no step that might end later")
    parser.add_argument("--only", nargs="+", help="these steps, again too")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU: all measuring steps on a tiny base")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.step:
        return measure(flags.step)
    if not flags.dry_run and not has_gpu():
        parser.error("there is no CUDA device here; --dry-run walks through the steps on a CPU.")
    unknown = set(flags.only or ()) - {step.name for step in STEPS}
    if unknown:
        parser.error(f"--only {' '.join(sorted(unknown))}: expected {', '.join(step.name for step in STEPS)}.")
    run_all(flags)
    print(table(read(flags.results)))


def has_gpu() -> bool:
    """Say whether torch sees a CUDA device, without holding on to it."""
    command = [sys.executable, "-c", "import torch, sys; sys.exit(not torch.cuda.is_available())"]
    return subprocess.run(command).returncode == 0


def run_all(flags) -> None:
    """Run step after step."""
    end, done = time.monotonic() + 60 * flags.minutes, {row["step"] for row in read(flags.results) if "ended" in row}
    for step in STEPS:
        if (flags.only and step.name not in flags.only) or (not flags.only and step.name in done):
            continue
        if flags.dry_run and not step.dry:
            continue
        left = end - time.monotonic()
        if 60 * step.minutes > left:
            print(f"{step.name}: left out, takes {step.minutes} of {left / 60:.1f} minutes", file=sys.stderr)
            continue
        run(step, flags.results, left, flags.dry_run)


def run(step: Step, results: Path, limit: float, is_dry: bool) -> None:
    """Run a step and write down its results as they come, and how it ended."""
    print(f"== {step.name}", file=sys.stderr, flush=True)
    start, name = time.monotonic(), {"step": step.name}
    cut_off = results.exists() and not results.read_text(encoding="utf-8").endswith("\n")
    with results.open("a", encoding="utf-8") as file:
        file.write("\n" * cut_off)

        def write(row: dict) -> None:
            file.write(json.dumps(name | row) + "\n")
            file.flush()
            print(f"  {show(row)}", file=sys.stderr, flush=True)

        # On a GPU what a step leaves in memory, or breaks, must not be the next one's; a dry run has no such cares.
        here = is_dry and not step.command
        status, output = run_here(step, write) if here else run_apart(step, limit, write)
        seconds = round(time.monotonic() - start, 1)
        if status or step.command:
            write({"status": status, "output": output[-3000:], "seconds": seconds})
        if not status:
            write({"ended": True, "seconds": seconds})


def run_apart(step: Step, limit: float, write: Callable[[dict], None]) -> tuple[int, str]:
    """Run a step in a process of its own; return its status and the end of its output."""
    command = [sys.executable, *(step.command or (__file__, "--step", step.name))]
    environment, tail = os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}, []
    process = subprocess.Popen(
        ["timeout", f"{limit:.0f}", *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith('{"'):
            write(json.loads(line))
        else:
            tail = [*tail[-40:], line.rstrip()]
    return process.wait(), "\n".join(tail)


def run_here(step: Step, write: Callable[[dict], None]) -> tuple[int, str]:
    """Run a step in this process, which has loaded torch by the second one; return its status and what went wrong."""
    import gpu_steps

    try:
        for row in getattr(gpu_steps, step.name)():
            write(row)
    except Exception:  # The next step begins, as after a process that failed.
        return 1, traceback.format_exc()
    return 0, ""


def measure(name: str) -> None:
    """Print the results of one step as they come."""
    import gpu_steps

    for row in getattr(gpu_steps, name)():
        print(json.dumps(row), flush=True)


def read(results: Path) -> list[dict]:
    """Return the results so far; a line that was cut off is left out."""
    rows = []
    for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def show(row: dict) -> str:
    """Return a result as one readable line."""
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
    )


def table(rows: list[dict]) -> str:
    """Return the results step by step, as Markdown tables."""
    parts = []
    for name in dict.fromkeys(row["step"] for row in rows):
        own = [{k: v for k, v in row.items() if k != "step"} for row in rows if row["step"] == name]
        parts.append(f"\n{name}\n")
        columns: tuple = ()
        for row in own:
            if tuple(row) != columns:
                columns = tuple(row)
                parts += ["", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
            cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values())
            parts.append(f"| {' | '.join(cell.replace(chr(10), ' ')[-300:] for cell in cells)} |")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
