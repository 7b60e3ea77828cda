"""What gpu_session.py measures: one function a step, each of which yields its results one by one.

The trainings are in gpu_training.py. All but the last step need torch, transformers, peft and bitsandbytes only.
"""

import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from finetune.models.bases.attention import PACKED_SDPA, packed_sdpa
from finetune.rows.packing import IGNORED, PackingCollator
from gpu_base import (
    CONFIG,
    DEVICE,
    LAYERS,
    ON_GPU,
    apply_liger,
    demo_rows,
    matrix_peak,
    random_base,
    random_linear4bit,
    seconds,
    synchronize,
    without_varlen,
)  # fmt: skip
from gpu_training import compiled, profile, reference, training  # noqa: F401 (steps)

import bitsandbytes as bnb
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, MistralConfig
from transformers.utils import is_liger_kernel_available


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
        vocab_size=2048, hidden_size=512 if ON_GPU else 128, intermediate_size=1024 if ON_GPU else 128,
        num_hidden_layers=4 if ON_GPU else 2, num_attention_heads=8, num_key_value_heads=2, sliding_window=None,
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


def attention() -> Iterator[dict]:
    """Attention of one layer over packs of other lengths each, forward and backward: by kernel.

    cuDNN builds a plan for each new shape, so the first and the second pass over the same packs are told apart.
    Expect: varlen an order of magnitude before the loop; cuDNN's first pass much slower than its second.
    """
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
    new = {name: 64 if ON_GPU else 4 for name in ("max_new_tokens", "min_new_tokens")}
    for cudnn in (False, True):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        for batch, length in ((4, 50), (8, 121), (16, 173)):
            ids = torch.randint(5, 2048, (batch, length), device=DEVICE)
            mask = torch.ones_like(ids)
            mask[0, :9] = 0
            synchronize()
            start = time.perf_counter()
            model.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, **new)
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
