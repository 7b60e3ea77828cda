"""Batches without padding: rows packed one after the other, and logits of nothing but the completions."""

from dataclasses import dataclass

import torch
from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening, PreTrainedTokenizerBase

IGNORED = -100  # torch.nn.CrossEntropyLoss leaves these positions out


def best_fit(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Return the indices of rows by pack: the longest first, each into the fullest pack that still holds it.

    Args:
        lengths: tokens of each row; one longer than `max_tokens` gets a pack of its own.
    """
    packs: list[tuple[int, list[int]]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        room = [(filled, number) for number, (filled, _) in enumerate(packs) if filled + lengths[index] <= max_tokens]
        if room:
            filled, number = max(room)
            packs[number] = (filled + lengths[index], [*packs[number][1], index])
        else:
            packs.append((lengths[index], [index]))
    return [indices for _, indices in packs]


@dataclass
class PackingCollator:
    """Collates rows into packs of at most `max_tokens`; training takes one after the other within a step.

    A pack has no attention mask: its sequences are told apart by position ids that start anew
    (`DataCollatorWithFlattening`), and by their edges, which are counted here: on a GPU every look at a tensor would
    wait for it. Logits are computed only where a supervised token follows.

    Returns a dict of
        lengths: tokens of each row, shape (rows,). First, because the Trainer takes it for the size of the batch.
        labels, shift_labels: the supervised tokens, shape (1, supervised tokens); the Trainer counts them.
        packs: arguments of the model, one dict a pack.
    """

    max_tokens: int

    def __call__(self, rows: list[dict]) -> dict:
        """Return the packs of a batch; `rows` have `input_ids` and `labels`."""
        flatten = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
        lengths = [len(row["input_ids"]) for row in rows]
        columns = [{name: row[name] for name in ("input_ids", "labels")} for row in rows]
        packs = []
        for indices in best_fit(lengths, self.max_tokens):
            pack = flatten([columns[index] for index in indices])
            following = torch.nn.functional.pad(pack.pop("labels"), (0, 1), value=IGNORED)[:, 1:]
            kept = torch.nonzero(following[0] != IGNORED)[:, 0]
            labels = following[:, kept].contiguous()
            packs.append(pack | {"labels": labels, "shift_labels": labels, "logits_to_keep": kept, "use_cache": False})
        supervised = torch.cat([pack["labels"] for pack in packs], dim=1)
        return {"lengths": torch.tensor(lengths), "labels": supervised, "shift_labels": supervised, "packs": packs}


@dataclass
class CompletionCollator:
    """Pads rows to the longest of the batch; logits begin where the first supervised token of a row follows."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows: list[dict]) -> dict:
        """Return the arguments of the model; `rows` have `input_ids` and `labels`."""
        columns = [{name: row[name] for name in ("input_ids", "labels")} for row in rows]
        batch = dict(DataCollatorForSeq2Seq(self.tokenizer, label_pad_token_id=IGNORED)(columns))
        following = torch.nn.functional.pad(batch["labels"], (0, 1), value=IGNORED)[:, 1:]
        first = int(torch.nonzero((following != IGNORED).any(dim=0))[0])
        labels = following[:, first:].contiguous()
        kept = following.shape[1] - first
        return batch | {"labels": labels, "shift_labels": labels, "logits_to_keep": kept, "use_cache": False}
