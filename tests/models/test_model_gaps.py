"""What bitsandbytes and transformers have no argument for: it works, and it is still needed."""

from finetune.models.private_apis import attention_of, compute_4bit_in, keep_trainable_on_cpu

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import has_avx512bf16
from transformers import AutoModelForCausalLM, LlamaConfig


def test_bitsandbytes_would_repack_weights_where_the_cpu_can():
    """What comes of it, where the CPU can: test_quantization.py."""
    layer = bnb.nn.Linear4bit(64, 64)
    assert layer.support_avx512bf16_for_cpu == has_avx512bf16()
    keep_trainable_on_cpu(layer)
    assert layer.support_avx512bf16_for_cpu is False


def test_a_layer_computes_in_another_type_with_the_same_weights():
    layer = bnb.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    codes, inputs = layer.weight.data.clone(), torch.randn(2, 64)
    exact = layer(inputs)
    layer.compute_dtype = torch.bfloat16
    assert layer.weight.quant_state.dtype == torch.float32  # The argument of the layer does not reach its weights.
    compute_4bit_in(layer, torch.bfloat16)
    assert bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).dtype == torch.bfloat16
    assert torch.equal(layer.weight.data, codes)
    rounded = layer(inputs)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)


def test_the_attention_of_a_model_cannot_be_asked_for():
    config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    model = AutoModelForCausalLM.from_config(config)
    assert attention_of(model) == "sdpa"
    model.set_attn_implementation("eager")
    assert attention_of(model) == "eager"
    assert not any("attn_implementation" in name for name in vars(model.config) if not name.startswith("_"))
