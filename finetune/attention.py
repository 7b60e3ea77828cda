"""Attention within the sequences of a packed batch, by PyTorch's SDPA: without a mask over the whole batch."""

import itertools

from finetune.quantization import is_sharded

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import is_flash_attn_2_available

PACKED_SDPA = "packed_sdpa"


def attention_for_packing(dtype: torch.dtype) -> str:
    """Return the name of an attention that keeps packed sequences apart, for `set_attn_implementation`."""
    # float16 is for GPUs before Ampere, which flash-attention does not run on.
    return "flash_attention_2" if is_flash_attn_2_available() and dtype == torch.bfloat16 else PACKED_SDPA


def can_pack(model: PreTrainedModel, max_length: int) -> bool:
    """Say whether a decoder, loaded with `attention_for_packing`, reads packed sequences of `max_length` apart.

    Tried on the model itself: what stands before a sequence must not change its logits in a single bit.
    """
    whole = reads_whole_sequences(model.config, max_length)
    if not whole or is_sharded():  # Shards are put together in training only.
        return whole
    tokens = torch.arange(16, device=model.device) % model.config.vocab_size
    position_ids = torch.arange(8, device=model.device).repeat(2).unsqueeze(0)
    logits = []
    with torch.inference_mode():
        for first in (tokens[:8], tokens[:8].flip(0)):
            input_ids = torch.cat([first, tokens[8:]]).unsqueeze(0)
            logits.append(model(input_ids=input_ids, position_ids=position_ids, use_cache=False).logits[0, 8:])
    return torch.equal(*logits)


def reads_whole_sequences(config: PretrainedConfig, max_length: int) -> bool:
    """Say whether each layer attends to all tokens before, in sequences of up to `max_length`."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    return kinds <= {"full_attention", "sliding_attention"} and (window is None or window >= max_length)


def packed_sdpa(module, query, key, value, attention_mask, position_ids=None, **options):
    """Return what transformers' SDPA attention returns, sequence by sequence where a batch is packed.

    A sequence begins where the position ids are not counted on, as in transformers' own packed masks. A mask over
    the whole batch would cost its square, 3 to 11 times as much for 16 rows of 150 tokens on a CPU. There, in
    float32: PyTorch's SDPA takes 2 to 3 times as long in bfloat16 (benchmarks/attention_speed.py).

    Args:
        query, key, value: shape (batch, heads, tokens, head dimension).
    """
    dtype = query.dtype
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
    lengths = []
    if attention_mask is None and position_ids is not None and 1 < query.shape[2] == key.shape[2]:
        lengths = sequence_lengths(position_ids)
    if len(lengths) > 1:
        parts = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
        states = torch.cat([sdpa_attention_forward(module, *part, None, **options)[0] for part in parts], dim=1)
    else:
        states, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return states.to(dtype), None


def sequence_lengths(position_ids: torch.Tensor) -> list[int]:
    """Return the lengths of the sequences of a batch of one row, from position ids of shape (1, tokens)."""
    lengths = getattr(position_ids, "sequence_lengths", None)
    if lengths is None:
        starts = torch.nonzero(torch.diff(position_ids[0]) != 1)[:, 0] + 1
        edges = [0, *starts.tolist(), position_ids.shape[1]]
        lengths = [end - start for start, end in itertools.pairwise(edges)]
        position_ids.sequence_lengths = lengths  # All layers are given the same tensor: a GPU waits once.
    return lengths


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
