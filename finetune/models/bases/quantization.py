"""The type that a model computes in, and 4-bit quantisation: chosen, recorded, restored, sharded, and the CPU trap."""

import logging
import os
import time
from functools import cache

from finetune import InputError
from finetune.models.card import Card
from finetune.models.private_apis import compute_4bit_in

import bitsandbytes as bnb
import torch
from transformers import BitsAndBytesConfig

logger = logging.getLogger(__name__)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# What prediction can be told: `recorded` is what training computed in.
PREDICTION_DTYPES = ("auto", "recorded", *DTYPES)
# Below this, bfloat16 on a CPU is not worth its near ties: a training step gains less than a product.
WORTH_IT = 1.5
WARM_UP, TIMED, LEAST, SIZE = 2, 60, 5, 256
TIMING_SECONDS = 0.2


def choose_compute_dtype(requested: str, kind: str, recorded: bool = False) -> torch.dtype:
    """Return the type that a base computes in on this machine.

    Args:
        requested: `auto`, `bf16`, `fp16` or `fp32`.
        kind: `decoder`, `encoder` or `encoder-decoder`.
        recorded: it is what a run was begun in: that it is only emulated here is no reason to refuse then.

    Raises:
        InputError: for a type that cannot work here.
    """
    if requested == "auto":
        return fast_dtype(kind)
    if requested not in DTYPES:
        raise InputError(f"--compute-dtype {requested} is none of auto, {', '.join(DTYPES)}.")
    on_gpu = torch.cuda.is_available()
    if requested == "fp16" and kind == "encoder-decoder":
        raise InputError("--compute-dtype fp16: T5 overflows in float16; use bf16, fp32 or auto.")
    if requested == "fp16" and not on_gpu:
        raise InputError("--compute-dtype fp16 needs a GPU: no CPU is fast at it; use auto.")
    if requested == "bf16" and on_gpu and not gpu_has_bfloat16() and not recorded:
        raise InputError("--compute-dtype bf16: this GPU has no bfloat16 and would emulate it; use auto.")
    return DTYPES[requested]


def fast_dtype(kind: str) -> torch.dtype:
    """Return the fastest type that is safe for a kind of base on this machine.

    On a CPU encoders and encoder-decoders stay in float32, so that a score does not depend on its batch.
    """
    if torch.cuda.is_available():
        if gpu_has_bfloat16():
            return torch.bfloat16
        return torch.float32 if kind == "encoder-decoder" else torch.float16  # T5 overflows in float16.
    if kind == "decoder" and bfloat16_speedup() >= WORTH_IT:
        return torch.bfloat16
    return torch.float32


def gpu_has_bfloat16() -> bool:
    """Say whether the GPU computes in bfloat16; PyTorch's own answer counts emulation (a T4's) too."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def bfloat16_speedup() -> float:
    """Return how many times as fast as in float32 this CPU multiplies matrices in bfloat16.

    Measured, once a process: neither a name nor a flag of the CPU says whether its instructions are there to be used.
    By the fastest of many products, in turns: what else the machine does only ever takes longer. Where a product takes
    long, few will do: there the two are far apart.
    """
    dtypes, start = (torch.float32, torch.bfloat16), time.perf_counter()
    rounds: list[list[float]] = []
    while len(rounds) < WARM_UP + TIMED and (len(rounds) < LEAST or time.perf_counter() - start < TIMING_SECONDS):
        rounds.append([product_seconds(dtype) for dtype in dtypes])
    float32, bfloat16 = map(min, zip(*rounds[WARM_UP:], strict=True))
    return float32 / bfloat16


def product_seconds(dtype: torch.dtype) -> float:
    """Return the seconds of one product of two square matrices; not of random ones, so that no seed is used up."""
    matrix = torch.ones(SIZE, SIZE, dtype=dtype)
    start = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - start


def faster_dtypes(name: str) -> dict[str, float]:
    """Return the types that this CPU is faster at than at one, and how many times as fast; a GPU has the fastest.

    Args:
        name: `bf16`, `fp16` or `fp32`.
    """
    if name != "bf16" or torch.cuda.is_available() or 1 / bfloat16_speedup() < WORTH_IT:
        return {}
    return {"fp32": 1 / bfloat16_speedup()}


def warn_if_slow(dtype: torch.dtype) -> None:
    """Warn where this machine is slow at a type that it was told to compute in."""
    if dtype != torch.bfloat16:
        return
    if torch.cuda.is_available():
        if not gpu_has_bfloat16():
            logger.warning("this GPU has no bfloat16 and emulates it: it is slow at it.")
    elif (slower := 1 / bfloat16_speedup()) >= WORTH_IT:
        logger.warning(f"this CPU takes {slower:.1f} times as long for a product in bfloat16 as for one in float32.")


def recorded_dtype(card: Card) -> torch.dtype:
    """Return the type that the model of a card was trained in."""
    return DTYPES[card.trained_in]


def prediction_dtype(card: Card, requested: str) -> torch.dtype:
    """Return the type to predict in with the model of a card; say so where it is not the one of its training.

    Args:
        requested: one of `PREDICTION_DTYPES`.

    Raises:
        InputError: for a type that cannot work here.
    """
    trained = recorded_dtype(card)
    dtype = trained if requested == "recorded" else choose_compute_dtype(requested, card.base_kind)
    if requested != "auto":
        warn_if_slow(dtype)
    if dtype != trained:
        logger.info(
            f"Computes in {full_name(dtype)}, trained in {full_name(trained)}: near ties may fall otherwise"
            " than in training (--compute-dtype recorded computes as there)."
        )
    return dtype


def full_name(dtype: torch.dtype) -> str:
    """Return `bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


@torch.no_grad()
def compute_in(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Make a frozen base compute in another type than it was loaded in; return it.

    Its 4-bit weights stay those of training to the bit. Quantised from another type they would not: a base in float32
    loaded in bfloat16 has 0.4 % other codes and a third other scales.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            compute_4bit_in(module, dtype)
    for parameter in model.parameters():
        if parameter.is_floating_point() and not isinstance(parameter, bnb.nn.Params4bit):
            parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def to_record(config: BitsAndBytesConfig | None) -> dict | None:
    """Return a quantisation config as plain JSON values, or None for an unquantised base."""
    return None if config is None else config.to_dict()


def from_record(record: dict | None, compute_dtype: torch.dtype | None = None) -> BitsAndBytesConfig | None:
    """Return the config that `to_record` recorded.

    Args:
        compute_dtype: in place of the recorded one.
    """
    if record is None:
        return None
    config = BitsAndBytesConfig.from_dict(record)
    config.bnb_4bit_compute_dtype = compute_dtype or config.bnb_4bit_compute_dtype
    return config


def is_sharded() -> bool:
    """Say whether the base is cut up among processes by FSDP, as accelerate's launcher tells them."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def storage_dtype(compute_dtype: torch.dtype) -> torch.dtype:
    """Return the type that 4-bit weights are packed into: FSDP shards floats of one type only."""
    return compute_dtype if is_sharded() else torch.uint8
