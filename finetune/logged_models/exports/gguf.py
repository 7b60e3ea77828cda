"""Merged model and adapter as GGUF files, by the converters of the user's own llama.cpp."""

import importlib.util
import json
import logging
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from finetune import InputError, screen
from finetune.logged_models.exports.adapter_folder import settings_of, write_adapter
from finetune.logged_models.exports.merged_folder import write_merged
from finetune.models.card import Card
from finetune.models.files.adapter_files import CONFIG

logger = logging.getLogger(__name__)
MODEL, ADAPTER = "convert_hf_to_gguf.py", "convert_lora_to_gguf.py"  # of llama.cpp
TYPES = {"bf16": "bf16", "fp16": "f16", "fp32": "f32"}
PACKAGE = "llama-cpp-python"


def find_converters(llama_cpp: Path | None, run_id: str, card: Card) -> dict[str, list[str]]:
    """Return the beginning of the command for each of llama.cpp's converters.

    Args:
        llama_cpp: its folder; None to look on the PATH.

    Raises:
        InputError: they are not there; with the commands that write the files elsewhere.
    """
    if llama_cpp is None:
        found = {name: [path] for name in (MODEL, ADAPTER) if (path := shutil.which(name))}
        missing = "llama.cpp's converters are not on the PATH"
    else:
        paths = {name: llama_cpp / name for name in (MODEL, ADAPTER) if (llama_cpp / name).is_file()}
        found = {name: [sys.executable, str(path.resolve())] for name, path in paths.items()}
        missing = f"--llama-cpp {llama_cpp} has no {MODEL} or no {ADAPTER}"
    if len(found) == 2:
        return found
    raise InputError(
        f"--export gguf: {missing}, and nothing is written. Get them and try again:\n"
        "  git clone --depth 1 https://github.com/ggml-org/llama.cpp\n"
        f"  python log_model.py {run_id} --export gguf --llama-cpp llama.cpp\n"
        f"or convert by hand, where they are:\n{by_hand(run_id, card)}"
    )


def by_hand(run_id: str, card: Card) -> str:
    """Return the commands that write what `write_gguf` does."""
    kind, base = TYPES[card.trained_in], card.base_model
    option = "--base" if Path(base).is_absolute() else "--base-model-id"
    return (
        f"  python log_model.py {run_id} --export safetensors --output merged\n"
        f"  python llama.cpp/{MODEL} merged --outfile model-{kind}.gguf --outtype {kind}\n"
        f"  python log_model.py {run_id} --export peft --output adapter\n"
        f"  python llama.cpp/{ADAPTER} adapter {option} {base} --outfile adapter-f32.gguf --outtype f32"
    )


def check_package() -> None:
    """Raise InputError where what answers with GGUF files is not installed."""
    if importlib.util.find_spec("llama_cpp") is None:
        raise InputError(
            f"--export gguf: {PACKAGE}, in which the answers are compared, is not installed: pip install {PACKAGE}"
            " (it is compiled then, which takes minutes), or leave the comparison out with --no-reload-check."
        )


def write_gguf(checkpoint: Path, folder: Path, converters: dict[str, list[str]]) -> None:
    """Write the merged model, and the adapter alone where llama.cpp can have it, into a folder.

    Raises:
        InputError: a converter fails, as it does for a tokenizer or an architecture that it does not know.
    """
    card = Card.read(checkpoint)
    kind = TYPES[card.trained_in]
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        merged, adapter = Path(scratch) / "merged", Path(scratch) / "adapter"
        merged.mkdir()
        adapter.mkdir()
        write_merged(checkpoint, merged, copies=2)  # and the converted one
        convert([*converters[MODEL], str(merged), "--outfile", str(folder / f"model-{kind}.gguf"), "--outtype", kind])
        if why := no_adapter(checkpoint):
            logger.warning(f"--export gguf: the adapter alone is not written: {why}.")
            return
        write_adapter(checkpoint, adapter)
        _settle_scaling(adapter)
        # Of the merged model, which has the base's shapes and is here: of the base only its configuration is read.
        command = [*converters[ADAPTER], str(adapter), "--base", str(merged), "--outtype", "f32"]
        convert([*command, "--outfile", str(folder / "adapter-f32.gguf")])


def no_adapter(checkpoint: Path) -> str | None:
    """Return why llama.cpp cannot have an adapter alone; None where it can."""
    settings = settings_of(checkpoint)
    if settings.get("use_dora"):
        return "llama.cpp knows no DoRA"
    return "llama.cpp knows one alpha for all layers" if settings.get("alpha_pattern") else None


def _settle_scaling(adapter: Path) -> None:
    """Write an alpha that means without rsLoRA, which llama.cpp does not know, what was trained with it."""
    settings = settings_of(adapter)
    if settings.get("use_rslora"):
        if settings.get("rank_pattern"):
            raise InputError(
                "--export gguf: rsLoRA with ranks of several sizes has no one alpha, which llama.cpp needs."
            )
        settings |= {"use_rslora": False, "lora_alpha": settings["lora_alpha"] * math.sqrt(settings["r"])}
        (adapter / CONFIG).write_text(json.dumps(settings, indent=2), encoding="utf-8")


def convert(command: list[str]) -> None:
    """Run a converter; what it says is shown where it fails, or with --verbose.

    Raises:
        InputError: it fails, with its last line.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = (done.stdout + done.stderr).strip()
    logger.info(said, extra=screen.DETAIL)
    outfile = Path(command[command.index("--outfile") + 1])
    if done.returncode or not outfile.is_file():
        last = said.splitlines()[-1][:300] if said else f"status {done.returncode}"
        raise InputError(f"--export gguf: llama.cpp's converter failed ({last}); --verbose shows all that it said.")
