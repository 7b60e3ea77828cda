"""The files of a base: the weights that its index names, and what goes with them."""

import os
from pathlib import Path

from finetune import InputError
from finetune.models.bases.configs import CONFIG, GENERATION
from finetune.models.card import Card
from finetune.models.files.adapter_files import INDEX, check_index
from finetune.models.files.schemas import read_json
from finetune.models.restoring import find_base

from huggingface_hub import snapshot_download

SINGLE = "model.safetensors"
MEND = "give a folder with the model as save_pretrained wrote it"
# What a base on the Hub is downloaded by: no pickles, no code, no second copy in another format.
TOKENIZER = ("*token*", "vocab*", "merges.txt", "*.model", "*.jinja")
DOWNLOADED = ("model*.safetensors", "*.json", *TOKENIZER)


def base_folder(card: Card) -> Path:
    """Return the folder of the base that a card names, from the Hub where it is there; the one of training.

    Raises:
        InputError: it is gone, or is another one.
    """
    source, revision = find_base(card, None)
    if os.path.isdir(source):
        return Path(source)
    return Path(snapshot_download(source, revision=revision, allow_patterns=DOWNLOADED))


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the weights of a model in a folder.

    Raises:
        InputError: there are none in safetensors.
    """
    check_index(folder)
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX, MEND)
        assert isinstance(index, dict)  # `check_index` has looked.
        names = sorted(set(index["weight_map"].values()))
    else:
        names = [SINGLE]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise InputError(f"{folder} has no {missing[0]}; {MEND}: pickled weights are not opened.")
    return [folder / name for name in names]


def files_of(folder: Path) -> list[Path]:
    """Return the files that a base is loaded from: weights and their index, configurations; no tokenizer.

    All weights that lie in a folder, since its fingerprint is of all; of a download from the Hub those that it is
    loaded from, since some repositories have them twice.
    """
    others = [path for path in (folder / name for name in (CONFIG, GENERATION, INDEX)) if path.is_file()]
    loaded = weight_files(folder)
    return others + (loaded if _is_download(folder) else sorted(folder.glob("*.safetensors")))


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of the tokenizer in a folder."""
    return sorted({path for pattern in TOKENIZER for path in folder.glob(pattern) if path.is_file()})


def _is_download(folder: Path) -> bool:
    """Say whether a folder is a snapshot in the Hub's cache."""
    return folder.parent.name == "snapshots"
