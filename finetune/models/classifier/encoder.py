"""Encoders with a classification head: the quantised encoder below, pooling and a head in full precision above.

A decoder without its head is an encoder here whose tokens see only those before them.
"""

import inspect
from pathlib import Path
from typing import Protocol

from finetune import InputError
from finetune.models.bases.attention import answering
from finetune.models.bases.loading import BaseFlags, is_decoder, load_config, load_encoder, open_base

import safetensors.torch
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput

POOLING = ("mean", "cls", "last")
HEAD = "head.safetensors"  # beside the files of a merged encoder


class EncoderClassifier(PreTrainedModel):
    """An encoder of any kind, its token states pooled into one, normalised, and a linear head.

    The classes of transformers differ in head, pooler and their names, and put both inside what is
    quantised. Here the head is one layer outside, in full precision, always called `classifier`: PEFT
    saves it with the adapter of a SEQ_CLS task and leaves it out of "all-linear" by that name.

    Args:
        encoder: from `loading.load_encoder`.
        outputs: number of logits.
        pooling: `mean` over the tokens of the text, `cls`, the first token, or `last`, the last one.
        bias: first values of the head's bias, shape (outputs,). Start them at the log-odds of the base
            rates: from 0, an encoder whose states are alike learns the rare classes' rate first, by making
            all texts the same, and stays there.
    """

    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, encoder: PreTrainedModel, outputs: int, pooling: str, bias: torch.Tensor | None = None):
        super().__init__(encoder.config)
        self.encoder, self.pooling = encoder, pooling
        self.knows_types = "token_type_ids" in inspect.signature(encoder.forward).parameters
        width = encoder.config.hidden_size
        self.normalize = nn.LayerNorm(width, elementwise_affine=False)
        self.dropout = nn.Dropout(getattr(encoder.config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(width, outputs, device=encoder.device)
        nn.init.normal_(self.classifier.weight, std=0.02)
        with torch.no_grad():
            self.classifier.bias.copy_(torch.zeros(outputs) if bias is None else bias)

    @property
    def is_loaded_in_4bit(self) -> bool:
        """PEFT asks the outermost model whether its layers are quantised."""
        return getattr(self.encoder, "is_loaded_in_4bit", False)

    def get_input_embeddings(self):
        """Return the encoder's."""
        return self.encoder.get_input_embeddings()

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None, **options):
        """Return logits of shape (texts, outputs), float32, and no loss: the training script chooses that."""
        for name in ("return_dict", "output_attentions", "output_hidden_states", "inputs_embeds"):  # PEFT's
            options.pop(name, None)
        order = padding_last(attention_mask)
        input_ids, attention_mask = input_ids.gather(1, order), attention_mask.gather(1, order)
        if token_type_ids is not None and self.knows_types:
            options["token_type_ids"] = token_type_ids.gather(1, order)
        states = self.encoder(input_ids, attention_mask=attention_mask, **options).last_hidden_state
        if self.pooling == "mean":
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(1) / mask.sum(1)
        elif self.pooling == "last":
            last = attention_mask.sum(1).sub(1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
            pooled = states.gather(1, last).squeeze(1)
        else:
            pooled = states[:, 0]
        pooled = self.dropout(self.normalize(pooled.float()))
        return SequenceClassifierOutput(logits=self.classifier(pooled))


def padding_last(attention_mask: torch.Tensor) -> torch.Tensor:
    """Return places of tokens, shape (texts, tokens), that put padding before a text behind it.

    There a text has the positions that it has alone, whatever the base makes them of, and a decoder never sees padding.
    """
    length = attention_mask.shape[1]
    places = torch.arange(length, device=attention_mask.device) + attention_mask.argmax(1, keepdim=True)
    return torch.where(places < length, places, places - length)  # ONNX has no remainder by a length that varies.


class ClassifierFlags(BaseFlags, Protocol):
    """What the flags of a classifier's training say besides."""

    pooling: str


def open_classifier_base(flags: ClassifierFlags) -> tuple[str | None, PreTrainedTokenizerBase]:
    """Return commit and tokenizer of the base, as `open_base` does, with its pooling in the place of `auto`."""
    revision, tokenizer = open_base(flags, "encoder")
    config = load_config(flags.base_model, revision, "encoder")
    flags.pooling = choose_pooling(flags.pooling, config, flags.base_model)
    return revision, tokenizer


def choose_pooling(pooling: str, config: PretrainedConfig, base_model: str) -> str:
    """Return one of `POOLING`; raise InputError for one that says nothing of a text with this base."""
    if not is_decoder(config):
        if pooling == "last":
            raise InputError(f"--pooling last is for decoders, and {base_model} is an encoder; take mean or cls.")
        return "mean" if pooling == "auto" else pooling
    if pooling == "cls":
        raise InputError(f"--pooling cls: {base_model} is a decoder: its first token sees no other; take mean or last.")
    return "last" if pooling == "auto" else pooling


def check_reading(model: EncoderClassifier, base_model: str) -> None:
    """Raise InputError for a decoder whose states are not what the pooling takes them for; tried on the model itself.

    That is, where padding behind a text changes its states, or where its tokens see those behind them, so that it is
    not the last one alone that has seen all.
    """
    if not is_decoder(model.config):
        return
    ids = (torch.arange(10, 22, device=model.device) % model.config.vocab_size).unsqueeze(0)
    mask = torch.ones_like(ids)
    mask[:, 8:] = 0

    def states(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model.encoder(ids, attention_mask=mask).last_hidden_state[:, :7].float()

    with answering(model):
        alone, padded = states(ids[:, :8], mask[:, :8]), states(ids, mask)
        other = states(torch.cat([ids[:, :7], ids[:, 8:9]], 1), mask[:, :8])
    if not all(found.isfinite().all() for found in (alone, padded, other)):
        raise InputError(
            f"{base_model} cannot be a classifier's base as it is computed here: its states are not finite numbers. In"
            " float16 they may be too large for it: take --compute-dtype bf16 or fp32, or another base."
        )
    limit = 0.01 * alone.norm()
    if not (padded - alone).norm() < limit:
        raise InputError(
            f"{base_model} cannot be a classifier's base: padding behind a text changes its states; take another."
        )
    if model.pooling == "last" and not (other - alone).norm() < limit:
        raise InputError(
            f"--pooling last: the tokens of {base_model} see those behind them, so that its last one is not what a text"
            " comes to; take --pooling mean."
        )


def load_merged(folder: Path, outputs: int, pooling: str) -> EncoderClassifier:
    """Return a classifier whose adapter was merged into its encoder: a folder with the encoder and the file `HEAD`."""
    model = EncoderClassifier(load_encoder(str(folder), None, None), outputs, pooling)
    model.classifier.load_state_dict(safetensors.torch.load_file(folder / HEAD))
    return model.eval()
