"""An adapter that another program has written: its files looked at, and its settings said as PEFT's LoRA says them.

TRL, LLaMA-Factory, axolotl and unsloth all write PEFT's form; what each sets in it differs. What its weights say by
themselves, such as which layers it is on, is taken from them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from finetune import InputError
from finetune.logged_models.writing.weights.base_files import DOWNLOADED, weight_files
from finetune.models.bases.loading import load_config
from finetune.models.files.adapter_files import CONFIG, PICKLES, WEIGHTS, is_default
from finetune.models.files.inside import is_numbered
from finetune.models.files.schemas import read_json, reason, shown

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM

MEND = "give the folder as the program that trained it has saved it"
# What of a configuration is taken over as it is, and checked then as that of our own adapters is.
KEPT = (
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "use_rslora",
    "use_dora",
)
# Said by the weights, of no effect once they are there, or asked for on its own.
PASSED_OVER = (
    "task_type", "target_modules", "modules_to_save", "init_lora_weights", "base_model_name_or_path", "revision",
    "exclude_modules", "layers_to_transform", "layers_pattern", "auto_mapping", "inference_mode", "peft_version",
    "eva_config", "qalora_group_size",
)  # fmt: skip
STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # from the base as it is
TYPES = {
    "PROMPT_TUNING": "prompt tuning", "P_TUNING": "p-tuning", "PREFIX_TUNING": "prefix tuning", "IA3": "(IA)3",
    "XLORA": "X-LoRA", "ADALORA": "AdaLoRA", "LOHA": "LoHa", "LOKR": "LoKr", "VERA": "VeRA", "OFT": "OFT",
    "BOFT": "BOFT", "ADAPTION_PROMPT": "LLaMA-Adapter", "TRAINABLE_TOKENS": "trainable tokens",
}  # fmt: skip
PREFIX = "base_model.model."


@dataclass
class Foreign:
    """An adapter in a folder, by its own account.

    Attributes:
        settings: of PEFT's LoRA, without the layers that it is on.
        base: folder or Hub id that it names, None where it names none.
        shapes: of its weights, by name.
    """

    folder: Path
    settings: dict
    base: str | None
    revision: str | None
    shapes: dict[str, list[int]]

    @property
    def layers(self) -> set[str]:
        """The names of the base's modules that it is on."""
        return {name.removeprefix(PREFIX).split(".lora_")[0] for name in self.shapes if ".lora_" in name}

    @property
    def step(self) -> int:
        """The step in the name of a checkpoint's folder, 0 where it has another name."""
        number = self.folder.resolve().name.removeprefix("checkpoint-")
        return int(number) if is_numbered(number) else 0


def read_foreign(folder: Path) -> Foreign:
    """Return the adapter in a folder.

    Raises:
        InputError: there is none, several, one in a pickle, or one of a kind that is not taken here, by its name.
    """
    if not folder.is_dir():
        raise InputError(f"--from {folder}: there is no such folder; expected one with {CONFIG} and {WEIGHTS}.")
    _refuse_several(folder)
    for name in PICKLES:
        if (folder / name).exists():
            raise InputError(
                f"--from {folder}: {name} is a pickle, which may run code and is not opened; save the adapter as"
                f" safetensors, as PEFT's save_pretrained does by default."
            )
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"--from {folder}: it has {CONFIG} and no {WEIGHTS}; {MEND}.")
    found = read_json(folder / CONFIG, MEND)
    if not isinstance(found, dict):
        raise InputError(f"{folder / CONFIG} is damaged: it is {shown(found)}, expected an object; {MEND}.")
    _refuse_kind(folder, found)
    settings = {name: found[name] for name in KEPT if name in found} | {"task_type": "CAUSAL_LM"}
    base, revision = found.get("base_model_name_or_path"), found.get("revision")
    for name, value in (("base_model_name_or_path", base), ("revision", revision)):
        if value is not None and not isinstance(value, str):
            raise InputError(f"{folder / CONFIG} is damaged: {name} is {shown(value)}, expected a text; {MEND}.")
    return Foreign(folder, settings, base or None, revision or None, _shapes(folder / WEIGHTS))


def _refuse_several(folder: Path) -> None:
    below = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    others = [name for name in below if not re.fullmatch(r"checkpoint-\d+", name)]
    if others:
        raise InputError(
            f"--from {folder}: there are several adapters in it ({', '.join(others[:5])}); give the folder of one,"
            " alone."
        )
    if not (folder / CONFIG).is_file():
        hint = f"; of its checkpoints give one: {folder / below[-1]}" if below else ""
        raise InputError(f"--from {folder}: it has no {CONFIG}, so it holds no adapter{hint}.")


def _refuse_kind(folder: Path, found: dict) -> None:
    kind = found.get("peft_type")
    if kind != "LORA":
        named = TYPES.get(kind, shown(kind)) if isinstance(kind, str) else shown(kind)
        raise InputError(f"--from {folder}: it is an adapter of the kind {named}; only LoRA (and DoRA) is taken.")
    if found.get("task_type") not in (None, "CAUSAL_LM"):
        raise InputError(
            f"--from {folder}: it was trained for {shown(found['task_type'])}; --task text-to-sql takes CAUSAL_LM."
        )
    if found.get("modules_to_save"):
        raise InputError(
            f"--from {folder}: it trained {shown(found['modules_to_save'])} in full beside its LoRA layers"
            " (modules_to_save), which is not taken; train without, or merge it with the program that trained it and"
            " log the whole model."
        )
    if (start := found.get("init_lora_weights", True)) not in STARTS:
        raise InputError(
            f"--from {folder}: it started from {shown(start)}, which changes the weights of its base, so that it does"
            " not belong to the one that it names; convert it to a plain LoRA with PEFT's"
            " path_initial_model_for_weight_conversion first."
        )
    for name, value in found.items():
        if name not in (*KEPT, *PASSED_OVER) and not is_default(name, value):
            raise InputError(f"--from {folder}: its {name[:60]} is {shown(value)}, which is not taken here.")


def _shapes(path: Path) -> dict[str, list[int]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {reason(error)}; {MEND}.") from error


def fit_to_base(adapter: Foreign, base: str, revision: str | None) -> list[str]:
    """Return the target modules of an adapter, in short, where it fits a base.

    Raises:
        InputError: it does not, with the first weight that has no place; or the base is stored in few bits already.
    """
    config = load_config(base, revision)
    if getattr(config, "quantization_config", None):
        raise InputError(
            f"the base {base} is stored quantised; give the one that it was made from with --base-model, and"
            " --trained-in nf4."
        )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    modules = dict(model.named_modules())
    for name, shape in sorted(adapter.shapes.items()):
        _check_place(adapter, name, shape, modules, base)
    _refuse_trained_in_full(adapter, model, base, revision)
    return _targets(adapter.layers, modules)


def _check_place(adapter: Foreign, name: str, shape: list[int], modules: dict, base: str) -> None:
    where, own = f"--from {adapter.folder}", name.removeprefix(PREFIX)
    if ".lora_embedding_" in name:
        raise InputError(f"{where}: it has an adapter on the embeddings ({name[:80]}), which is not taken here.")
    layer, is_lora, part = own.partition(".lora_")
    layer = layer if is_lora else own.removesuffix(".weight").removesuffix(".base_layer")
    weight = getattr(modules.get(layer), "weight", None)
    if weight is None:
        raise InputError(
            f"{where}: the base {base} has no place for {name[:80]}; give the base that it was trained on with"
            " --base-model."
        )
    if len(shape) != (1 if part == "magnitude_vector" else 2 if is_lora else weight.dim()):
        raise InputError(f"{where}: its {name[:80]} has the shape {shape}, which no adapter's weight has; {MEND}.")
    rows, columns = weight.shape if weight.dim() == 2 else (weight.shape[0], None)
    if not is_lora and shape != list(weight.shape):
        raise InputError(
            f"{where}: it has {layer} of its own, {shape[0]} rows, where the base {base} has {rows}: tokens were added"
            " in its training. That is not taken; merge it with the program that trained it and log the whole model."
        )
    sides = {"A.weight": (shape[-1], columns), "B.weight": (shape[0], rows), "magnitude_vector": (shape[0], rows)}
    given, needed = sides.get(part, (0, 0))
    if is_lora and (part not in sides or given != needed):
        raise InputError(
            f"{where}: its {name[:80]} has the shape {shape}, and {layer} of the base {base} {list(weight.shape)}; give"
            " the base that it was trained on with --base-model."
        )


def _refuse_trained_in_full(adapter: Foreign, model: torch.nn.Module, base: str, revision: str | None) -> None:
    """Raise InputError where weights beside the LoRA layers are not the base's: a merge takes the base's own."""
    names = [name for name in adapter.shapes if ".lora_" not in name]
    if not names:
        return
    files, parameters = stored_weights(base, revision), dict(model.named_parameters(remove_duplicate=False))
    with safe_open(adapter.folder / WEIGHTS, "pt") as file:
        for name in names:
            own = name.removeprefix(PREFIX).replace(".base_layer.", ".")
            tied = [other for other, weight in parameters.items() if weight is parameters.get(own)]
            place = next(((files[other], other) for other in tied if other in files), None)
            if place is None or not torch.equal(_read(*place).float(), file.get_tensor(name).float()):
                raise InputError(
                    f"--from {adapter.folder}: its {name[:80]} is not the base's: it was trained in full beside the"
                    " LoRA layers, which is not taken; merge it with the program that trained it and log the whole"
                    " model."
                )


def stored_weights(base: str, revision: str | None) -> dict[str, Path]:
    """Return the file of each weight of a base by its name."""
    folder = Path(base)
    if not folder.is_dir():
        folder = Path(snapshot_download(base, revision=revision, allow_patterns=DOWNLOADED))
    found: dict[str, Path] = {}
    for path in weight_files(folder):
        with safe_open(path, "pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def _read(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)


def _targets(layers: set[str], modules: dict) -> list[str]:
    """Return the last parts of names where these name all layers and no others, else the names in full."""
    ends = {name.split(".")[-1] for name in layers}
    alike = {name for name, module in modules.items() if name.split(".")[-1] in ends and hasattr(module, "weight")}
    return sorted(ends if alike == layers else layers)
