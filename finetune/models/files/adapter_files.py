"""The files of an adapter, looked at before PEFT or anything else opens them: what training writes, and nothing else.

PEFT builds what the configuration says before it looks at the weights: a layer copied 100,000 times, a pattern that
takes hours to match, a rank of a million.
"""

import math
from dataclasses import MISSING
from dataclasses import fields as fields_of
from pathlib import Path

from finetune import InputError
from finetune.models.card import MEND
from finetune.models.files.inside import plain
from finetune.models.files.schemas import (
    FLAG,
    MODULE,
    NULL,
    check,
    either,
    fields,
    listed,
    mapped,
    number,
    one_of,
    read_json,
    reason,
    text,
    whole,
)

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("adapter_model.bin", "pytorch_model.bin")
INDEX = "model.safetensors.index.json"
MAX_RANK, MAX_MODULES = 2**15, 10**4
RANK = whole(1, MAX_RANK)
EVA = {
    "rho": number(1, 1e3), "tau": number(0, 1), "use_label_mask": FLAG, "label_mask_value": whole(-(2**31), 2**31),
    "whiten": FLAG, "adjust_scaling_factors": FLAG,
}  # fmt: skip
REQUIRED = {
    "peft_type": one_of("LORA"), "r": RANK, "lora_alpha": number(0, 1e6),
    "target_modules": listed(MODULE, 1, MAX_MODULES),
    "task_type": one_of("CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM"),
}  # fmt: skip
OPTIONAL = {
    "lora_dropout": number(0, 1), "inference_mode": FLAG, "bias": one_of("none"),
    "peft_version": either(NULL, text(99)), "init_lora_weights": one_of(True, "gaussian", "eva"),
    "eva_config": either(NULL, fields({}, EVA, strict=True)),
    "modules_to_save": either(NULL, listed(one_of("classifier", "score"), 0, 9)),
    "base_model_name_or_path": either(NULL, text(4096)), "revision": either(NULL, text(256)),
    "use_rslora": FLAG, "use_dora": FLAG,  # of adapters that other programs have trained
    # EVA takes a smaller rank where the rows have fewer directions.
    "rank_pattern": mapped(RANK, MAX_MODULES, MODULE), "alpha_pattern": mapped(number(0, 1e6), MAX_MODULES, MODULE),
}  # fmt: skip


def check_adapter(folder: Path) -> None:
    """Raise InputError where the adapter in a folder is not as training writes it; nothing in it is run or built."""
    for name in PICKLES:
        if (folder / name).exists():
            raise InputError(f"{folder / name} is a pickle, which may run code and is not opened; {MEND}.")
    check_index(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}; {MEND}.")
    config = check(read_json(folder / CONFIG, MEND), REQUIRED, folder / CONFIG, MEND, OPTIONAL, is_default)
    _check_shapes(folder / WEIGHTS, {config["r"], *config.get("rank_pattern", {}).values()})


def check_index(folder: Path) -> None:
    """Raise InputError where an index of weights names files elsewhere."""
    path = folder / INDEX
    if not path.exists():
        return
    mend = "give a folder with the model as it was saved"
    index = check(read_json(path, mend), {"weight_map": mapped(text(), 10**6)}, path, mend, others=lambda *_: True)
    for name in set(index["weight_map"].values()):
        if "/" in plain(name, str(path)) or not name.endswith(".safetensors"):
            raise InputError(f"{path} names {name[:80]!r}; expected a .safetensors file beside it; {mend}.")


def check_fit(model: PeftModel, folder: Path) -> None:
    """Raise InputError where an adapter's file lacks weights of a model that it was loaded into, or has others.

    PEFT leaves what is missing as it was made up at random, and passes over what has no place.
    """
    known = {name for name, _ in model.named_parameters()}
    expected = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
    with safe_open(folder / WEIGHTS, "pt") as file:
        found = set(file.keys())
    if missing := sorted(expected - found):
        raise InputError(f"{folder / WEIGHTS} is damaged: it lacks {_some(missing)}; {MEND}.")
    if others := sorted(found - expected - known):
        raise InputError(f"{folder / WEIGHTS} is damaged: the base has no place for its {_some(others)}; {MEND}.")


def check_numbers(folder: Path) -> None:
    """Raise InputError where weights of an adapter are not numbers."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        broken = [name for name in sorted(file.keys()) if not torch.isfinite(file.get_tensor(name)).all()]
    if broken:
        raise InputError(f"{folder / WEIGHTS} is damaged: it has NaN or infinite values in {_some(broken)}; {MEND}.")


def _check_shapes(path: Path, ranks: set[int]) -> None:
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            shapes = {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {reason(error)}; {MEND}.") from error
    for name, (shape, dtype) in shapes.items():
        if dtype not in ("F32", "F16", "BF16") or not 1 <= len(shape) <= 2 or math.prod(shape) == 0:
            raise InputError(f"{path} is damaged: {name[:80]} is {dtype} of shape {shape}, no weight; {MEND}.")
        rank = shape[0] if ".lora_A." in name else shape[-1] if ".lora_B." in name else None
        if rank is not None and rank not in ranks:
            raise InputError(
                f"{path} is damaged: {name[:80]} has the rank {rank}, and {CONFIG} says"
                f" {' or '.join(map(str, sorted(ranks)))}; {MEND}."
            )
    if not any(".lora_" in name for name in shapes):
        raise InputError(f"{path} is damaged: it holds no adapter's weights; {MEND}.")


def is_default(name: str, value: object) -> bool:
    """Say whether a field that training never sets is as PEFT leaves it, or, of another version, is empty."""
    for known in fields_of(LoraConfig):
        if known.name == name and known.default is not MISSING and type(value) is type(known.default):
            return value == known.default
    return value is None or value is False or value in ({}, [])


def _some(names: list[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:2])
    return f"{shown} and {len(names) - 2} more" if len(names) > 2 else shown
