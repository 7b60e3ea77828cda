"""4-bit bases: training gradients survive an evaluation, and a recorded config restores the same weights."""

from finetune.models.bases.loading import load_decoder
from finetune.models.bases.quantization import from_record, to_record
from finetune.models.private_apis import keep_trainable_on_cpu

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from conftest import DEMO_BASE
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)


def gradient_after_evaluation(model) -> float:
    """Return the norm of the input's gradient in a training step that follows an evaluation."""
    ids = torch.arange(40).view(1, -1)
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    model.train()
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    model(inputs_embeds=embeddings, labels=ids).loss.backward()
    return embeddings.grad.norm().item()


@pytest.mark.skipif(not has_avx512bf16(), reason="bitsandbytes repacks on CPUs with AVX512-BF16 only")
def test_evaluation_would_end_cpu_training_without_the_fix():
    options = {"quantization_config": NF4, "dtype": torch.bfloat16, "device_map": {"": "cpu"}}
    broken = AutoModelForCausalLM.from_pretrained(DEMO_BASE, **options).requires_grad_(False)
    with pytest.warns(UserWarning, match="autograd"):
        lost = gradient_after_evaluation(broken)
    mended = keep_trainable_on_cpu(AutoModelForCausalLM.from_pretrained(DEMO_BASE, **options).requires_grad_(False))
    kept = gradient_after_evaluation(mended)
    assert kept > 1e-3
    assert lost < kept / 100


def test_a_loaded_decoder_keeps_its_gradient_and_is_really_4_bit():
    model = load_decoder(str(DEMO_BASE), None, NF4, torch.bfloat16)
    linear = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert len(linear) == 7 * model.config.num_hidden_layers
    assert all(module.weight.dtype == torch.uint8 and module.compute_dtype == torch.bfloat16 for module in linear)
    assert all(module.weight.quant_state.nested and module.weight.quant_state.quant_type == "nf4" for module in linear)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert gradient_after_evaluation(model) > 1e-3


def test_a_recorded_config_restores_the_same_base():
    restored = from_record(to_record(NF4))
    ids = torch.arange(40).view(1, -1)
    with torch.no_grad():
        logits = [load_decoder(str(DEMO_BASE), None, c, torch.bfloat16)(input_ids=ids).logits for c in (NF4, restored)]
    assert torch.equal(*logits)
    assert to_record(None) is None
    assert from_record(None) is None
