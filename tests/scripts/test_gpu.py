"""The same path on a CUDA GPU."""

import json

from finetune.models.bases.attention import can_share
from finetune.rows.packing import PackingCollator

import mlflow
import pytest
import torch
from conftest import CLASSIFIER_FLAGS, DEMO_BASE, DEMO_DATA, SUMMARIZER_FLAGS, last_line, run_script
from encoders import make_encoder
from packed import CONFIGS, made_rows, make

pytestmark = pytest.mark.gpu


def test_train_log_and_predict_on_the_gpu(tmp_path):
    run_id = last_line(
        run_script(
            "train_sql_generator.py", "--base-model", DEMO_BASE, "--dataset", DEMO_DATA, "--output-dir", tmp_path,
            "--max-steps", 40, "--learning-rate", 3e-3, "--score-rows", 16,
        )
    )  # fmt: skip
    parameters = mlflow.get_run(run_id).data.params
    assert parameters["script.compute_dtype"] == "bf16"
    assert (parameters["bf16"], parameters["optim"]) == ("True", "adamw_torch_fused")
    uri = last_line(run_script("log_model.py", run_id))
    assert mlflow.get_run(run_id).data.tags["reload_parity"] == "pass"
    one = ("--context", "CREATE TABLE head (age INTEGER)", "--question", "How many heads are there?", "--json")
    assert json.loads(last_line(run_script("predict.py", uri, *one)))["ended"]


def test_a_stopped_training_goes_on_with_the_same_losses(tmp_path):
    flags = ("--base-model", DEMO_BASE, "--dataset", DEMO_DATA, "--max-steps", 40, "--max-train-rows", 400,
             "--max-validation-rows", 8, "--score-rows", 0, "--save-steps", 10, "--eval-steps", 10,
             "--logging-steps", 1, "--output-dir", tmp_path)  # fmt: skip
    whole = last_line(run_script("train_sql_generator.py", *flags))
    cut = last_line(run_script("train_sql_generator.py", *flags, "--max-time", "1s"))
    assert mlflow.get_run(cut).data.tags["finetune.stopped"] == "max-time"
    last_line(run_script("train_sql_generator.py", "--resume", cut))
    client = mlflow.MlflowClient()
    one, other = ({p.step: p.value for p in client.get_metric_history(run, "loss")} for run in (whole, cut))
    assert sorted(one) == list(range(1, 41))
    # Some kernels add up in another order each time: to rounding, not to the bit.
    assert other == pytest.approx(one, rel=0.02)


@pytest.mark.parametrize("kind", ["roberta", "deberta"])
def test_a_classifier_trains_in_bfloat16_and_reloads(tmp_path, terms, kind):
    flags = ("--base-model", make_encoder(tmp_path / kind, kind), "--dataset", terms, *CLASSIFIER_FLAGS)
    run_id = last_line(run_script("train_classifier.py", *flags, "--output-dir", tmp_path / "outputs"))
    parameters = mlflow.get_run(run_id).data.params
    assert (parameters["script.compute_dtype"], parameters["bf16"]) == ("bf16", "False")
    uri = last_line(run_script("log_model.py", run_id))
    assert mlflow.get_run(run_id).data.tags["reload_parity"] == "pass"
    text = ("--text", "any dispute shall be resolved by binding arbitration", "--json")
    assert json.loads(last_line(run_script("predict.py", uri, *text)))["scores"]


def test_a_summarizer_trains_in_bfloat16_and_reloads(tmp_path, tiny_t5, reports):
    flags = ("--base-model", tiny_t5, "--dataset", reports, *SUMMARIZER_FLAGS, "--init-lora-weights", "loftq")
    run_id = last_line(run_script("train_summarizer.py", *flags, "--output-dir", tmp_path))
    assert mlflow.get_run(run_id).data.params["bf16"] == "True"
    run_script("log_model.py", run_id)
    assert mlflow.get_run(run_id).data.tags["reload_parity"] == "pass"


def test_prompts_that_begin_alike_are_computed_once_by_the_kernel_for_all_sequences():
    """The keys of a sequence are more than its own tokens there; the loss and the gradient are those of whole rows."""
    found = {}
    for shares in (False, True):
        model = make(CONFIGS["llama"]).to("cuda", torch.bfloat16)
        assert can_share(model)
        (pack,) = PackingCollator(10_000, shares)(made_rows())["packs"]
        pack = {name: value.to("cuda") if torch.is_tensor(value) else value for name, value in pack.items()}
        loss = model(**pack).loss
        loss.backward()
        found[shares] = loss, torch.cat([weight.grad.float().flatten() for weight in model.parameters()])
    torch.testing.assert_close(found[True][0], found[False][0], rtol=0.01, atol=0)
    assert (found[True][1] - found[False][1]).norm() < 0.05 * found[False][1].norm()
