"""What gpu_session.py measures: one function a step, each of which yields its results one by one.

The first steps need torch, transformers, peft and bitsandbytes only. Their base has the shape of Mistral-7B and
random weights: made layer by layer on the device, nothing is downloaded. Speeds do not depend on the weights.
"""

import gc
import itertools
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.attention import PACKED_SDPA
from finetune.packing import IGNORED, PackingCollator
from finetune.quantization import keep_trainable_on_cpu

import bitsandbytes as bnb
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, MistralConfig
from transformers.quantizers import AutoHfQuantizer
from transformers.utils import is_liger_kernel_available

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
WARM_UP, STEPS = (3, 10) if ON_GPU else (1, 1)


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


def versions() -> Iterator[dict]:
    """The device, the packages, and what the device does at most. Expect: a card's datasheet within a fifth."""
    found = {"python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__}
    found |= {"peft": peft.__version__, "bitsandbytes": bnb.__version__, "liger": is_liger_kernel_available()}
    if ON_GPU:
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "capability": f"{properties.major}.{properties.minor}"}
        found |= {"memory_gb": properties.total_memory / 1e9, "cuda": torch.version.cuda}
        found |= {"cudnn": torch.backends.cudnn.version(), "devices": torch.cuda.device_count()}
        found |= {"bf16": torch.cuda.is_bf16_supported(including_emulation=False)}
    yield found
    block = torch.empty(2**30 if ON_GPU else 2**20, dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(block)
    copied = 2 * block.numel() / seconds(lambda: other.copy_(block))
    yield {"copy_gb_per_second": copied / 1e9}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        yield {"product": str(dtype), "tflops": matrix_peak(dtype) / 1e12}


def nf4_products() -> Iterator[dict]:
    """An NF4 layer, forward and the input's gradient, against dequantising and multiplying by hand.

    Expect: the same numbers, and the layer no slower than by hand.
    """
    features = CONFIG.hidden_size, CONFIG.intermediate_size
    layer = random_linear4bit(*features)
    layer.support_avx512bf16_for_cpu = False
    for tokens in (512, 2048, 8192) if ON_GPU else (64,):
        states = torch.randn(tokens, features[0], dtype=torch.bfloat16, device=DEVICE, requires_grad=True)

        def by_layer(states=states):
            layer(states).backward(torch.ones(tokens, features[1], dtype=torch.bfloat16, device=DEVICE))  # noqa: B023

        def by_hand(states=states):
            weight = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            torch.nn.functional.linear(states, weight).backward(
                torch.ones(tokens, features[1], dtype=torch.bfloat16, device=DEVICE)  # noqa: B023
            )

        gradients = []
        for call in (by_layer, by_hand):
            states.grad = None
            call()
            gradients.append(states.grad.float())
        states.grad = None
        times = {"layer_ms": 1e3 * seconds(by_layer), "by_hand_ms": 1e3 * seconds(by_hand)}
        unpack = seconds(lambda: bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state))
        work = 4 * tokens * features[0] * features[1]
        yield {
            "tokens": tokens, **times, "dequantise_ms": 1e3 * unpack,
            "layer_tflops": work / times["layer_ms"] / 1e9,
            "gradient_error": relative_error(*gradients),
        }  # fmt: skip


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return |found - expected| / |expected| in the Euclidean norm."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def small_base(dtype: torch.dtype) -> transformers.PreTrainedModel:
    """Return a small unquantised decoder with fewer heads of keys than of queries; the same for all types."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=2048, hidden_size=512, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=2, sliding_window=None,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(DEVICE, dtype)
    model.set_attn_implementation(PACKED_SDPA)
    return model


def packed_parity() -> Iterator[dict]:
    """Loss and gradients of a pack against its rows one by one in float32, by attention.

    Expect: float32 below 1e-5, bfloat16 as far from float32 as its rows one by one are; a leak between rows would be
    ten times that.
    """
    rows = [{n: v[-200:] for n, v in row.items()} for row in demo_rows(8)]
    for row in rows:
        row["input_ids"] = [token % 2048 for token in row["input_ids"]]
    pack = {k: v.to(DEVICE) if torch.is_tensor(v) else v for k, v in PackingCollator(10**6)(rows)["packs"][0].items()}
    exact = small_base(torch.float32)
    expected = gradients_one_by_one(exact, rows)
    kinds = [("float32", torch.float32, False), ("bfloat16, row by row", torch.bfloat16, None)]
    kinds += [("bfloat16, packed", torch.bfloat16, False)]
    if ON_GPU:
        kinds += [("bfloat16, packed, loop", torch.bfloat16, "loop")]
    if ON_GPU and is_liger_kernel_available():
        kinds += [("bfloat16, packed, Liger", torch.bfloat16, "liger")]
    for name, dtype, how in kinds:
        model = small_base(dtype)
        if how is None:
            found = gradients_one_by_one(model, rows)
        else:
            with without_varlen() if how == "loop" else nullcontext():
                if how == "liger":
                    apply_liger(model)
                loss = model.train()(**pack).loss
                loss.backward()
            found = loss.item(), model.model.layers[0].self_attn.q_proj.weight.grad
        yield {"kind": name, "loss_error": abs(found[0] - expected[0]),
               "gradient_error": relative_error(found[1], expected[1])}  # fmt: skip


def gradients_one_by_one(model, rows: list[dict]) -> tuple[float, torch.Tensor]:
    """Return the mean loss of the supervised tokens and the first layer's gradient, each row on its own."""
    supervised = sum(label != IGNORED for row in rows for label in row["labels"])
    total = 0.0
    for row in rows:
        batch = {name: torch.tensor([values], device=DEVICE) for name, values in row.items()}
        share = sum(label != IGNORED for label in row["labels"]) / supervised
        loss = model(**batch, use_cache=False).loss * share
        loss.backward()
        total += loss.item()
    return total, model.model.layers[0].self_attn.q_proj.weight.grad


def without_varlen():
    """Return a context in which packed attention goes sequence by sequence."""
    from unittest.mock import patch

    return patch("finetune.attention.HAS_VARLEN", False)


def apply_liger(model) -> None:
    """Give a model Liger's kernels, as the Trainer does."""
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(model=model)


def attention() -> Iterator[dict]:
    """Attention of one layer over packs of other lengths each, forward and backward: by kernel.

    cuDNN builds a plan for each new shape, so the first and the second pass over the same packs are told apart.
    Expect: varlen an order of magnitude before the loop; cuDNN's first pass much slower than its second.
    """
    from finetune.attention import packed_sdpa

    heads, keys, size = (
        CONFIG.num_attention_heads,
        CONFIG.num_key_value_heads,
        CONFIG.hidden_size // CONFIG.num_attention_heads,
    )
    draw = random.Random(1)
    packs = [[draw.randint(60, 250) for _ in range(16)] for _ in range(20 if ON_GPU else 1)]

    class Module(torch.nn.Module):
        is_causal, num_key_value_groups = True, heads // keys

    def one_pass(edges_given: bool) -> float:
        synchronize()
        start = time.perf_counter()
        for lengths in packs:
            shape = {"device": DEVICE, "dtype": torch.bfloat16, "requires_grad": True}
            query = torch.randn(1, heads, sum(lengths), size, **shape)
            key, value = (torch.randn(1, keys, sum(lengths), size, **shape) for _ in range(2))
            position_ids = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0).to(DEVICE)
            edges = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=DEVICE)
            options = {"cu_seq_lens_q": edges, "max_length_q": max(lengths)} if edges_given else {}
            states, _ = packed_sdpa(Module().train(), query, key, value, None, position_ids, scaling=None, **options)
            states.backward(torch.ones_like(states))
        synchronize()
        return (time.perf_counter() - start) / len(packs) * 1e3

    for name, cudnn, edges_given in [
        ("varlen", False, True),
        ("loop", False, False),
        ("loop, cuDNN first", True, False),
    ]:
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        yield {"kind": name, "first_ms": one_pass(edges_given), "second_ms": one_pass(edges_given),
               "third_ms": one_pass(edges_given)}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """How a training is computed; the defaults are train_sql_generator.py's on a GPU before it was measured there."""

    name: str
    varlen: bool = True
    cudnn: bool = False
    budget: int = 4096
    rows: int = 16
    optimizer: str = "adamw_torch_fused"
    liger: bool = False
    recompute: bool = False
    padded: bool = False
    compiled: bool = False
    dtype: torch.dtype = torch.bfloat16


def train(base, setting: Setting) -> dict:
    """Return speed and memory of a LoRA training of the base, in a bare loop that does what the Trainer does."""
    torch.backends.cuda.enable_cudnn_sdp(setting.cudnn)
    gc.collect()
    if ON_GPU:
        torch.cuda.empty_cache()
    lora = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=64, target_modules=LAYERS)
    model = get_peft_model(base, lora).train()
    if setting.recompute:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if setting.compiled:
        for layer in base.model.layers:  # Layer by layer: all are one graph, compiled once.
            layer.compile(dynamic=True, backend="inductor" if ON_GPU else "eager")  # A CPU compiles for minutes.
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if setting.optimizer == "paged_adamw_8bit":
        optimizer = bnb.optim.PagedAdamW8bit(trained, lr=1e-4)
    else:
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=setting.dtype == torch.float16)
    rows = setting.rows if ON_GPU else setting.rows // 8
    encoded = demo_rows((WARM_UP + STEPS) * rows)
    batches = [encoded[start : start + rows] for start in range(0, len(encoded), rows)]
    collate = pad_to_reference if setting.padded else PackingCollator(setting.budget)
    prepared = [collate(batch) for batch in batches]
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    losses = []
    with nullcontext() if setting.varlen else without_varlen():
        for number, batch in enumerate(prepared):
            if number == WARM_UP:
                synchronize()
                start = time.perf_counter()
            losses.append(one_step(model, batch, optimizer, scaler, trained, setting.dtype))
        synchronize()
    elapsed = time.perf_counter() - start
    memory = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()) if ON_GPU else (0, 0)
    tokens = sum(len(row["input_ids"]) for batch in batches[WARM_UP:] for row in batch)
    weights = sum(CONFIG.hidden_size * size for size in linear_sizes()) * CONFIG.num_hidden_layers
    if setting.recompute:
        model.activation_checkpointing_disable()
    del optimizer, trained
    model.unload()
    result = asdict(setting) | {"dtype": str(setting.dtype)}
    return result | {
        "step_ms": elapsed / STEPS * 1e3, "tokens_per_second": tokens / elapsed,
        "flops_4n": 4 * weights * tokens / elapsed, "peak_gb": memory[0] / 1e9, "reserved_gb": memory[1] / 1e9,
        "last_loss": losses[-1].item(),
        "packs_a_step": sum(len(batch["packs"]) for batch in prepared) / len(prepared),
    }  # fmt: skip


def linear_sizes() -> list[int]:
    """Return the columns of a layer's linear maps, all of which have `hidden_size` on the other side."""
    keys = CONFIG.hidden_size * CONFIG.num_key_value_heads // CONFIG.num_attention_heads
    return [2 * CONFIG.hidden_size, 2 * keys, 3 * CONFIG.intermediate_size]


def one_step(model, batch: dict, optimizer, scaler, trained: list, dtype: torch.dtype) -> torch.Tensor:
    """Take an optimiser step on the packs of a batch; return the loss."""
    supervised, total = (batch["labels"] != IGNORED).sum().to(DEVICE, non_blocking=True), 0.0
    for pack in batch["packs"]:
        moved = {k: v.to(DEVICE, non_blocking=True) if torch.is_tensor(v) else v for k, v in pack.items()}
        with torch.autocast(DEVICE.type, dtype, enabled=ON_GPU):
            loss = model(**moved, num_items_in_batch=supervised).loss
        scaler.scale(loss).backward()
        total = total + loss.detach()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return total


def pad_to_reference(rows: list[dict]) -> dict:
    """Return a batch as the reference recipe makes it: two rows at a time, padded to 256, prompts in the loss."""
    packs = []
    for start in range(0, len(rows), 2):
        ids = [row["input_ids"] for row in rows[start : start + 2]]
        tensors = {
            "input_ids": [[2] * (MAX_LENGTH - len(one)) + one for one in ids],
            "attention_mask": [[0] * (MAX_LENGTH - len(one)) + [1] * len(one) for one in ids],
            "labels": [[IGNORED] * (MAX_LENGTH - len(one)) + one for one in ids],
        }
        packs.append({name: torch.tensor(values) for name, values in tensors.items()} | {"use_cache": False})
    return {"labels": torch.cat([pack["labels"][:, 1:] for pack in packs]), "packs": packs}


BEFORE = Setting("as it was: loop, cuDNN first, 2,048 tokens, paged 8-bit", varlen=False, cudnn=True, budget=2048,
                 optimizer="paged_adamw_8bit")  # fmt: skip
LADDER = [
    Setting("cuDNN off", varlen=False, budget=2048, optimizer="paged_adamw_8bit"),
    Setting("+ varlen", budget=2048, optimizer="paged_adamw_8bit"),
    Setting("+ fused AdamW", budget=2048),
    Setting("+ 4,096 tokens at a time", budget=4096),
    Setting("64 rows a step, 8,192 at a time", budget=8192, rows=64),
    Setting("64 rows a step, 16,384 at a time", budget=16384, rows=64),
    Setting("the same, paged 8-bit AdamW", budget=16384, rows=64, optimizer="paged_adamw_8bit"),
    Setting("all layers recomputed", recompute=True),
    Setting("float16", dtype=torch.float16),
]
COMPILED = [
    Setting("each layer compiled, 4,096 tokens at a time", compiled=True),
    Setting("each layer compiled, 64 rows, 16,384 at a time", compiled=True, budget=16384, rows=64),
]
WITH_LIGER = [
    Setting("Liger, 4,096 tokens at a time", liger=True),
    Setting("Liger, 64 rows, 16,384 at a time", liger=True, budget=16384, rows=64),
    Setting("Liger, all layers recomputed", liger=True, recompute=True),
]


def training() -> Iterator[dict]:
    """LoRA r=32 training of a 7B in NF4: packs of real lengths, lever by lever.

    Expect on an H100: 10 thousand tokens/s at the start, 15 with varlen and fused AdamW, 18 with Liger.
    """
    yield train(random_base(), BEFORE)
    base = random_base()
    for setting in LADDER:
        yield train(base, setting)
    if ON_GPU and is_liger_kernel_available():
        apply_liger(base)
        for setting in WITH_LIGER:
            yield train(base, setting)


def compiled() -> Iterator[dict]:
    """The same with each layer compiled by torch.compile, for shapes that change.

    Expect: fewer kernels, so that less waits for the host.
    """
    base = random_base()
    for setting in COMPILED if ON_GPU else COMPILED[:1]:
        start = time.perf_counter()
        yield train(base, setting) | {"with_compilation_s": time.perf_counter() - start}


def reference() -> Iterator[dict]:
    """The reference recipe: batches of 2 padded to 256, float32 norms, everything recomputed, adapter on lm_head.

    Expect: a fifth of `training`'s real tokens/s.
    """
    base = prepare_model_for_kbit_training(random_base(), True, {"use_reentrant": False})
    LAYERS.append("lm_head")
    setting = Setting("reference recipe", varlen=False, cudnn=True, rows=8, optimizer="paged_adamw_8bit",
                      recompute=True, padded=True)  # fmt: skip
    yield train(base, setting)


def profile() -> Iterator[dict]:
    """One training step under the profiler: kernels by time, the share in which the GPU is idle, waits of the host.

    Expect: matrix products first; idle below a tenth; no more than one or two waits.
    """
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    base = random_base()
    if ON_GPU and is_liger_kernel_available():
        apply_liger(base)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=64, target_modules=LAYERS)).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer, scaler = torch.optim.AdamW(trained, lr=1e-4, fused=True), torch.amp.GradScaler(enabled=False)
    encoded, collate = demo_rows(16 * 5), PackingCollator(4096)
    batches = [collate(encoded[start : start + 16]) for start in range(0, len(encoded), 16)]
    for batch in batches[:3]:
        one_step(model, batch, optimizer, scaler, trained, torch.bfloat16)
    synchronize()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * ON_GPU
    start = time.perf_counter()
    with record(activities=activities) as found:
        for batch in batches[3:]:
            one_step(model, batch, optimizer, scaler, trained, torch.bfloat16)
        synchronize()
        wall = time.perf_counter() - start
    events = found.key_averages()
    kernels = [event for event in events if event.device_type.name == "CUDA" and event.self_device_time_total]
    busy = sum(event.self_device_time_total for event in kernels) / 1e6
    waits = {event.key: event.count for event in events if "Synchronize" in event.key or event.key == "cudaMemcpyAsync"}
    yield {"wall_ms": wall * 1e3, "busy_share": busy / wall, "kernels": sum(event.count for event in kernels), **waits}
    for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:25]:
        yield {"kernel": event.key[:90], "ms": event.self_device_time_total / 1e3, "count": event.count,
               "share": event.self_device_time_total / 1e6 / busy}  # fmt: skip


def decoding() -> Iterator[dict]:
    """New tokens a second for prompts of 120 tokens: NF4 with adapter against merged bfloat16, by batch.

    Expect: merged the faster, most in large batches.
    """
    new = 32 if ON_GPU else 2
    base = random_base()
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=64, target_modules=LAYERS))
    arms = [("NF4 with adapter", model.eval()), ("merged", None)]
    for name, one in arms:
        if one is None:
            model.unload()
            del model, base
            one = random_base(quantised=False).eval()
        for batch in (1, 8, 32, 128) if ON_GPU else (1, 2):
            ids = torch.randint(5, CONFIG.vocab_size, (batch, 120), device=DEVICE)
            options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
            with torch.inference_mode():
                one.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options | {"max_new_tokens": new})
                synchronize()
                start = time.perf_counter()
                one.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
                synchronize()
            yield {"weights": name, "batch": batch, "tokens_per_second": batch * new / (time.perf_counter() - start)}


def decode_shapes() -> Iterator[dict]:
    """The first batch of each shape: 64 new tokens of a small decoder, with cuDNN's attention first and without it.

    Expect: with cuDNN many times as slow where it is asked first (Hopper), since each length is another shape.
    """
    model = small_base(torch.bfloat16).eval()
    model.set_attn_implementation("sdpa")
    for cudnn in (False, True):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        for batch, length in ((4, 50), (8, 121), (16, 173)):
            ids = torch.randint(5, 2048, (batch, length), device=DEVICE)
            mask = torch.ones_like(ids)
            mask[0, :9] = 0
            synchronize()
            start = time.perf_counter()
            model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=64, min_new_tokens=64, pad_token_id=0)
            synchronize()
            yield {"cudnn": cudnn, "batch": batch, "length": length, "seconds": time.perf_counter() - start}


def scripts() -> Iterator[dict]:
    """The scripts themselves, with a 7B of random weights in a folder: preflight, training, logging, prediction.

    Expect: status 0 each, a reload check that passes, and a preflight that fits its settings to 16 and 24 GB.
    """
    with tempfile.TemporaryDirectory() as scratch:
        base, outputs = Path(scratch) / "base", Path(scratch) / "outputs"
        start = time.perf_counter()
        write_base(base)
        yield {"base_written_s": time.perf_counter() - start}
        data = ("--base-model", base, "--dataset", ROOT / "demo" / "text_to_sql.jsonl", "--output-dir", outputs)
        for gigabytes in (16, 24) if ON_GPU else ():
            yield run_script("train_sql_generator.py", *data, "--preflight-only", gigabytes=gigabytes)
        few = ("--max-steps", 20 if ON_GPU else 2, "--max-validation-rows", 32, "--score-rows", 16 if ON_GPU else 0)
        trained = run_script("train_sql_generator.py", *data, *few, "--eval-strategy", "no", "--save-steps", 1.0,
                             "--load-best-model-at-end", "false", "--logging-steps", 5)  # fmt: skip
        yield trained
        if not trained["status"]:
            logged = run_script("log_model.py", trained["result"])
            yield logged
            uri = f"runs:/{trained['result']}/model"
            question = ("--question", "How many heads are there?", "--context", "CREATE TABLE head (age INTEGER)")
            for more in ((), ("--merge",)):
                yield run_script("predict.py", uri, *question, "--param", "max_new_tokens=32", *more)


def write_base(folder: Path) -> None:
    """Save a base of `CONFIG` with random weights and the demo's tokenizer."""
    if ON_GPU:
        random_base(quantised=False).save_pretrained(folder)
    else:
        shutil.copytree(ROOT / "demo" / "sql-base", folder)
    for path in (ROOT / "demo" / "sql-base").glob("token*"):
        shutil.copy(path, folder)


def run_script(name: str, *arguments, gigabytes: int | None = None) -> dict:
    """Return how one of the scripts ended, in a process of its own.

    Args:
        gigabytes: of the GPU's memory that it gets.
    """
    limit = ""
    if gigabytes:
        total = torch.cuda.get_device_properties(0).total_memory
        limit = f"import torch; torch.cuda.set_per_process_memory_fraction({gigabytes * 1e9 / total});"
    run = f"import sys, runpy; sys.argv[0] = {name!r};{limit} runpy.run_path({name!r}, run_name='__main__')"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", run, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "%|" not in line and "Warning" not in line]
    found = {"script": name, "gigabytes": gigabytes, "status": done.returncode}
    result = (done.stdout.strip().splitlines() or [""])[-1]
    found |= {"seconds": time.perf_counter() - start, "result": result[:300]}
    return found | {"messages": "\n".join(lines)[-2500:]}
