"""Questions, schemas and their SQL as token ids and labels."""

import logging
from collections import Counter
from dataclasses import dataclass

from finetune import InputError
from finetune.models.bases.loading import base_limit
from finetune.models.prompts import Prompt
from finetune.models.sql_writer import prompt_token_ids
from finetune.rows.loading import Rows
from finetune.rows.packing import IGNORED
from finetune.rows.supervision import Supervision

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
AUTO = "auto"


@dataclass
class Encoded:
    """The rows of a part that have all their columns, and their ids; `given` rows were there."""

    rows: list[dict]
    examples: list[dict]
    given: int

    @property
    def longest(self) -> int:
        """Tokens of the longest row, 0 where there is none."""
        return max((example["length"] for example in self.examples), default=0)


def encode_questions(rows: Rows, flags, prompt: Prompt, revision: str | None, tokenizer) -> dict[str, Supervision]:
    """Return training and validation rows as token ids and labels; --max-length auto is settled by them.

    Args:
        flags: of train_sql_generator.py.
    """
    # Rows of several sets were counted before they were repeated.
    counts = {"train": None if rows.sets else flags.max_train_rows, "validation": flags.max_validation_rows}
    parts = {name: rows.parts[name][:count] for name, count in counts.items()}
    limit = base_limit(flags.base_model, revision, tokenizer)
    splits, flags.max_length = encode_parts(parts, prompt, tokenizer, flags.max_length, limit)
    return splits


def encode_parts(
    parts: dict[str, list[dict]],
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | str,
    limit: int | None,
) -> tuple[dict[str, Supervision], int]:
    """Return the parts as `encode_rows` does, and the tokens that a row may have.

    Args:
        max_length: that number, or `auto`: as many as the longest row has, within what the base reads.
        limit: tokens that the base reads, None where nothing limits them.

    Raises:
        InputError: when a part has no row left.
    """
    encoded = {name: _encode(rows, prompt, tokenizer, "answer") for name, rows in parts.items()}
    if not isinstance(max_length, int):
        longest = max(part.longest for part in encoded.values())
        max_length = max(1, min(longest, limit or longest))
        logger.info(f"--max-length auto: {max_length} tokens, " + _why(max_length, longest))
    return {name: _within(part, name, max_length, limit) for name, part in encoded.items()}, max_length


def _why(max_length: int, longest: int) -> str:
    return "as the longest row has" if max_length >= longest else f"all that the base reads; a row has {longest}"


def encode_rows(
    rows: list[dict],
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    completion: str = "answer",
) -> Supervision:
    """Tokenise rows for completion-only training: loss on the completion and its EOS, nothing else.

    Prompt and completion are tokenised apart and joined, so the boundary is a position and the
    prompt ids are exactly those that generation starts from. Masking goes by position: a mask by
    token id would take the EOS out of the loss wherever pad and EOS are the same token.

    A row longer than `max_length` tokens is dropped and counted: truncation cuts the answer first.

    Raises:
        InputError: when no row is left.
    """
    return _within(_encode(rows, prompt, tokenizer, completion), "training", max_length, None)


def _encode(rows: list[dict], prompt: Prompt, tokenizer: PreTrainedTokenizerBase, completion: str) -> Encoded:
    kept, examples = [], []
    for row in rows:
        if any(not str(row.get(name) or "").strip() for name in (*prompt.variables, completion)):
            continue
        prompt_ids = prompt_token_ids(tokenizer, prompt, row)
        completion_ids = tokenizer(row[completion].strip(), add_special_tokens=False)["input_ids"]
        completion_ids = [*completion_ids, tokenizer.eos_token_id]
        ids, labels = prompt_ids + completion_ids, [IGNORED] * len(prompt_ids) + completion_ids
        kept.append(row)
        examples.append({"input_ids": ids, "labels": labels, "length": len(ids)})
    return Encoded(kept, examples, len(rows))


def _within(part: Encoded, name: str, max_length: int, limit: int | None) -> Supervision:
    """Return the rows of up to `max_length` tokens; say which is the longest where there are others."""
    dropped: Counter = Counter()
    if empty := part.given - len(part.rows):
        dropped["a column is empty"] = empty
    fits = [example["length"] <= max_length for example in part.examples]
    found = ""
    if too_long := len(fits) - sum(fits):
        dropped[f"longer than {max_length} tokens"] = too_long
        found = _say_longest(part, name, max_length, limit)
    if not any(fits):
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items()) or "there is none"
        raise InputError(
            f"no {name} row is left ({reasons}). " + (found or "Mend the data: each row needs a text in all columns.")
        )
    if found:
        logger.warning(
            f"{name}: {too_long} of {part.given} rows are longer than {max_length} tokens and left out. {found}"
        )
    examples = [example for example, is_kept in zip(part.examples, fits, strict=True) if is_kept]
    rows = [row for row, is_kept in zip(part.rows, fits, strict=True) if is_kept]
    return Supervision(Dataset.from_list(examples), rows, dropped)


def _say_longest(part: Encoded, name: str, max_length: int, limit: int | None) -> str:
    """Return sentences on the longest row of a part, what the base reads, and what to do."""
    place, tokens = max(enumerate(e["length"] for e in part.examples), key=lambda pair: (pair[1], -pair[0]))
    question = " ".join(str(part.rows[place].get("question", "")).split())
    shown = question if len(question) <= 60 else f"{question[:57]}..."
    reads = f"the base reads {limit} tokens" if limit else "the base names no limit"
    mend = "shorten its schema (--tables names the tables it needs), or take a base that reads more"
    if not limit or max_length < limit:
        most = min(tokens, limit or tokens)
        mend = f"raise --max-length to {most}, or give --max-length auto" + (f"; {mend}" if most < tokens else "")
    return f"The longest {name} row ({shown!r}) has {tokens} tokens; {reads}: {mend}."
