"""What float32 and bfloat16 cost on this CPU, as it is and without the instructions for bfloat16.

Run: python benchmarks/compute_dtype.py [--model CHECKPOINT]. Each arm has a process of its own. First the seconds of
one training step on one pack of the demo; then 300 held-out questions, answered by a model that was trained in
bfloat16: computed in that, and in what `auto` chooses without its instructions. Without a model one is trained first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.logged_models.opening import open_model
from finetune.models.bases.loading import load_decoder, load_tokenizer
from finetune.models.bases.quantization import DTYPES, bfloat16_speedup
from finetune.models.prompts import Prompt
from finetune.models.restoring import Loading
from finetune.rows.files.reading import read_rows
from finetune.rows.packing import PackingCollator
from finetune.rows.sql.encoding import encode_rows
from finetune.training.adapters import add_adapter

import torch
from peft import LoraConfig
from prediction_speed import DATA, train
from transformers import BitsAndBytesConfig

BASE = ROOT / "demo" / "sql-base"
# oneDNN and PyTorch as on a CPU with AVX2 only.
MACHINES = {"as it is": {}, "AVX2 only": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}


def step(name: str, tokens: int) -> float:
    """Return the seconds of a training step on one pack, forward, backward and optimiser; the second one's."""
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                             bnb_4bit_compute_dtype=DTYPES[name])  # fmt: skip
    lora = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=64, target_modules="all-linear")
    model = add_adapter(load_decoder(str(BASE), None, nf4, DTYPES[name]), lora).train()
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], fused=True)
    rows = [row for row in read_rows(DATA) if row["split"] == "train"][:64]
    encoded = encode_rows(rows, Prompt.load("text_to_sql"), load_tokenizer(str(BASE)), 512).dataset
    features = [{key: row[key] for key in ("input_ids", "labels")} for row in encoded]
    pack = dict(PackingCollator(tokens)(features))["packs"][0]
    for _ in range(2):
        start = time.perf_counter()
        model(**pack).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def answer(model: str, rows: int, compute_dtype: str, trained_in: str) -> dict:
    """Return the seconds and the tokens of the answers to held-out questions.

    Args:
        trained_in: what the card is to say.
    """
    logged = open_model(model)
    logged = replace(logged, card=replace(logged.card, compute_dtype=trained_in))
    writer = logged.load(Loading(compute_dtype=compute_dtype))
    questions = [row for row in read_rows(DATA) if row["split"] == "test"][:rows]
    prompts = writer.encode(questions)
    start = time.perf_counter()
    answers = writer.write(prompts, batch_size=32)
    return {"seconds": time.perf_counter() - start, "tokens": [one.token_ids for one in answers]}


def in_process(machine: str, *arm: str):
    """Return what an arm measures, in a process of its own."""
    command = [sys.executable, __file__, "--arm", *arm]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | MACHINES[machine])
    if done.returncode:
        raise SystemExit(f"the arm {' '.join(arm)} failed; its messages stand above.")
    return json.loads(done.stdout.splitlines()[-1])


def compare_steps(tokens: int) -> None:
    """Print the seconds of a training step by type and machine."""
    print(f"one training step, {tokens} tokens, {torch.get_num_threads()} threads")
    print("| machine | product of 256, bfloat16 : float32 | float32 | bfloat16 | float32 : bfloat16 |")
    print("| --- | --- | --- | --- | --- |")
    for machine in MACHINES:
        speedup = in_process(machine, "product")
        seconds = [in_process(machine, "step", name, str(tokens)) for name in ("fp32", "bf16")]
        shown = " | ".join(f"{value:.2f} s" for value in seconds)
        print(f"| {machine} | {speedup:.2f} times as fast | {shown} | {seconds[0] / seconds[1]:.2f} |", flush=True)


def compare_answers(model: str, rows: int) -> None:
    """Print the speed of answers, and how many are those of the same weights computed in bfloat16."""
    arms = {
        "trained and computed in bfloat16": ("as it is", "recorded", "bf16"),
        "trained in bfloat16, computed in what `auto` chooses": ("AVX2 only", "auto", "bf16"),
        "trained and computed in float32": ("AVX2 only", "recorded", "fp32"),
    }
    print("| model | machine | rows/s | same tokens as the first |")
    print("| --- | --- | --- | --- |")
    expected = None
    for name, (machine, compute_dtype, trained_in) in arms.items():
        found = in_process(machine, "answer", model, str(rows), compute_dtype, trained_in)
        expected = expected or found["tokens"]
        same = sum(a == b for a, b in zip(found["tokens"], expected, strict=True))
        print(f"| {name} | {machine} | {rows / found['seconds']:.2f} | {same} of {len(expected)} |", flush=True)


def main() -> None:
    """Measure the arms and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="checkpoint folder of a model that was trained in bfloat16")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=3808)
    parser.add_argument("--arm", nargs="+", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.arm:
        kind, *values = flags.arm
        measured = {"product": bfloat16_speedup, "step": lambda name, tokens: step(name, int(tokens)),
                    "answer": lambda model, rows, *types: answer(model, int(rows), *types)}  # fmt: skip
        return print(json.dumps(measured[kind](*values)))
    with tempfile.TemporaryDirectory() as folder:
        compare_steps(flags.tokens)
        compare_answers(flags.model or train(folder, "--compute-dtype", "bf16"), flags.rows)


if __name__ == "__main__":
    main()
