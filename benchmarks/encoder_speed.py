"""Training an encoder: texts padded to 128 tokens in float32 against train_classifier.py, at the F1 each ends with.

Run: python benchmarks/encoder_speed.py --base-model $MINILM --dataset FOLDER. Both arms train on the same balanced
sample of UNFAIR-ToS in the same number of steps, with the same adapter, rate and dropout, and are scored on the whole
validation split by the same code. Each arm and seed has a process of its own; the arms take turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.models.bases.loading import load_encoder, load_tokenizer
from finetune.models.classifier.encoder import EncoderClassifier
from finetune.reports.classifier_trainer import ClassifierTrainer
from finetune.rows.labelled_texts import LabelledTexts
from finetune.rows.labels import balanced_sample, find_labels, read_names
from finetune.rows.loading import load_rows
from finetune.training.weighting import Weighting
from train_classifier import ClassifierTrainingArguments, Flags

import torch
from peft import LoraConfig, get_peft_model
from transformers import BitsAndBytesConfig, DataCollatorWithPadding, set_seed

ARMS = ("padded to 128, float32", "train_classifier.py")
MAX_LENGTH = 128


def run_arm(flags) -> dict:
    """Train one arm and return rows a second and its scores."""
    ours, defaults = flags.arm == ARMS[1], Flags()
    tokenizer = load_tokenizer(flags.base_model, kind="encoder")
    rows = load_rows(flags.dataset, ("text",), None, 0)
    labels = find_labels(rows.train, None, read_names([str(ROOT / "metrics" / "unfair_tos" / "labels.txt")]))
    parts = {
        name: LabelledTexts.encode(part, labels, tokenizer, MAX_LENGTH, False, name)
        for name, part in (("train", rows.train), ("validation", rows.validation))
    }
    train = parts["train"]
    train = train.take(balanced_sample(train.actual, labels, flags.rows, 0))
    set_seed(flags.seed)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    weighting = Weighting.of(train.actual, labels, defaults.imbalance_power)
    encoder = load_encoder(flags.base_model, None, nf4 if ours else None)
    model = EncoderClassifier(encoder, labels.outputs, "mean", weighting.bias)
    lora = LoraConfig(
        task_type="SEQ_CLS", r=defaults.lora_r, lora_alpha=defaults.lora_alpha, lora_dropout=defaults.lora_dropout,
        target_modules="all-linear",
    )  # fmt: skip
    padding = {} if ours else {"padding": "max_length", "max_length": MAX_LENGTH}
    with tempfile.TemporaryDirectory() as folder:
        args = ClassifierTrainingArguments(
            output_dir=folder, report_to=[], save_strategy="no", eval_strategy="no", load_best_model_at_end=False,
            logging_strategy="no", disable_tqdm=True, seed=flags.seed, num_train_epochs=flags.epochs,
            metric_for_best_model=None, train_sampling_strategy="group_by_length" if ours else "random",
        )  # fmt: skip
        trainer = ClassifierTrainer(
            model=get_peft_model(model, lora), args=args, train_dataset=train.dataset(), processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer, **padding), compute_loss_func=weighting.loss,
            validation=parts["validation"], labels=labels,
        )  # fmt: skip
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        scores = trainer.evaluate()
    shown = {name: scores[f"eval_{name}"] for name in ("micro_f1", "macro_f1", "binary_f1") if f"eval_{name}" in scores}
    return {"rows_per_second": flags.epochs * flags.rows / seconds, **shown}


def main() -> None:
    """Run both arms with each seed and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", required=True, help="folder of the encoder")
    parser.add_argument("--dataset", required=True, help="folder with train.jsonl and validation.jsonl of UNFAIR-ToS")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arm", help="run this one with --seed and print its figures as JSON")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    if flags.arm:
        print(json.dumps(run_arm(flags)))
        return
    found: dict[str, list[dict]] = {name: [] for name in ARMS}
    for seed in flags.seeds:
        for name in ARMS:
            command = [sys.executable, __file__, *sys.argv[1:], "--arm", name, "--seed", str(seed)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name}:\n{done.stderr[-3000:]}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    slowest = statistics.median(run["rows_per_second"] for run in found[ARMS[0]])
    scores = [name for name in found[ARMS[0]][0] if name != "rows_per_second"]
    print(f"{flags.rows} rows, {flags.epochs:g} epochs, seeds {flags.seeds}; medians, scores by seed")
    print(f"| arm | rows/s | ratio | {' | '.join(scores)} |\n| --- | --- | --- |{' --- |' * len(scores)}")
    for name, runs in found.items():
        speeds = [run["rows_per_second"] for run in runs]
        shown = [" / ".join(f"{run[score]:.3f}" for run in runs) for score in scores]
        speed = statistics.median(speeds)
        print(
            f"| {name} | {speed:.1f} ({min(speeds):.1f}-{max(speeds):.1f}) | {speed / slowest:.2f}"
            f" | {' | '.join(shown)} |"
        )


if __name__ == "__main__":
    main()
