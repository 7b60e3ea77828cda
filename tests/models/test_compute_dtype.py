"""What a model computes in: chosen for the machine, kept by a run and by its 4-bit weights."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune import InputError
from finetune.logged_models.opening import open_model
from finetune.logged_models.writing.sql_models import build_skeleton
from finetune.models.bases import quantization as module
from finetune.models.bases.loading import load_decoder
from finetune.models.bases.quantization import DTYPES, choose_compute_dtype, from_record, recorded_dtype, to_record
from finetune.models.card import (
    CARD,
    CLASSIFICATION,
    SUMMARIZATION,
    TEXT_TO_SQL,
    Card,
    ClassifierCard,
    SqlCard,
    SummarizerCard,
)
from finetune.models.classifier.labels import Labels
from finetune.models.restoring import Loading
from finetune.training.adapters import add_adapter
from finetune.training.flags.recorded_flags import begun_in
from finetune.training.flags.script_parser import ScriptParser
from finetune.training.mixed_precision import settle_precision

import bitsandbytes as bnb
import mlflow
import pytest
import torch
from conftest import CONTEXT, DEMO_BASE, QUESTIONS, ROOT, call, stop_after
from faults import history
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

KINDS = ("decoder", "encoder", "encoder-decoder")
# oneDNN and PyTorch without the instructions that this CPU may have.
NO_BFLOAT16 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
SQL = ("--base-model", DEMO_BASE, "--max-validation-rows", 4, "--score-rows", 0, "--disable-tqdm", "true",
       "--distractor-columns", 0, "--preflight", "false", "--per-device-train-batch-size", 2)  # fmt: skip


@pytest.fixture
def products(monkeypatch):
    """Make products of matrices take so many seconds: a function of those in float32 and in bfloat16."""

    def take(float32: float, bfloat16: float) -> list:
        timed = []
        seconds = {torch.float32: float32, torch.bfloat16: bfloat16}
        monkeypatch.setattr(module, "product_seconds", lambda dtype: timed.append(dtype) or seconds[dtype])
        module.bfloat16_speedup.cache_clear()
        return timed

    yield take
    module.bfloat16_speedup.cache_clear()


@pytest.fixture
def gpu(monkeypatch):
    """Pretend a GPU: a function of whether it has bfloat16."""

    def pretend(has_bfloat16: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        properties = SimpleNamespace(major=8 if has_bfloat16 else 7)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: properties)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: (
            has_bfloat16 or including_emulation))  # fmt: skip

    return pretend


def settled(script, task: str, *flags):
    """Return a script's flags and training arguments as they are before training."""
    arguments = next(value for name, value in vars(script).items() if name.endswith("TrainingArguments")
                     and getattr(value, "__module__", "") == script.__name__)  # fmt: skip
    parsed = ScriptParser(script.Flags, arguments, description="").parse([*map(str, flags)])
    settle_precision(*parsed, task)
    return parsed


@pytest.mark.parametrize(("bfloat16", "decoder"), [(0.5, torch.bfloat16), (0.7, torch.float32), (20, torch.float32)])
def test_on_a_cpu_a_decoder_takes_what_it_is_fast_at_and_the_others_float32(products, bfloat16, decoder):
    timed = products(1.0, bfloat16)
    assert [choose_compute_dtype("auto", kind) for kind in KINDS] == [decoder, torch.float32, torch.float32]
    assert len(timed) == 2 * (module.WARM_UP + module.TIMED)
    choose_compute_dtype("auto", "decoder")
    assert len(timed) == 2 * (module.WARM_UP + module.TIMED)  # once a process
    assert choose_compute_dtype("bf16", "decoder") == torch.bfloat16


def test_the_timing_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    assert module.product_seconds(torch.bfloat16) > 0
    assert torch.equal(before, torch.get_rng_state())


def test_without_its_instructions_this_cpu_takes_float32():
    code = "from finetune.models.bases.quantization import choose_compute_dtype as c; print(c('auto', 'decoder'))"
    environment = os.environ | NO_BFLOAT16
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["torch.float32"], done.stderr


def test_a_gpu_computes_in_bfloat16_where_it_has_it(gpu):
    gpu(True)
    assert {choose_compute_dtype("auto", kind) for kind in KINDS} == {torch.bfloat16}
    flags, args = settled(train_sql_generator, TEXT_TO_SQL, "--use-cpu", "true")
    assert (flags.compute_dtype, args.bf16, args.fp16, args.mixed_precision) == ("bf16", True, False, "bf16")
    flags, args = settled(train_sql_generator, TEXT_TO_SQL, "--use-cpu", "true", "--compute-dtype", "fp32")
    assert (flags.compute_dtype, args.bf16, args.fp16, args.mixed_precision) == ("fp32", False, False, "no")


@pytest.mark.parametrize(
    ("script", "task", "name"),
    [
        (train_sql_generator, TEXT_TO_SQL, "fp16"),
        (train_classifier, CLASSIFICATION, "fp16"),
        (train_summarizer, SUMMARIZATION, "fp32"),
    ],
)
def test_a_gpu_without_bfloat16_scales_the_loss_of_float16_but_not_of_t5(gpu, script, task, name, caplog):
    caplog.set_level(logging.INFO)
    gpu(False)
    flags, args = settled(script, task, "--use-cpu", "true")
    half = name == "fp16"
    assert (flags.compute_dtype, args.fp16, args.bf16) == (name, half, False)
    assert args.mixed_precision == ("fp16" if half else "no")
    assert "Computes in float16, with autocast and loss scaling" in caplog.text or not half
    with pytest.raises(InputError, match="this GPU has no bfloat16"):
        settled(script, task, "--use-cpu", "true", "--compute-dtype", "bf16")


def test_the_base_of_a_gpu_without_bfloat16_is_in_float16_and_4_bit_layers_compute_in_it(
    gpu, few_rows, monkeypatch, tmp_path
):
    """Up to the base's weights, which no GPU is there to take."""
    seen = []

    def load(base_model, revision, quantization, dtype):
        seen.append((quantization, dtype))
        raise InputError("no GPU")

    gpu(False)
    monkeypatch.setattr(train_sql_generator, "load_decoder", load)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
    flags = (*SQL, "--dataset", few_rows, "--output-dir", tmp_path, "--use-cpu", "true")
    assert call(train_sql_generator.main, *flags) == "no GPU"
    ((quantization, dtype),) = seen
    assert dtype == quantization.bnb_4bit_compute_dtype == torch.float16
    assert quantization.bnb_4bit_quant_storage == torch.uint8


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--compute-dtype", "fp16"), "needs a GPU"),
        (("--fp16", "true"), "needs a GPU"),
        (("--compute-dtype", "int8"), "--compute-dtype int8 is none of auto, bf16, fp16, fp32."),
        (("--compute-dtype", "fp32", "--bf16", "true"), "--compute-dtype fp32 and --bf16 contradict each other"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(flags, sentence):
    with pytest.raises(InputError, match=sentence):
        settled(train_sql_generator, TEXT_TO_SQL, *flags)


def test_float16_is_not_for_t5_nor_without_loss_scaling(gpu):
    gpu(False)
    for kind in ("--compute-dtype", "fp16"), ("--fp16", "true"):
        with pytest.raises(InputError, match="overflows in float16"):
            settled(train_summarizer, SUMMARIZATION, "--use-cpu", "true", *kind)
    with pytest.raises(InputError, match="loss scaling"):
        settled(train_classifier, CLASSIFICATION, "--use-cpu", "true", "--fp16", "false")


def test_autocast_that_is_asked_for_is_the_type_and_on_a_cpu_the_decoder_has_none(products, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    products(1.0, 0.5)
    flags, args = settled(train_sql_generator, TEXT_TO_SQL)
    assert (flags.compute_dtype, args.bf16, args.fp16, args.mixed_precision) == ("bf16", False, False, "no")
    assert "Computes in bfloat16; a product in bfloat16 is 2 times as fast as in float32 here" in caplog.text
    flags, args = settled(train_classifier, CLASSIFICATION, "--bf16", "true")
    assert (flags.compute_dtype, args.bf16, args.mixed_precision) == ("bf16", True, "bf16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert settled(train_classifier, CLASSIFICATION)[0].compute_dtype == "bf16"
    with pytest.raises(InputError, match="--compute-dtype fp32 and --bf16 contradict"):
        settled(train_classifier, CLASSIFICATION, "--compute-dtype", "fp32")


def test_on_a_gpu_an_encoder_in_4_bits_trains_without_autocast_as_it_predicts(gpu):
    """Beside 4-bit layers autocast mixes types, on which DeBERTa's attention fails."""
    gpu(True)
    flags, args = settled(train_classifier, CLASSIFICATION, "--use-cpu", "true")
    assert (flags.compute_dtype, args.bf16, args.mixed_precision) == ("bf16", False, "no")
    flags, args = settled(train_classifier, CLASSIFICATION, "--use-cpu", "true", "--no-load-in-4bit")
    assert (flags.compute_dtype, args.bf16, args.mixed_precision) == ("bf16", True, "bf16")
    for script, task in ((train_sql_generator, TEXT_TO_SQL), (train_summarizer, SUMMARIZATION)):
        assert settled(script, task, "--use-cpu", "true")[1].bf16


def test_what_was_taken_stands_in_the_run_and_its_card(trained_run):
    run = mlflow.get_run(trained_run["id"])
    name = run.data.params["script.compute_dtype"]
    full = str(DTYPES[name]).removeprefix("torch.")
    assert f"Computes in {full}; a product in bfloat16 is " in trained_run["process"].stderr
    assert run.data.params["quantization.bnb_4bit_compute_dtype"] == full
    assert (run.data.params["bf16"], run.data.params["fp16"]) == ("False", "False")
    checkpoint = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    assert Card.read(checkpoint).compute_dtype == name
    skeleton = build_skeleton(Card.read(checkpoint), checkpoint).model
    assert skeleton.get_input_embeddings().weight.dtype == DTYPES[name]
    adapter = load_file(checkpoint / "adapter_model.safetensors")
    assert {weight.dtype for weight in adapter.values()} == {torch.float32}


def test_plain_mlflow_is_told_the_type_of_training(logged_model):
    flavour = mlflow.models.get_model_info(logged_model["uri"]).flavors["transformers"]
    assert flavour["torch_dtype"] == str(recorded_dtype(open_model(logged_model["uri"]).card))


def test_cards_and_runs_from_before_had_bfloat16_for_sql_and_on_a_gpu():
    nf4 = {"bnb_4bit_compute_dtype": "bfloat16"}
    base = {"base_model": "base", "base_revision": None, "max_length": 8}
    labels = Labels("binary", ("no", "yes"))
    classes = {"labels": labels, "pooling": "mean", "long_texts": "window", "thresholds": None}
    summaries = {"prompt": "$article", "long_texts": "window", "columns": {}, "generation": {}}
    assert recorded_dtype(SqlCard(**base, quantization=None, prompt="$question")) == torch.bfloat16
    assert recorded_dtype(ClassifierCard(**base, quantization=nf4, **classes)) == torch.bfloat16
    assert recorded_dtype(SummarizerCard(**base, quantization=None, **summaries)) == torch.float32
    assert begun_in({}, {}, TEXT_TO_SQL) == "bf16"
    logged = {"quantization.bnb_4bit_compute_dtype": "float32"}
    assert begun_in({"use_cpu": True}, logged, CLASSIFICATION) == "fp32"
    assert begun_in({"use_cpu": False}, {}, CLASSIFICATION) == "bf16"
    assert begun_in({"compute_dtype": "fp16"}, logged, CLASSIFICATION) == "fp16"


@pytest.fixture(scope="module")
def float32_base(tmp_path_factory):
    """The demo base, two layers of it, with weights that bfloat16 would round."""
    folder = tmp_path_factory.mktemp("float32")
    model = AutoModelForCausalLM.from_pretrained(DEMO_BASE, dtype=torch.float32, num_hidden_layers=2)
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data += 1e-3 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return str(folder)


def codes(model) -> list[torch.Tensor]:
    """Return what the 4-bit layers of a model hold: codes and scales of all."""
    layers = [layer for layer in model.modules() if isinstance(layer, bnb.nn.Linear4bit)]
    states = [layer.weight.quant_state for layer in layers]
    return [part for layer, state in zip(layers, states, strict=True)
            for part in (layer.weight.data, state.absmax, state.state2.absmax, state.offset)]  # fmt: skip


@torch.inference_mode()
def test_in_another_type_4_bit_weights_are_those_of_training(float32_base):
    def load(*dtypes):
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                    bnb_4bit_compute_dtype=dtypes[0])  # fmt: skip
        return load_decoder(float32_base, None, from_record(to_record(config), dtypes[-1]), *dtypes)

    trained, here = load(torch.bfloat16), load(torch.bfloat16, torch.float32)
    assert all(torch.equal(*pair) for pair in zip(codes(trained), codes(here), strict=True))
    anew = load(torch.float32)  # Quantised from what was not rounded to bfloat16.
    assert not all(torch.equal(*pair) for pair in zip(codes(trained), codes(anew), strict=True))
    layers = [layer for layer in here.modules() if isinstance(layer, bnb.nn.Linear4bit)]
    assert {(layer.compute_dtype, layer.weight.quant_state.dtype) for layer in layers} == {(torch.float32,) * 2}
    assert here.config.quantization_config.bnb_4bit_compute_dtype == here.dtype == here.config.dtype == torch.float32
    plain = [weight for weight in here.parameters() if not isinstance(weight, bnb.nn.Params4bit)]
    assert {weight.dtype for weight in plain} == {torch.float32}
    ids = torch.arange(40).view(1, -1)
    exact = here.dequantize()(ids).logits  # The same weights without any code in between.
    assert (trained(ids).logits.float() - exact).abs().max() < 0.3
    torch.testing.assert_close(load(torch.bfloat16, torch.float32)(ids).logits, exact, atol=1e-4, rtol=0)


def test_over_a_base_in_float16_the_adapter_and_its_scaled_gradients_are_in_float32(float32_base):
    """What a T4 trains, a step of it on the CPU: loss scaling refuses to unscale gradients in float16."""
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                bnb_4bit_compute_dtype=torch.float16)  # fmt: skip
    base = load_decoder(float32_base, None, config, torch.float16)
    model = add_adapter(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    ids = torch.arange(12).view(1, -1)
    (model(input_ids=ids, labels=ids).loss * 2**10).backward()
    adapter = [weight for weight in model.parameters() if weight.requires_grad]
    assert {weight.dtype for weight in adapter} == {weight.grad.dtype for weight in adapter} == {torch.float32}
    assert all(weight.grad.isfinite().all() for weight in adapter)
    assert max(weight.grad.norm() for weight in adapter) > 0
    assert model.get_input_embeddings().weight.dtype == torch.float16


@pytest.fixture
def bfloat16_checkpoint(trained_run, tmp_path):
    """The checkpoint of the shared run as it would be from a machine that is fast at bfloat16."""
    folder = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    copy = tmp_path / "checkpoint-24"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / CARD).unlink()
    card = Card.read(folder)
    quantization = card.quantization | {"bnb_4bit_compute_dtype": "bfloat16"}
    replace(card, compute_dtype="bf16", quantization=quantization).write(copy)
    return copy


def test_a_model_computes_in_what_this_machine_is_fast_at_and_says_so(bfloat16_checkpoint, products, capsys, caplog):
    caplog.set_level(logging.INFO)
    products(1.0, 20.0)
    one = ("--context", CONTEXT, "--question", QUESTIONS[0], "--param", "max_new_tokens=4")
    assert call(predict.main, bfloat16_checkpoint, *one) is None
    assert "Computes in float32, trained in bfloat16: near ties may fall otherwise" in caplog.text
    caplog.clear()
    assert call(predict.main, bfloat16_checkpoint, *one, "--compute-dtype", "recorded") is None
    assert "takes 20.0 times as long for a product in bfloat16" in caplog.text
    assert "near ties" not in caplog.text
    assert "needs a GPU" in call(predict.main, bfloat16_checkpoint, *one, "--compute-dtype", "fp16")
    logged = open_model(str(bfloat16_checkpoint))
    model = logged.load(Loading(compute_dtype="auto")).model
    assert model.get_input_embeddings().weight.dtype == torch.float32


def test_precision_chooses_the_weights_and_compute_dtype_the_arithmetic(bfloat16_checkpoint, products):
    products(1.0, 20.0)
    logged = open_model(str(bfloat16_checkpoint))

    def load(precision, compute_dtype):
        weights = logged.load(Loading(None, precision, compute_dtype, with_adapter=False)).model.state_dict()
        return weights["model.layers.0.mlp.up_proj.weight"]

    assert load("bf16", "auto").dtype == torch.bfloat16  # As it was asked for.
    assert load("fp32", "auto").dtype == torch.float32
    assert torch.equal(load("bf16", "fp32"), load("bf16", "auto").float())
    assert load("nf4", "fp32").dtype == torch.uint8


def test_a_run_from_before_goes_on_in_bfloat16_where_that_is_slow_too(
    few_rows, tmp_path, monkeypatch, capsys, caplog, products
):
    flags = (*SQL, "--dataset", few_rows, "--max-steps", 4, "--save-steps", 2, "--eval-steps", 2,
             "--compute-dtype", "bf16")  # fmt: skip
    products(1.0, 0.5)
    assert call(train_sql_generator.main, *flags, "--output-dir", tmp_path / "whole") is None
    whole = capsys.readouterr().out.split()[-1]
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        assert call(train_sql_generator.main, *flags, "--output-dir", tmp_path / "old", "--max-time", "1h") is None
    run_id = capsys.readouterr().out.split()[-1]
    # As it was written before there was a choice.
    record = mlflow.artifacts.load_dict(mlflow.get_run(run_id).info.artifact_uri + "/arguments.json")
    record["arguments"] = [flag for flag in record["arguments"] if flag not in ("--compute-dtype", "bf16")]
    del record["settings"]["compute_dtype"]
    record["settings"]["fp16"] = False
    mlflow.MlflowClient().log_dict(run_id, record, "arguments.json")
    checkpoint = tmp_path / "old" / run_id / "checkpoint-2"
    replace(Card.read(checkpoint), compute_dtype=None).write(checkpoint)
    assert '"compute_dtype"' not in (checkpoint / CARD).read_text()

    products(1.0, 20.0)
    assert "--compute-dtype bf16 -> fp32: this would change what is trained" in call(
        train_sql_generator.main, "--resume", run_id, "--compute-dtype", "fp32"
    )
    assert call(train_sql_generator.main, "--resume", run_id) is None
    assert "this CPU takes 20.0 times as long for a product in bfloat16" in caplog.text
    weights = [load_file(tmp_path / folder / run / "checkpoint-4" / "adapter_model.safetensors")
               for folder, run in (("whole", whole), ("old", run_id))]  # fmt: skip
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert history(run_id)["loss"] == history(whole)["loss"]
    assert Card.read(tmp_path / "old" / run_id / "checkpoint-4").compute_dtype == "bf16"
