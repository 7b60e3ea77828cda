"""A tiny T5 and reports with summaries, made in process, for the tests of the summarizer."""

import json
from pathlib import Path
from random import Random

from build_summaries import report
from build_t5 import make_model, make_tokenizer

PARTS = {"train": 64, "validation": 12, "test": 8}


def write_reports(path: Path, **names) -> Path:
    """Write reports as JSON lines with a column `split` and return the file.

    Args:
        names: other names of the columns.
    """
    random, rows = Random(5), []
    for part, count in PARTS.items():
        for _ in range(count):
            row = report(random)
            rows.append({names.get(name, name): value for name, value in row.items()} | {"split": part})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_t5(folder: Path) -> Path:
    """Save a tiny random T5 with a tokenizer and return the folder."""
    random = Random(0)
    tokenizer = make_tokenizer([text for _ in range(300) for text in report(random).values()])
    make_model(tokenizer, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_decoder_layers=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
