"""An adapter merged into the base that it was trained on: tensor by tensor, written shard by shard.

What is merged into what: each weight is read in the type of training; one that training had in 4 bits is quantised as
there and unpacked again, since the adapter has learned to correct that; the adapter's update is added in float32. So
neither base nor result is ever whole in memory.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune import InputError
from finetune.logged_models.writing.weights.base_files import base_folder, weight_files
from finetune.logged_models.writing.weights.disk_space import check_disk
from finetune.logged_models.writing.weights.skeletons import attach_weightless, make_base, quantized_layers
from finetune.models.bases.configs import GENERATION
from finetune.models.bases.loading import load_config, load_tokenizer
from finetune.models.bases.quantization import recorded_dtype
from finetune.models.card import Card, ClassifierCard, SqlCard
from finetune.models.classifier.encoder import HEAD
from finetune.models.files.adapter_files import INDEX, WEIGHTS
from finetune.models.restoring import restored_quantization

import bitsandbytes as bnb
import safetensors.torch
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from mlflow.entities import Run
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from transformers import BitsAndBytesConfig, PretrainedConfig
from transformers.pytorch_utils import Conv1D

SHARD = 2 * 10**9  # bytes of a file that is written, which is in memory until it is


@dataclass
class Merge:
    """A merge that has not begun: it holds an adapter, and where the weights of its base are.

    Attributes:
        places: file of each tensor of the base, by its name there.
        names: name in the model of each tensor of the base.
        layers: of the model, with their adapter, by the name of their weight.
        quantized: names of the weights that training had in 4 bits.
        turned: names of the weights whose file has inputs before outputs, as GPT-2's; in 4 bits they are as all others.
    """

    checkpoint: Path
    card: Card
    folder: Path
    config: PretrainedConfig
    dtype: torch.dtype
    places: dict[str, Path]
    names: dict[str, str]
    layers: dict[str, LoraLayer]
    quantization: BitsAndBytesConfig | None
    quantized: set[str]
    turned: set[str]

    @property
    def shapes(self) -> dict[str, torch.Tensor]:
        """The tensors to write, without memory."""
        return {name: tensor for path in dict.fromkeys(self.places.values()) for name, tensor in self._shapes_in(path)}

    @property
    def size(self) -> int:
        """Bytes of the weights to write."""
        return sum(tensor.nbytes for tensor in self.shapes.values())

    def write(self, folder: Path) -> Path:
        """Write the merged model, its tokenizer and its configuration into a folder and return it."""
        folder.mkdir(parents=True)
        shards = split_torch_state_dict_into_shards(self.shapes, max_shard_size=SHARD)
        for file, keys in shards.filename_to_tensors.items():
            tensors = {key: self.tensor(key) for key in keys}
            safetensors.torch.save_file(tensors, folder / file, metadata={"format": "pt"})
            del tensors
        if shards.is_sharded:
            index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
            (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True))
        self.config.dtype = self.dtype
        self.config.save_pretrained(folder)
        if (self.folder / GENERATION).is_file():
            shutil.copyfile(self.folder / GENERATION, folder / GENERATION)
        load_tokenizer(str(self.checkpoint), kind=self.card.base_kind).save_pretrained(folder)
        if isinstance(self.card, ClassifierCard):
            self._write_head(folder)
        return folder

    def tensor(self, key: str) -> torch.Tensor:
        """Return one tensor of the base with what the adapter adds to it."""
        with safe_open(self.places[key], "pt") as file:  # Opened anew: what is mapped would count as this process's.
            found = file.get_tensor(key)
        if not found.is_floating_point():
            return found.clone()
        weight, name = found.to(self.dtype), self.names.get(key)
        if name in self.quantized:
            is_turned = name in self.turned
            weight = self._as_in_4_bits(weight.T).T if is_turned else self._as_in_4_bits(weight)
        if name in self.layers:
            weight = _with_adapter(weight.float(), self.layers[name])
        return weight.to(self.dtype).clone(memory_format=torch.contiguous_format)

    def _as_in_4_bits(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what the 4-bit weights of training stand for, in the type that they compute in."""
        config = self.quantization
        assert config is not None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        packed = bnb.nn.Params4bit(
            weight.to(device).contiguous(), requires_grad=False, quant_type=config.bnb_4bit_quant_type,
            compress_statistics=config.bnb_4bit_use_double_quant, quant_storage=config.bnb_4bit_quant_storage,
        ).to(device)  # fmt: skip
        return bnb.functional.dequantize_4bit(packed.data, packed.quant_state).to("cpu")

    def _shapes_in(self, path: Path) -> Iterator[tuple[str, torch.Tensor]]:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                part = file.get_slice(name)
                is_float = part.get_dtype().startswith(("F", "BF"))
                dtype = self.dtype if is_float else file.get_tensor(name).dtype
                yield name, torch.empty(part.get_shape(), dtype=dtype, device="meta")

    def _write_head(self, folder: Path) -> None:
        prefix = "base_model.model.classifier."
        with safe_open(self.checkpoint / WEIGHTS, "pt") as file:
            tensors = {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
        safetensors.torch.save_file(tensors, folder / HEAD)


def merge_for(run: Run, checkpoint: Path) -> Merge:
    """Return the merge of a checkpoint that is logged into its run; raise InputError where there is no room for it."""
    merge = prepare_merge(checkpoint)
    check_disk(merge.size, run, "the merged model")
    return merge


def prepare_merge(checkpoint: Path) -> Merge:
    """Return how the adapter of a checkpoint is merged into its base; nothing is written yet.

    Raises:
        InputError: base or adapter are not those of training, or the weights are under other names than the model's.
    """
    card = Card.read(checkpoint)
    folder = base_folder(card)
    config = load_config(str(folder), None, card.base_kind)
    if getattr(config, "quantization_config", None):
        raise InputError(
            f"the adapter cannot be merged: the base in {folder} is stored quantised; only a full one is merged into."
        )
    # What is not quantised is in float32 in the other two tasks: see `load_encoder`.
    dtype = recorded_dtype(card) if isinstance(card, SqlCard) else torch.float32
    base = make_base(config, card.base_kind, dtype)
    known, prefix = set(base.state_dict()), base.base_model_prefix
    places = {key: path for path in weight_files(folder) for key in _keys(path)}
    names = {key: name for key in places if (name := _name_of(key, known, prefix))}
    turned = {f"{name}.weight" for name, module in base.named_modules() if isinstance(module, Conv1D)}
    layers = _layers(attach_weightless(base, card, checkpoint), isinstance(card, ClassifierCard))
    quantization = restored_quantization(card, None, recorded_dtype(card))
    quantized = quantized_layers(card, str(folder), None, quantization) if quantization else set()
    quantized = {f"{name}.weight" for name in quantized}
    if missing := sorted((layers.keys() | quantized) - set(names.values())):
        raise InputError(
            f"the adapter cannot be merged file by file: {folder} has no weights of its own for {missing[0]} (tied to"
            " others, or under another name); log or export it as an adapter."
        )
    return Merge(checkpoint, card, folder, config, dtype, places, names, layers, quantization, quantized, turned)


def _layers(model: PeftModel, is_classifier: bool) -> dict[str, LoraLayer]:
    """Return the layers of a base that have an adapter by the name of their weight."""
    prefix = "base_model.model.encoder." if is_classifier else "base_model.model."
    found = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    return {f"{name.removeprefix(prefix)}.weight": module for name, module in found.items()}


def _with_adapter(weight: torch.Tensor, layer: LoraLayer) -> torch.Tensor:
    """Return a weight in float32 with what an adapter adds to it; DoRA gives each output a length that it has learned.

    `get_delta_weight` knows nothing of those lengths.
    """
    found = weight + layer.get_delta_weight("default").float()
    if "default" not in layer.lora_magnitude_vector:
        return found
    dora = layer.lora_magnitude_vector["default"]
    lengths = found.norm(dim=0 if dora.fan_in_fan_out else 1, keepdim=True)
    return found * (dora.weight.float().view_as(lengths) / lengths)


def _keys(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def _name_of(key: str, known: set[str], prefix: str) -> str | None:
    """Return what a model calls a tensor of its file: a head's file has a prefix before the body's names, or lacks it.

    Args:
        known: names of the model.
        prefix: of the body in a model with a head.
    """
    candidates = (key, key.removeprefix(f"{prefix}."), f"{prefix}.{key}")
    return next((name for name in candidates if name in known), None)
