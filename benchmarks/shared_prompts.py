"""A training step on rows about one schema: each row whole, and what their prompts begin with alike computed once.

Run: python benchmarks/shared_prompts.py [--base-model FOLDER] [--database FILE] [--questions FILE] [--rows 16]
In turns in one process, NF4 and LoRA as train_sql_generator.py has them; medians, and the ratio of whole to shared.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.databases.contexts import fill_contexts
from finetune.databases.database import open_database
from finetune.models.bases.loading import load_tokenizer
from finetune.models.prompts import Prompt
from finetune.rows.packing import PackingCollator
from finetune.rows.sql.encoding import encode_rows
from finetune.training.packs import PackTrainer
from train_sql_generator import Flags, build_model

import torch
from transformers import TrainingArguments


def main() -> None:
    """Time both in turns and print medians and ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(ROOT / "demo/sql-base"))
    parser.add_argument("--database", default=str(ROOT / "demo/shop.db"))
    parser.add_argument("--questions", type=Path, default=ROOT / "demo/shop_questions.jsonl")
    parser.add_argument("--rows", type=int, default=16, help="rows a step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compute-dtype", default="fp32")
    flags = parser.parse_args()
    questions = [json.loads(line) for line in flags.questions.read_text().splitlines()]
    rows = fill_contexts((questions * flags.rows)[: flags.rows], open_database(flags.database))
    tokenizer = load_tokenizer(flags.base_model)
    encoded = [dict(row) for row in encode_rows(rows, Prompt.load("text_to_sql"), tokenizer, 4096).dataset]
    model = build_model(Flags(base_model=flags.base_model, compute_dtype=flags.compute_dtype), None)[0]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    tokens, losses = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        on_cpu = not torch.cuda.is_available()
        trainer = PackTrainer(model, TrainingArguments(folder, use_cpu=on_cpu, report_to=[], label_names=["labels"]))
        for repeat in range(flags.repeats + 1):
            for shares in seconds:
                batch = PackingCollator(4096, shares)(encoded)
                tokens[shares] = sum(pack["input_ids"].numel() for pack in batch["packs"])
                start = time.perf_counter()
                (batch,), items = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
                losses[shares] = trainer.training_step(model, batch, items).item()
                model.zero_grad()
                if repeat:  # The first one takes more of everything.
                    seconds[shares].append(time.perf_counter() - start)
    whole, shared = (statistics.median(seconds[shares]) for shares in (False, True))
    print(f"{flags.rows} rows: {tokens[False]} tokens in {whole:.2f} s, {tokens[True]} in {shared:.2f} s;"
          f" {whole / shared:.2f} times as fast; loss {losses[False]:.5f}, {losses[True]:.5f}")  # fmt: skip


if __name__ == "__main__":
    main()
