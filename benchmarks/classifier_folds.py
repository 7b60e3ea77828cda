"""What a classifier finds in documents it never saw: five folds by document over train and validation of UNFAIR-ToS.

Run: python benchmarks/classifier_folds.py --base-model $MINILM --dataset DIR --results FOLDER --candidates today svm
Then: python benchmarks/classifier_folds_table.py --dataset DIR --results FOLDER

A run leaves out two folds, trains on the other three and writes down its logits on both after each epoch. Each of the
two is then the test of thresholds, epoch and mixture chosen on the other: nothing is chosen on the rows it is scored
on, and all that needs no training of its own (thresholds, several adapters, the SVM beside them) is tried afterwards
on the same runs. A line of JSON a run; started again, what is written is left out. The runs of a candidate train side
by side (stacked_training.py); `trainer` are some of the same by the Trainer itself, to compare.
"""

import argparse
import base64
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
import zlib
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.models.bases.loading import load_tokenizer
from finetune.models.classifier.encoder import EncoderClassifier
from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import compute_logits
from finetune.reports.classifier_trainer import ClassifierTrainer
from finetune.rows.labelled_texts import LabelledTexts
from finetune.training.weighting import Weighting
from train_classifier import ClassifierTrainingArguments, Flags, build_model

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC
from stacked_training import DEVICE, Settings, Texts, build, train
from transformers import DataCollatorWithPadding, set_seed

FOLDS, SCALE, MAX_LENGTH = 5, 256, 256
PAIRS = list(combinations(range(FOLDS), 2))
RING = [tuple(sorted((fold, (fold + 1) % FOLDS))) for fold in range(FOLDS)]
TODAY = Settings()
CANDIDATES = {
    "today": TODAY,
    "bf16": replace(TODAY, bf16=True),
    "base not quantised": replace(TODAY, nf4=False),
    "rate 3e-4": replace(TODAY, learning_rate=3e-4),
    "rate 5e-4": replace(TODAY, learning_rate=5e-4),
    "rate 2e-3": replace(TODAY, learning_rate=2e-3),
    "head's rate x 0.3": replace(TODAY, head_rate=0.3),
    "rank 4": replace(TODAY, rank=4, alpha=8),
    "rank 64": replace(TODAY, rank=64, alpha=128),
    "query and value": replace(TODAY, targets=("query", "value")),
    "dropout 0": replace(TODAY, dropout=0.0),
    "dropout 0.3": replace(TODAY, dropout=0.3),
    "weight decay 0.1": replace(TODAY, weight_decay=0.1),
    "batch 32": replace(TODAY, batch=32),
    "batch 8": replace(TODAY, batch=8),
    "loss: all labels alike": replace(TODAY, power=0.0),
    "loss: power 0.5": replace(TODAY, power=0.5),
    "loss: focal": replace(TODAY, loss="focal"),
    "loss: asymmetric": replace(TODAY, loss="asymmetric"),
    "pooling cls": replace(TODAY, pooling="cls"),
    "sentence before": replace(TODAY, context=1),
    "epochs 4": replace(TODAY, epochs=4),
    "epochs 10": replace(TODAY, epochs=10),
}  # fmt: skip


@dataclass
class Data:
    """All rows, their labels as 0 and 1 (rows, labels), and the fold of each row's document."""

    rows: list[dict]
    labels: Labels
    actual: np.ndarray
    folds: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> "Data":
        """Return the rows of train.jsonl and validation.jsonl; a test file is never opened."""
        rows = []
        for part in ("train", "validation"):
            rows += map(json.loads, (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines())
        names = (ROOT / "metrics" / "unfair_tos" / "labels.txt").read_text(encoding="utf-8").split("\n")
        labels = Labels("multilabel", tuple(name for name in names if name))
        actual = labels.encode(rows, "rows")
        return cls(rows, labels, actual, folds_of([row["document"] for row in rows], actual))

    def of(self, *folds: int) -> np.ndarray:
        """Return the numbers of the rows of some folds, one fold after the other."""
        return np.concatenate([np.flatnonzero(self.folds == fold) for fold in folds])

    def without(self, *folds: int) -> np.ndarray:
        """Return the numbers of the rows of all other folds."""
        return np.flatnonzero(~np.isin(self.folds, folds))


def folds_of(documents: list[str], actual: np.ndarray) -> np.ndarray:
    """Return a fold for each row, the same for all rows of a document; each label and all rows spread evenly."""
    names = np.array(documents)
    have = np.hstack([actual, actual.any(1, keepdims=True), np.ones((len(actual), 1))])
    share = {name: have[names == name].sum(0) / have.sum(0) for name in dict.fromkeys(documents)}
    filled, folds = np.zeros((FOLDS, have.shape[1])), np.empty(len(documents), dtype=np.int64)
    for name in sorted(share, key=lambda one: -share[one].sum()):
        fold = int(np.argmin([((filled + np.eye(FOLDS)[[i]].T * share[name]) ** 2).sum() for i in range(FOLDS)]))
        filled[fold] += share[name]
        folds[names == name] = fold
    return folds


def texts_of(data: Data, base_model: str, context: int) -> Texts:
    """Return all rows as token ids on the device, each behind the sentence before it where context is 1."""
    tokenizer = load_tokenizer(base_model, kind="encoder")
    texts = [row["text"] for row in data.rows]
    if context:
        before = [""] + [one["text"] if one["document"] == two["document"] else ""
                         for one, two in zip(data.rows, data.rows[1:], strict=False)]  # fmt: skip
        encoded = tokenizer(texts, before, truncation="longest_first", max_length=MAX_LENGTH, padding=True)
    else:
        encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH, padding=True)
    ids, mask = (torch.tensor(encoded[name], device=DEVICE) for name in ("input_ids", "attention_mask"))
    segments = torch.tensor(encoded["token_type_ids"], device=DEVICE)
    return Texts(ids, segments, mask.sum(1), torch.from_numpy(data.actual).to(DEVICE))


def run_stack(job: dict, data: Data, flags) -> list[dict]:
    """Train the job's runs side by side and return a result for each."""
    settings = replace(CANDIDATES[job["candidate"]], **({"epochs": job["epochs"]} if job["epochs"] else {}))
    texts = texts_of(data, flags.base_model, settings.context)
    replicas = [{"rows": data.without(*pair), "held_out": data.of(*pair), "seed": 100 * seed + PAIRS.index(tuple(pair))}
                for *pair, seed in job["runs"]]  # fmt: skip
    weightings = [Weighting.of(data.actual[one["rows"]], data.labels, settings.power) for one in replicas]
    weights, biases = (torch.stack([getattr(one, name) for one in weightings]) for name in ("weights", "bias"))
    model = build(flags.base_model, [one["seed"] for one in replicas], biases, settings)
    found = train(model, texts, replicas, weights.to(DEVICE), settings)
    return [{"pair": list(pair), "seed": seed, "logits": logits}
            for (*pair, seed), logits in zip(job["runs"], found, strict=True)]  # fmt: skip


class Recording(ClassifierTrainer):
    """A ClassifierTrainer that keeps its logits on the held-out rows after each epoch, and scores nothing."""

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Keep the logits under the epoch's number."""
        logits = compute_logits(self.model, self.processing_class, self.validation.encoded.pieces, 256)
        self.found[str(round(self.state.epoch or 0))] = logits
        return {}


def run_trainer(job: dict, data: Data, flags) -> list[dict]:
    """Train a run as train_classifier.py does, with its own functions, and return its result."""
    ((*pair, seed),) = job["runs"]
    set_seed(seed)
    own = Flags(
        base_model=flags.base_model, max_length=MAX_LENGTH, compute_dtype="bf16" if DEVICE == "cuda" else "fp32"
    )
    tokenizer = load_tokenizer(flags.base_model, kind="encoder")
    parts = [LabelledTexts.encode([data.rows[row] for row in rows], data.labels, tokenizer, MAX_LENGTH, False, "rows")
             for rows in (data.without(*pair), data.of(*pair))]  # fmt: skip
    weighting = Weighting.of(parts[0].actual, data.labels, own.imbalance_power)
    model, _, _ = build_model(own, None, partial(EncoderClassifier, outputs=8, pooling="mean", bias=weighting.bias))
    with tempfile.TemporaryDirectory() as folder:
        args = ClassifierTrainingArguments(
            output_dir=folder, report_to=[], save_strategy="no", load_best_model_at_end=False, seed=seed,
            logging_strategy="no", disable_tqdm=True, metric_for_best_model=None, bf16=DEVICE == "cuda",
            **({"num_train_epochs": job["epochs"]} if job["epochs"] else {}),
        )  # fmt: skip
        trainer = Recording(
            model=model, args=args, train_dataset=parts[0].dataset(), eval_dataset=parts[1].dataset(),
            data_collator=DataCollatorWithPadding(tokenizer), processing_class=tokenizer,
            compute_loss_func=weighting.loss, validation=parts[1], labels=data.labels,
        )  # fmt: skip
        trainer.train()
    return [{"pair": pair, "seed": seed, "logits": trainer.found}]


def run_svm(job: dict, data: Data, flags) -> list[dict]:
    """Return the distances of a linear SVM on TF-IDF of 1 to 3 words, by C; a fold twice: trained on the other four."""
    ((*pair, seed),) = job["runs"]
    texts, rows = [row["text"] for row in data.rows], data.without(*pair)
    counter = TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True).fit(texts[row] for row in rows)
    known = counter.transform([texts[row] for row in rows])
    asked = counter.transform([texts[row] for row in data.of(*dict.fromkeys(pair))])
    logits = {
        f"{c:g}": np.stack([LinearSVC(C=c).fit(known, truth).decision_function(asked)
                            for truth in data.actual[rows].T], axis=1)
        for c in (1, 10)
    }  # fmt: skip
    return [{"pair": pair, "seed": seed, "logits": logits}]


def jobs_of(flags, done: set) -> list[dict]:
    """Return what is left to run: jobs of runs that train side by side, as lists of fold, fold and seed."""
    jobs = []
    for name in flags.candidates:
        pairs = [*PAIRS, *[(fold, fold) for fold in range(FOLDS)]] if name == "svm" else PAIRS
        pairs = RING if flags.pairs == "ring" and name != "svm" else pairs
        seeds = range(1) if name == "svm" else range(flags.first_seed, flags.seeds)
        left = [(*pair, seed) for seed in seeds for pair in pairs if (name, *pair, seed) not in done]
        size = 1 if name in ("svm", "trainer") else flags.side_by_side
        count = -(-len(left) // size)
        jobs += [{"candidate": name, "runs": [list(map(int, run)) for run in part], "epochs": flags.epochs}
                 for part in np.array_split(left, count) if count]  # fmt: skip
    return jobs


def run_job(job: dict, flags) -> None:
    """Run a job and append its results; a failure is written down, and the next job begins."""
    if DEVICE == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32: between the float32 of a CPU and the GPU's bfloat16
        torch.cuda.empty_cache()
    start, data = time.perf_counter(), Data.read(flags.dataset)
    how = {"svm": run_svm, "trainer": run_trainer}.get(job["candidate"], run_stack)
    try:
        found = how(job, data, flags)
    except Exception:
        print(f"{job['candidate']} {job['runs']} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return
    seconds = time.perf_counter() - start
    about = {"candidate": job["candidate"], "epochs": job["epochs"], "seconds": round(seconds, 1), "device": device()}
    with (flags.results / f"{multiprocessing.current_process().name}.jsonl").open("a", encoding="utf-8") as file:
        for one in found:
            logits = {name: pack(values) for name, values in one["logits"].items()}
            file.write(json.dumps(about | one | {"logits": logits, "side_by_side": len(found)}) + "\n")
    print(f"{job['candidate']}: {len(found)} runs in {seconds:.0f} s", file=sys.stderr, flush=True)


def device() -> str:
    """Return the name of what this runs on."""
    return torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"


def pack(values: np.ndarray) -> str:
    """Return logits as text, rounded to 1/256."""
    whole = np.clip(np.round(values * SCALE), -32767, 32767).astype("<i2")
    return base64.b64encode(zlib.compress(whole.T.tobytes())).decode()


def unpack(text: str, columns: int = 8) -> np.ndarray:
    """Return packed logits, shape (rows, columns), float32."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i2").reshape(columns, -1).T / np.float32(SCALE)


def read_results(folder: Path) -> list[dict]:
    """Return all results of a folder; a line that was cut off is left out."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found


def main() -> None:
    """Run what is left of the candidates, several jobs at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", help="folder of the encoder; the SVM needs none")
    parser.add_argument("--dataset", type=Path, required=True, help="folder with train.jsonl and validation.jsonl")
    parser.add_argument("--results", type=Path, required=True, help="folder for lines of JSON; goes on where they end")
    names = ("svm", "trainer", *CANDIDATES)
    parser.add_argument("--candidates", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--pairs", choices=("all", "ring"), default="all", help="ring: 5 of the 10 pairs of folds")
    parser.add_argument("--seeds", type=int, default=3, help="seeds below this number")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=0, help="in place of the candidate's, for a ranking")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--side-by-side", type=int, default=20, help="runs of a candidate in one pass")
    flags = parser.parse_args()
    flags.results.mkdir(parents=True, exist_ok=True)
    done = {(one["candidate"], *one["pair"], one["seed"]) for one in read_results(flags.results)}
    jobs = jobs_of(flags, done)
    with multiprocessing.get_context("spawn").Pool(flags.processes) as pool:
        for _ in pool.imap_unordered(partial(run_job, flags=flags), jobs):
            pass


if __name__ == "__main__":
    main()
