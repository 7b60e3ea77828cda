"""Models without memory: base and adapter as training had them, on the meta device but for the adapter's tensors."""

from pathlib import Path

from finetune.models.bases.loading import load_config, without_pooler
from finetune.models.card import Card, ClassifierCard
from finetune.models.classifier.encoder import EncoderClassifier
from finetune.models.files.adapter_files import WEIGHTS, check_adapter, check_fit, check_numbers

import bitsandbytes as bnb
import safetensors.torch
import torch
from accelerate.utils import set_module_tensor_to_device
from peft import PeftModel
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.quantizers import AutoHfQuantizer

LOADERS = {"decoder": AutoModelForCausalLM, "encoder": AutoModel, "encoder-decoder": AutoModelForSeq2SeqLM}


def make_base(config: PretrainedConfig, kind: str, dtype: torch.dtype) -> PreTrainedModel:
    """Return a base of a kind, made from its configuration: it has names and shapes, and no weights."""
    with torch.device("meta"):
        return LOADERS[kind].from_config(config, dtype=dtype, **(without_pooler(config) if kind == "encoder" else {}))


def attach_weightless(base: PreTrainedModel, card: Card, checkpoint: Path) -> PeftModel:
    """Return a base without weights and the adapter of a checkpoint, which has its own.

    Raises:
        InputError: the adapter is damaged or does not fit.
    """
    check_adapter(checkpoint)
    check_numbers(checkpoint)
    model: PreTrainedModel = base
    if isinstance(card, ClassifierCard):
        with torch.device("meta"):
            model = EncoderClassifier(base, card.labels.outputs, card.pooling)
    adapted = PeftModel.from_pretrained(model, checkpoint, low_cpu_mem_usage=True, torch_device="cpu")
    check_fit(adapted, checkpoint)
    fill_in(adapted, checkpoint)
    return adapted


def fill_in(model: PeftModel, checkpoint: Path) -> None:
    """Give a model on the meta device the adapter of a checkpoint; a head that was trained with it is no part of it."""
    names = dict(model.named_parameters())
    for key, tensor in safetensors.torch.load_file(checkpoint / WEIGHTS).items():
        name = key.removesuffix(".weight") + ".default.weight"
        if ".lora_" in name or key in names:
            set_module_tensor_to_device(model, name if name in names else key, "cpu", value=tensor)


def quantized_layers(card: Card, source: str, revision: str | None, quantization: BitsAndBytesConfig) -> set[str]:
    """Return the names of the layers of a base that training had in 4 bits, as transformers chooses them."""
    base = make_base(load_config(source, revision, card.base_kind), card.base_kind, torch.bfloat16)
    quantizer = AutoHfQuantizer.from_config(quantization, pre_quantized=False)
    quantizer.preprocess_model(base, device_map={"": "cpu"})
    return {name for name, module in base.named_modules() if isinstance(module, bnb.nn.Linear4bit)}
