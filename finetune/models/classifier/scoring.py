"""Texts to scores, and scores to labels: what training, logged model and evaluation do alike."""

import logging
from dataclasses import dataclass

from finetune import stopping
from finetune.models.bases.tokenizers import check_ids
from finetune.models.classifier.labels import Labels
from finetune.progress_line import advance

import numpy as np
import torch

logger = logging.getLogger(__name__)


@dataclass
class Encoded:
    """Token ids of texts.

    Attributes:
        pieces: the tokenizer's columns and `length`, one piece of at most `max_length` tokens each.
        owners: for each piece, the index of its text.
        long_texts: texts that are longer than `max_length` tokens.
        texts: as they were given.
    """

    pieces: list[dict]
    owners: np.ndarray
    long_texts: int
    texts: list[str]


def warn_of_long_texts(count: int, texts: int, max_length: int, window: bool, what: str) -> None:
    """Say how many texts were longer than the model reads at once, and what became of them."""
    if count:
        how = "are scored in windows" if window else "are cut there (--long-texts window scores all of a text)"
        logger.warning(f"{what}: {count} of {texts} are longer than {max_length} tokens and {how}.")


def encode_texts(tokenizer, texts: list[str], max_length: int, window: bool) -> Encoded:
    """Return texts as pieces of at most `max_length` tokens.

    Args:
        window: cut a longer text into windows that overlap by a quarter; otherwise keep its beginning.
    """
    encoding = tokenizer(
        texts, truncation=True, max_length=max_length, stride=max_length // 4, return_overflowing_tokens=True
    )
    owners = np.array(encoding.pop("overflow_to_sample_mapping"), dtype=np.int64)
    first = np.diff(owners, prepend=-1) > 0
    kept = np.arange(len(owners)) if window else np.flatnonzero(first)
    pieces = [{name: column[index] for name, column in encoding.items()} for index in kept]
    pieces = [piece | {"length": len(piece["input_ids"])} for piece in pieces]
    return Encoded(pieces, owners[kept], len(set(owners[~first].tolist())), texts)


def join_pieces(logits: np.ndarray, owners: np.ndarray, labels: Labels) -> np.ndarray:
    """Return logits of texts, shape (texts, outputs), from those of their pieces.

    A text has what any of its windows has: the highest logit. Between classes the windows are averaged.
    """
    if len(owners) == owners[-1] + 1:
        return logits
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    if labels.task == "multiclass":
        return np.add.reduceat(logits, starts) / np.bincount(owners)[:, None]
    return np.maximum.reduceat(logits, starts)


def add_distances(logits: np.ndarray, distances: np.ndarray, share: float) -> np.ndarray:
    """Return logits with the distances of a linear SVM beside them, all of shape (texts, outputs), float32."""
    return (logits + np.float32(share) * distances).astype(np.float32)


@torch.inference_mode()
def compute_logits(model, tokenizer, pieces: list[dict], batch_size: int) -> np.ndarray:
    """Return the logits of encoded pieces, shape (pieces, outputs), float32."""
    check_ids((piece["input_ids"] for piece in pieces), model)
    was_training = model.training
    found: dict[int, np.ndarray] = {}
    model.eval()
    # Batches of like lengths pad little; the longest first, so that too large a batch fails at once.
    order = sorted(range(len(pieces)), key=lambda index: -pieces[index]["length"])
    for start in range(0, len(order), batch_size):
        stopping.check_evaluation()
        indices = order[start : start + batch_size]
        columns = [{k: v for k, v in pieces[index].items() if k != "length"} for index in indices]
        batch = tokenizer.pad(columns, return_tensors="pt").to(model.device)
        found |= dict(zip(indices, model(**batch).logits.float().cpu().numpy(), strict=True))
        advance(len(indices))
    model.train(was_training)
    return np.stack([found[index] for index in range(len(pieces))])


def to_scores(logits: np.ndarray, labels: Labels) -> np.ndarray:
    """Return probabilities, shape (texts, outputs): softmax for multiclass, otherwise a sigmoid each."""
    tensor = torch.from_numpy(np.asarray(logits, dtype=np.float32))
    scores = tensor.softmax(-1) if labels.task == "multiclass" else tensor.sigmoid()
    return scores.numpy()


def decide(scores: np.ndarray, labels: Labels, thresholds: list[float] | None) -> np.ndarray:
    """Return 0 and 1 for each score; where classes exclude each other, 1 for the highest."""
    if labels.task == "multiclass":
        return np.eye(scores.shape[1], dtype=np.int64)[scores.argmax(axis=1)]
    return (scores >= np.array(thresholds)).astype(np.int64)
