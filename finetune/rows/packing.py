"""Batches without padding: rows packed one after the other, and logits of nothing but the completions."""

import itertools
from dataclasses import dataclass

import torch
from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening, PreTrainedTokenizerBase

IGNORED = -100  # torch.nn.CrossEntropyLoss leaves these positions out
LEAST_SHARED = 64  # tokens of a prompt's beginning that are worth a shorter sequence


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
class Block:
    """Rows that begin alike, computed as one: the first whole, of the others what comes after `shared` tokens.

    Attributes:
        indices: of the rows in the batch.
        shared: tokens that all of them begin with, none of them supervised; 0 for a row that stands alone.
    """

    indices: list[int]
    shared: int = 0

    def tokens(self, lengths: list[int]) -> int:
        """Return how many tokens are computed, of the lengths of all rows."""
        return sum(lengths[index] for index in self.indices) - self.shared * (len(self.indices) - 1)


def blocks_of(rows: list[dict], max_tokens: int, least: int = LEAST_SHARED) -> list[Block]:
    """Return the rows by the beginning of their prompts, at most `max_tokens` a block.

    A row joins the block with which it shares most, unless that would leave the block less than four fifths of what
    it shares: then it begins one of its own.
    """
    blocks: list[Block] = []
    lengths = [len(row["input_ids"]) for row in rows]
    # What is before the first supervised token, less one: its logit must stand in the row's own part.
    prompts = [row["input_ids"][: max(0, _masked(row["labels"]) - 1)] for row in rows]
    for index, prompt in enumerate(prompts):
        best, most = None, 0
        for block in blocks:
            common = _common(prompt, prompts[block.indices[0]])
            grown = Block([*block.indices, index], min(common, block.shared or common))
            if common >= max(least, 0.8 * block.shared) and grown.tokens(lengths) <= max_tokens and common > most:
                best, most = (block, grown), common
        if best is None:
            blocks.append(Block([index]))
        else:
            block, grown = best
            block.indices, block.shared = grown.indices, grown.shared
    return blocks


def _common(one: list[int], other: list[int]) -> int:
    """Return how many tokens two prompts begin with alike."""
    differs = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differs, min(len(one), len(other)))


def _masked(labels: list[int]) -> int:
    return next((place for place, label in enumerate(labels) if label != IGNORED), len(labels))


@dataclass
class PackingCollator:
    """Collates rows into packs of at most `max_tokens`; training takes one after the other within a step.

    A pack has no attention mask: its sequences are told apart by position ids that start anew
    (`DataCollatorWithFlattening`), and by their edges, which are counted here: on a GPU every look at a tensor would
    wait for it. Logits are computed only where a supervised token follows.

    With `shares_prompts`, rows whose prompts begin alike, such as questions about one schema, have that beginning in a
    pack once (`Block`): the position ids of the others go on where it ends, `cu_seq_lens_k` counts it in, and
    `key_index` says at which places of the pack the keys of each sequence stand. Loss and gradients are the same.

    Returns a dict of
        lengths: tokens of each row, shape (rows,). First, because the Trainer takes it for the size of the batch.
        labels, shift_labels: the supervised tokens, shape (1, supervised tokens); the Trainer counts them.
        packs: arguments of the model, one dict a pack.
    """

    max_tokens: int
    shares_prompts: bool = False

    def __call__(self, rows: list[dict]) -> dict:
        """Return the packs of a batch; `rows` have `input_ids` and `labels`."""
        lengths = [len(row["input_ids"]) for row in rows]
        columns = [{name: row[name] for name in ("input_ids", "labels")} for row in rows]
        alone = [Block([index]) for index in range(len(rows))]
        blocks = blocks_of(columns, self.max_tokens) if self.shares_prompts else alone
        packs = []
        for places in best_fit([block.tokens(lengths) for block in blocks], self.max_tokens):
            pack = flatten(columns, [blocks[place] for place in places])
            following = torch.nn.functional.pad(pack.pop("labels"), (0, 1), value=IGNORED)[:, 1:]
            kept = torch.nonzero(following[0] != IGNORED)[:, 0]
            labels = following[:, kept].contiguous()
            packs.append(pack | {"labels": labels, "shift_labels": labels, "logits_to_keep": kept, "use_cache": False})
        supervised = torch.cat([pack["labels"] for pack in packs], dim=1)
        return {"lengths": torch.tensor(lengths), "labels": supervised, "shift_labels": supervised, "packs": packs}


def flatten(rows: list[dict], blocks: list[Block]) -> dict:
    """Return blocks of rows one after the other as arguments of a model: one batch of shape (1, tokens)."""
    shared = [0 if index == block.indices[0] else block.shared for block in blocks for index in block.indices]
    order = [index for block in blocks for index in block.indices]
    rest = [
        {name: values[begin:] for name, values in rows[index].items()}
        for index, begin in zip(order, shared, strict=True)
    ]
    pack = DataCollatorWithFlattening(return_flash_attn_kwargs=True)(rest)
    if any(shared):
        lengths = [len(row["input_ids"]) for row in rest]
        pack["position_ids"] += torch.tensor(shared).repeat_interleave(torch.tensor(lengths))
        pack |= _keys(pack["cu_seq_lens_q"].tolist(), shared)
    return dict(pack)


def _keys(edges: list[int], shared: list[int]) -> dict:
    """Return where the keys of each sequence stand, where they begin and end in that order, and the most of one.

    Args:
        edges: where the sequences begin, and where the last one ends.
        shared: how many tokens of the last sequence that shares none stand before each one.
    """
    places, lengths, first = [], [0], 0
    for (begin, end), count in zip(itertools.pairwise(edges), shared, strict=True):
        first = first if count else begin
        places += [*range(first, first + count), *range(begin, end)]
        lengths.append(len(places))
    longest = max(end - begin for begin, end in itertools.pairwise(lengths))
    index = torch.tensor(places, dtype=torch.int64)
    return {"key_index": index, "cu_seq_lens_k": torch.tensor(lengths, dtype=torch.int32), "max_length_k": longest}


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
