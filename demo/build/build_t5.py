"""Rebuild demo/t5-base, a tiny T5 that has read reports, no summaries. Run: python demo/build/build_t5.py FOLDER

It is pretrained as T5 was: some spans of a text are masked, and it writes them. The texts are reports with a
headline before or after them, so that a masked name often stands elsewhere and can be copied; that is what
fine-tuning builds on. The reports are others than the demo's rows.
"""

import argparse
import math
import re
import time
from pathlib import Path
from random import Random

from build_summaries import report

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

SENTINELS = [f"<extra_id_{number}>" for number in range(10)]
SPECIAL = ["<pad>", "</s>", "<unk>", *SENTINELS]


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Return a T5 style tokenizer: a space belongs to the word after it, EOS at the end of every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace("\n", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([*texts, "summarize: " * 50], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=SENTINELS, model_max_length=512,
    )  # fmt: skip


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0, **sizes) -> T5ForConditionalGeneration:
    """Return a tiny T5 with random weights."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=128, d_kv=32, d_ff=512, num_layers=3, num_heads=4, dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    for name, value in sizes.items():
        setattr(config, name, value)
    model = T5ForConditionalGeneration(config)
    for name, module in model.named_modules():
        if name.endswith("EncDecAttention") and module.v.weight.shape[0] == config.d_model:
            # What is attended to is written as it is: copying, which takes a model this small very long to find.
            # After Trockman and Kolter, "Mimetic initialization of self-attention layers" (2023).
            torch.nn.init.orthogonal_(module.v.weight)
            module.o.weight.data.copy_(module.v.weight.data.T)
    return model


def corrupt(words: list[str], random: Random) -> tuple[str, str]:
    """Return a text with some of its words masked, and what was masked, as T5 was pretrained.

    Half of the names and numbers that stand twice are masked in one of their places: what is masked can be
    copied (salient spans, Guu et al. 2020). Elsewhere a few spans of one to three words are.
    """
    source, target, position, sentinel = [], [], 0, 0
    plain = [word.strip(".,") for word in words]
    twice = {word for word in plain if plain.count(word) > 1 and (word[:1].isupper() or word.isdigit())}
    while position < len(words):
        again = plain[position] in twice and random.random() < 0.5
        if sentinel < len(SENTINELS) and (again or random.random() < 0.02):
            length = 1 if again else random.randint(1, 3)
            twice.discard(plain[position])
            source.append(SENTINELS[sentinel])
            target += [SENTINELS[sentinel], *words[position : position + length]]
            position, sentinel = position + length, sentinel + 1
        else:
            source.append(words[position])
            position += 1
    return " ".join(source), " ".join(target)


def document(row: dict, random: Random, sentences: int) -> str:
    """Return a pretraining text: some sentences of a report, with its headline before or after them."""
    told = re.split(r"(?<=\.) ", row["article"])
    parts = [" ".join(random.sample(told, min(sentences, len(told)))), row["summary"]]
    random.shuffle(parts)
    return " ".join(parts)


def pretrain(model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, flags: argparse.Namespace) -> None:
    """Pretrain a model in place, on short texts first: to copy is learned sooner where there is less to choose from."""
    random, start = Random(flags.seed + 1), time.time()
    optimizer = torch.optim.AdamW(model.parameters(), lr=flags.learning_rate, fused=True)
    warmup = max(1, flags.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * s / flags.steps)))
    )
    model.train()
    for step in range(1, flags.steps + 1):
        longest = 2 + round(10 * max(0, step / flags.steps - 0.7))
        texts = (document(report(random), random, random.randint(1, longest)) for _ in range(flags.rows))
        pairs = [corrupt(text.split(), random) for text in texts]
        batch = tokenizer([source for source, _ in pairs], padding=True, return_tensors="pt")
        labels = tokenizer([target for _, target in pairs], padding=True, return_tensors="pt")["input_ids"]
        labels = labels.masked_fill(labels == tokenizer.pad_token_id, -100)
        loss = model(**batch, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == flags.steps:
            print(f"step {step} of {flags.steps}, loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)


def main() -> None:
    """Train the tokenizer, pretrain the model, write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=32, help="reports a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    random = Random(flags.seed)
    tokenizer = make_tokenizer([row[name] for row in (report(random) for _ in range(2000)) for name in row])
    model = make_model(tokenizer, flags.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    pretrain(model, tokenizer, flags)
    model.to(torch.bfloat16).save_pretrained(flags.folder)  # Half the size; it is computed in float32 all the same.
    tokenizer.save_pretrained(flags.folder)
    print(f"-> {flags.folder}")


if __name__ == "__main__":
    main()
