"""An adapter as a folder that plain PEFT and vLLM's LoRA modules take."""

import json
import shutil
from pathlib import Path

from finetune.logged_models.checkpoint_files import served_files
from finetune.models.card import CARD, MEND, Card
from finetune.models.files.adapter_files import CONFIG, check_adapter, check_numbers
from finetune.models.files.schemas import read_json

TEMPLATE = "chat_template.jinja"
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank of vLLM can be


def write_adapter(checkpoint: Path, folder: Path) -> None:
    """Write adapter and tokenizer of a checkpoint into a folder, with the base that they are for, and no other file."""
    card = Card.read(checkpoint)
    check_adapter(checkpoint)
    check_numbers(checkpoint)
    for path in [*served_files(checkpoint), checkpoint / TEMPLATE]:
        if path.is_file() and path.name != CARD:
            shutil.copyfile(path, folder / path.name)
    base = {"base_model_name_or_path": card.base_model, "revision": card.base_revision}
    (folder / CONFIG).write_text(json.dumps(settings_of(folder) | base, indent=2), encoding="utf-8")


def settings_of(folder: Path) -> dict:
    """Return what the configuration of an adapter says."""
    found = read_json(folder / CONFIG, MEND)
    assert isinstance(found, dict)  # `check_adapter` has looked.
    return found


def largest_rank(folder: Path) -> int:
    """Return the largest rank of an adapter's layers."""
    settings = settings_of(folder)
    return max(settings["r"], *settings.get("rank_pattern", {}).values(), 0)


def refused_by_vllm(folder: Path) -> list[str]:
    """Return what of an adapter vLLM does not take."""
    settings = settings_of(folder)
    found = ["DoRA"] if settings.get("use_dora") else []
    found += ["an adapter on lm_head"] if "lm_head" in settings["target_modules"] else []
    return found + ([f"a rank above {VLLM_RANKS[-1]}"] if largest_rank(folder) > VLLM_RANKS[-1] else [])
