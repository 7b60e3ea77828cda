"""What train_classifier.py itself finds in documents it never saw: five folds by document, one after the other.

Run: python benchmarks/classifier_script_folds.py --base-model $MINILM --dataset DIR --results FOLDER [--seeds 42 0]
     [-- flags of train_classifier.py, such as --num-train-epochs 3]

Fold k is scored, fold k + 1 chooses epoch, thresholds and the SVM's share, the other three train; no file of the
training has the rows that are scored. Best and last checkpoint are asked for both folds. Unless `--tfidf none` is among
the flags, the best one is best with the SVM, so that "adapter alone, best" is not what that flag would have taken.
Started again with the same flags, folds that are done are left out. At the end: F1 of all five folds together, with
intervals by 2,000 draws of documents, paired. A test part of the data is never opened.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.models.classifier.classifier import Classifier
from finetune.models.classifier.scoring import Encoded, to_scores
from finetune.reports.linear_svm.fitting import fit_svm
from finetune.reports.linear_svm.mixing import choose
from finetune.rows.labelled_texts import LabelledTexts
from finetune.runs.checkpoints import checkpoints_in, read_state

import numpy as np
from classifier_folds import FOLDS, Data
from classifier_folds_table import DRAWS, NAMES, counts, f1_of

LABELS = ROOT / "metrics" / "unfair_tos" / "labels.txt"
SVM = "SVM, thresholds"


def check_results(flags: argparse.Namespace) -> None:
    """Write the flags of the trainings into the folder of results; end where it holds folds of other flags."""
    file, now = flags.results / "flags.json", {"base_model": flags.base_model, "others": flags.others}
    if not file.is_file() and not list(flags.results.glob("seed-*/fold-*/found.npz")):
        flags.results.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(now), encoding="utf-8")
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else "flags that were not written down"
    if before != now:
        sys.exit(f"{flags.results} holds folds of {before}, not of {now}; give a folder of its own with --results.")


def run_fold(data: Data, fold: int, seed: int, flags: argparse.Namespace) -> None:
    """Train a fold by the script where that is not done, and write down the logits of both checkpoints."""
    folder = flags.results / f"seed-{seed}" / f"fold-{fold}"
    if (folder / "found.npz").is_file():
        return
    rows = {"train": data.without(fold, (fold + 1) % FOLDS), "validation": data.of((fold + 1) % FOLDS)}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for part, numbers in rows.items():
        lines = (json.dumps(data.rows[row]) + "\n" for row in numbers)
        (folder / "data" / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    start = time.monotonic()
    run_id = train(folder, seed, flags)
    found = ask(folder / "checkpoints" / run_id, data, rows, data.of(fold))
    found["seconds"] = np.array(time.monotonic() - start)
    np.savez(folder / "part.npz", **found)
    (folder / "part.npz").rename(folder / "found.npz")
    print(f"seed {seed}, fold {fold}: {found['seconds']:.0f} s", file=sys.stderr, flush=True)


def train(folder: Path, seed: int, flags: argparse.Namespace) -> str:
    """Run train_classifier.py and return the id of its run."""
    command = [sys.executable, ROOT / "train_classifier.py", "--base-model", flags.base_model, "--seed", seed,
               "--dataset", folder / "data", "--labels", LABELS, "--output-dir", folder / "checkpoints",
               "--log-checkpoints", "none", "--disable-tqdm", "true", *flags.others]  # fmt: skip
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{(flags.results / 'mlflow.db').resolve()}"}
    done = subprocess.run(list(map(str, command)), env=os.environ | store, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"train_classifier.py ended with {done.returncode}; see above. Start this again to go on.")
    return done.stdout.split()[-1]


def ask(run: Path, data: Data, rows: dict[str, np.ndarray], scored: np.ndarray) -> dict[str, np.ndarray]:
    """Return the logits of the best and the last checkpoint, and the SVM's distances, on validation and scored rows."""
    texts = {"validation": [data.rows[row]["text"] for row in rows["validation"]],
             "scored": [data.rows[row]["text"] for row in scored]}  # fmt: skip
    known = [data.rows[row]["text"] for row in rows["train"]]
    svm = fit_svm(LabelledTexts(known, data.actual[rows["train"]], Encoded([], np.arange(len(known)), 0, known)))
    found = {f"svm_{part}": svm.distances(given) for part, given in texts.items()}
    checkpoints = checkpoints_in(run)
    last = max(checkpoints)
    best = read_state(checkpoints[last]).get("best_global_step") or last
    for name, step in (("best", best), ("last", last)):
        if name == "last" and best == last:
            found |= {f"last_{part}": found[f"best_{part}"] for part in texts}
            continue
        classifier = Classifier.load(checkpoints[step])
        for part, given in texts.items():
            found[f"{name}_{part}"] = classifier.logits(classifier.encode([{"text": text} for text in given]))
    return found


def decide(data: Data, fold: int, found) -> dict[str, np.ndarray]:
    """Return the decisions for the rows of a fold by way, all chosen on the next fold."""
    validation, labels = data.actual[data.of((fold + 1) % FOLDS)], data.labels
    ways = {"SVM, distance above 0": found["svm_scored"] > 0}
    sides = {SVM: ("svm", False), "adapter alone, best": ("best", False), "adapter alone, last": ("last", False),
             "with the SVM, best": ("best", True), "with the SVM, last": ("last", True)}  # fmt: skip
    for way, (name, mixed) in sides.items():
        chosen = choose(found[f"{name}_validation"], labels, validation, found["svm_validation"] if mixed else None)
        logits = found[f"{name}_scored"] + np.float32(chosen.share) * found["svm_scored"]
        ways[way] = to_scores(logits, labels) >= np.array(chosen.thresholds)
    return ways


def by_document(data: Data, seed: int, folder: Path) -> dict[str, np.ndarray]:
    """Return for each way the counts of all folds, summed by document."""
    index = {name: number for number, name in enumerate(dict.fromkeys(row["document"] for row in data.rows))}
    numbers = np.array([index[row["document"]] for row in data.rows])
    summed: dict[str, np.ndarray] = {}
    for fold in range(FOLDS):
        with np.load(folder / f"seed-{seed}" / f"fold-{fold}" / "found.npz") as found:
            for way, decided in decide(data, fold, found).items():
                rows = data.of(fold)
                one = counts(decided, data.actual[rows])
                into = summed.setdefault(way, np.zeros((len(index), *one.shape[1:]), dtype=np.int64))
                np.add.at(into, numbers[rows], one)
    return summed


def show(data: Data, seeds: list[int], folder: Path) -> None:
    """Print the table of all seeds whose folds are done: mean F1, spread between seeds, difference from the SVM."""
    done = [seed for seed in seeds if len(list(folder.glob(f"seed-{seed}/fold-*/found.npz"))) == FOLDS]
    if not done:
        print("No seed has all five folds yet.", file=sys.stderr)
        return
    trials = [by_document(data, seed, folder) for seed in done]
    documents = len(trials[0][SVM])
    draws = np.random.default_rng(0).multinomial(documents, np.full(documents, 1 / documents), size=DRAWS)
    print(f"seeds {', '.join(map(str, done))}")
    against = [f"{name} - {SVM}" for name in NAMES]
    print(f"| | {' | '.join((*NAMES, 'spread between seeds', *against))} |")
    print(f"|{' --- |' * 8}")
    for way in trials[0]:
        f1 = np.array([f1_of(one[way].sum(0)) for one in trials])
        spread = f1.std(axis=0, ddof=1) if len(f1) > 1 else np.full(3, np.nan)
        difference = np.mean([f1_of(one[way].sum(0)) - f1_of(one[SVM].sum(0)) for one in trials], axis=0)
        drawn = np.mean([f1_of(np.tensordot(draws, one[way], 1)) - f1_of(np.tensordot(draws, one[SVM], 1))
                         for one in trials], axis=0)  # fmt: skip
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        cells = [f"{value:.3f}" for value in f1.mean(axis=0)] + [" / ".join(f"{value:.3f}" for value in spread)]
        cells += [f"{100 * m:+.1f} ({100 * a:+.1f} to {100 * b:+.1f})"
                  for m, a, b in zip(difference, low, high, strict=True)]  # fmt: skip
        print(f"| {way} | {' | '.join(cells)} |")


def main() -> None:
    """Run what is left, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", required=True, help="folder of the encoder")
    parser.add_argument("--dataset", type=Path, required=True, help="folder with train.jsonl and validation.jsonl")
    parser.add_argument("--results", type=Path, required=True, help="folder of its own for each set of flags")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)), choices=range(FOLDS))
    parser.add_argument("others", nargs="*", help="after --: flags of train_classifier.py")
    flags = parser.parse_args()
    check_results(flags)
    data = Data.read(flags.dataset)
    for seed in flags.seeds:
        for fold in flags.folds:
            run_fold(data, fold, seed, flags)
    show(data, flags.seeds, flags.results)


if __name__ == "__main__":
    main()
