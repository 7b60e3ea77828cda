"""4-bit quantisation: what a run records of it, how it is restored and sharded, and the CPU trap."""

import os

import bitsandbytes as bnb
import torch
from transformers import BitsAndBytesConfig


def keep_trainable_on_cpu(model: torch.nn.Module) -> torch.nn.Module:
    """Stop bitsandbytes from repacking 4-bit weights for CPU inference; return the model.

    On CPUs with AVX512-BF16 the first forward in eval mode repacks the NF4 weights, and they stay
    packed: every later training step runs through a kernel without a gradient (the input's gradient
    is 0, with a UserWarning only). One evaluation in mid-training would end the training unnoticed.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def to_record(config: BitsAndBytesConfig | None) -> dict | None:
    """Return a quantisation config as plain JSON values, or None for an unquantised base."""
    return None if config is None else config.to_dict()


def from_record(record: dict | None) -> BitsAndBytesConfig | None:
    """Return the config that `to_record` recorded."""
    return None if record is None else BitsAndBytesConfig.from_dict(record)


def is_sharded() -> bool:
    """Say whether the base is cut up among processes by FSDP, as accelerate's launcher tells them."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def storage_dtype() -> torch.dtype:
    """Return the type that 4-bit weights are packed into: FSDP shards floats of one type only."""
    return torch.bfloat16 if is_sharded() else torch.uint8
