"""Questions, schemas and their SQL as token ids and labels."""

from collections import Counter

from finetune import InputError
from finetune.models.prompts import Prompt
from finetune.models.sql_writer import prompt_token_ids
from finetune.rows.packing import IGNORED
from finetune.rows.supervision import Supervision

from datasets import Dataset
from transformers import PreTrainedTokenizerBase


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
    dropped: Counter = Counter()
    kept, examples = [], []
    for row in rows:
        if any(not str(row.get(name) or "").strip() for name in (*prompt.variables, completion)):
            dropped["a column is empty"] += 1
            continue
        prompt_ids = prompt_token_ids(tokenizer, prompt, row)
        completion_ids = tokenizer(row[completion].strip(), add_special_tokens=False)["input_ids"]
        completion_ids = [*completion_ids, tokenizer.eos_token_id]
        input_ids = prompt_ids + completion_ids
        if len(input_ids) > max_length:
            dropped[f"longer than {max_length} tokens"] += 1
            continue
        labels = [IGNORED] * len(prompt_ids) + completion_ids
        kept.append(row)
        examples.append({"input_ids": input_ids, "labels": labels, "length": len(input_ids)})
    if not examples:
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items()) or "there is none"
        raise InputError(f"no row is left to train on ({reasons}). Raise --max-length or mend the data.")
    return Supervision(Dataset.from_list(examples), kept, dropped)
