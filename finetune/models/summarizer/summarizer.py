"""Trained summarizers: articles to summaries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from finetune import InputError
from finetune.models.bases.loading import load_encoder_decoder, load_tokenizer
from finetune.models.bases.quantization import DTYPES, prediction_dtype
from finetune.models.bases.tokenizers import fit_to_vocabulary
from finetune.models.card import Card, SummarizerCard
from finetune.models.generation import DEFAULTS, Generation, generate_all
from finetune.models.prompts import Prompt
from finetune.models.restoring import (
    AS_TRAINED,
    MERGED,
    Loading,
    attach_adapter,
    find_base,
    recorded,
    refuse_base,
    restored_quantization,
)
from finetune.models.summarizer.articles import Articles, encode_articles


@dataclass
class Summarizer:
    """A model that takes articles as they are and returns summaries.

    Attributes:
        model: an encoder-decoder with its adapter, or anything that generates like one.
        card: what was recorded in training: prompt, longest article, generation parameters.
    """

    model: Any
    tokenizer: Any
    card: SummarizerCard

    columns: ClassVar[tuple[str, ...]] = ("article",)
    parameters: ClassVar[dict] = DEFAULTS
    forms: ClassVar[tuple[str, ...]] = ("adapter", MERGED)
    checked_by: ClassVar[str] = "token_ids"
    by_epoch: ClassVar[bool] = False

    @classmethod
    def load(cls, folder: Path, loading: Loading = AS_TRAINED, card: Card | None = None) -> "Summarizer":
        """Return the summarizer of a folder, as `SqlWriter.load` does; what is not quantised computes in float32."""
        card = card or SummarizerCard.read(folder)
        assert isinstance(card, SummarizerCard)  # `kind_of` has asked.
        card = recorded(card, loading)
        if loading.precision == "bf16":
            raise InputError("--precision bf16: a summarizer's base is nf4 or fp32.")
        tokenizer, merged = load_tokenizer(str(folder), kind="encoder-decoder"), folder / MERGED
        if merged.is_dir():
            refuse_base(loading)
            if loading.compute_dtype in DTYPES:
                raise InputError("a merged summarizer is in float32; leave out --compute-dtype.")
            return cls(load_encoder_decoder(str(merged), None, None).eval(), tokenizer, card)
        source, revision = find_base(card, loading.base_model)
        computed = prediction_dtype(card, loading.compute_dtype)
        model = load_encoder_decoder(source, revision, restored_quantization(card, loading.precision, computed))
        fit_to_vocabulary(tokenizer, model.config, str(folder))
        if loading.with_adapter:
            model = attach_adapter(model, folder, source)
        return cls(model.eval(), tokenizer, card)

    def encode(self, rows: list[dict]) -> Articles:
        """Return the articles of rows as pieces, cut or windowed as in training."""
        articles, window = [row["article"] for row in rows], self.card.long_texts == "window"
        return encode_articles(self.tokenizer, Prompt(self.card.prompt), articles, self.card.max_length, window)

    def summarize(self, articles: list[str] | Articles, batch_size: int = 16, **parameters) -> list[Generation]:
        """Return a summary for each article, its tokens those of its pieces one after the other.

        Args:
            parameters: of generation, over the card's.
        """
        encoded = articles if isinstance(articles, Articles) else self.encode([{"article": text} for text in articles])
        parameters = self.card.generation | parameters
        pieces = generate_all(self.model, self.tokenizer, encoded.prompts, batch_size=batch_size, **parameters)
        found: dict[int, list[Generation]] = {}
        for owner, piece in zip(encoded.owners, pieces, strict=True):
            found.setdefault(owner, []).append(piece)
        return [
            Generation(
                " ".join(piece.text.strip() for piece in own),
                [token for piece in own for token in piece.token_ids],
                all(piece.ended for piece in own),
            )
            for own in found.values()
        ]

    def answer(self, encoded: Articles, batch_size: int = 16, **parameters) -> list[dict]:
        """Return for each article {"summary": text, "ended": whether the model ended it itself, "token_ids": ids}."""
        written = self.summarize(encoded, batch_size, **parameters)
        return [{"summary": one.text, "ended": one.ended, "token_ids": one.token_ids} for one in written]

    def line(self, answer: dict) -> str:
        """Return the summary in one line."""
        return " ".join(answer["summary"].split())
