"""What classifier_folds.py has found, as a table: F1 on documents nobody saw, its spread, and how far from the SVM.

Run: python benchmarks/classifier_folds_table.py --dataset DIR --results FOLDER [FOLDER ...] [--processes N]

The test of each fold is decided with epoch, thresholds and mixture that were chosen on another fold, or on all four
others where the adapters of a fold were each trained without one of them. Decisions of the five folds are scored
together, micro- and macro-F1 as LexGLUE counts them. Intervals: 2,000 draws of documents, the same for both sides; the
SVM beside it has seen the same rows: three folds, or four with thresholds where all four others were used.
"""

import argparse
import itertools
import multiprocessing
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.reports.classifier_scores import FOLDS as CROSSFITTED
from finetune.reports.classifier_scores import choose_thresholds

import numpy as np
from classifier_folds import FOLDS, Data, read_results, unpack
from sklearn.metrics import average_precision_score

DRAWS, MIXTURES = 2000, (0.0, 0.5, 1.0, 2.0, 4.0)
SINGLE = ("best epoch", "last epoch", "average of 3", "0.5 for all", "one threshold", "half way to one", "with SVM")
NAMES = ("micro", "macro", "binary")


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-values))."""
    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))


def odds(values) -> np.ndarray:
    """Return log-odds, bounded."""
    values = np.clip(values, 1e-4, 1 - 1e-4)
    return np.log(values / (1 - values))


def choose(scores: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Return the script's thresholds, one a label."""
    return np.array(choose_thresholds(scores, actual))


def choose_one(scores: np.ndarray, actual: np.ndarray) -> float:
    """Return the one threshold for all labels with the best macro-F1."""
    tried = sigmoid(np.arange(-4, 2.1, 0.25))
    return float(tried[np.argmax([f1_of(counts(scores >= limit, actual).sum(0))[1] for limit in tried])])


def crossfitted(scores: np.ndarray, actual: np.ndarray) -> float:
    """Return macro-F1 with thresholds for each fifth of the rows that were chosen on the others."""
    decided, part = np.zeros(scores.shape, dtype=bool), np.arange(len(scores)) % CROSSFITTED
    for held_out in range(CROSSFITTED):
        decided[part == held_out] = scores[part == held_out] >= choose(
            scores[part != held_out], actual[part != held_out]
        )
    return f1_of(counts(decided, actual).sum(0))[1]


def counts(decided: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Return for each row hits, found and there, by label, "none of them" and "any": (rows, labels + 2, 3)."""
    sides = [np.hstack([side, ~side.any(1, keepdims=True), side.any(1, keepdims=True)])
             for side in (np.asarray(decided) > 0, actual > 0)]  # fmt: skip
    return np.stack([sides[0] & sides[1], *sides], axis=2).astype(np.int64)


def f1_of(summed: np.ndarray) -> np.ndarray:
    """Return micro-, macro- and binary F1, shape (..., 3), from sums of `counts` of shape (..., labels + 2, 3)."""
    by_label = 2 * summed[..., 0] / np.maximum(1, summed[..., 1] + summed[..., 2])
    classes = summed[..., :-1, :].sum(-2)
    micro = 2 * classes[..., 0] / np.maximum(1, classes[..., 1] + classes[..., 2])
    return np.stack([micro, by_label[..., :-1].mean(-1), by_label[..., -1]], axis=-1)


def limits_of(kind: str, scores: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Return thresholds chosen on rows, in one of the ways that are compared."""
    if kind == "0.5 for all":
        return np.full(scores.shape[1], 0.5)
    own, one = choose(scores, actual), 0.5
    if kind in ("one threshold", "half way to one"):
        one = choose_one(scores, actual)
    return {"one threshold": np.full(len(own), one), "half way to one": sigmoid((odds(own) + odds(one)) / 2)}.get(
        kind, own
    )


def mixed(adapter: tuple, svm: tuple, actual: np.ndarray) -> tuple:
    """Return scores of adapter and SVM together on both folds, the SVM's share chosen on the first.

    Args:
        adapter, svm: scores and distances, on the rows to choose on and on those to decide.
    """
    tried = [sigmoid(odds(adapter[0]) + share * svm[0]) for share in MIXTURES]
    share = MIXTURES[int(np.argmax([crossfitted(scores, actual) for scores in tried]))]
    return tuple(sigmoid(odds(scores) + share * distance) for scores, distance in zip(adapter, svm, strict=True))


class Runs:
    """All results: `of(candidate, test, other, seed)` are scores by epoch on both folds."""

    def __init__(self, data: Data, results: list[dict]):
        self.data, self.found = data, {}
        for one in results:
            self.found[one["candidate"], *one["pair"], one["seed"]] = one["logits"]
        self.seeds = {}
        for name, _, _, seed in self.found:
            self.seeds.setdefault(name, set()).add(seed)

    def of(self, name: str, test: int, other: int, seed: int) -> dict[str, tuple] | None:
        """Return for each epoch the logits on the other fold and on the test fold; None where it was not run."""
        pair = sorted((test, other))
        logits = self.found.get((name, *pair, seed))
        if logits is None:
            return None
        found, first = {}, len(self.data.of(pair[0]))
        for epoch, text in logits.items():
            parts = (unpack(text)[:first], unpack(text)[first:])
            found[epoch] = parts if other == pair[0] else parts[::-1]
        return found


def last_of(entries: dict) -> str:
    """Return the name of the last epoch."""
    return str(max(int(name) for name in entries if name != "average"))


def decide_single(runs: Runs, name: str, test: int, other: int, seeds: tuple) -> dict[str, tuple] | None:
    """Return decisions and scores on the test fold by way; with several seeds of their mean scores."""
    members = [runs.of(name, test, other, seed) for seed in seeds]
    if any(member is None for member in members):
        return None
    actual = runs.data.actual[runs.data.of(other)]
    scores = {
        epoch: tuple(np.mean([sigmoid(member[epoch][side]) for member in members], axis=0) for side in (0, 1))
        for epoch in members[0]
    }
    last, found = last_of(scores), {}
    epochs = [epoch for epoch in scores if epoch != "average"]
    best = epochs[int(np.argmax([crossfitted(scores[epoch][0], actual) for epoch in epochs]))]
    svm = runs.of("svm", test, other, 0)
    for way in SINGLE if len(seeds) == 1 else ("best epoch", "last epoch", "average of 3", "with SVM"):
        here = scores[{"best epoch": best, "average of 3": "average"}.get(way, last)]
        if way == "with SVM":
            if svm is None:
                continue
            here = mixed(here, svm["1"], actual)
        found[way] = here[1] >= limits_of(way, here[0], actual), here[1]
    return found


def decide_crossfitted(runs: Runs, name: str, test: int, seeds: tuple) -> dict[str, tuple] | None:
    """Return decisions on the test fold by adapters that were trained without one of the other four folds each.

    What one has not seen is scored by it (or by those of several seeds); thresholds are chosen on all four folds.
    """
    others = [fold for fold in range(FOLDS) if fold != test]
    members = [[runs.of(name, test, other, seed) for seed in seeds] for other in others]
    if any(one is None for group in members for one in group):
        return None
    actual = runs.data.actual[runs.data.of(*others)]
    last, svm = last_of(members[0][0]), [runs.of("svm", test, other, 0) for other in others]
    entry = [[member[last] for member in group] for group in members]
    held_out = np.concatenate([np.mean([sigmoid(one[0]) for one in group], axis=0) for group in entry])
    asked = np.mean([sigmoid(one[1]) for group in entry for one in group], axis=0)
    # Averaged in log-odds, what several say of a text lies where what one says does.
    asked_odds = sigmoid(np.mean([odds(sigmoid(one[1])) for group in entry for one in group], axis=0))
    averaged = [[member["average"] for member in group] for group in members]
    averaged_held_out = np.concatenate([np.mean([sigmoid(one[0]) for one in group], axis=0) for group in averaged])
    averaged_asked = sigmoid(np.mean([odds(sigmoid(one[1])) for group in averaged for one in group], axis=0))
    ways = {"4 folds, mean score": (held_out, asked), "4 folds, mean log-odds": (held_out, asked_odds),
            "4 folds, average of 3": (averaged_held_out, averaged_asked)}  # fmt: skip
    if None not in svm:
        distances = (np.concatenate([one["1"][0] for one in svm]), np.mean([one["1"][1] for one in svm], axis=0))
        ways["4 folds, with SVM"] = mixed((held_out, asked_odds), distances, actual)
    return {way: (here[1] >= choose(here[0], actual), here[1]) for way, here in ways.items()}


def decide_svm(runs: Runs, test: int, other: int) -> dict[str, tuple]:
    """Return the SVM's decisions: C chosen on the other fold; with thresholds of it; trained on all four others."""
    entries, actual = runs.of("svm", test, other, 0), runs.data.actual[runs.data.of(other)]
    c = max(entries, key=lambda one: f1_of(counts(entries[one][0] > 0, actual).sum(0))[1])
    scores = [sigmoid(side) for side in entries[c]]
    found = {"three folds": (scores[1] > 0.5, scores[1]),
             "three folds, thresholds": (scores[1] >= choose(scores[0], actual), scores[1])}  # fmt: skip
    if other == (test + 1) % FOLDS:
        others = [fold for fold in range(FOLDS) if fold != test]
        held_out = sigmoid(np.concatenate([runs.of("svm", test, fold, 0)[c][0] for fold in others]))
        whole = sigmoid(unpack(runs.found["svm", test, test, 0][c]))
        limits = choose(held_out, runs.data.actual[runs.data.of(*others)])
        found |= {"four folds": (whole > 0.5, whole), "four folds, thresholds": (whole >= limits, whole)}
    return found


def work(task: tuple, runs: Runs) -> tuple:
    """Return the task with its decisions by way."""
    kind, name, test, other, seeds = task
    if kind == "svm":
        return task, decide_svm(runs, test, other)
    if kind == "crossfitted":
        return task, decide_crossfitted(runs, name, test, seeds)
    return task, decide_single(runs, name, test, other, seeds)


def tasks_of(runs: Runs) -> list[tuple]:
    """Return all that is to be decided: kind, candidate, test fold, fold to choose on, seeds."""
    pairs = list(itertools.permutations(range(FOLDS), 2))
    tasks = [("svm", "svm", test, other, (0,)) for test, other in pairs]
    for name, seeds in runs.seeds.items():
        if name == "svm":
            continue
        tasks += [("single", name, test, other, (seed,)) for test, other in pairs for seed in sorted(seeds)]
        tasks += [("crossfitted", name, test, None, (seed,)) for test in range(FOLDS) for seed in sorted(seeds)]
        for size in (2, 3, 5):
            groups = [tuple(sorted(seeds)[i : i + size]) for i in range(0, len(seeds) - size + 1, size)]
            tasks += [("single", name, test, other, group) for test, other in pairs for group in groups]
            tasks += [("crossfitted", name, test, None, group) for test in range(FOLDS) for group in groups]
    return tasks


def gather(decided: list[tuple], data: Data) -> dict:
    """Return by candidate, seeds at once and way: for each trial (shift of the folds, seeds) counts by document.

    A trial has decided all five folds; what was not run as a whole is left out.
    """
    names = [row["document"] for row in data.rows]
    index = {name: number for number, name in enumerate(dict.fromkeys(names))}
    numbers = np.array([index[name] for name in names])
    pieces: dict = {}
    for (_, name, test, other, seeds), ways in decided:
        for way, (found, scores) in (ways or {}).items():
            shift = None if other is None or way.startswith("four folds") else (other - test) % FOLDS
            pieces.setdefault((name, len(seeds), way), {}).setdefault((shift, seeds), {})[test] = (found, scores)
    trials: dict = {}
    for key, by_trial in pieces.items():
        for trial, by_fold in by_trial.items():
            if len(by_fold) < FOLDS:
                continue
            rows = data.of(*range(FOLDS))
            one = counts(np.concatenate([by_fold[fold][0] for fold in range(FOLDS)]), data.actual[rows])
            summed = np.zeros((len(index), *one.shape[1:]), dtype=np.int64)
            np.add.at(summed, numbers[rows], one)
            precision = np.mean([average_precision_score(data.actual[data.of(fold)], by_fold[fold][1], average="macro")
                                 for fold in range(FOLDS)])  # fmt: skip
            trials.setdefault(key, {})[trial] = (summed, precision)
    return trials


def lines(trials: dict) -> list[tuple]:
    """Return for each candidate and way a row of the table: macro-F1 to sort by, and the cells."""
    draws = np.random.default_rng(0)
    documents = len(next(iter(next(iter(trials.values())).values()))[0])
    draws = draws.multinomial(documents, np.full(documents, 1 / documents), size=DRAWS)
    plain, limited = (trials["svm", 1, f"three folds{way}"] for way in ("", ", thresholds"))
    four = next(iter(trials["svm", 1, "four folds, thresholds"].values()))
    found = []
    for (name, size, way), own in trials.items():
        f1 = np.array([f1_of(summed.sum(0)) for summed, _ in own.values()])
        shifts: dict = {}
        for (shift, _), values in zip(own, f1, strict=True):
            shifts.setdefault(shift, []).append(values)
        spread = [np.var(values, axis=0, ddof=1) for values in shifts.values() if len(values) > 1]
        spread = np.sqrt(np.mean(spread, axis=0)) if spread else np.full(3, np.nan)
        differences = []
        for other in (plain, limited):
            rival = [four if shift is None else other[shift, (0,)] for shift, _ in own]
            drawn = np.mean([f1_of(np.tensordot(draws, mine[0], 1)) - f1_of(np.tensordot(draws, theirs[0], 1))
                             for mine, theirs in zip(own.values(), rival, strict=True)], axis=0)  # fmt: skip
            mean = f1.mean(0) - np.mean([f1_of(theirs[0].sum(0)) for theirs in rival], axis=0)
            low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
            differences.append([f"{100 * m:+.1f} ({100 * a:+.1f} to {100 * b:+.1f})"
                                for m, a, b in zip(mean, low, high, strict=True)])  # fmt: skip
        cells = [name, str(size), way, str(len(own)), *(f"{value:.3f}" for value in f1.mean(0))]
        cells += [" / ".join(f"{value:.3f}" for value in spread), f"{np.mean([p for _, p in own.values()]):.3f}"]
        found.append((f1.mean(0)[1], [*cells, *differences[0], *differences[1]]))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--results", type=Path, nargs="+", required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--best", type=int, help="print only the names of so many candidates, the best first")
    flags = parser.parse_args()
    data = Data.read(flags.dataset)
    runs = Runs(data, [one for folder in flags.results for one in read_results(folder)])
    with multiprocessing.get_context("fork").Pool(flags.processes) as pool:
        decided = pool.map(partial(work, runs=runs), tasks_of(runs), chunksize=8)
    rows = lines(gather(decided, data))
    if flags.best:
        alone = [(macro, cells[0]) for macro, cells in rows if cells[1:3] == ["1", "last epoch"]]
        names = [name for _, name in sorted(alone, reverse=True) if name not in ("today", "trainer", "bf16")]
        print("\n".join(names[: flags.best]))
        return
    columns = ("candidate", "seeds at once", "way", "trials", *NAMES, "spread between seeds", "average precision")
    columns += (*(f"{name} - {rival}" for rival in ("SVM", "SVM with thresholds") for name in NAMES),)
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for _, cells in sorted(rows, key=lambda one: -one[0]):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
