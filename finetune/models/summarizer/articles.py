"""Articles and summaries as token ids: what training, logged model and evaluation do alike."""

import logging
from dataclasses import dataclass

from finetune import InputError
from finetune.models.documents import split_sentences
from finetune.models.prompts import Prompt

logger = logging.getLogger(__name__)


@dataclass
class Articles:
    """Token ids of articles.

    Attributes:
        prompts: rendered and tokenised pieces, each at most the longest input.
        owners: for each piece, the index of its article.
        long_articles: articles of which one piece is not all.
    """

    prompts: list[list[int]]
    owners: list[int]
    long_articles: int


def split_article(tokenizer, prompt: Prompt, article: str, max_length: int) -> list[str]:
    """Return an article in pieces that fit with the prompt into `max_length` tokens.

    Sentences stay whole, and lines and spaces between them as they are; only a sentence that does not fit by
    itself is cut, between words.

    Raises:
        InputError: when the prompt alone leaves no room.
    """

    def fits(start: int, end: int) -> bool:
        return len(encode_prompt(tokenizer, prompt, article[start:end])) <= max_length

    if fits(0, len(article)):
        return [article]
    if not fits(0, 0):
        raise InputError(f"--max-length {max_length}: the prompt alone is longer; there is no room for an article.")
    spans = []
    waiting = [(sentence.start, sentence.end) for sentence in reversed(split_sentences(article))]
    while waiting:
        start, end = waiting.pop()
        if fits(start, end) or end - start < 2:
            spans.append((start, end))
        else:
            space = article.rfind(" ", start + 1, (start + end) // 2)
            middle = space if space > start else (start + end) // 2
            waiting += [(middle, end), (start, middle)]
    pieces = [spans[0]]
    for start, end in spans[1:]:
        if fits(pieces[-1][0], end):
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    return [article[start:end].strip() for start, end in pieces]


def encode_prompt(tokenizer, prompt: Prompt, article: str) -> list[int]:
    """Return the ids of a rendered prompt; an encoder-decoder's tokenizer ends them with EOS."""
    return tokenizer(prompt.render({"article": article}), verbose=False)["input_ids"]


def encode_articles(tokenizer, prompt: Prompt, articles: list[str], max_length: int, window: bool) -> Articles:
    """Return articles as pieces of at most `max_length` tokens.

    Args:
        window: all pieces of a longer article; otherwise its beginning.
    """
    found = Articles([], [], 0)
    for owner, article in enumerate(articles):
        pieces = split_article(tokenizer, prompt, article, max_length)
        found.long_articles += len(pieces) > 1
        for piece in pieces if window else pieces[:1]:
            found.prompts.append(encode_prompt(tokenizer, prompt, piece))
            found.owners.append(owner)
    return found


def warn_of_long_articles(count: int, articles: int, max_length: int, window: bool, what: str) -> None:
    """Say how many articles were longer than the model reads at once, and what became of them."""
    if count:
        how = (
            "are summarised piece by piece"
            if window
            else "are read to there only (--long-texts window summarises all of an article)"
        )
        logger.warning(f"{what}: {count} of {articles} are longer than {max_length} tokens and {how}.")
