"""Training samples per second: the reference recipe against this collection, on the same base, data and machine.

Run: python benchmarks/training_speed.py. The arms take turns; medians over the repeats are printed.
Reference recipe: MLflow's QLoRA tutorial (batches of 2 x 4 padded to 256 tokens, prompt in the loss,
activation checkpointing, paged 8-bit AdamW, LoRA on all linear layers and lm_head).
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.base_models import load_decoder, load_tokenizer
from finetune.data import load_rows
from finetune.prompts import Prompt
from finetune.supervision import IGNORED, encode_rows
from train_sql_generator import COLUMNS, Flags, SqlTrainingArguments

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    BitsAndBytesConfig,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)
ON_GPU = torch.cuda.is_available()


def reference(base: str, rows: list[dict], folder: str) -> Trainer:
    """Return the trainer of the reference recipe."""
    tokenizer, prompt = load_tokenizer(base), Prompt.load("text_to_sql")
    tokenizer.pad_token = tokenizer.eos_token
    model = load_decoder(base, None, NF4, torch.bfloat16)
    model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    lora = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=64, lora_dropout=0.1, target_modules=modules)
    texts = [prompt.render(row) + row["answer"] + tokenizer.eos_token for row in rows]
    encoded = tokenizer(texts, truncation=True, padding="max_length", max_length=256, padding_side="left")
    args = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=2, gradient_accumulation_steps=4, learning_rate=2e-5,
        lr_scheduler_type="constant", optim="paged_adamw_8bit", activation_checkpointing=True, bf16=ON_GPU,
        use_cpu=not ON_GPU, num_train_epochs=1, save_strategy="no", report_to=[], dataloader_pin_memory=ON_GPU,
        activation_checkpointing_kwargs={"use_reentrant": False}, logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    data = Dataset.from_dict({"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]})
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return Trainer(get_peft_model(model, lora), args, train_dataset=data, data_collator=collator)


def ours(base: str, rows: list[dict], folder: str) -> Trainer:
    """Return the trainer with the defaults of train_sql_generator.py."""
    flags, tokenizer = Flags(), load_tokenizer(base)
    split = encode_rows(rows, Prompt.load("text_to_sql"), tokenizer, flags.max_length)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=flags.lora_r,
        lora_alpha=flags.lora_alpha,
        lora_dropout=flags.lora_dropout,
        target_modules="all-linear",
    )
    args = SqlTrainingArguments(
        output_dir=folder, report_to=[], save_strategy="no", eval_strategy="no", load_best_model_at_end=False,
        logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    model = get_peft_model(load_decoder(base, None, NF4, torch.bfloat16), lora)
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    return Trainer(model, args, train_dataset=split.dataset, data_collator=collator)


@dataclasses.dataclass
class Arm:
    """One way to train, and the seconds its repeats took."""

    name: str
    make: object
    seconds: list[float] = dataclasses.field(default_factory=list)


def main() -> None:
    """Time the arms in turns and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-model", default=str(ROOT / "demo" / "sql-base"))
    parser.add_argument("--dataset", default=str(ROOT / "demo" / "text_to_sql.jsonl"))
    parser.add_argument("--rows", type=int, default=256, help="rows a repeat and arm")
    parser.add_argument("--repeats", type=int, default=2)
    flags = parser.parse_args()
    rows = load_rows(flags.dataset, COLUMNS, 0.05, seed=0).train[: flags.rows]
    arms = [Arm("reference recipe", reference), Arm("train_sql_generator.py", ours)]
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(flags.repeats + 1):
            for arm in arms:
                trainer = arm.make(flags.base_model, rows, folder)
                start = time.perf_counter()
                trainer.train()
                if repeat:  # The first turn warms the caches up.
                    arm.seconds.append(time.perf_counter() - start)
    slowest = statistics.median(arms[0].seconds)
    print(f"{flags.rows} rows of {flags.dataset}, {flags.repeats} repeats, medians")
    for arm in arms:
        median = statistics.median(arm.seconds)
        spread = f"{min(arm.seconds):.1f}-{max(arm.seconds):.1f} s"
        print(f"{arm.name:<24} {flags.rows / median:7.2f} samples/s  {slowest / median:5.2f}x  ({spread})")


if __name__ == "__main__":
    main()
