"""First weights of an adapter: what LoftQ and EVA do to it, in every training script."""

from functools import partial
from pathlib import Path
from unittest.mock import patch

import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune.models.bases.loading import load_encoder_decoder
from finetune.training.adapters import add_adapter, init_adapter, init_settings
from finetune.training.loftq import low_rank, replace_with_loftq

import mlflow
import pytest
import torch
from conftest import CLASSIFIER_FLAGS, DEMO_BASE, SUMMARIZER_FLAGS, call
from datasets import Dataset
from offline_wandb import read_run
from peft import LoraConfig
from peft.tuners.lora import Linear4bit
from peft.utils import loftq_utils
from safetensors.torch import load_file
from transformers import AutoTokenizer, BitsAndBytesConfig, DataCollatorForSeq2Seq

ARTICLE = "summarize: A storm has hit Kelso. The alarm was raised on Sunday. Damage was done to 12 houses."
SUMMARY = "A storm damaged 12 houses in Kelso on Sunday."


def quantised(folder: Path, init: str, r: int = 6, alpha: int = 16):
    """Return a tiny T5 in NF4 with an adapter on q, k, v, and its tokenizer."""
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    torch.manual_seed(0)
    settings = {"task_type": "SEQ_2_SEQ_LM", "target_modules": ["q", "k", "v"], **init_settings(init)}
    return add_adapter(load_encoder_decoder(str(folder), None, config), LoraConfig(r=r, lora_alpha=alpha, **settings))


def encoded(folder: Path, rows: int = 12) -> Dataset:
    """Return encoded rows of different lengths."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    examples = []
    for number in range(rows):
        ids = tokenizer(ARTICLE + " It rained." * number)["input_ids"]
        labels = tokenizer(SUMMARY + " So it was." * (number % 3))["input_ids"]
        examples.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, "length": len(ids)})
    return Dataset.from_list(examples)


def start(folder: Path, init: str, **options):
    """Return a model whose adapter has its first weights."""
    model = quantised(folder, init, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    original = partial(load_encoder_decoder, str(folder), None, None)
    init_adapter(model, init, original, encoded(folder), DataCollatorForSeq2Seq(tokenizer, model=model))
    return model.eval()


@torch.inference_mode()
def logits(model, folder: Path) -> torch.Tensor:
    """Return the logits of one article and summary."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = tokenizer(SUMMARY, return_tensors="pt")["input_ids"]
    return model(**tokenizer(ARTICLE, return_tensors="pt"), labels=labels).logits


@pytest.mark.parametrize(("r", "alpha"), [(6, 16), (16, 16), (24, 8)])
def test_with_loftq_the_first_forward_is_closer_to_the_full_precision_model(tiny_t5, r, alpha):
    reference = logits(load_encoder_decoder(str(tiny_t5), None, None).eval(), tiny_t5)
    options = {"r": r, "alpha": alpha}
    plain, loftq = (logits(start(tiny_t5, init, **options), tiny_t5) for init in ("default", "loftq"))
    assert (loftq - reference).norm() < 0.95 * (plain - reference).norm()


def test_loftq_is_pefts_but_for_the_scale_that_peft_leaves_out(tiny_t5):
    """PEFT computes it on CUDA only; here its literal device is patched. Without the scale it makes things worse."""
    ours, theirs = start(tiny_t5, "loftq"), quantised(tiny_t5, "loftq")

    def on_this_device(qweight, weight, num_bits, reduced_rank):
        import bitsandbytes as bnb

        error = weight.float() - bnb.functional.dequantize_4bit(qweight.data, qweight.quant_state)
        found = loftq_utils._low_rank_decomposition(error, reduced_rank=reduced_rank)
        return found["R"], found["L"]

    with patch.object(loftq_utils, "_loftq_init_new", on_this_device):
        loftq_utils.replace_lora_weights_loftq(theirs, str(tiny_t5 / "model.safetensors"))
    compared = 0
    for (name, one), (_, other) in zip(ours.named_modules(), theirs.named_modules(), strict=True):
        if isinstance(one, Linear4bit):
            products = [module.lora_B["default"].weight @ module.lora_A["default"].weight for module in (one, other)]
            torch.testing.assert_close(one.scaling["default"] * products[0], products[1], rtol=1e-3, atol=1e-5), name
            compared += 1
    assert compared == 2 * 3 + 2 * 6
    reference = logits(load_encoder_decoder(str(tiny_t5), None, None).eval(), tiny_t5)
    plain = logits(start(tiny_t5, "default"), tiny_t5)
    assert (logits(theirs.eval(), tiny_t5) - reference).norm() > (plain - reference).norm()


def test_every_quantised_layer_with_an_adapter_is_set(tiny_t5):
    model = quantised(tiny_t5, "loftq")
    assert replace_with_loftq(model, load_encoder_decoder(str(tiny_t5), None, None)) == 18
    assert all(m.lora_B["default"].weight.any() for m in model.modules() if isinstance(m, Linear4bit))


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_the_low_rank_part_is_the_best_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, right = low_rank(matrix, 5)
    u, s, v = torch.linalg.svd(matrix)
    torch.testing.assert_close(left @ right, u[:, :5] @ torch.diag(s[:5]) @ v[:5], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1), rtol=1e-3, atol=1e-4)


def test_eva_starts_without_effect_along_the_directions_of_the_data(tiny_t5):
    """Encoder and decoder see sequences of different lengths: PEFT's own mask would not fit."""
    plain, eva = start(tiny_t5, "default"), start(tiny_t5, "eva")
    torch.testing.assert_close(logits(eva, tiny_t5), logits(plain, tiny_t5), rtol=0, atol=0)
    for name, layer in eva.named_modules():
        if isinstance(layer, Linear4bit):
            weight = layer.lora_A["default"].weight
            torch.testing.assert_close(weight @ weight.T, torch.eye(6), rtol=0, atol=1e-4), name


def test_gaussian_starts_without_effect(tiny_t5):
    plain, gaussian = start(tiny_t5, "default"), start(tiny_t5, "gaussian")
    torch.testing.assert_close(logits(gaussian, tiny_t5), logits(plain, tiny_t5), rtol=0, atol=0)


@pytest.fixture(scope="module")
def wandb_folder(tmp_path_factory) -> Path:
    """One folder: W&B reads WANDB_DIR once in a process."""
    return tmp_path_factory.mktemp("wandb")


def scripts(few_rows, tiny_t5, reports, tiny_roberta, terms) -> dict:
    """Return (main, flags) of a run of one step for each training script."""
    sql = ("--max-steps", 1, "--max-train-rows", 32, "--max-validation-rows", 4, "--score-rows", 0, "--lora-r", 2)
    summaries = (*SUMMARIZER_FLAGS, "--max-steps", 1, "--score-rows", 0)
    labels = (*CLASSIFIER_FLAGS, "--max-steps", 1, "--debug-sample", 32)
    return {
        "sql": (train_sql_generator.main, "--base-model", DEMO_BASE, "--dataset", few_rows, *sql),
        "labels": (train_classifier.main, "--base-model", tiny_roberta, "--dataset", terms, *labels),
        "summaries": (train_summarizer.main, "--base-model", tiny_t5, "--dataset", reports, *summaries),
    }


@pytest.mark.parametrize(
    ("script", "init"),
    [
        ("sql", "loftq"),
        ("labels", "loftq"),
        ("summaries", "eva"),
        pytest.param("labels", "eva", marks=pytest.mark.slow),
        pytest.param("sql", "eva", marks=pytest.mark.slow),
    ],
)
def test_every_training_script_has_them_and_both_trackers(
    script, init, few_rows, tiny_t5, reports, tiny_roberta, terms, wandb_folder, tmp_path, capsys, caplog, monkeypatch
):
    caplog.set_level("INFO")
    main, *flags = scripts(few_rows, tiny_t5, reports, tiny_roberta, terms)[script]
    if init == "loftq":
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_DIR", str(wandb_folder))
        flags += ["--report-to", "wandb"]
    output = tmp_path / "outputs"
    assert call(main, *flags, "--output-dir", output, "--init-lora-weights", init) is None
    assert {"loftq": "LoftQ: the adapters of", "eva": "EVA: the adapters start"}[init] in caplog.text
    run_id = capsys.readouterr().out.split()[-1]
    tensors = load_file(output / run_id / "checkpoint-1" / "adapter_model.safetensors")
    if init == "loftq":  # One step at the first rate of the warm-up: what LoftQ has set is still there.
        assert min(tensor.abs().max() for name, tensor in tensors.items() if "lora_B" in name) > 1e-5
        same_in_both_trackers(run_id, wandb_folder)
    given = ("--question", "q", "--context", "c", "--param", "max_new_tokens=2") if script == "sql" else ("--text", "a")
    assert call(predict.main, output / run_id / "checkpoint-1", *given) is None


def same_in_both_trackers(run_id: str, folder: Path) -> None:
    """Assert that the evaluations, scores and figures of a run are in its offline W&B files too."""
    metrics, offline = mlflow.get_run(run_id).data.metrics, read_run(folder, run_id)
    assert offline["id"] == run_id
    names = [name for name in metrics if name.startswith(("eval_", "test_")) and "runtime" not in name]
    assert "eval_loss" in names
    for name in names:
        shown = name.replace("eval_", "eval/", 1) if name.startswith("eval_") else name
        assert offline["last"][shown] == metrics[name], name
    figures = [artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run_id, "figures")]
    assert figures
    assert all(f"{Path(figure).stem}/path" in offline["last"] for figure in figures)
