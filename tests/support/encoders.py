"""Tiny encoders, decoders and labelled texts made in process, for the tests of the classifier."""

import json
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    XLNetConfig,
    XLNetLMHeadModel,
)

LABELS = ("Arbitration", "Termination", "Liability")
CLAUSES = {
    "Arbitration": "any dispute shall be resolved by binding arbitration and not in court",
    "Termination": "we may suspend or terminate your account at any time without notice",
    "Liability": "in no event are we liable for any damages arising from the service",
}
FAIR = (
    "welcome to our site",
    "you can change your password",
    "we hope you enjoy the music",
    "read this page with care",
)
SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


def labelled_rows(count: int, seed: int) -> list[dict]:
    """Return rows of `text` and a list `labels` of names: 60 % fair, some with two labels."""
    random, rows = Random(seed), []
    for _ in range(count):
        labels = sorted(random.sample(LABELS, random.choice((0, 0, 0, 1, 2))))
        parts = [CLAUSES[label] for label in labels] + random.sample(FAIR, 1 if labels else 2)
        random.shuffle(parts)
        rows.append({"text": f"{' and '.join(parts)} .", "labels": labels})
    return rows


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Write rows as JSON lines and return the file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parts(folder: Path, change=lambda row: row) -> Path:
    """Write a folder of train, validation and test rows, each changed by a function, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate({"train": 160, "validation": 80, "test": 60}.items()):
        write_rows(folder / f"{part}.jsonl", [change(row) for row in labelled_rows(count, seed)])
    return folder


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a RoBERTa style tokenizer: byte-level, `<s> text </s>`."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIAL.values()))
    made.train_from_iterator([row["text"] for row in labelled_rows(200, 9)], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=made, cls_token="<s>", sep_token="</s>", **SPECIAL)


ENCODERS = {
    "roberta": (RobertaConfig, RobertaForMaskedLM, {"max_position_embeddings": 130}),
    "deberta": (
        DebertaV2Config,
        DebertaV2ForMaskedLM,
        {"max_position_embeddings": 128, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
         "position_biased_input": False},
    ),
    "bert": (BertConfig, BertForMaskedLM, {"max_position_embeddings": 128}),
}  # fmt: skip


GROUPED = {"max_position_embeddings": 130, "num_key_value_heads": 2}
DECODERS = {
    "llama": (LlamaConfig, LlamaForCausalLM, GROUPED),
    "mistral": (MistralConfig, MistralForCausalLM, GROUPED | {"sliding_window": 16}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, GROUPED),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, GROUPED | {"head_dim": 16}),
    "gpt2": (GPT2Config, GPT2LMHeadModel, {"n_positions": 130, "n_inner": 128}),
    # It goes on with texts too, in any order: each token sees all others.
    "xlnet": (XLNetConfig, XLNetLMHeadModel, {"d_inner": 128, "d_head": 16}),
}


def make_decoder(folder: Path, kind: str, seed: int = 0) -> Path:
    """Save a tiny random causal language model and return the folder; its tokenizer has no pad token, and adds BOS."""
    torch.manual_seed(seed)
    config_class, model_class, options = DECODERS[kind]
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )  # fmt: skip
    words.pad_token, words.padding_side = None, "left"
    config = config_class(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.1, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, **options,
    )  # fmt: skip
    model_class(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def make_encoder(folder: Path, kind: str, seed: int = 0) -> Path:
    """Save a tiny random masked language model with its tokenizer and return the folder."""
    torch.manual_seed(seed)
    config_class, model_class, options = ENCODERS[kind]
    words = tokenizer()
    config = config_class(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.1,  # words that can be told apart without pretraining
        pad_token_id=words.pad_token_id, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, **options,
    )  # fmt: skip
    model_class(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
