"""Base and adapter as one model that transformers loads by itself, with its tokenizer and how it generates."""

from pathlib import Path

from finetune.logged_models.writing.weights.disk_space import check_places
from finetune.logged_models.writing.weights.merging import prepare_merge
from finetune.models.bases.loading import load_tokenizer
from finetune.models.card import Card
from finetune.models.generation import DEFAULTS

from transformers import GenerationConfig


def write_merged(checkpoint: Path, folder: Path, copies: int = 1) -> None:
    """Write the merged model of a checkpoint into a folder that is there and empty.

    Args:
        copies: of its weights that the disk is to have room for.

    Raises:
        InputError: it has none, or the adapter cannot be merged.
    """
    card, merge = Card.read(checkpoint), prepare_merge(checkpoint)
    check_places(copies * merge.size, [folder], "the export")
    folder.rmdir()
    merge.write(folder)
    generation_of(card, load_tokenizer(str(checkpoint), kind=card.base_kind), folder).save_pretrained(folder)


def generation_of(card: Card, tokenizer, folder: Path) -> GenerationConfig:
    """Return how the model of a card generates, as the defaults of a merged model in a folder."""
    parameters = DEFAULTS | card.generation
    if not parameters["do_sample"]:  # Of sampling alone: transformers warns of them.
        parameters = {name: value for name, value in parameters.items() if name not in ("temperature", "top_p")}
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    special["bos_token_id"] = tokenizer.bos_token_id
    before = GenerationConfig.from_model_config(_config(folder))
    return GenerationConfig(decoder_start_token_id=before.decoder_start_token_id, **parameters, **special)


def _config(folder: Path):
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False)
