"""What bitsandbytes 0.50 and transformers 5.23 have no argument for: attributes of their models, set here alone.

Each of these has a test in tests/models/test_model_gaps.py, which fails when a release changes it or needs it no
more.
"""

import bitsandbytes as bnb
import torch
from transformers import PreTrainedModel


def keep_trainable_on_cpu(model: torch.nn.Module) -> torch.nn.Module:
    """Stop bitsandbytes from repacking 4-bit weights for CPU inference; return the model.

    On CPUs with AVX512-BF16 the first forward in eval mode repacks the NF4 weights, and they stay
    packed: every later training step runs through a kernel without a gradient (the input's gradient
    is 0, with a UserWarning only). One evaluation in mid-training would end the training unnoticed.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def compute_4bit_in(layer: bnb.nn.Linear4bit, dtype: torch.dtype) -> None:
    """Make a 4-bit layer compute in another type than it was loaded in, its weights kept to the bit."""
    # The forward dequantises to the one; the backward and a merge to the other.
    layer.compute_dtype = layer.weight.quant_state.dtype = dtype


def attention_of(model: PreTrainedModel) -> str:
    """Return the name of the attention that transformers chose for a model; it can be set, not asked for."""
    return model.config._attn_implementation
