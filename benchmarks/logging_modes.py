"""What each logging mode of log_model.py costs: peak memory, the model's size and seconds, a process for each.

    python benchmarks/logging_modes.py RUN [RUN ...]          # runs of the store of MLFLOW_TRACKING_URI
    python benchmarks/logging_modes.py --seven-billion FOLDER  # a base of Mistral-7B's shapes, its files sparse

The models are logged into the runs, as bench-MODE, without the reload check, and deleted again. The 7B-shaped base has
three files of zeros with the sizes of the real ones; what is merged into them is written in full: 29 GB on one disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from finetune.logged_models.writing.weights.base_files import SINGLE
from finetune.models.card import Card
from finetune.models.files.adapter_files import INDEX
from finetune.runs import lifecycle, tracking
from finetune.runs.checkpoints import find_checkpoint

import mlflow
import torch
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = Path(__file__).parent.parent
SHARDS = 3
MEASURE = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, done.returncode)"
)
MODES = {
    "adapter": (),
    "adapter, 4-bit base stored": ("--quantized-base", "{scratch}/nf4"),
    "adapter, --persist": ("--persist",),
    "merged": ("--mode", "merged"),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--seven-billion", type=Path, metavar="FOLDER")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/logging_modes"))
    flags = parser.parse_args()
    tracking.connect()
    print("| base | mode | peak memory, MB | model, MB | largest file of the base, MB | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for run_id in flags.runs:
        measure(run_id, list(MODES), flags.scratch)
    if flags.seven_billion:
        measure(make_seven_billion(flags.seven_billion), ["adapter", "merged"], flags.scratch)


def measure(run_id: str, modes: list[str], scratch: Path) -> None:
    """Print a line for each mode of logging a run."""
    checkpoint, _ = find_checkpoint(mlflow.get_run(run_id), "best")
    card = Card.read(checkpoint)
    base = Path(card.base_model)
    largest = max(path.stat().st_size for path in base.glob("*.safetensors"))
    for mode in modes:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        if mode == "adapter, 4-bit base stored" and (card.base_kind != "decoder" or card.quantization is None):
            continue
        options = [part.format(scratch=scratch) for part in MODES[mode]]
        name = f"bench-{list(MODES).index(mode)}"
        command = [sys.executable, str(ROOT / "log_model.py"), run_id, "--no-reload-check", "--name", name, *options]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - start
        peak, status = map(int, done.stdout.split())
        size = delete(run_id, name) if status == 0 else 0
        told = f"{seconds:.0f}" if status == 0 else f"status {status}"
        sizes = " | ".join(f"{value / 1e6:,.0f}" for value in (peak, size, largest))
        print(f"| {base.name} | {mode} | {sizes} | {told} |", flush=True)


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
