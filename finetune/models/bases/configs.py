"""The configuration of a base model, as recorded in training: the same weights compute something else under another."""

import json
import os
from pathlib import Path

from finetune import InputError
from finetune.models.generation import DEFAULTS

from transformers import AutoConfig
from transformers.utils import cached_file

CONFIG, GENERATION = "config.json", "generation_config.json"
# What says how a model is stored, started at random or reported on, not what it computes.
IGNORED = {
    "architectures", "auto_map", "chunk_size_feed_forward", "dtype", "finetuning_task", "gradient_checkpointing",
    "id2label", "initializer_factor", "initializer_range", "label2id", "num_labels", "output_attentions",
    "output_hidden_states", "problem_type", "quantization_config", "return_dict", "task_specific_params", "torch_dtype",
    "transformers_version", "use_cache",
}  # fmt: skip
# Of generation_config.json: each answer is written with parameters and special tokens of our own.
SET_HERE = {*DEFAULTS, "bos_token_id", "eos_token_id", "pad_token_id", "max_length", "transformers_version"}
SHOWN = 5  # changed fields that a message names


def read_config(base_model: str, revision: str | None = None) -> dict:
    """Return the fields of a base's config.json, and of its generation_config.json, that change what it computes.

    Args:
        base_model: a folder or a Hub id.

    Raises:
        InputError: no such file in the folder, or one that is not JSON.
    """
    config, generation = (_find(name, base_model, revision) for name in (CONFIG, GENERATION))
    fields = {name: value for name, value in _read(config).items() if not _is_ignored(name)}
    extra = _read(generation) if generation.is_file() else {}
    kept = {k: v for k, v in extra.items() if k not in SET_HERE and not k.startswith("_") and v is not None}
    return fields | ({GENERATION: kept} if kept else {})


def changed_fields(recorded: dict, base_model: str, revision: str | None = None, in_training: bool = False) -> str:
    """Return which fields a base has otherwise than a training recorded, `name now (before)`; "" for none.

    Both are read by the configuration's own class: a field that is left out means its default.

    Args:
        in_training: count dropout too.
    """
    both = recorded, read_config(base_model, revision)
    try:
        before, now = (_flat(_settled(fields)) for fields in both)
    except Exception:  # Of any class: no configuration of its own, which loading will say. Compared as they stand.
        before, now = (_flat(fields) for fields in both)
    names = [name for name in sorted(before | now) if before.get(name) != now.get(name)]
    names = [name for name in names if in_training or "drop" not in name]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    changes = (
        f"{name[:80]} {_short(now.get(name))} (in training {_short(before.get(name))})" for name in names[:SHOWN]
    )
    return ", ".join(changes) + more


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _find(name: str, base_model: str, revision: str | None) -> Path:
    if os.path.isdir(base_model):
        return Path(base_model) / name
    return Path(cached_file(base_model, name, revision=revision, _raise_exceptions_for_missing_entries=False) or name)


def _settled(fields: dict) -> dict:
    """Return the fields with the defaults of their class."""
    generation = {name: value for name, value in fields.items() if name == GENERATION}
    found = AutoConfig.for_model(**{name: value for name, value in fields.items() if name != GENERATION}).to_dict()
    plain = json.loads(json.dumps(found, default=str))
    return {name: value for name, value in plain.items() if not _is_ignored(name)} | generation


def _flat(fields: dict, prefix: str = "") -> dict:
    found: dict = {}
    for name, value in fields.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _is_ignored(name: str) -> bool:
    return name in IGNORED or name.startswith("_")


def _read(file: Path) -> dict:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} of the base model cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} of the base model holds no configuration.")
    return found
