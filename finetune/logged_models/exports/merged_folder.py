"""Base and adapter as one model that transformers loads by itself, with its tokenizer and how it generates."""

from pathlib import Path

from finetune.models.bases.loading import load_decoder, load_encoder_decoder, load_tokenizer
from finetune.models.bases.quantization import recorded_dtype
from finetune.models.card import Card
from finetune.models.generation import DEFAULTS
from finetune.models.restoring import attach_adapter, find_base, restored_quantization

from transformers import GenerationConfig


def write_merged(checkpoint: Path, folder: Path) -> None:
    """Write the merged model of a checkpoint into a folder that is there and empty."""
    card = Card.read(checkpoint)
    folder.rmdir()
    merge(checkpoint, folder)
    generation_of(card, load_tokenizer(str(checkpoint), kind=card.base_kind), folder).save_pretrained(folder)


def merge(checkpoint: Path, folder: Path) -> None:
    """Write weights, configuration and tokenizer of base and adapter into a folder that is not there.

    The weights are those that training had, what 4 bits stand for where it had these, with the adapter's update added
    in float32; of a decoder they are in the type of training then, of an encoder-decoder in float32.
    """
    card = Card.read(checkpoint)
    source, revision = find_base(card, None)
    quantization, dtype = restored_quantization(card, None, recorded_dtype(card)), recorded_dtype(card)
    if card.base_kind == "decoder":
        base = load_decoder(source, revision, quantization, dtype)
    else:
        base = load_encoder_decoder(source, revision, quantization)
    plain = (base.dequantize() if card.quantization else base).float()
    merged = attach_adapter(plain, checkpoint, source).merge_and_unload()
    merged.to(dtype if card.base_kind == "decoder" else plain.dtype).save_pretrained(folder)
    load_tokenizer(str(checkpoint), kind=card.base_kind).save_pretrained(folder)


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
