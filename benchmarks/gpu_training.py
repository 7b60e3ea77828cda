"""LoRA training of a 7B in NF4 on a GPU, lever by lever: steps of gpu_session.py.

A bare loop that does what the Trainer does, so that only torch, transformers, peft and bitsandbytes are needed.
"""

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.rows.packing import IGNORED, PackingCollator
from gpu_base import (
    CONFIG,
    DEVICE,
    LAYERS,
    MAX_LENGTH,
    ON_GPU,
    apply_liger,
    demo_rows,
    random_base,
    synchronize,
    without_varlen,
)  # fmt: skip

import bitsandbytes as bnb
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record
from transformers.utils import is_liger_kernel_available

WARM_UP, STEPS = (3, 10) if ON_GPU else (1, 1)


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
