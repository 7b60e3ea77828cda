"""Each logging mode of log_model.py, of each task: logged and checked, then asked in new processes and another folder.

    python benchmarks/logging_modes.py RUN [RUN ...]          # runs of the store of MLFLOW_TRACKING_URI
    python benchmarks/logging_modes.py --seven-billion FOLDER  # a base of Mistral-7B's shapes, its files sparse

The models are logged into the runs as bench-N, with the reload check, and deleted again; those of --from, of the base
of a text-to-SQL run, into runs of their own. Then predict.py and plain MLflow answer rows of the checkpoint, each in a
process of its own. The 7B-shaped base is logged alone; it has three files of zeros with the sizes of the real ones, and
what is merged into them is written in full: 29 GB on one disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from finetune.logged_models.writing.weights.base_files import SINGLE
from finetune.models.card import TEXT_TO_SQL, Card, SqlCard
from finetune.models.files.adapter_files import INDEX
from finetune.models.prompts import Prompt
from finetune.runs import lifecycle, tracking
from finetune.runs.checkpoints import find_checkpoint

import mlflow
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = Path(__file__).parent.parent
SHARDS, ROWS, LONGEST = 3, 4, 48  # files of the 7B-shaped base; rows that are asked; tokens of an answer
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# The script in a process that was not started by a large one, whose peak memory Linux would hand on to it. What it
# starts, the reload check, counts apart.
MEASURE = """
import json, resource, runpy, sys
told, *sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
    status = 0
except SystemExit as ended:
    status = ended.code or 0
own, started = (resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
seconds = [round(used.ru_utime + used.ru_stime, 1) for used in (own, started)]
open(told, "w").write(json.dumps({"status": status, "peak": own.ru_maxrss * 1024, "seconds": seconds}))
"""
START = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
PLAIN = """
import json, sys
import mlflow, pandas
given, params = map(json.loads, sys.argv[2:])
data = pandas.DataFrame(given) if isinstance(given[0], dict) else given
found = mlflow.pyfunc.load_model(sys.argv[1]).predict(data, params=params)
print(json.dumps(found.to_dict("records") if hasattr(found, "to_dict") else list(found)))
"""
OF_RUNS = {
    "adapter": (),
    "adapter, `--quantized-base`": ("--quantized-base", "{scratch}/nf4"),
    "adapter, `--persist`": ("--persist",),
    "merged": ("--mode", "merged"),
    "ONNX": ("--export", "onnx"),
}
OF_BASES = {
    "`--from`, checkpoint": ("--from", "{base}", "--mode", "checkpoint"),
    "`--from`, reference": ("--from", "bench/base@" + COMMIT, "--mode", "reference"),
    "`--from`, reference, `--persist`": ("--from", "bench/base@" + COMMIT, "--mode", "reference", "--persist"),
}
HEADS = ("base", "task", "mode", "peak memory, MB", "model, MB", "seconds, logging", "seconds, reload check",
         "reload check", "predict.py = plain MLflow")  # fmt: skip


@dataclass
class Case:
    """A checkpoint of a run, to be logged in one mode."""

    run_id: str
    card: Card
    base: Path
    mode: str
    scratch: Path

    def fits(self) -> bool:
        """Say whether the task has the mode."""
        if "quantized" in self.mode:
            return self.card.task == TEXT_TO_SQL and self.card.quantization is not None
        return self.card.task == ("classification" if self.mode == "ONNX" else TEXT_TO_SQL) or self.mode in (
            "adapter", "adapter, `--persist`", "merged"
        )  # fmt: skip

    def log(self, *options: str) -> tuple[dict, str]:
        """Log it; return what that took, and the model's URI."""
        name = f"bench-{[*OF_RUNS, *OF_BASES].index(self.mode)}"
        flags = [part.format(scratch=self.scratch, base=self.base) for part in (OF_RUNS | OF_BASES)[self.mode]]
        command = [*([self.run_id] if self.mode in OF_RUNS else []), "--name", name, *flags, *options]
        told = self.scratch / "took.json"
        lines = self._call("-c", MEASURE, str(told), str(ROOT / "log_model.py"), *command)
        exported = [line for line in lines if line.endswith("-onnx")]  # Its URI is not the last one.
        return json.loads(told.read_text()), (exported or lines or [""])[-1]

    def answers(self, uri: str) -> tuple[list, list]:
        """Return what predict.py and plain MLflow answer to the first rows of the checkpoint."""
        rows, params = self.card.inputs[:ROWS], {} if self.card.base_kind == "encoder" else {"max_new_tokens": LONGEST}
        file = self.scratch / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = [part for name, value in params.items() for part in ("--param", f"{name}={value}")]
        options += ["--compute-dtype", "recorded"] if self.mode not in ("merged", "ONNX") else []
        if isinstance(self.card, SqlCard) and self.mode in ("adapter", "adapter, `--persist`"):
            options += ["--precision", self.card.trained_in]  # Plain MLflow has the base unquantised.
        asked = self._call(str(ROOT / "predict.py"), uri, "--input", str(file), "--json", *options)
        given = [Prompt(self.card.prompt).model_input(row) for row in rows] if isinstance(self.card, SqlCard) else rows
        plain = self._call("-c", PLAIN, uri, json.dumps(given), json.dumps(params))
        return [json.loads(line) for line in asked], json.loads(plain[-1])

    def _call(self, *command: str) -> list[str]:
        """Run Python in another folder; return the lines on its stdout."""
        elsewhere = self.scratch / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        cache = {"HF_HUB_CACHE": str(self.scratch / "hub"), "HF_HUB_OFFLINE": "1"} if self.mode in OF_BASES else {}
        with (self.scratch / "stderr.txt").open("w") as errors:
            started = [sys.executable, "-c", START, sys.executable, *command]
            done = subprocess.run(
                started, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=elsewhere, env=os.environ | cache
            )
        if done.returncode:
            sys.exit(f"{self.base.name}, {self.mode}:\n{(self.scratch / 'stderr.txt').read_text()[-3000:]}")
        return done.stdout.splitlines()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--seven-billion", type=Path, metavar="FOLDER")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/logging_modes"))
    parser.add_argument("--modes", nargs="+", choices=(*OF_RUNS, *OF_BASES), default=(*OF_RUNS, *OF_BASES))
    flags = parser.parse_args()
    tracking.connect()
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}", flush=True)
    for run_id in flags.runs:
        measure(run_id, flags.modes, flags.scratch)
    if flags.seven_billion:
        measure(make_seven_billion(flags.seven_billion), ["adapter", "merged"], flags.scratch, is_asked=False)


def measure(run_id: str, modes: list[str], scratch: Path, is_asked: bool = True) -> None:
    """Print a line for each mode of logging a run.

    Args:
        is_asked: with the reload check, and with answers afterwards.
    """
    checkpoint, _ = find_checkpoint(mlflow.get_run(run_id), "best")
    card = Card.read(checkpoint)
    for mode in modes:
        case = Case(run_id, card, Path(card.base_model), mode, scratch)
        if case.fits():
            shutil.rmtree(scratch, ignore_errors=True)
            snapshots = scratch / "hub" / "models--bench--base" / "snapshots"
            snapshots.mkdir(parents=True)
            (snapshots / COMMIT).symlink_to(case.base)
            print(f"| {' | '.join(line_of(case, is_asked))} |", flush=True)


def line_of(case: Case, is_asked: bool) -> list[str]:
    """Log a model, ask it, delete it; return the cells of its line."""
    began = time.perf_counter()
    found, uri = case.log(*([] if is_asked or case.mode in OF_BASES else ["--no-reload-check"]))
    seconds = f"{found['seconds'][0]:.0f}", f"{found['seconds'][1]:.0f}"
    told = [case.base.name, case.card.task, case.mode, f"{found['peak'] / 1e6:,.0f}"]
    if found["status"] or not uri:
        return [*told, "", *seconds, f"status {found['status']}", ""]
    run_id, name = uri.removeprefix("runs:/").split("/")
    try:
        tags = mlflow.get_run(run_id).data.tags
        parity = tags.get("onnx_parity" if case.mode == "ONNX" else "reload_parity", "none")
        same = agreement(*case.answers(uri)) if is_asked else ""
    finally:
        size = delete(run_id, name)
        if case.mode == "ONNX":
            delete(run_id, name.removesuffix("-onnx"))
        if run_id != case.run_id:
            mlflow.MlflowClient().delete_run(run_id)
    print(f"{case.mode}: {time.perf_counter() - began:.0f} s in all", file=sys.stderr)
    return [*told, f"{size / 1e6:,.0f}", *seconds, parity if is_asked else "", same]


def agreement(asked: list[dict], plain: list) -> str:
    """Say how many answers of predict.py and plain MLflow are the same: texts to the letter, scores to 1e-5."""
    return f"{sum(map(is_same, asked, plain))} of {len(asked)}"


def is_same(asked: dict, plain: dict | str) -> bool:
    """Compare one answer."""
    if isinstance(plain, dict) and "scores" in plain:
        names = plain["scores"]
        close = np.allclose([asked["scores"][name] for name in names], list(names.values()), rtol=0, atol=1e-5)
        return asked["labels"] == plain["labels"] and bool(close)
    texts = plain.values() if isinstance(plain, dict) else [plain]
    same = asked.get("sql", asked.get("summary")) in texts
    if not same:
        print(f"predict.py    {asked}\nplain MLflow  {plain}", file=sys.stderr)
    return same


def delete(run_id: str, name: str) -> int:
    """Delete a run's models of a name with their files; return the bytes of these."""
    size, client = 0, mlflow.MlflowClient()
    experiment = mlflow.get_run(run_id).info.experiment_id
    query = f"source_run_id = '{run_id}' AND name = '{name}'"
    for model in mlflow.search_logged_models([experiment], query, output_format="list"):
        folder = Path(model.artifact_location.removeprefix("file://"))
        size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        client.delete_logged_model(model.model_id)
        shutil.rmtree(folder)
    return size


def make_seven_billion(folder: Path) -> str:
    """Make a run whose base has Mistral-7B's shapes in three sparse files; return its id."""
    base, checkpoint = folder / "mistral-7b-shaped", folder / "checkpoint-1"
    if not checkpoint.exists():
        command = [sys.executable, "tests/support/make_7b_adapter.py", str(base), str(checkpoint), "demo/sql-base"]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), dtype=torch.bfloat16)
        write_sparse(base, {name: list(tensor.shape) for name, tensor in model.state_dict().items()})
    run = mlflow.MlflowClient().create_run("0", tags={"finetune.checkpoints": str(folder)})
    lifecycle.rename_cards(folder, run.info.run_id)
    return run.info.run_id


def write_sparse(folder: Path, shapes: dict[str, list[int]]) -> None:
    """Write bfloat16 weights of zeros in safetensors files that take no room, with their index."""
    names, places = list(shapes), {}
    for number in range(SHARDS):
        file = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        header, end = {}, 0
        for name in names[number * len(names) // SHARDS : (number + 1) * len(names) // SHARDS]:
            begin, end = end, end + 2 * torch.Size(shapes[name]).numel()
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [begin, end]}
            places[name] = file
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as opened:
            opened.write(len(text).to_bytes(8, "little") + text)
            opened.truncate(8 + len(text) + end)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert not (folder / SINGLE).exists()


if __name__ == "__main__":
    main()
