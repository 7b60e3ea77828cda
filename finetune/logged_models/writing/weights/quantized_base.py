"""A base stored once in the 4 bits of training: plain MLflow, which would load it unquantised, then loads it as it was.

The folder is whole or not there: it is written beside its place and renamed.
"""

import json
import logging
import tempfile
from pathlib import Path

from finetune import InputError
from finetune.logged_models.writing.weights.disk_space import check_places
from finetune.models.bases.loading import fingerprint, load_decoder, load_tokenizer
from finetune.models.bases.quantization import recorded_dtype
from finetune.models.card import Card
from finetune.models.files.schemas import read_json
from finetune.models.restoring import find_base, restored_quantization
from finetune.permissions import share_files

logger = logging.getLogger(__name__)
RECORD = "quantized_base.json"  # in the folder: what it was made of


def store_quantized(card: Card, folder: Path) -> Path:
    """Return a folder that has the base of a card in 4 bits; it is made where it is not there.

    Raises:
        InputError: as `is_stored`; or there is no room for it.
    """
    if is_stored(card, folder):
        logger.info(f"the base is in {folder} in 4 bits already")
    else:
        _make(card, folder)
    return folder


def is_stored(card: Card, folder: Path) -> bool:
    """Say whether a folder has the base of a card in 4 bits.

    Raises:
        InputError: training did not quantise, or the folder holds something else.
    """
    if card.base_kind != "decoder":
        raise InputError(f"--quantized-base: plain MLflow loads a model of {card.task} in 4 bits anyway; leave it out.")
    if card.quantization is None:
        raise InputError("--quantized-base: this adapter was trained on an unquantised base; leave the flag out.")
    made_of = _made_of(card)
    if (folder / RECORD).is_file():
        mend = "give a folder that is not there yet"
        found = read_json(folder / RECORD, mend)
        if not isinstance(found, dict) or any(found.get(name) != value for name, value in made_of.items()):
            raise InputError(f"--quantized-base {folder}: it holds another base, or one quantised otherwise; {mend}.")
        if found.get("fingerprint") != fingerprint(folder):
            raise InputError(f"--quantized-base {folder}: its weights were changed since they were stored; {mend}.")
        return True
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--quantized-base {folder}: it holds something else; give a folder that is not there yet.")
    return False


def _made_of(card: Card) -> dict:
    return {"base": card.base_fingerprint or [card.base_model, card.base_revision], "as": card.quantization}


def _make(card: Card, folder: Path) -> None:
    source, revision = find_base(card, None)
    dtype = recorded_dtype(card)
    base = load_decoder(source, revision, restored_quantization(card, None, dtype), dtype)
    base.set_attn_implementation("sdpa")  # Ours has a name that plain MLflow does not know.
    check_places(base.get_memory_footprint(), [folder], "the base in 4 bits")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own: FOLDER.new may be the user's, or another process's.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        new = Path(beside) / folder.name
        base.save_pretrained(new, max_shard_size="2GB")
        load_tokenizer(source, revision).save_pretrained(new)
        (new / RECORD).write_text(json.dumps(_made_of(card) | {"fingerprint": fingerprint(new)}, indent=2))
        share_files(new)
        _take_place(new, folder)
    logger.info(f"the base is stored in 4 bits in {folder}")


def _take_place(new: Path, folder: Path) -> None:
    """Rename a folder to one that is not there or empty."""
    try:
        new.replace(folder)
    except OSError as error:
        raise InputError(
            f"--quantized-base {folder}: what was stored cannot be put there ({error.strerror}); where another process"
            " has stored the base meanwhile, run the same command again, otherwise give another folder."
        ) from error
