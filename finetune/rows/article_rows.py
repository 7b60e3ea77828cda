"""Articles and summaries of rows as token ids and labels."""

from collections import Counter

from finetune import InputError
from finetune.models.prompts import Prompt
from finetune.models.summarizer.articles import encode_articles
from finetune.rows.supervision import Supervision

from datasets import Dataset

COLUMNS = ("article", "summary")


def drop_empty(rows: list[dict]) -> list[dict]:
    """Return the rows that have an article and a summary."""
    return [row for row in rows if all(isinstance(row[name], str) and row[name].strip() for name in COLUMNS)]


def encode_summaries(
    rows: list[dict], prompt: Prompt, tokenizer, max_length: int, max_target_length: int, what: str
) -> tuple[Supervision, int]:
    """Return rows for training, and the number of articles of which only the beginning is read.

    Labels are the summary and its EOS, alone: an encoder-decoder has the article elsewhere. A row whose summary
    is longer than `max_target_length` is dropped and counted: cut, it would teach not to stop.

    Raises:
        InputError: when no row is left.
    """
    dropped: Counter = Counter()
    kept, examples, long_articles = [], [], 0
    full = drop_empty(rows)
    if len(full) < len(rows):
        dropped["a column is empty"] = len(rows) - len(full)
    for row in full:
        labels = tokenizer(text_target=row["summary"].strip(), add_special_tokens=False)["input_ids"]
        labels = [*labels, tokenizer.eos_token_id]
        if len(labels) > max_target_length:
            dropped[f"summary longer than {max_target_length} tokens"] += 1
            continue
        encoded = encode_articles(tokenizer, prompt, [row["article"]], max_length, window=False)
        long_articles += encoded.long_articles
        kept.append(row)
        input_ids = encoded.prompts[0]
        mask = [1] * len(input_ids)
        examples.append({"input_ids": input_ids, "attention_mask": mask, "labels": labels, "length": len(input_ids)})
    if not examples:
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items()) or "there is none"
        raise InputError(f"{what}: none is left ({reasons}). Raise --max-target-length or mend the data.")
    return Supervision(Dataset.from_list(examples), kept, dropped), long_articles


def longest_first(split: Supervision) -> Supervision:
    """Return a split whose batches have like lengths where it is taken as it stands, as in evaluation."""
    lengths = split.dataset["length"]
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return Supervision(split.dataset.select(order), [split.rows[index] for index in order], split.dropped)
