"""Trained summarizers: one written into its run as an MLflow model, and read back from a URI."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune import InputError
from finetune.models.bases.loading import load_encoder_decoder, load_tokenizer
from finetune.models.bases.quantization import DTYPES, prediction_dtype
from finetune.models.bases.tokenizers import fit_to_vocabulary
from finetune.models.card import Long, SummarizerCard
from finetune.models.generation import Generation, generate_all
from finetune.models.prompts import Prompt
from finetune.models.restoring import attach_adapter, find_base, restored_quantization
from finetune.models.summarizer.articles import Articles, encode_articles

MERGED = "merged"  # folder of a model with its adapter merged in, in place of an adapter


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

    def encode(self, articles: list[str]) -> Articles:
        """Return the articles as pieces, cut or windowed as in training."""
        window = self.card.long_texts == "window"
        return encode_articles(self.tokenizer, Prompt(self.card.prompt), articles, self.card.max_length, window)

    def summarize(self, articles: list[str] | Articles, batch_size: int = 16, **parameters) -> list[Generation]:
        """Return a summary for each article, its tokens those of its pieces one after the other.

        Args:
            parameters: of generation, over the card's.
        """
        encoded = articles if isinstance(articles, Articles) else self.encode(articles)
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


def load_summarizer(
    folder: Path,
    base_model: str | None = None,
    precision: str | None = None,
    with_adapter: bool = True,
    compute_dtype: str = "recorded",
    long_texts: Long | None = None,
) -> Summarizer:
    """Return the summarizer of a checkpoint's folder, its base restored as it was trained.

    Args:
        base_model: folder or Hub id in place of the recorded base.
        precision: `fp32` for an unquantised base.
        compute_dtype: one of `PREDICTION_DTYPES`: of the 4-bit layers; what is not quantised is in float32.
        long_texts: `truncate` or `window` in place of what training did with a text that is too long.

    Raises:
        InputError: when the base is gone or is not the one the adapter was trained on.
    """
    card = SummarizerCard.read(folder)
    card = replace(card, long_texts=long_texts or card.long_texts)
    if precision == "bf16":
        raise InputError("--precision bf16: a summarizer's base is nf4 or fp32.")
    tokenizer = load_tokenizer(str(folder), kind="encoder-decoder")
    merged = folder / MERGED
    if merged.is_dir():
        if base_model or precision or not with_adapter or compute_dtype in DTYPES:
            raise InputError(
                "a merged model is in float32 and has no base; leave out --base-model, --precision, --compute-dtype and"
                " --no-adapter."
            )
        return Summarizer(load_encoder_decoder(str(merged), None, None).eval(), tokenizer, card)
    source, revision = find_base(card, base_model)
    quantization = restored_quantization(card, precision, prediction_dtype(card, compute_dtype))
    model = load_encoder_decoder(source, revision, quantization)
    fit_to_vocabulary(tokenizer, model.config, str(folder))
    if with_adapter:
        model = attach_adapter(model, folder, source)
    return Summarizer(model.eval(), tokenizer, card)
