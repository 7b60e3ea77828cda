"""How well metrics/sql_execution tells wrong SQL from right SQL, on real rows.

For each row, its gold query is mutated (one small error each) and rewritten (the same query in other
words). The metric should call every mutant wrong and every rewrite right. Simple rows have one table and
one SELECT; complex rows join, group, order or nest.

    python benchmarks/metric_power.py --rows FILE.jsonl --simple 300 --complex 300
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from metrics.sql_execution.queries import QueryError, parse, resolve
from metrics.sql_execution.schemas import read_schema
from metrics.sql_execution.sql_execution import judge
from metrics.sql_execution.suites import read_suite
from sql_mutants import Mutator, Rewriter

from sqlglot import exp


def load(path: Path, simple: int, complex_: int, seed: int) -> dict[str, list]:
    """Return readable rows of both kinds, `(row, tree, resolver)`; print how many of those tried are usable."""
    tried = 0
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    Random(seed).shuffle(rows)
    found: dict[str, list] = {"simple": [], "complex": []}
    for row in rows:
        try:
            tree = parse(row["answer"])
            resolver = resolve(tree, read_schema(row["context"]))
        except (QueryError, ValueError):
            continue
        plain = not tree.find(exp.Join, exp.Group, exp.Order, exp.SetOperation, exp.Subquery)
        kind, limit = ("simple", simple) if plain else ("complex", complex_)
        if len(found[kind]) < limit:
            tried += 1
            if judge(row["answer"], row["answer"], row["context"]).usable:
                found[kind].append((row, tree, resolver))
    print(f"usable: {sum(map(len, found.values()))} of {tried} rows")
    return found


def measure(rows: list, seed: int) -> dict:
    """Return kills and false rejects over rows, counted by kind, and the mutants that survive."""
    killed, total, rejected, rewrites = Counter(), Counter(), Counter(), Counter()
    survivors, rejects, clean_rows, nulls = [], [], 0, Counter()
    for row, tree, resolver in rows:
        alive = 0
        for kind, mutants in Mutator(tree, resolver, Random(seed)).all().items():
            for sql in mutants:
                total[kind] += 1
                if judge(sql, row["answer"], row["context"]).right:
                    alive += 1
                    survivors.append((kind, row["answer"], sql, row["context"]))
                else:
                    killed[kind] += 1
        clean_rows += not alive
        for sql in Mutator(tree, resolver, Random(seed)).with_nulls():
            verdict = judge(sql, row["answer"], row["context"])
            nulls["killed" if not verdict.right_with_nulls else "alive"] += 1
            if verdict.right_with_nulls:
                survivors.append(("NULLs only", row["answer"], sql, row["context"]))
        for kind, sqls in Rewriter(tree, resolver).all().items():
            for sql in sqls:
                rewrites[kind] += 1
                verdict = judge(sql, row["answer"], row["context"])
                if not verdict.right_with_nulls and verdict.right and kind != "count":
                    nulls["rewrites rejected"] += 1
                    rejects.append((kind + " with NULLs", row["answer"], sql, "", row["context"]))
                if not verdict.right:
                    rejected[kind] += 1
                    rejects.append((kind, row["answer"], sql, verdict.reason, row["context"]))
    start = time.process_time()
    for row, _, _ in rows:
        read_suite.cache_clear()
        judge(row["answer"], row["answer"], row["context"])
    milliseconds = 1000 * (time.process_time() - start) / len(rows)
    return {"killed": killed, "mutants": total, "clean_rows": clean_rows, "rejected": rejected, "rewrites": rewrites,
            "survivors": survivors, "rejects": rejects, "nulls": nulls, "milliseconds": milliseconds}  # fmt: skip


def main() -> None:
    """Measure both kinds of rows and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path(__file__).parent.parent / "demo" / "text_to_sql.jsonl")
    parser.add_argument("--simple", type=int, default=300)
    parser.add_argument("--complex", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print so many survivors and false rejects")
    flags = parser.parse_args()
    for name, rows in load(flags.rows, flags.simple, flags.complex, flags.seed).items():
        if not rows:
            continue
        found = measure(rows, flags.seed)
        killed, total = found["killed"].total(), found["mutants"].total()
        print(f"{name}: {len(rows)} rows; {killed} of {total} mutants killed = {killed / total:.2%};"
              f" every mutant killed on {found['clean_rows'] / len(rows):.1%} of the rows;"
              f" {found['rejected'].total()} of {found['rewrites'].total()} rewrites rejected;"
              f" {found['milliseconds']:.1f} ms a row")  # fmt: skip
        print(f"  with NULLs: {dict(found['nulls'])}")
        for kind, count in found["mutants"].items():
            print(f"  {kind:<18} {found['killed'][kind]:5} of {count:5} killed")
        for line in [*found["survivors"][: flags.show], *found["rejects"][: flags.show]]:
            print("  ", *line, sep="\n     ")


if __name__ == "__main__":
    main()
