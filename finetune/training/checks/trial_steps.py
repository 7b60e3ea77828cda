"""Steps on trial, before a training: what they take is measured, and what they change is undone."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random

from finetune.models.bases.memory import peak_memory, reset_peak
from finetune.rows.packing import PackingCollator
from finetune.training.private_apis import forget_optimizer
from finetune.training.progress import get_random_state, set_random_state

import torch
from transformers import Trainer
from transformers.training_args import OptimizerNames

NEW_TOKENS = 8
STEPS_TO_COUNT = 8


@dataclass
class Step:
    """A step: its rows and the tokens in them, padding included, the most memory and the seconds it took."""

    rows: int
    tokens: int
    peak_bytes: int
    seconds: float


def longest_rows(trainer: Trainer) -> list[dict]:
    """Return the longest training rows that are computed at a time, the longest first."""
    dataset, lengths = trainer.train_dataset, list(trainer.train_dataset["length"])
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])[: trainer.args.train_batch_size]
    if hasattr(trainer.data_collator, "max_tokens"):
        filled = itertools.accumulate(lengths[index] for index in order)
        order = order[: max(1, sum(tokens <= trainer.data_collator.max_tokens for tokens in filled))]
    return [{name: value for name, value in dataset[index].items() if name != "length"} for index in order]


def one_step(trainer: Trainer, rows: list[dict]) -> Step:
    """Take one step, forward, backward and optimiser, on the largest micro-batch of some rows, none of which share."""
    batch = dict(whole_rows(trainer.data_collator)(rows))
    if "packs" in batch:
        batch["packs"] = [max(batch["packs"], key=lambda pack: pack["input_ids"].numel())]
    tokens = sum(part["input_ids"].numel() for part in batch.get("packs", [batch]))
    (batch,), items = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
    reset_peak()
    start = time.perf_counter()
    with trainer.accelerator.autocast():
        trainer.training_step(trainer.model, batch, items)
    trainer.create_optimizer()
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    synchronize()
    seconds = time.perf_counter() - start
    return Step(len(rows), tokens, peak_memory(), seconds)


def whole_rows(collator: Callable) -> Callable:
    """Return a collator that computes all tokens of each row: rows that begin alike need not meet in a step."""
    return replace(collator, shares_prompts=False) if isinstance(collator, PackingCollator) else collator


def computed_share(trainer: Trainer) -> float:
    """Return the share of the rows' tokens that is computed, of some steps: prompts that begin alike are shared."""
    collator, size = trainer.data_collator, trainer.args.train_batch_size
    if not (isinstance(collator, PackingCollator) and collator.shares_prompts):
        return 1.0
    dataset = trainer.train_dataset
    order = Random(trainer.args.seed).sample(range(len(dataset)), min(len(dataset), STEPS_TO_COUNT * size))
    rows, computed = [dataset[index] for index in order], 0
    for begin in range(0, len(rows), size):
        packs = collator(rows[begin : begin + size])["packs"]
        computed += sum(pack["input_ids"].numel() for pack in packs)
    return computed / sum(len(row["input_ids"]) for row in rows)


def one_generation(trainer: Trainer, rows: list[dict]) -> float:
    """Return the seconds of a few new tokens for a batch of the longest prompts."""
    model, size = trainer.model, trainer.args.per_device_eval_batch_size
    prompts = []
    for row in rows[:size]:
        masked = row["labels"].count(-100)  # A decoder's labels stand beside its ids, masked at the front.
        prompts.append({"input_ids": row["input_ids"][:masked] if masked else row["input_ids"]})
    batch = trainer.processing_class.pad(prompts, padding_side="left", return_tensors="pt").to(model.device)
    model.eval()
    start = time.perf_counter()
    with torch.inference_mode():
        model.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False)
    synchronize()
    return time.perf_counter() - start


@contextmanager
def undone(trainer: Trainer) -> Iterator[None]:
    """Put weights, mode, random state and optimiser back to what they were."""
    model = trainer.model
    before = {name: weight.detach().cpu().clone() for name, weight in model.named_parameters() if weight.requires_grad}
    state, was_training, optim = get_random_state(), model.training, trainer.args.optim
    # Paged optimiser state is managed memory, which bitsandbytes never gives back.
    unpaged = optim.removeprefix("paged_")
    trainer.args.optim = unpaged if unpaged in list(OptimizerNames) else OptimizerNames.ADAMW_TORCH
    try:
        yield
    finally:
        forget_optimizer(trainer)
        trainer.args.optim = optim
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in before:
                    weight.copy_(before[name])
        model.train(was_training)
        set_random_state(state)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
