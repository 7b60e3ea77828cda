"""The share of rows in other SQL than SQLite's that metrics/sql_execution can score.

Rows of a file in SQLite's SQL are written in each dialect by sqlglot and carried back; the queries of
dialect_queries.jsonl are written by hand in what each dialect has of its own.

    python benchmarks/dialect_share.py --rows FILE.jsonl
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from metrics.sql_execution.judging import judge

import sqlglot

DIALECTS = ("postgres", "mysql", "bigquery", "tsql")


def share(name: str, rows: list[dict], dialect: str, shown: int) -> None:
    """Print how many rows have usable gold, and why others have not."""
    verdicts = [judge(row["answer"], row["answer"], row["context"], dialect=dialect) for row in rows]
    reasons = Counter(verdict.reason.partition(": ")[2] for verdict in verdicts if not verdict.usable)
    print(f"{name}, {dialect}: {sum(verdict.usable for verdict in verdicts)} of {len(rows)}")
    for reason, count in reasons.most_common(shown):
        print(f"  {count} {reason}")


def written(row: dict, dialect: str) -> dict:
    """Return a row in another dialect."""
    return {
        name: ";\n".join(sqlglot.transpile(row[name], read="sqlite", write=dialect)) for name in ("context", "answer")
    }


def read(path: Path) -> list[dict]:
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Print the shares, dialect by dialect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=FOLDER.parent / "demo" / "text_to_sql.jsonl")
    parser.add_argument("--max-rows", type=int, default=400)
    parser.add_argument("--show", type=int, default=20, help="print so many reasons")
    flags = parser.parse_args()
    own, rows = read(FOLDER / "dialect_queries.jsonl"), read(flags.rows)[: flags.max_rows]
    for dialect in DIALECTS:
        share("by hand", [row for row in own if row["dialect"] == dialect], dialect, flags.show)
        share(flags.rows.name, [written(row, dialect) for row in rows], dialect, flags.show)


if __name__ == "__main__":
    main()
