"""Attention within the sequences of a packed batch, by PyTorch's own kernels: without a mask over the whole batch."""

import inspect
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from finetune.models.bases.quantization import is_sharded
from finetune.models.private_apis import attention_of

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import is_flash_attn_2_available

try:
    from torch.nn.attention.varlen import varlen_attn

    VARLEN_OPTIONS: Mapping[str, inspect.Parameter] = inspect.signature(varlen_attn).parameters
except ImportError:  # before torch 2.10
    VARLEN_OPTIONS = {}

PACKED_SDPA = "packed_sdpa"
HAS_VARLEN = "window_size" in VARLEN_OPTIONS  # In 2.10 it took no scale.
FIRST_WITH_FLASH = (8, 0)  # compute capability that PyTorch's flash kernels need


def attention_for_packing(dtype: torch.dtype) -> str:
    """Return the name of an attention that keeps packed sequences apart, for `set_attn_implementation`."""
    # float16 is for GPUs before Ampere, which flash-attention does not run on.
    needed = not HAS_VARLEN and dtype == torch.bfloat16
    return "flash_attention_2" if needed and is_flash_attn_2_available() else PACKED_SDPA


def can_pack(model: PreTrainedModel, max_length: int) -> bool:
    """Say whether a decoder, loaded with `attention_for_packing`, reads packed sequences of `max_length` apart.

    Tried on the model itself: what stands before a sequence must not change its logits in a single bit.
    """
    whole = reads_whole_sequences(model.config, max_length)
    if not whole or is_sharded():  # Shards are put together in training only.
        return whole
    tokens = torch.arange(16, device=model.device) % model.config.vocab_size
    position_ids = torch.arange(8, device=model.device).repeat(2).unsqueeze(0)
    edges = torch.tensor([0, 8, 16], dtype=torch.int32, device=model.device)
    options = {"cu_seq_lens_q": edges, "cu_seq_lens_k": edges, "max_length_q": 8, "max_length_k": 8}
    logits = []
    with answering(model):
        for first in (tokens[:8], tokens[:8].flip(0)):
            input_ids = torch.cat([first, tokens[8:]]).unsqueeze(0)
            found = model(input_ids=input_ids, position_ids=position_ids, use_cache=False, **options)
            logits.append(found.logits[0, 8:])
    return torch.equal(*logits)


def can_share(model: PreTrainedModel) -> bool:
    """Say whether a decoder that can pack reads sequences right that go on from the beginning of another one.

    Tried on the model itself: logits after a shared beginning differ from those of the whole sequence by rounding
    alone, which is little beside what another beginning changes.
    """
    if is_sharded() or attention_of(model) != PACKED_SDPA:
        return False
    tokens = torch.arange(24, device=model.device) % model.config.vocab_size
    begin, other, first, last = tokens[:8], tokens[16:24], tokens[8:12], tokens[12:16]

    def whole(prompt: torch.Tensor) -> torch.Tensor:
        return model(input_ids=torch.cat([prompt, last]).unsqueeze(0), use_cache=False).logits[0, 8:].float()

    with answering(model):
        options = {
            "position_ids": torch.tensor([[*range(12), *range(8, 12)]], device=model.device),
            "cu_seq_lens_q": torch.tensor([0, 12, 16], dtype=torch.int32, device=model.device),
            "cu_seq_lens_k": torch.tensor([0, 12, 24], dtype=torch.int32, device=model.device),
            "key_index": torch.tensor([*range(12), *range(8), *range(12, 16)], device=model.device),
            "max_length_q": 12, "max_length_k": 12, "use_cache": False,
        }  # fmt: skip
        found = model(input_ids=torch.cat([begin, first, last]).unsqueeze(0), **options).logits[0, 12:].float()
        expected = whole(begin)
        return bool((found - expected).norm() < 0.1 * (whole(other) - expected).norm())


@contextmanager
def answering(model: PreTrainedModel) -> Iterator[None]:
    """Try a model without gradients and without dropout, which would make each forward another one."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def reads_whole_sequences(config: PretrainedConfig, max_length: int) -> bool:
    """Say whether each layer attends to all tokens before, in sequences of up to `max_length`."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    return kinds <= {"full_attention", "sliding_attention"} and (window is None or window >= max_length)


def packed_sdpa(module, query, key, value, attention_mask, position_ids=None, **options):
    """Return what transformers' SDPA attention returns, within each sequence where a batch is packed.

    On a GPU by one kernel for all sequences, where PyTorch has it for the type. Otherwise sequence by sequence: one
    begins where the position ids are not counted on, as in transformers' own packed masks. A mask over the whole
    batch would cost its square, 3 to 11 times as much for 16 rows of 150 tokens on a CPU. There, in float32:
    PyTorch's SDPA takes 2 to 3 times as long in bfloat16 (benchmarks/attention_speed.py). A sequence whose position
    ids begin at n > 0 goes on from the first n tokens of the last one that begins at 0.

    Args:
        query, key, value: shape (batch, heads, tokens, head dimension).
        options: with `cu_seq_lens_q` and `max_length_q` from the collator of a packed batch, and where sequences share
            their beginnings those of the keys and `key_index`.
    """
    dtype, edges = query.dtype, options.get("cu_seq_lens_q")
    if edges is not None and attention_mask is None and takes_varlen(query) and not options.get("dropout"):
        return varlen(query, key, value, options), None
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
    sequences = []
    if attention_mask is None and position_ids is not None and 1 < query.shape[2] == key.shape[2]:
        sequences = sequences_of(position_ids)
    if len(sequences) > 1:
        parts = [
            (query[:, :, own], *(joined(states, shared, own) for states in (key, value)), mask)
            for own, shared, mask in sequences
        ]
        states = torch.cat([sdpa_attention_forward(module, *part, **options)[0] for part in parts], dim=1)
    else:
        states, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return states.to(dtype), None


def takes_varlen(query: torch.Tensor) -> bool:
    """Say whether PyTorch's kernel for sequences of different lengths runs on this device and type."""
    if not HAS_VARLEN or not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16):
        return False
    return query.shape[-1] <= 256 and torch.cuda.get_device_capability(query.device) >= FIRST_WITH_FLASH


def varlen(query, key, value, options: Mapping) -> torch.Tensor:
    """Return causal attention within the sequences of a batch of one row, shape (1, tokens, heads, head dimension).

    Args:
        query, key, value: shape (1, heads, tokens, head dimension); key and value may have fewer heads.
        options: `cu_seq_lens_q`, `cu_seq_lens_k`: where the sequences begin, and where the last one ends, shape
            (sequences + 1,), int32; `max_length_q`, `max_length_k`; those of the keys count only with `key_index`,
            the places of the keys, shape (keys,).
    """
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    edges, longest = [options["cu_seq_lens_q"]] * 2, [options["max_length_q"]] * 2
    if (index := options.get("key_index")) is not None:
        key, value = key[index], value[index]
        edges[1], longest[1] = options["cu_seq_lens_k"], options["max_length_k"]
    # Fewer heads of keys have to be announced since 2.12.
    grouped = {"enable_gqa": True} if "enable_gqa" in VARLEN_OPTIONS else {}
    scale = options.get("scaling")
    states = varlen_attn(query, key, value, *edges, *longest, scale=scale, window_size=(-1, 0), **grouped)
    return states.unsqueeze(0)


def joined(states: torch.Tensor, shared: slice | None, own: slice) -> torch.Tensor:
    """Return the states of a sequence, what it goes on from before its own: (1, heads, tokens, head dimension)."""
    return states[:, :, own] if shared is None else torch.cat([states[:, :, shared], states[:, :, own]], dim=2)


def sequences_of(position_ids: torch.Tensor) -> list[tuple[slice, slice | None, torch.Tensor | None]]:
    """Return the sequences of a batch of one row, from position ids of shape (1, tokens).

    Of each: where it stands, where the tokens stand that it goes on from, and then the mask of both, shape (1,
    1, own tokens, both); without such tokens it needs none.
    """
    sequences = getattr(position_ids, "sequences", None)
    if sequences is None:
        starts = torch.nonzero(torch.diff(position_ids[0]) != 1)[:, 0] + 1
        edges, sequences, first = [0, *starts.tolist(), position_ids.shape[1]], [], 0
        begins = position_ids[0, [0, *starts.tolist()]].tolist()
        for (start, end), shared in zip(itertools.pairwise(edges), begins, strict=True):
            first = first if shared else start
            going_on: tuple[slice | None, torch.Tensor | None] = (None, None)
            if shared:
                size = end - start
                mask = torch.ones(1, 1, size, shared + size, dtype=torch.bool, device=position_ids.device)
                going_on = slice(first, first + shared), mask.tril(shared)
            sequences.append((slice(start, end), *going_on))
        position_ids.sequences = sequences  # All layers are given the same tensor: a GPU waits once.
    return sequences


def packed_mask(
    batch_size: int, q_length: int, kv_length: int, attention_mask=None, allow_is_causal_skip=True, **options
):
    """Return SDPA's mask, and none for a packed batch: `packed_sdpa` needs none there.

    Of a batch without a mask, transformers forbids the causal shortcut where its position ids start anew; custom
    mask functions, which forbid it too, come with `use_vmap`.
    """
    restarts = not allow_is_causal_skip and not options.get("use_vmap")
    if restarts and attention_mask is None and batch_size == 1 and 1 < q_length == kv_length:
        return None
    return sdpa_mask(
        batch_size=batch_size, q_length=q_length, kv_length=kv_length, attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip, **options,
    )  # fmt: skip


AttentionInterface.register(PACKED_SDPA, packed_sdpa)
AttentionMaskInterface.register(PACKED_SDPA, packed_mask)
