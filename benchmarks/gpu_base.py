"""A decoder of the shape of Mistral-7B with random weights, and what the measurements on a GPU share.

It is made layer by layer on the device: nothing is downloaded. Speeds do not depend on the weights. Needs torch,
transformers and bitsandbytes only.
"""

import itertools
import json
import random
import statistics
import sys
import time
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.models.bases.attention import PACKED_SDPA
from finetune.models.private_apis import keep_trainable_on_cpu
from finetune.rows.packing import IGNORED

import bitsandbytes as bnb
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, MistralConfig
from transformers.quantizers import AutoHfQuantizer

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
# A dry run walks the same ways with a base and with inputs that a CPU has done in seconds.
SIZES = (
    {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
     "num_key_value_heads": 8}
    if ON_GPU
    else {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2}
)  # fmt: skip
CONFIG = MistralConfig(vocab_size=32000 if ON_GPU else 2048, sliding_window=None, head_dim=None, **SIZES)
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MAX_LENGTH = 256  # of the reference recipe


def synchronize() -> None:
    """Wait for the device."""
    if ON_GPU:
        torch.cuda.synchronize()


def seconds(call, repeats: int = 20) -> float:
    """Return the median seconds of a call, after a warm-up."""
    repeats, found = repeats if ON_GPU else 1, []
    for number in range(repeats + 3):
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        found.append((time.perf_counter() - start) * (number > 2))
    return statistics.median(found[3:])


def matrix_peak(dtype: torch.dtype = torch.bfloat16) -> float:
    """Return the FLOP/s of a product of large matrices of random numbers."""
    size = 8192 if ON_GPU else 256
    left, right = torch.randn(2, size, size, device=DEVICE).to(dtype)
    return 2 * size**3 / seconds(lambda: left @ right)


def random_base(quantised: bool = True) -> transformers.PreTrainedModel:
    """Return a decoder of `CONFIG` with random weights, its linear layers but lm_head in NF4, frozen."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG, dtype=torch.bfloat16)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if quantised and isinstance(child, torch.nn.Linear) and name != "lm_head":
                module._modules[name] = random_linear4bit(child.in_features, child.out_features)
            elif isinstance(child, transformers.models.mistral.modeling_mistral.MistralRotaryEmbedding):
                module._modules[name] = type(child)(CONFIG).to(DEVICE)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.is_meta:
                filled = torch.randn(weight.shape, dtype=torch.bfloat16, device=DEVICE) * 0.02
                filled = filled + 1 if weight.dim() == 1 else filled
                setattr(module, name, torch.nn.Parameter(filled, requires_grad=False))
    if quantised:
        # What peft and the Trainer ask for.
        model.is_loaded_in_4bit = model.is_quantized = True
        model.hf_quantizer = AutoHfQuantizer.from_config(
            BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
        )
    model.set_attn_implementation(PACKED_SDPA)
    return keep_trainable_on_cpu(model.requires_grad_(False))


def random_linear4bit(features_in: int, features_out: int) -> bnb.nn.Linear4bit:
    """Return an NF4 layer of random weights, quantised on the device."""
    layer = bnb.nn.Linear4bit(
        features_in, features_out, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta"
    )
    weight = torch.randn(features_out, features_in, dtype=torch.bfloat16, device=DEVICE) * 0.02
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4").to(DEVICE)
    return layer


def demo_rows(count: int) -> list[dict]:
    """Return encoded rows of the demo's training data, in random order; about 150 tokens each, as real ones."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "demo" / "sql-base")
    template = (ROOT / "prompts" / "text_to_sql.txt").read_text(encoding="utf-8")
    lines = (ROOT / "demo" / "text_to_sql.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    random.Random(0).shuffle(rows)
    encoded = []
    for row in itertools.islice(itertools.cycle(rows), count):
        text = template.replace("$question", row["question"]).replace("$context", row["context"])
        prompt = tokenizer(text)["input_ids"]
        answer = [*tokenizer(row["answer"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = (prompt + answer)[:MAX_LENGTH]
        labels = ([IGNORED] * len(prompt) + answer)[:MAX_LENGTH]
        encoded.append({"input_ids": ids, "labels": labels})
    return encoded


def without_varlen():
    """Return a context in which packed attention goes sequence by sequence."""
    return patch("finetune.models.bases.attention.HAS_VARLEN", False)


def apply_liger(model) -> None:
    """Give a model Liger's kernels, as the Trainer does."""
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(model=model)
