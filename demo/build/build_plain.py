"""Write demo/text_to_sql_plain.jsonl: plain questions about everyday things. Run: python demo/build/build_plain.py

Its rows teach a language model how people ask; those of demo/text_to_sql.jsonl to read names that it has never seen.
The parts share no table set, and no part has a table of demo/shop.db.
"""

import json
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune.making_questions.asking import ask
from finetune.making_questions.schemas import Table

from plain_schemas import lines_of, read

FILE = Path(__file__).parents[1] / "text_to_sql_plain.jsonl"
SIZES = {"train": 2000, "validation": 100, "test": 100}


def rows_of(split: str, size: int) -> Iterator[dict]:
    """Yield rows of a part: split, question, context (CREATE TABLE statements) and answer (SQL)."""
    random, seen = Random(f"plain {split}"), set()
    lines = lines_of(split)
    while len(seen) < size:
        tables = draw(random, read(random.choice(lines), random))
        question, sql = ask(random, tables)
        context = "; ".join(table.create_statement() for table in tables)
        if (question, sql) not in seen:
            seen.add((question, sql))
            check(context, sql)
            yield {"split": split, "question": question, "context": context, "answer": sql}


def draw(random: Random, tables: list[Table]) -> list[Table]:
    """Return all of the tables or some, in another order, now and then without a column."""
    kept = random.sample(tables, random.choice((1, 2, 3, 3, 3)) if len(tables) == 3 else len(tables))
    names = {table.name for table in kept}
    return [without_column(random, replace(t, points=tuple(p for p in t.points if p[1] in names))) for t in kept]


def without_column(random: Random, table: Table) -> Table:
    """Return the table, in one case of three without one of its columns."""
    spare = [c for c in table.columns if c.kind not in ("id", "key") and c != table.label]
    if len(spare) < 2 or random.random() > 0.33:
        return table
    dropped = random.choice(spare)
    return replace(table, columns=tuple(column for column in table.columns if column != dropped))


def check(context: str, sql: str) -> None:
    """Run a query on its schema.

    Raises:
        sqlite3.Error: it does not run.
    """
    with sqlite3.connect(":memory:") as database:
        database.executescript(context)
        database.execute(sql)
    database.close()


def main() -> None:
    """Build the rows and write the file."""
    rows = [row for split, size in SIZES.items() for row in rows_of(split, size)]
    FILE.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} rows -> {FILE}")


if __name__ == "__main__":
    main()
