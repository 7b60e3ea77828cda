"""The same path on a CUDA GPU."""

import json

import mlflow
import pytest
from conftest import DEMO_BASE, DEMO_DATA, SUMMARIZER_FLAGS, last_line, run_script

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
    assert (parameters["bf16"], parameters["optim"]) == ("True", "OptimizerNames.PAGED_ADAMW_8BIT")
    uri = last_line(run_script("log_model.py", run_id))
    assert mlflow.get_run(run_id).data.tags["reload_parity"] == "pass"
    one = ("--context", "CREATE TABLE head (age INTEGER)", "--question", "How many heads are there?", "--json")
    assert json.loads(last_line(run_script("predict.py", uri, *one)))["ended"]


def test_a_summarizer_trains_in_bfloat16_and_reloads(tmp_path, tiny_t5, reports):
    flags = ("--base-model", tiny_t5, "--dataset", reports, *SUMMARIZER_FLAGS, "--init-lora-weights", "loftq")
    run_id = last_line(run_script("train_summarizer.py", *flags, "--output-dir", tmp_path))
    assert mlflow.get_run(run_id).data.params["bf16"] == "True"
    run_script("log_model.py", run_id)
    assert mlflow.get_run(run_id).data.tags["reload_parity"] == "pass"
