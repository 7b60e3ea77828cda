"""Trained text-to-SQL models: questions about a schema to SQL."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from finetune.models.bases.loading import load_config, load_decoder, load_tokenizer
from finetune.models.bases.quantization import DTYPES, prediction_dtype, recorded_dtype
from finetune.models.bases.tokenizers import fit_to_vocabulary
from finetune.models.card import CARD, REFERENCE, Card, SqlCard
from finetune.models.generation import BATCH_SIZE, DEFAULTS, Generation, candidates, generate_all
from finetune.models.prompts import Prompt
from finetune.models.restoring import (
    AS_TRAINED,
    MERGED,
    Loading,
    attach_adapter,
    find_base,
    refuse_base,
    refuse_unpacked,
    restored_quantization,
    unpack_weights,
)

import torch
from transformers import PreTrainedTokenizerBase


@dataclass
class SqlWriter:
    """A model that takes questions with the CREATE TABLE statements they are about and returns SQL.

    Attributes:
        model: a decoder with its adapter, or anything that generates like one.
        card: what was recorded in training: the prompt before all.
    """

    model: Any
    tokenizer: Any
    card: SqlCard

    columns: ClassVar[tuple[str, ...]] = ("question", "context")
    parameters: ClassVar[dict] = DEFAULTS
    forms: ClassVar[tuple[str, ...]] = ("adapter", MERGED)
    checked_by: ClassVar[str] = "token_ids"
    by_epoch: ClassVar[bool] = False

    @classmethod
    def load(cls, folder: Path, loading: Loading = AS_TRAINED, card: Card | None = None) -> "SqlWriter":
        """Return the writer of a checkpoint's folder, or of a logged model's adapter, its base as it was trained.

        Merged, and on a CPU, it is in float32 unless told otherwise: an answer then does not depend on the batch it is
        in. Weights of `bf16` and `fp32` compute in their own type unless told otherwise.

        Args:
            card: in place of the folder's; a logged writer has none beside its adapter.

        Raises:
            InputError: when the base is gone or is not the one the adapter was trained on, or no memory for merging.
        """
        card = card or SqlCard.read(folder)
        assert isinstance(card, SqlCard)  # `kind_of` has asked.
        if card.form:
            return cls._load_whole(folder, loading, card)
        source, revision = find_base(card, loading.base_model)
        config = load_config(source, revision)
        dtype = DTYPES[loading.precision] if loading.precision in DTYPES else recorded_dtype(card)
        computed = prediction_dtype(card, _compute_dtype(loading))
        quantization = restored_quantization(card, loading.precision, computed)
        if getattr(config, "quantization_config", None):
            refuse_unpacked(loading, source)
        base = load_decoder(source, revision, quantization, dtype, computed)
        tokenizer = _load_tokenizer(folder, source, revision)
        fit_to_vocabulary(tokenizer, config, source)
        if loading.merged:
            base = unpack_weights(base, computed)
        model = attach_adapter(base, folder, source) if loading.with_adapter else base
        return cls(model.merge_and_unload() if loading.merged else model, tokenizer, card)

    @classmethod
    def _load_whole(cls, folder: Path, loading: Loading, card: SqlCard) -> "SqlWriter":
        """Return the writer of a folder with all weights: a model with its adapter merged in, or that never had one."""
        refuse_base(loading)
        source, revision = _find_weights(folder, card, None)
        computed = prediction_dtype(card, _compute_dtype(loading))
        model = load_decoder(source, revision, None, recorded_dtype(card), computed)
        return cls(model, _load_tokenizer(folder, source, revision), card)

    def encode(self, rows: list[dict]) -> list[list[int]]:
        """Return the token ids of each row's prompt."""
        prompt = Prompt(self.card.prompt)
        return [prompt_token_ids(self.tokenizer, prompt, row) for row in rows]

    def write(self, prompts: list[list[int]], batch_size: int = BATCH_SIZE, **parameters) -> list[Generation]:
        """Return the completion of each prompt.

        Args:
            parameters: of generation, over its defaults.
        """
        return generate_all(self.model, self.tokenizer, prompts, batch_size=batch_size, **parameters)

    def others(self, prompt: list[int], count: int, first: str, **parameters) -> list[Generation]:
        """Return the likeliest completions of a prompt but the first one that is known, likeliest first.

        Args:
            count: of completions, the first among them; one makes none.
            first: its text.
            parameters: of generation, over its defaults.
        """
        found = candidates(self.model, self.tokenizer, prompt, count, **parameters) if count > 1 else []
        return [one for one in found if one.text != first]

    def answer(self, encoded: list[list[int]], batch_size: int = BATCH_SIZE, **parameters) -> list[dict]:
        """Return for each row {"sql": text, "ended": whether the model ended it itself, "token_ids": ids}."""
        written = self.write(encoded, batch_size, **parameters)
        return [{"sql": one.text, "ended": one.ended, "token_ids": one.token_ids} for one in written]

    def line(self, answer: dict) -> str:
        """Return the SQL in one line."""
        return " ".join(answer["sql"].split())


def prompt_token_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, row: dict) -> list[int]:
    """Return the ids of a rendered prompt, special tokens as the tokenizer adds them by itself."""
    return tokenizer(prompt.render(row))["input_ids"]


def open_tokenizer(folder: Path, card: Card, base_model: str | None) -> tuple[PreTrainedTokenizerBase, int | None]:
    """Return the tokenizer of a writer, and how many positions its base has, None where it says nothing of them.

    Args:
        folder, card: as `SqlWriter.load` takes them.
        base_model: folder or Hub id in place of the recorded base.
    """
    source, revision = _find_weights(folder, card, base_model)
    config = load_config(source, revision)
    return _load_tokenizer(folder, source, revision), getattr(config, "max_position_embeddings", None)


def _find_weights(folder: Path, card: Card, base_model: str | None) -> tuple[str, str | None]:
    """Return folder or Hub id of the weights: of the base, or of all in one."""
    return find_base(card, base_model) if card.form in (None, REFERENCE) else (str(folder), None)


def _load_tokenizer(folder: Path, source: str, revision: str | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer beside an adapter, as MLflow has it beside the adapter's folder, or else the base's."""
    component = folder if (folder / CARD).is_file() else folder.parent / "components" / "tokenizer"
    return load_tokenizer(str(component)) if component.is_dir() else load_tokenizer(source, revision)


def _compute_dtype(loading: Loading) -> str:
    if loading.compute_dtype in DTYPES:
        return loading.compute_dtype
    if loading.merged and not torch.cuda.is_available():
        return "fp32"
    return loading.precision if loading.precision in DTYPES else loading.compute_dtype
