"""Logged models: an adapter written into its run without the base's weights, and read back from a URI."""

from dataclasses import dataclass
from pathlib import Path

from finetune import InputError
from finetune.logged_models.mlmodel import read_model
from finetune.logged_models.uris import find_files
from finetune.logged_models.writing.code_models import METADATA_KEY
from finetune.models.bases.loading import load_config, load_decoder, load_tokenizer
from finetune.models.bases.quantization import DTYPES, prediction_dtype, recorded_dtype
from finetune.models.bases.tokenizers import fit_to_vocabulary
from finetune.models.card import CARD, Card, ClassifierCard
from finetune.models.generation import DEFAULTS
from finetune.models.restoring import attach_adapter, find_base, restored_quantization, unpack_weights

import torch
from mlflow.models.model import MLMODEL_FILE_NAME
from transformers import PreTrainedTokenizerBase


@dataclass
class LoggedModel:
    """A logged model, or a checkpoint, on disk.

    Attributes:
        adapter: folder of the PEFT adapter.
        tokenizer: folder of the tokenizer, None where the model only refers to the Hub's.
        parameters: generation parameters of the signature with their defaults.
        step: optimiser step of the checkpoint.
        model_id: of the logged model; None for a checkpoint.
    """

    card: Card
    adapter: Path
    tokenizer: Path | None
    parameters: dict
    step: int = 0
    model_id: str | None = None


def open_model(uri: str) -> LoggedModel:
    """Open `runs:/<id>/model`, `models:/NAME@ALIAS`, or the folder of a model or checkpoint.

    Raises:
        InputError: when there is no such model (with the reason), or it was not logged by log_model.py.
    """
    folder = find_files(uri)
    if (folder / CARD).is_file():
        number = folder.resolve().name.removeprefix("checkpoint-")
        step = int(number) if number.isdigit() else 0
        card = Card.read(folder)
        _check_whole(folder, uri)
        parameters = {"threshold": None} if isinstance(card, ClassifierCard) else DEFAULTS | card.generation
        return LoggedModel(card, folder, folder, parameters, step)
    try:
        (folder / MLMODEL_FILE_NAME).stat()
    except OSError as error:
        raise InputError(f"the model {uri} is not whole: {folder} has no file MLmodel that can be read.") from error
    model, card, parameters = read_model(folder, METADATA_KEY, uri)
    whole = folder / "artifacts" / "checkpoint"  # Of a model from code; a decoder is in the transformers flavour.
    component = folder / "components" / "tokenizer"
    tokenizer = whole if whole.is_dir() else component if component.is_dir() else None
    adapter = whole if whole.is_dir() else folder / "peft"
    _check_whole(adapter, uri)
    return LoggedModel(card, adapter, tokenizer, parameters, card.step or 0, model.model_id)


def _check_whole(folder: Path, uri: str) -> None:
    weights = "adapter_model.safetensors", "model.onnx", "merged"
    if not any((folder / name).exists() for name in weights):
        raise InputError(f"the model {uri} is not whole: {folder} has no {weights[0]}; log it again with log_model.py.")


def load_tokenizer_of(logged: LoggedModel, base_model: str | None) -> tuple[PreTrainedTokenizerBase, int | None]:
    """Return the tokenizer of a decoder, and how many positions its base has, None where it says nothing of them.

    Args:
        base_model: folder or Hub id in place of the recorded base.
    """
    source, revision = find_base(logged.card, base_model)
    config = load_config(source, revision)
    tokenizer = load_tokenizer(str(logged.tokenizer)) if logged.tokenizer else load_tokenizer(source, revision)
    return tokenizer, getattr(config, "max_position_embeddings", None)


def load_model(
    logged: LoggedModel,
    base_model: str | None,
    precision: str | None,
    with_adapter: bool = True,
    merged: bool = False,
    compute_dtype: str = "recorded",
):
    """Return (model, tokenizer), the base restored as it was trained.

    Args:
        base_model: folder or Hub id in place of the recorded base.
        precision: `nf4`, `bf16` or `fp32` in place of the recorded quantisation.
        merged: add the adapter to what the 4-bit weights stand for, in one plain model: on a CPU in float32 unless
            told otherwise, where an answer then does not depend on the batch it is in.
        compute_dtype: one of `PREDICTION_DTYPES`; weights of `bf16` and `fp32` compute in their own type unless told
            otherwise.

    Raises:
        InputError: when the base is gone or is not the one the adapter was trained on, or no memory for merging.
    """
    card = logged.card
    source, revision = find_base(card, base_model)
    config = load_config(source, revision)
    dtype = DTYPES[precision] if precision in DTYPES else recorded_dtype(card)
    if compute_dtype not in DTYPES and merged and not torch.cuda.is_available():
        compute_dtype = "fp32"
    elif compute_dtype not in DTYPES and precision in DTYPES:
        compute_dtype = precision
    computed = prediction_dtype(card, compute_dtype)
    quantization = restored_quantization(card, precision, computed)
    base = load_decoder(source, revision, quantization, dtype, computed)
    tokenizer = load_tokenizer(str(logged.tokenizer)) if logged.tokenizer else load_tokenizer(source, revision)
    fit_to_vocabulary(tokenizer, config, source)
    if merged:
        base = unpack_weights(base, computed)
    model = attach_adapter(base, logged.adapter, source) if with_adapter else base
    return model.merge_and_unload() if merged else model, tokenizer
