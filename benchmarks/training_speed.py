"""Training side by side on one machine: the reference recipe, the steps away from it, TRL, and this collection.

Run: python benchmarks/training_speed.py [--ladder]. Each arm trains in a process of its own; the arms take turns,
and medians over the repeats are printed with their spread. All arms have the same base, rows in the same order,
samples a step, rank, learning rate and seed; the loss that is compared is that of the completions of held-out rows.
Reference recipe: MLflow's QLoRA tutorial (batches of 2 x 4 padded to 256 tokens, prompt in the loss, activation
checkpointing, paged 8-bit AdamW, dropout, fp32 norms and embeddings, LoRA on all linear layers and lm_head).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.models.bases.attention import PACKED_SDPA
from finetune.models.bases.loading import load_decoder, load_tokenizer
from finetune.models.bases.memory import peak_memory, reset_peak
from finetune.models.bases.quantization import choose_compute_dtype
from finetune.models.prompts import Prompt
from finetune.rows.loading import load_rows
from finetune.rows.packing import CompletionCollator, PackingCollator
from finetune.rows.splits.schema_split import split_by_schema
from finetune.rows.sql.encoding import encode_rows
from finetune.training.packs import PackTrainer
from train_sql_generator import COLUMNS

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    BitsAndBytesConfig,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import is_flash_attn_2_available, is_liger_kernel_available

ON_GPU = torch.cuda.is_available()
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MAX_LENGTH, SAMPLES_A_STEP, EVALUATED_ROWS = 256, 8, 48
WARM_UP_STEPS = 2
KEEP = "finetune.models.bases.loading.keep_freed_memory"


@dataclass(frozen=True)
class Recipe:
    """The reference recipe; each field is a lever."""

    padded_to_longest: bool = False
    one_micro_batch: bool = False
    checkpointing: bool = True
    head_adapter: bool = True
    dropout: float = 0.1
    upcast: bool = True
    optimizer: str = "paged_adamw_8bit"
    completions_only: bool = False
    packed: bool = False
    keeps_memory: bool = False
    liger: bool = False


REFERENCE = Recipe()
# Each step keeps those before it; the last one is train_sql_generator.py.
LADDER = {
    "reference recipe": (a := REFERENCE),
    "+ padded to the longest row": (b := replace(a, padded_to_longest=True)),
    "+ 8 x 1 instead of 2 x 4": (c := replace(b, one_micro_batch=True)),
    "+ no activation checkpointing": (d := replace(c, checkpointing=False)),
    "+ no adapter on lm_head": (e := replace(d, head_adapter=False)),
    "+ no dropout": (f := replace(e, dropout=0.0)),
    "+ frozen by hand, fused AdamW": (g := replace(f, upcast=False, optimizer="adamw_torch_fused")),
    "+ loss and logits of completions": (h := replace(g, completions_only=True)),
    "+ packed, attention in float32": (i := replace(h, packed=True)),
    "+ freed memory kept (ours)": replace(i, keeps_memory=True, liger=ON_GPU and is_liger_kernel_available()),
}
OURS = "+ freed memory kept (ours)"
ARMS = {
    "a reference recipe": LADDER["reference recipe"],
    "b the same, padded to the longest": LADDER["+ padded to the longest row"],
    "c ours, train_sql_generator.py": LADDER[OURS],
    "d TRL, completions, padded": "padded",
    "d TRL, completions, packed": "packed",
}


def open_decoder(flags):
    """Return the base in NF4: from its folder, or with random weights in the shape of Mistral-7B."""
    if not flags.random_base:
        dtype = choose_compute_dtype(flags.compute_dtype, "decoder")
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        return load_decoder(flags.base_model, None, quantization, dtype)
    from gpu_base import random_base

    return random_base()


def make_trainer(recipe: Recipe, flags, data: Dataset, folder: str) -> Trainer:
    """Return the trainer of a point on the way from the reference recipe to this collection."""
    tokenizer, length = load_tokenizer(flags.base_model), flags.length or MAX_LENGTH
    model = open_decoder(flags)
    model.set_attn_implementation(PACKED_SDPA if recipe.packed else "sdpa")
    if recipe.upcast:
        model = prepare_model_for_kbit_training(
            model, recipe.checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    modules = LAYERS + ["lm_head"] * recipe.head_adapter
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=32, lora_alpha=64, lora_dropout=recipe.dropout, target_modules=modules
    )  # fmt: skip
    options = {
        "activation_checkpointing": recipe.checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False} if recipe.checkpointing else None,
        "optim": recipe.optimizer,
        "use_liger_kernel": recipe.liger,
    }
    size = SAMPLES_A_STEP if recipe.one_micro_batch else 2
    args = TrainingArguments(folder, **common_settings(flags, size), **options)
    if recipe.packed:
        return PackTrainer(get_peft_model(model, lora), args, train_dataset=data, data_collator=PackingCollator(4096))
    if recipe.completions_only:
        collator = CompletionCollator(tokenizer)
    else:
        # The tutorial's pad token is EOS, so that its collator takes EOS out of the loss; not here, or no arm would
        # learn the same completions.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.pad_token
        data = data.remove_columns("labels")
        if not recipe.padded_to_longest:
            ids = {"input_ids": list(data["input_ids"])}
            padded = tokenizer.pad(ids, padding="max_length", max_length=length, padding_side="left")
            data = Dataset.from_dict(dict(padded))
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return Trainer(get_peft_model(model, lora), args, train_dataset=data, data_collator=collator)


def make_trl_trainer(packed: bool, flags, rows: list[dict], folder: str) -> Trainer:
    """Return TRL's SFTTrainer at its best settings: completions only, no dropout, no checkpointing."""
    from trl import SFTConfig, SFTTrainer

    tokenizer, prompt = load_tokenizer(flags.base_model), Prompt.load("text_to_sql")
    model = open_decoder(flags)
    model.set_attn_implementation("flash_attention_2" if is_flash_attn_2_available() and packed else "sdpa")
    lora = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=64, target_modules=LAYERS)
    texts = [{"prompt": prompt.render(row), "completion": row["answer"].strip()} for row in rows]
    args = SFTConfig(
        folder, max_length=MAX_LENGTH, packing=packed, completion_only_loss=True, activation_checkpointing=False,
        optim="adamw_torch_fused", **common_settings(flags, SAMPLES_A_STEP),
    )  # fmt: skip
    return SFTTrainer(model, args, train_dataset=Dataset.from_list(texts), processing_class=tokenizer, peft_config=lora)


def common_settings(flags, micro_batch: int) -> dict:
    """Return the training arguments that all arms share."""
    return {
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": SAMPLES_A_STEP // micro_batch,
        "num_train_epochs": 1,
        "learning_rate": flags.learning_rate,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "seed": flags.seed,
        "bf16": ON_GPU,
        "use_cpu": not ON_GPU,
        "dataloader_pin_memory": ON_GPU,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


class Clock(TrainerCallback):
    """Times the steps, and stops the clock while it evaluates."""

    def __init__(self, evaluate, every: int):
        self.evaluate, self.every = evaluate, every
        self.start = self.paused = 0.0
        self.steps: list[float] = []
        self.losses: list[tuple[float, float]] = []
        self.evaluation_seconds = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        """Start."""
        reset_peak()
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Note the time; evaluate every few steps and at the end."""
        if ON_GPU:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.steps.append(now - self.start - self.paused)
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.losses.append((self.steps[-1], self.evaluate(model)))
            self.evaluation_seconds = time.perf_counter() - now
            self.paused += self.evaluation_seconds


@torch.no_grad()
def completion_loss(model, batches: list[dict]) -> float:
    """Return the mean loss of the completions' tokens."""
    was_training, total, count = model.training, 0.0, 0
    model.eval()
    for batch in batches:
        batch = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in batch.items()}
        supervised = int((batch["labels"] != -100).sum())
        total += model(**batch).loss.item() * supervised
        count += supervised
    model.train(was_training)
    return total / count


def run_arm(flags) -> dict:
    """Train one arm and return what was measured."""
    rows = read_rows_of(flags)
    tokenizer, prompt = load_tokenizer(flags.base_model), Prompt.load("text_to_sql")
    held_out = encode_rows(rows[flags.rows :], prompt, tokenizer, MAX_LENGTH)
    train = rows[: flags.rows]
    data = encode_rows(train, prompt, tokenizer, MAX_LENGTH).dataset.select_columns(["input_ids", "labels"])
    if flags.length:
        data = of_length(data, flags.length)
    lengths = [len(ids) for ids in data["input_ids"]]
    collator = CompletionCollator(tokenizer)
    batches = [collator(list(held_out.dataset.select(range(i, i + 16)))) for i in range(0, EVALUATED_ROWS, 16)]
    arm = (ARMS | LADDER)[flags.arm]
    set_seed(flags.seed)
    ours = isinstance(arm, Recipe) and arm.keeps_memory
    with tempfile.TemporaryDirectory() as folder, nullcontext() if ours else patch(KEEP):
        if isinstance(arm, Recipe):
            trainer = make_trainer(arm, flags, data, folder)
        else:
            trainer = make_trl_trainer(arm == "packed", flags, train, folder)
        clock = Clock(lambda model: completion_loss(model, batches), flags.eval_every)
        trainer.add_callback(clock)
        trainer.train()
    steps = len(clock.steps)
    warm_up = min(WARM_UP_STEPS, steps - 1)
    seconds = clock.steps[-1] - clock.steps[warm_up - 1]
    share = (steps - warm_up) / steps  # Packing by TRL makes fewer steps of as many rows.
    model = trainer.model.get_base_model()
    embedding = model.get_input_embeddings().weight.numel()
    weights = model.num_parameters() - embedding * (not model.config.tie_word_embeddings)
    weights -= sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return {
        "samples_per_second": share * len(lengths) / seconds,
        "tokens_per_second": share * sum(lengths) / seconds,
        "flops_per_second": 4 * weights * share * sum(lengths) / seconds,
        "peak_gb": peak_memory() / 1e9,
        "evaluation_seconds": clock.evaluation_seconds,
        "losses": clock.losses,
    }


def of_length(data: Dataset, length: int) -> Dataset:
    """Return sequences of one length, cut from the rows one after the other; the last quarter is supervised."""
    tokens = [token for ids in data["input_ids"] for token in ids]
    count = max(2 * SAMPLES_A_STEP, 16384 // length)
    tokens = (tokens * (count * length // len(tokens) + 1))[: count * length]
    ids = [tokens[start : start + length] for start in range(0, len(tokens), length)]
    labels = [[-100] * (length - length // 4) + sequence[length - length // 4 :] for sequence in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def read_rows_of(flags) -> list[dict]:
    """Return training and then held-out rows, all short enough for the reference recipe."""
    tokenizer, prompt = load_tokenizer(flags.base_model), Prompt.load("text_to_sql")
    rows = load_rows(flags.dataset, COLUMNS, 0.05, seed=0, hold_out=split_by_schema)
    train = encode_rows(rows.train[: 2 * flags.rows], prompt, tokenizer, MAX_LENGTH).rows[: flags.rows]
    held_out = encode_rows(rows.validation[: 2 * EVALUATED_ROWS], prompt, tokenizer, MAX_LENGTH).rows[:EVALUATED_ROWS]
    if len(train) < flags.rows or len(held_out) < EVALUATED_ROWS:
        raise SystemExit(f"{flags.dataset} has too few rows: {len(train)} and {len(held_out)} of at most 256 tokens.")
    return train + held_out


def matrix_peak(dtype: torch.dtype) -> float:
    """Return the FLOP/s of a matrix product on this device."""
    size = 8192 if ON_GPU else 2048
    left, right = torch.randn(2, size, size, dtype=dtype, device="cuda" if ON_GPU else "cpu")
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        left @ right
        if ON_GPU:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def seconds_to(target: float, losses: list[tuple[float, float]]) -> float:
    """Return when the loss first was at most the target; infinity where it never was."""
    return next((seconds for seconds, loss in losses if loss <= target), float("inf"))


def main() -> None:
    """Run the arms in turns and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(ROOT / "demo" / "sql-base"))
    parser.add_argument("--random-base", action="store_true", help="a 7B of random weights, for a GPU")
    parser.add_argument("--dataset", default=str(ROOT / "demo" / "text_to_sql.jsonl"))
    parser.add_argument("--compute-dtype", default="auto", help="of all arms: auto, bf16 or fp32")
    parser.add_argument("--rows", type=int, default=256, help="rows a repeat and arm")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eval-every", type=int, default=4, help="steps between looks at the held-out loss")
    parser.add_argument("--ladder", action="store_true", help="the steps from the reference to ours, one by one")
    parser.add_argument("--scaling", action="store_true", help="reference and ours by number of rows and by length")
    parser.add_argument("--length", type=int, help="train on sequences of just so many tokens")
    parser.add_argument("--arm", help="run this one and print its figures as JSON")
    flags = parser.parse_args()
    if flags.arm:
        print(json.dumps(run_arm(flags)))
        return
    if flags.scaling:
        print_scaling(flags)
        return
    arms = LADDER if flags.ladder else ARMS
    found: dict[str, list[dict]] = {name: [] for name in arms}
    peaks = []
    for _ in range(flags.repeats):
        for name in arms:
            peaks.append(matrix_peak(choose_compute_dtype(flags.compute_dtype, "decoder")))
            found[name].append(in_process(name))
    print_table(flags, found, statistics.median(peaks))


def in_process(name: str, *options: str) -> dict:
    """Return what an arm measures in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], *options, "--arm", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_scaling(flags) -> None:
    """Print the reference's and our own speed by the number of rows, and by the length of the sequences."""
    names = "a reference recipe", "c ours, train_sql_generator.py"
    by_rows = [(f"{count} rows", ("--rows", str(count))) for count in (flags.rows // 4 * 2**n for n in range(4))]
    by_length = [(f"{2**n} tokens", ("--length", str(2**n))) for n in range(7, 13)]
    print("| | reference tokens/s | ours | ratio | reference GB | ours |\n| --- | --- | --- | --- | --- | --- |")
    for title, options in [*by_rows, *by_length]:
        before, after = (in_process(name, *options, "--eval-every", "1000") for name in names)
        speeds = before["tokens_per_second"], after["tokens_per_second"]
        print(
            f"| {title} | {speeds[0]:.0f} | {speeds[1]:.0f} | {speeds[1] / speeds[0]:.2f}"
            f" | {before['peak_gb']:.2f} | {after['peak_gb']:.2f} |",
            flush=True,
        )


def print_table(flags, found: dict[str, list[dict]], peak: float) -> None:
    """Print medians and ratios to the first arm; the target is the loss that this one ends with."""
    first = next(iter(found.values()))
    target = statistics.median(run["losses"][-1][1] for run in first)

    def median(runs: list[dict], name: str) -> float:
        return statistics.median(run[name] for run in runs)

    base_speed = median(first, "samples_per_second")
    base_time = statistics.median(seconds_to(target, run["losses"]) for run in first)
    print(f"{flags.rows} rows of {Path(flags.dataset).name}, {flags.repeats} repeats, medians (spread of samples/s);")
    print(f"matrix peak {peak / 1e9:.0f} GFLOP/s in its type; target loss {target:.4f} on {EVALUATED_ROWS} rows")
    print(
        f"torch {torch.__version__}, {torch.cuda.get_device_name() if ON_GPU else f'{torch.get_num_threads()} cores'}"
    )
    print("| arm | samples/s | ratio | real tokens/s | MFU (4N) | peak GB | s to target | ratio | eval s | last loss |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, runs in found.items():
        speed = median(runs, "samples_per_second")
        reached = statistics.median(seconds_to(target, run["losses"]) for run in runs)
        speeds = [run["samples_per_second"] for run in runs]
        print(
            f"| {name} | {speed:.1f} ({min(speeds):.1f}-{max(speeds):.1f}) | {speed / base_speed:.2f}"
            f" | {median(runs, 'tokens_per_second'):.0f} | {median(runs, 'flops_per_second') / peak:.1%}"
            f" | {median(runs, 'peak_gb'):.2f} | {reached:.1f} | {reached / base_time:.2f}"
            f" | {median(runs, 'evaluation_seconds'):.1f} | {runs[0]['losses'][-1][1]:.4f} |"
        )
    print("\nHeld-out loss by step, first repeat:")
    for name, runs in found.items():
        print(f"  {name:<36}" + " ".join(f"{loss:.4f}" for _, loss in runs[0]["losses"]))


if __name__ == "__main__":
    main()
