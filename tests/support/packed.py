"""Small decoders, encoded rows and a trainer of packs, which several test files share."""

import random

from finetune.models.bases.attention import PACKED_SDPA
from finetune.models.bases.loading import load_decoder, load_tokenizer
from finetune.models.prompts import Prompt
from finetune.rows.loading import load_rows
from finetune.rows.packing import PackingCollator
from finetune.rows.sql.encoding import encode_rows
from finetune.rows.supervision import IGNORED
from finetune.training.checks import preflight as module
from finetune.training.checks import trial_steps
from finetune.training.packs import PackTrainer
from train_sql_generator import COLUMNS

import pytest
import torch
from conftest import DEMO_BASE, TOKENIZERS, demo_rows
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    TrainingArguments,
)

SIZES = {"vocab_size": 900, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}  # fmt: skip
CONFIGS = {
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
}


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """Encoded rows of several lengths."""
    split = encode_rows(demo_rows("train")[:12], Prompt.load("text_to_sql"), TOKENIZERS["byte-level"](), 512)
    return [{name: row[name] for name in ("input_ids", "labels")} for row in split.dataset]


def make(config) -> PreTrainedModel:
    """Return a random decoder in float32 that keeps packed rows apart."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.set_attn_implementation(PACKED_SDPA)
    return model


def completion_logits(model, row: dict) -> torch.Tensor:
    """Return the logits that predict the completion of a row that stands alone."""
    first = row["labels"].count(IGNORED)
    logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0]
    return logits[first - 1 : -1]


def made_rows(count: int = 9) -> list[dict]:
    """Return rows about two schemas, one of 90 and one of 100 tokens, in turns."""
    draw = random.Random(0)

    def tokens(least: int, most: int) -> list[int]:
        return [draw.randrange(900) for _ in range(draw.randint(least, most))]

    schemas = [tokens(100, 100), tokens(90, 90), *(tokens(70, 80) for _ in range(2))]
    rows = []
    for number in range(count):
        prompt, answer = schemas[number % 2] + tokens(4, 15), tokens(3, 9)
        rows.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
    alone = schemas[2]
    return [*rows, {"input_ids": [*alone, 5, 6], "labels": [IGNORED] * len(alone) + [5, 6]}]


@pytest.fixture
def trainer(few_rows, tmp_path) -> PackTrainer:
    """A trainer of the demo base, not quantised: 6 layers of it."""
    tokenizer = load_tokenizer(str(DEMO_BASE))
    model = load_decoder(str(DEMO_BASE), None, None, torch.float32)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", lora_dropout=0.1)
    split = encode_rows(load_rows(str(few_rows), COLUMNS, None, 0).train, Prompt.load("text_to_sql"), tokenizer, 512)
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], label_names=["labels"], eval_strategy="epoch")
    return PackTrainer(
        get_peft_model(model, lora), args, train_dataset=split.dataset, eval_dataset=split.dataset,
        processing_class=tokenizer, data_collator=PackingCollator(1000),
    )  # fmt: skip


def linear_memory(monkeypatch, trainer, a_token: int, fixed: int = 1000) -> None:
    """Make memory grow with the tokens of a step; a recomputed layer takes nothing."""
    seen = {}

    def training_step(model, inputs, items=None):
        args, layers, share = trainer.args, 6, 1.0
        if args.activation_checkpointing:
            share -= len(range(0, layers, args.activation_checkpointing_kwargs["every_n_layers"])) / layers
        tokens = sum(pack["input_ids"].numel() for pack in inputs["packs"])
        seen["peak"] = fixed + round(a_token * tokens * share)

    monkeypatch.setattr(trainer, "training_step", training_step)
    for place in (module, trial_steps):
        monkeypatch.setattr(place, "peak_memory", lambda: seen["peak"])
