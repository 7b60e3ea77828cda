"""Write demo/text_to_sql.jsonl: generated questions, schemas and SQL. Run: python demo/build/build_data.py

Three parts in one file, told apart by the column `split`: training rows, validation rows (for the
evaluation loss), test rows (for the score before and after). The table and column names of the test
rows are built from words that neither the training rows nor the pretraining text of demo/sql-base
have, and no two parts share a schema.
"""

import argparse
import json
import re
import sqlite3
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from metrics.sql_execution.queries import normalize_sql
from questions import ONE_TABLE, Scene, joined, question, schema
from vocabulary import Vocabulary

# "The mean area" of a table with a column mean_area has two right answers.
AGGREGATE_WORDS = set("average mean maximum minimum total number most common top first last latest".split())
REQUESTS = {"list", "show", "give", "name", "tell", "find", "return", "count", "i"}  # end with a full stop
FILE = Path(__file__).parents[1] / "text_to_sql.jsonl"


def make_row(vocabulary: Vocabulary, split: str) -> dict:
    """Return one row: split, question, context (CREATE TABLE statements) and answer (SQL)."""
    two = vocabulary.random.random() < 0.3
    tables = schema(vocabulary, 2 if two else 1, range(3, 5) if two else range(1, 8))
    words, sql = question(Scene(vocabulary, tables[:]), [joined] * 8 + ONE_TABLE if two else ONE_TABLE)
    words = words[0].upper() + words[1:]
    context = "; ".join(table.create_statement() for table in tables)
    end = "." if words.split()[0].lower() in REQUESTS else "?"
    return {"split": split, "question": words + end, "context": context, "answer": sql}


def identifiers(row: dict) -> set[str]:
    """Return the table and column names of a row's schema."""
    return set(re.findall(r"(\w+) (?:\(|TEXT|INTEGER|DATE)", row["context"]))


def usable(row: dict) -> bool:
    """Say whether the row has one right answer that SQLite accepts on its own schema and the score can parse."""
    if any(word in AGGREGATE_WORDS for name in identifiers(row) for word in name.split("_")):
        return False
    with sqlite3.connect(":memory:") as database:
        try:
            database.executescript(row["context"])
            database.execute(row["answer"])
        except sqlite3.Error:  # A drawn name can be an SQL keyword.
            return False
    return normalize_sql(row["answer"]) is not None


def build(sizes: dict[str, int], seed: int) -> list[dict]:
    """Return the rows of all parts; every schema is drawn afresh, so no two rows share one."""
    rows: list[dict] = []
    names: set[str] = set()
    for split, size in sizes.items():
        vocabulary = Vocabulary(Random(f"{seed} {split}"), held_out=split == "test")
        part: list[dict] = []
        while len(part) < size:
            row = make_row(vocabulary, split)
            # A plural can be another word's singular: test rows must not meet a trained name that way.
            if usable(row) and not (split == "test" and names & identifiers(row)):
                part.append(row)
        rows += part
        names = names.union(*map(identifiers, part))
    return rows


def main() -> None:
    """Build the rows and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train-rows", type=int, default=3000)
    parser.add_argument("--validation-rows", type=int, default=100)
    parser.add_argument("--test-rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    sizes = {"train": flags.train_rows, "validation": flags.validation_rows, "test": flags.test_rows}
    rows = build(sizes, flags.seed)
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} rows -> {FILE}")


if __name__ == "__main__":
    main()
