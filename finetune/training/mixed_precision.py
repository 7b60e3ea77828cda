"""The Trainer's autocast, in agreement with the type that the base computes in."""

import logging
import os

from finetune import InputError
from finetune.models.bases.quantization import (
    DTYPES,
    bfloat16_speedup,
    choose_compute_dtype,
    full_name,
    warn_if_slow,
)
from finetune.models.card import card_classes
from finetune.training.flags.shared_flags import SharedFlags

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

logger = logging.getLogger(__name__)


def settle_precision(flags: SharedFlags, args: TrainingArguments, task: str, recorded: bool = False) -> None:
    """Put the type that a training computes in into `flags.compute_dtype`, and its autocast into the arguments.

    Args:
        task: as in model cards.
        recorded: the flag is what a run that goes on was begun in.

    Raises:
        InputError: for a type that cannot work here, and for flags that contradict each other.
    """
    autocast = requested_autocast(args)
    requested = autocast if autocast and flags.compute_dtype == "auto" else flags.compute_dtype
    dtype = choose_compute_dtype(requested, card_classes()[task].base_kind, recorded)
    # Processes that timed it could come to different ends: the first one's counts.
    (dtype,) = broadcast_object_list([dtype])
    flags.compute_dtype = next(name for name, known in DTYPES.items() if known == dtype)
    check_agreement(flags.compute_dtype, autocast, args)
    # Beside 4-bit layers, whose outputs have the type of their inputs, autocast mixes types: DeBERTa's attention fails
    # on them. Without it an encoder trains as it predicts: products of the base in `dtype`, all else in float32.
    plain = card_classes()[task].base_kind == "encoder" and flags.load_in_4bit
    set_autocast(args, dtype, torch.cuda.is_available() and not plain)
    logger.info(describe(dtype, args, requested == "auto"))
    warn_if_slow(dtype)


def requested_autocast(args: TrainingArguments) -> str | None:
    """Return `bf16` or `fp16`, where a flag of the Trainer or accelerate's launcher asks for its autocast."""
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    asked = {name for name in ("bf16", "fp16") if getattr(args, name)} | ({launched} & {"bf16", "fp16"})
    if len(asked) > 1:
        raise InputError(f"the launcher's mixed precision is {launched}; leave out --bf16 and --fp16.")
    return asked.pop() if asked else None


def check_agreement(compute_dtype: str, autocast: str | None, args: TrainingArguments) -> None:
    """Raise InputError for an autocast to another type, and for float16 without loss scaling."""
    if autocast and autocast != compute_dtype:
        raise InputError(f"--compute-dtype {compute_dtype} and --{autocast} contradict each other; leave one out.")
    if compute_dtype == "fp16" and args.fp16 is False:
        raise InputError("--fp16 false: without its loss scaling gradients vanish in float16; leave it out.")


def set_autocast(args: TrainingArguments, dtype: torch.dtype, gains: bool) -> None:
    """Set the Trainer's own flags where they were not given: autocast to half a float.

    Args:
        gains: autocast to bfloat16 is of use. A CPU has none: tiny batches spend more on the casts than the matrices
            gain. That to float16 comes with the scaling of the loss, which the gradients need.
    """
    args.fp16 = dtype == torch.float16
    if args.bf16 is None:
        args.bf16 = dtype == torch.bfloat16 and gains
    if args.fp16 or args.bf16:
        args.mixed_precision = "fp16" if args.fp16 else "bf16"


def describe(dtype: torch.dtype, args: TrainingArguments, chosen: bool) -> str:
    """Return what is printed before training.

    Args:
        chosen: here, not by a flag.
    """
    autocast = ", with autocast and loss scaling" if args.fp16 else ", with autocast" if args.bf16 else ""
    timed = ""
    if chosen and bfloat16_speedup.cache_info().currsize:
        timed = f"; a product in bfloat16 is {bfloat16_speedup():.2g} times as fast as in float32 here"
    return f"Computes in {full_name(dtype)}{autocast}{timed}"
