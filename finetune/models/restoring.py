"""Base and adapter as they were in training; a base that is gone or is another one is refused."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from finetune import InputError
from finetune.models.bases.configs import changed_fields
from finetune.models.bases.loading import fingerprint
from finetune.models.bases.memory import memory_limit
from finetune.models.bases.quantization import DTYPES, from_record
from finetune.models.card import Card, ClassifierCard, Long, SummarizerCard
from finetune.models.files.adapter_files import check_adapter, check_fit, check_numbers
from finetune.models.files.schemas import reason

import torch
from peft import PeftModel
from transformers import BitsAndBytesConfig


@dataclass(frozen=True)
class Loading:
    """How a trained model is restored, where not all is to be as in training.

    Attributes:
        base_model: folder or Hub id in place of the recorded base.
        precision: `nf4`, `bf16` or `fp32` in place of the recorded quantisation.
        compute_dtype: one of `PREDICTION_DTYPES`.
        with_adapter: False for the base alone.
        merged: adapter and base in one plain model, of a decoder.
        long_texts: `truncate` or `window` in place of what was recorded.
    """

    base_model: str | None = None
    precision: str | None = None
    compute_dtype: str = "recorded"
    with_adapter: bool = True
    merged: bool = False
    long_texts: Long | None = None


AS_TRAINED = Loading()
MERGED = "merged"  # folder of a model with its adapter merged in, in place of an adapter
Reader = TypeVar("Reader", ClassifierCard, SummarizerCard)  # of what can be too long


def recorded(card: Reader, loading: Loading) -> Reader:
    """Return a card of a model that is to read long texts as `loading` says."""
    return replace(card, long_texts=loading.long_texts or card.long_texts)


def find_base(card: Card, base_model: str | None) -> tuple[str, str | None]:
    """Return folder or Hub id of the base, and its revision.

    Args:
        base_model: folder or Hub id in place of the recorded base.

    Raises:
        InputError: when the base is gone or is not the one the adapter was trained on.
    """
    source, revision = base_model or card.base_model, None if base_model else card.base_revision
    expected = (card.base_fingerprint, card.quantized_fingerprint)
    if os.path.isdir(source) and any(expected) and fingerprint(Path(source)) not in expected:
        raise InputError(
            f"the base model in {source} no longer matches the adapter: its weights are not those it was trained on."
            " Give the folder of the right base with --base-model."
        )
    changed = changed_fields(card.base_config, source) if os.path.isdir(source) and card.base_config is not None else ""
    if changed:
        raise InputError(
            f"the base model in {source} no longer matches the adapter: its configuration was changed: {changed}."
            " Undo that, or give the folder of the right base with --base-model."
        )
    if base_model is None and Path(source).is_absolute() and not os.path.isdir(source):
        raise InputError(f"the base model is no longer in {source}; give its folder with --base-model.")
    return source, revision


def refuse_base(loading: Loading) -> None:
    """Raise InputError for what a merged model cannot do: it has no base and no adapter."""
    if loading.base_model or loading.precision or not loading.with_adapter:
        raise InputError(
            "a merged model has no base and no adapter; leave out --base-model, --precision and --no-adapter."
        )


def refuse_unpacked(loading: Loading, source: str) -> None:
    """Raise InputError where weights that are stored in 4 bits are asked for in full."""
    if loading.precision in DTYPES:
        raise InputError(
            f"--precision {loading.precision}: the base in {source} is stored in 4 bits; leave the flag out, or give"
            " the folder of the full one with --base-model."
        )


def unpack_weights(base: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Return a base with plain weights of a type: those that the 4-bit ones stand for.

    Raises:
        InputError: where there is no memory for them.
    """
    needed, limit = base.num_parameters() * dtype.itemsize, memory_limit()
    if needed > 0.9 * limit:
        raise InputError(
            f"--merge: the merged weights take {needed / 1e9:.1f} GB of {limit / 1e9:.1f} GB; leave it out, or give a"
            " device with more memory."
        )
    return (base.dequantize() if getattr(base, "is_loaded_in_4bit", False) else base).to(dtype)


def restored_quantization(card: Card, precision: str | None, compute_dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return how the base was quantised in training, or None for an unquantised base.

    Args:
        precision: `nf4`, `bf16` or `fp32` in place of what the card says.
        compute_dtype: of the 4-bit layers, here.

    Raises:
        InputError: for nf4 where the base was not quantised in training.
    """
    if precision == "nf4" and card.quantization is None:
        raise InputError("--precision nf4: this adapter was trained on an unquantised base; leave the flag out.")
    return from_record(card.quantization, compute_dtype) if precision in (None, "nf4") else None


def attach_adapter(base: torch.nn.Module, adapter: Path, source: str, **options) -> PeftModel:
    """Return the base from `source` with a trained adapter.

    Args:
        options: of PEFT, to train it further.

    Raises:
        InputError: when the adapter does not fit.
    """
    check_adapter(adapter)
    check_numbers(adapter)
    try:
        model = PeftModel.from_pretrained(base, adapter, **options)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"the base model {source} does not match the adapter ({reason(error)})."
            " Give the right base with --base-model."
        ) from error
    check_fit(model, adapter)
    return model
