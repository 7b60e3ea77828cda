"""Logged models: an adapter written into its run without the base's weights, and read back from a URI."""

import importlib.metadata
import json
import os
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from finetune.adapter_files import check_adapter, check_fit, check_numbers
from finetune.base_configs import changed_fields
from finetune.base_models import fingerprint, load_config, load_decoder, load_tokenizer
from finetune.checkpoints import CARD, digest_of, load_card, step_of
from finetune.console import InputError
from finetune.generation import DEFAULTS
from finetune.memory import memory_limit
from finetune.mlmodel import read_model
from finetune.model_entries import log_saved
from finetune.model_uris import find_files
from finetune.prompts import Prompt
from finetune.quantization import DTYPES, from_record, prediction_dtype, recorded_dtype
from finetune.schemas import reason
from finetune.tokenizer_repairs import fit_to_vocabulary

import mlflow
import safetensors.torch
import torch
import transformers
from accelerate.utils import set_module_tensor_to_device
from mlflow.entities import Run
from mlflow.models import ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerBase

PINNED = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "mlflow")
METADATA_KEY = "finetune"
# The tasks of model cards.
TEXT_TO_SQL, CLASSIFICATION, SUMMARIZATION = "text-to-sql", "classification", "summarization"


def build_skeleton(card: dict, checkpoint: Path) -> transformers.Pipeline:
    """Return a text-generation pipeline of base and adapter in which only the adapter has memory.

    The base is made from its configuration on the meta device, so a 7B base costs nothing here. The
    pipeline moves all to its device (meta); the adapter's tensors are put back afterwards.
    """
    tokenizer = load_tokenizer(str(checkpoint))
    config = load_config(card["base_model"], card["base_revision"])
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=recorded_dtype(card))
    if not os.path.isdir(card["base_model"]):
        # MLflow stores the repository under these names.
        base.name_or_path = tokenizer.name_or_path = card["base_model"]
    check_adapter(checkpoint)
    model = PeftModel.from_pretrained(base, checkpoint, low_cpu_mem_usage=True, torch_device="cpu")
    check_fit(model, checkpoint)
    meta = torch.device("meta")
    pipeline = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device=meta)
    fill_in(model, checkpoint)
    return pipeline


def fill_in(model: PeftModel, checkpoint: Path) -> None:
    """Give a model on the meta device the adapter of a checkpoint."""
    names = dict(model.named_parameters())
    for key, tensor in safetensors.torch.load_file(checkpoint / "adapter_model.safetensors").items():
        name = key.removesuffix(".weight") + ".default.weight"
        set_module_tensor_to_device(model, name if name in names else key, "cpu", value=tensor)


def check_prompt_parity(card: dict, pipeline: transformers.Pipeline) -> None:
    """Compare what the logged model would feed to the base with what training fed, token id by token id.

    Raises:
        InputError: at the first row of the card's sample where they differ.
    """
    prompt = Prompt(card["prompt"])
    for row in card["sample"]:
        text = prompt.mlflow_template.format(prompt=prompt.model_input(row))
        fed = pipeline.preprocess(text)["input_ids"][0].tolist()
        if fed != row["prompt_ids"]:
            differing = [i for i, (a, b) in enumerate(zip(fed, row["prompt_ids"], strict=False)) if a != b]
            position = differing[0] if differing else min(len(fed), len(row["prompt_ids"]))
            raise InputError(
                f"not logged: the logged model would feed other tokens than training did (the first difference is"
                f" at position {position} of the prompt for {row.get('question', row)!r}). The"
                " tokenizer or the prompt of the checkpoint was changed since."
            )


def log_adapter(run: Run, checkpoint: Path, name: str, pipeline: transformers.Pipeline | None = None) -> str:
    """Log a checkpoint's adapter as the model `runs:/RUN/NAME`, with a reference to its base; return its model id.

    Args:
        pipeline: from `build_skeleton` of another checkpoint of the run; its adapter becomes this one.

    Raises:
        InputError: when the prompt tokens would differ from training's (nothing is logged then).
    """
    card = load_card(checkpoint)
    if pipeline is None:
        pipeline = build_skeleton(card, checkpoint)
    else:
        check_adapter(checkpoint)
        fill_in(pipeline.model, checkpoint)
    check_prompt_parity(card, pipeline)
    prompt, base_folder = Prompt(card["prompt"]), Path(card["base_model"])
    metadata = {key: value for key, value in card.items() if key != "sample"}
    metadata["step"] = step_of(checkpoint)
    if base_folder.is_dir():
        metadata["base_fingerprint"] = card.get("base_fingerprint") or fingerprint(base_folder)

    def save(folder: Path) -> None:
        # MLflow would ask the Hub for the newest commit, not the one that was trained on.
        with patch("mlflow.transformers.flavor_config.get_latest_commit_for_repo", return_value=card["base_revision"]):
            mlflow.transformers.save_model(
                pipeline,
                str(folder),
                task="text-generation",
                torch_dtype=recorded_dtype(card),
                prompt_template=prompt.mlflow_template,
                signature=_signature(),
                input_example=prompt.model_input(card["sample"][0]),
                pip_requirements=requirements(),
                metadata={METADATA_KEY: json.dumps(metadata)},
                base_model_path=str(base_folder) if base_folder.is_dir() else None,
            )

    return log_saved(run, checkpoint, name, digest_of(checkpoint), save)


def _signature() -> ModelSignature:
    types = {bool: DataType.boolean, int: DataType.long, float: DataType.double}
    parameters = [ParamSpec(name, types[type(value)], value) for name, value in DEFAULTS.items()]
    # Of any type: of null and numbers MLflow would make texts for strings; so its own flavour refuses them.
    given, text = Schema([ColSpec(AnyType())]), Schema([ColSpec(DataType.string)])
    return ModelSignature(inputs=given, outputs=text, params=ParamSchema(parameters))


def requirements(others: tuple[str, ...] = ()) -> list[str]:
    """Return the packages that a logged model needs, pinned as they are here."""
    # "+cpu" is a local build of the same release.
    return [f"{package}=={importlib.metadata.version(package).split('+')[0]}" for package in PINNED + others]


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

    card: dict
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
        step = folder.resolve().name.removeprefix("checkpoint-")
        step = int(step) if step.isdigit() else 0
        card = load_card(folder)
        _check_whole(folder, uri)
        parameters = {"threshold": None} if card["task"] == CLASSIFICATION else DEFAULTS | card.get("generation", {})
        return LoggedModel(card, folder, folder, parameters, step)
    try:
        (folder / MLMODEL_FILE_NAME).stat()
    except OSError as error:
        raise InputError(f"the model {uri} is not whole: {folder} has no file MLmodel that can be read.") from error
    model, card, parameters = read_model(folder, METADATA_KEY, uri)
    whole = folder / "artifacts" / "checkpoint"  # Of a model from code; a decoder is in the transformers flavour.
    tokenizer = folder / "components" / "tokenizer"
    tokenizer = whole if whole.is_dir() else tokenizer if tokenizer.is_dir() else None
    adapter = whole if whole.is_dir() else folder / "peft"
    _check_whole(adapter, uri)
    return LoggedModel(card, adapter, tokenizer, parameters, card.get("step", 0), model.model_id)


def _check_whole(folder: Path, uri: str) -> None:
    weights = "adapter_model.safetensors", "model.onnx", "merged"
    if not any((folder / name).exists() for name in weights):
        raise InputError(f"the model {uri} is not whole: {folder} has no {weights[0]}; log it again with log_model.py.")


def find_base(card: dict, base_model: str | None) -> tuple[str, str | None]:
    """Return folder or Hub id of the base, and its revision.

    Args:
        base_model: folder or Hub id in place of the recorded base.

    Raises:
        InputError: when the base is gone or is not the one the adapter was trained on.
    """
    source, revision = base_model or card["base_model"], None if base_model else card["base_revision"]
    if os.path.isdir(source) and card.get("base_fingerprint") and fingerprint(Path(source)) != card["base_fingerprint"]:
        raise InputError(
            f"the base model in {source} no longer matches the adapter: its weights are not those it was trained on."
            " Give the folder of the right base with --base-model."
        )
    changed = changed_fields(card["base_config"], source) if os.path.isdir(source) and "base_config" in card else ""
    if changed:
        raise InputError(
            f"the base model in {source} no longer matches the adapter: its configuration was changed: {changed}."
            " Undo that, or give the folder of the right base with --base-model."
        )
    if base_model is None and Path(source).is_absolute() and not os.path.isdir(source):
        raise InputError(f"the base model is no longer in {source}; give its folder with --base-model.")
    return source, revision


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
    dtype = DTYPES.get(precision, recorded_dtype(card))
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


def restored_quantization(card: dict, precision: str | None, compute_dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return how the base was quantised in training, or None for an unquantised base.

    Args:
        precision: `nf4`, `bf16` or `fp32` in place of what the card says.
        compute_dtype: of the 4-bit layers, here.

    Raises:
        InputError: for nf4 where the base was not quantised in training.
    """
    if precision == "nf4" and card["quantization"] is None:
        raise InputError("--precision nf4: this adapter was trained on an unquantised base; leave the flag out.")
    return from_record(card["quantization"], compute_dtype) if precision in (None, "nf4") else None


def attach_adapter(base: torch.nn.Module, adapter: Path, source: str) -> PeftModel:
    """Return the base from `source` with a trained adapter.

    Raises:
        InputError: when the adapter does not fit.
    """
    check_adapter(adapter)
    check_numbers(adapter)
    try:
        model = PeftModel.from_pretrained(base, adapter)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"the base model {source} does not match the adapter ({reason(error)})."
            " Give the right base with --base-model."
        ) from error
    check_fit(model, adapter)
    return model
