"""Prediction rows per second: batches of like lengths against one row at a time.

Run: python benchmarks/prediction_speed.py [--model runs:/<id>/model]. The arms take turns. Without a
model the bare demo base answers, which never stops by itself: every answer then has 64 tokens.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune import tracking
from finetune.base_models import load_decoder, load_tokenizer
from finetune.data import read_rows
from finetune.generation import generate_all
from finetune.logged_models import load_model, open_model
from finetune.prompts import Prompt

import torch
from transformers import BitsAndBytesConfig


def main() -> None:
    """Time both arms in turns and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="runs:/<id>/model or a checkpoint folder")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    flags = parser.parse_args()
    if flags.model:
        tracking.connect()
        model, tokenizer = load_model(open_model(flags.model), None, None)
    else:
        base = str(ROOT / "demo" / "sql-base")
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        model, tokenizer = load_decoder(base, None, config, torch.bfloat16), load_tokenizer(base)
    prompt = Prompt.load("text_to_sql")
    rows = [row for row in read_rows(ROOT / "demo" / "text_to_sql.jsonl") if row["split"] == "test"][: flags.rows]
    prompts = [tokenizer(prompt.render(row))["input_ids"] for row in rows]
    limit = 256 if flags.model else 64
    seconds: dict[int, list[float]] = {1: [], flags.batch_size: []}
    answers = {}
    for _ in range(flags.repeats):
        for size, times in seconds.items():
            start = time.perf_counter()
            answers[size] = generate_all(model, tokenizer, prompts, batch_size=size, max_new_tokens=limit)
            times.append(time.perf_counter() - start)
    slowest = statistics.median(seconds[1])
    print(f"{len(rows)} rows, {flags.repeats} repeats, medians")
    for size, times in seconds.items():
        median = statistics.median(times)
        print(f"batch size {size:<4} {len(rows) / median:7.2f} rows/s  {slowest / median:5.2f}x")
    same = sum(a.text == b.text for a, b in zip(*answers.values(), strict=True))
    print(f"{same} of {len(rows)} answers are the same text in both")


if __name__ == "__main__":
    main()
