"""Rebuild demo/clauses.jsonl: clauses of terms of service, with their labels. Run: python demo/build/build_clauses.py

Each row is a clause or two: unfair ones with a label each, or fair ones without, about the same matters. The
wordings and words of training, validation and test are three sets (clause_words.py), so that what is scored is
not whether a wording is recognised.
"""

import json
from pathlib import Path
from random import Random

from clause_words import FAIR, UNFAIR, WORDS

FILE = Path(__file__).parents[1] / "clauses.jsonl"
PARTS = {"train": 480, "validation": 160, "test": 200}


def fill(wording: str, part: str, random: Random) -> str:
    """Return a wording with words of its part in it."""
    words = {slot: random.choice(by_part[part].split(", ")) for slot, by_part in WORDS.items()}
    subject = random.choice(["we", words["company"]])
    text = wording.format(**words, we=subject, We=subject[0].upper() + subject[1:])
    return text[0].upper() + text[1:]


def row(part: str, random: Random) -> dict:
    """Return one row: half of them are fair; of the others a quarter has two labels, a quarter a fair sentence."""
    if random.random() < 0.5:
        labels, wordings = [], random.sample(FAIR[part], random.choice((1, 1, 2)))
    else:
        labels = random.sample(sorted(UNFAIR), random.choice((1, 1, 1, 2)))
        wordings = [random.choice(UNFAIR[label][part]) for label in labels]
        if len(labels) == 1 and random.random() < 0.25:
            wordings.append(random.choice(FAIR[part]))
    random.shuffle(wordings)
    text = " ".join(fill(wording, part, random) for wording in wordings)
    return {"split": part, "text": text, "labels": sorted(labels)}


def build(seed: int = 0) -> list[dict]:
    """Return the rows of all parts, no text twice."""
    random, rows = Random(seed), {}
    for part, count in PARTS.items():
        wanted = len(rows) + count
        while len(rows) < wanted:
            made = row(part, random)
            rows.setdefault(made["text"], made)
    return list(rows.values())


def main() -> None:
    """Build the rows and write the file."""
    rows = build()
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} rows -> {FILE}")


if __name__ == "__main__":
    main()
