"""What a GPU, several of them, FSDP and DeepSpeed meet, as far as it can be pretended on a CPU."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import train_classifier
import train_sql_generator
import train_summarizer
from finetune import InputError, resuming
from finetune.models.bases import attention, loading, memory
from finetune.models.bases.attention import PACKED_SDPA
from finetune.models.card import Card
from finetune.reports.sql_trainer import score
from finetune.rows.packing import CompletionCollator, PackingCollator
from finetune.training.checks import preflight as module
from finetune.training.checks import trial_steps
from finetune.training.packs import PackTrainer, choose_collator
from train_sql_generator import Flags, SqlTrainingArguments

import pytest
import torch
from conftest import CLASSIFIER_FLAGS, DEMO_BASE, ROOT, SUMMARIZER_FLAGS, call
from packed import CONFIGS, completion_logits, linear_memory, make, rows, trainer  # noqa: F401 (fixtures)
from peft import LoraConfig, get_peft_model
from spools import make_card
from transformers import TrainingArguments


@pytest.fixture
def fsdp(monkeypatch):
    """Pretend that accelerate's launcher has started this process for FSDP."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")


def test_one_process_takes_one_of_several_gpus(monkeypatch, tmp_path, caplog):
    """The Trainer would multiply batch, loss and gradient norm by them."""
    original = TrainingArguments.__post_init__

    def with_four(self):
        original(self)
        self._n_gpu = 4

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_four)
    monkeypatch.setattr(sys, "argv", ["train_sql_generator.py", "--max-steps", "5"])
    args = SqlTrainingArguments(output_dir=str(tmp_path))
    assert (args.n_gpu, args.train_batch_size) == (1, args.per_device_train_batch_size)
    assert "--num_processes 4 train_sql_generator.py --max-steps 5" in caplog.text


@pytest.mark.parametrize("launcher", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_processes_take_one_pack_each_and_stay_within_the_budget(launcher, monkeypatch, tmp_path):
    args = SqlTrainingArguments(output_dir=str(tmp_path), gradient_accumulation_steps=2)
    monkeypatch.setenv(launcher, "true")
    collator = choose_collator(
        get_peft_model(make(CONFIGS["llama"]), LoraConfig(r=2)), None, Flags(max_length="512"), args
    )
    budget = Flags().max_tokens_per_batch
    assert args.per_device_train_batch_size * 512 <= budget
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 32
    row = {"input_ids": [5] * 512, "labels": [5] * 512}
    assert len(collator([row] * args.per_device_train_batch_size)["packs"]) == 1


def test_a_base_that_fsdp_has_cut_up_is_not_asked_to_generate(fsdp, caplog):
    caplog.set_level("INFO")
    assert score(SimpleNamespace(score_rows=[{"question": "?"}]), 4) == {}
    assert "evaluate_model.py does it, on one GPU" in caplog.text


def test_what_fsdp_cannot_do_is_refused(fsdp, few_rows, tiny_roberta, terms, tiny_t5, reports):
    best = ("--metric-for-best-model", "exec_accuracy")
    error = call(train_sql_generator.main, "--base-model", DEMO_BASE, "--dataset", few_rows, *best)
    assert "a base cut up by FSDP cannot" in error
    error = call(train_classifier.main, "--base-model", tiny_roberta, "--dataset", terms, *CLASSIFIER_FLAGS)
    assert "FSDP is for text-to-SQL bases" in error
    error = call(train_summarizer.main, "--base-model", tiny_t5, "--dataset", reports, *SUMMARIZER_FLAGS)
    assert "FSDP is for text-to-SQL bases" in error


def test_a_run_goes_on_whether_its_weights_were_packed_for_fsdp_or_not(tmp_path, monkeypatch):
    quantization = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": "bfloat16"}
    path = make_card(tmp_path / "checkpoint-5", "1") / "finetune.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization": quantization}))
    card, origin = Card.read(path.parent), SimpleNamespace(checkpoint=str(path.parent))
    monkeypatch.setattr(resuming, "changed_fields", lambda *_, **__: "")
    resuming._check_base(replace(card, quantization=quantization | {"bnb_4bit_quant_storage": "uint8"}), origin)
    with pytest.raises(InputError, match="another quantization"):
        resuming._check_base(replace(card, quantization=quantization | {"bnb_4bit_quant_type": "fp4"}), origin)


def test_zero_3_is_refused(monkeypatch):
    monkeypatch.setattr(loading, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(InputError, match="ZeRO-3 cannot cut up 4-bit weights"):
        loading.load_decoder(DEMO_BASE, None, None, torch.float32)


def test_on_a_gpu_cudnn_is_not_asked_for_attention(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", asked.append)
    monkeypatch.setattr(loading, "_from_pretrained", lambda *args, device_map, **options: device_map)
    assert loading._load_weights(None, DEMO_BASE, None, "decoder", None, torch.float32) == {"": 0}
    assert asked == [False]


def varlen_on_a_cpu(query, key, value, edges, other_edges, longest, also, scale, window_size, enable_gqa=False):
    """What PyTorch's kernel computes, shape (tokens, heads, head dimension), sequence by sequence."""
    assert edges is other_edges
    assert (edges.dtype, window_size, longest) == (torch.int32, (-1, 0), also)
    assert int(edges[-1]) == len(query)
    assert int(edges.diff().max()) == longest
    found = []
    for start, end in itertools.pairwise(edges.tolist()):
        parts = (states[start:end].transpose(0, 1) for states in (query, key, value))
        states = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True, scale=scale, enable_gqa=True)
        found.append(states.transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("name", sorted(CONFIGS))
@torch.inference_mode()
def test_packs_by_one_kernel_for_all_sequences_are_as_their_rows(name, rows, monkeypatch):
    calls = []
    monkeypatch.setattr(attention, "takes_varlen", lambda query: True)
    monkeypatch.setattr(attention, "varlen_attn", lambda *a, **k: calls.append(1) or varlen_on_a_cpu(*a, **k))
    model = make(CONFIGS[name])
    pack = PackingCollator(10**6)(rows)["packs"][0]
    logits, order = model(**pack).logits[0], sorted(rows, key=lambda row: -len(row["input_ids"]))
    assert len(calls) == model.config.num_hidden_layers
    expected = torch.cat([completion_logits(model, row) for row in order])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert attention.can_pack(model, 512)


def test_the_kernel_is_for_half_floats_on_ampere_and_later(monkeypatch):
    states = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, shape=(1, 8, 100, 128), device="cuda:0")
    for capability, taken in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert attention.takes_varlen(states) == taken
    assert not attention.takes_varlen(SimpleNamespace(**vars(states) | {"dtype": torch.float32}))
    assert not attention.takes_varlen(SimpleNamespace(**vars(states) | {"shape": (1, 8, 100, 512)}))
    assert attention.attention_for_packing(torch.bfloat16) == PACKED_SDPA


def test_memory_is_what_is_free_and_no_more_than_the_share_of_the_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (30, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 10)
    for share, expected in ((1.0, 40), (0.2, 16)):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda share=share: share)
        assert memory.memory_limit() == expected


def test_the_preflight_finds_how_many_tokens_fit(trainer, monkeypatch):
    monkeypatch.setattr(module, "LEAST_TOKENS", 300)
    linear_memory(monkeypatch, trainer, a_token=100)
    flags = Flags(max_tokens_per_batch=None)
    longest = sum(sorted(trainer.train_dataset["length"])[-trainer.args.train_batch_size :])
    for limit, layers in ((10**7, 0), (70_000, 0), (30_000, 2)):
        trainer.args.activation_checkpointing = False
        monkeypatch.setattr(module, "memory_limit", lambda limit=limit: limit)
        found = module.preflight(trainer, flags)
        assert found.peak_bytes < limit
        assert found.every_n_layers == layers
        assert (found.tokens == longest) == (limit == 10**7)
        assert trainer.data_collator.max_tokens >= found.tokens
    assert trainer.data_collator.max_tokens < longest


def test_padded_batches_that_do_not_fit_are_refused_and_not_given_a_budget(trainer, monkeypatch):
    trainer.data_collator = CompletionCollator(trainer.processing_class)
    monkeypatch.setattr(module, "try_out", lambda *given: 2)
    with pytest.raises(InputError, match="--per-device-train-batch-size 2"):
        module.preflight(trainer, Flags(max_tokens_per_batch=None))
    assert not hasattr(trainer.data_collator, "max_tokens")


def test_a_process_without_room_ends_the_others(trainer, monkeypatch):
    monkeypatch.setattr(module, "gather_object", lambda mine: [*mine, "4 rows do not fit on the other"])
    with pytest.raises(InputError, match="do not fit on the other"):
        module.preflight(trainer, Flags())


def test_gradients_are_counted_twice_where_processes_exchange_them(trainer, monkeypatch):
    trained = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    assert module.bucket_bytes(trainer) == 0
    monkeypatch.setattr(type(trainer.args), "world_size", 2)
    assert module.bucket_bytes(trainer) == 4 * trained


@pytest.mark.parametrize(
    ("optim", "tried"),
    [("paged_adamw_8bit", "adamw_8bit"), ("paged_adamw_32bit", "adamw_torch"), ("adamw_torch", "adamw_torch")],
)
def test_paged_memory_which_is_never_given_back_is_not_tried(trainer, optim, tried):
    trainer.args.optim = optim
    with trial_steps.undone(trainer):
        assert trainer.args.optim == tried
    assert trainer.args.optim == optim


def test_the_operations_of_packs_are_counted(trainer):
    batch = trainer.data_collator([{n: row[n] for n in ("input_ids", "labels")} for row in trainer.train_dataset])
    tokens = sum(trainer.train_dataset["length"])
    assert len(batch["packs"]) > 1
    whole = super(PackTrainer, trainer).floating_point_ops({"input_ids": torch.zeros(1, tokens)})
    assert trainer.floating_point_ops(batch) == whole > 0


@pytest.mark.faults
def test_the_measuring_command_walks_through_all_its_steps(tmp_path):
    results, command = tmp_path / "gpu.jsonl", [sys.executable, str(ROOT / "benchmarks" / "gpu_session.py")]
    dry = [*command, "--dry-run", "--results", str(results)]
    done = subprocess.run([*dry, "--only", "versions"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with results.open("a") as file:
        file.write('{"step": "cut off')
    done = subprocess.run(dry, capture_output=True, text=True)
    found = [json.loads(line) for line in results.read_text().splitlines() if line.endswith("}")]
    assert done.returncode == 0, done.stderr[-3000:]
    ended = [row["step"] for row in found if row.get("ended")]
    assert len(ended) == len(set(ended)) == 12, done.stderr[-6000:]
    assert "| tokens_per_second |" in done.stdout
    assert [row["status"] for row in found if row["step"] == "scripts" and "status" in row] == [0] * 4
    if not torch.cuda.is_available():
        refused = subprocess.run(command, capture_output=True, text=True)
        assert (refused.returncode, "no CUDA device here" in refused.stderr) == (2, True)
