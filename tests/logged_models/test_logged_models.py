"""The logged model: the same prompt tokens as in training, and no base weights in memory."""

import subprocess
import sys
from dataclasses import replace

import predict
from finetune import InputError
from finetune.logged_models.writing.sql_models import build_skeleton, check_prompt_parity
from finetune.models.bases.loading import fingerprint
from finetune.runs.lifecycle import rename_cards

import mlflow
import pytest
from conftest import DEMO_BASE, ROOT, call
from made_runs import PROMPT, make_checkpoint
from transformers import AutoModelForCausalLM


def test_prompt_tokens_are_those_of_training_on_both_tokenizers(tiny_base, tmp_path):
    card = make_checkpoint(tmp_path, tiny_base)
    pipeline = build_skeleton(card, tmp_path)
    check_prompt_parity(card, pipeline)
    for change in ("\n", " "):
        with pytest.raises(InputError, match="other tokens than training"):
            check_prompt_parity(replace(card, prompt=PROMPT.text + change), pipeline)


def test_only_the_adapter_of_the_skeleton_has_memory(tiny_base, tmp_path):
    pipeline = build_skeleton(make_checkpoint(tmp_path, tiny_base), tmp_path)
    devices = {name: parameter.device.type for name, parameter in pipeline.model.named_parameters()}
    assert {device for name, device in devices.items() if "lora_" in name} == {"cpu"}
    assert {device for name, device in devices.items() if "lora_" not in name} == {"meta"}


def test_the_fingerprint_sees_other_weights_of_the_same_shape(tiny_base, tmp_path):
    other = AutoModelForCausalLM.from_pretrained(tiny_base)
    other.save_pretrained(tmp_path / "same")
    other.model.norm.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    assert fingerprint(tmp_path / "same") != fingerprint(tmp_path / "other")
    assert fingerprint(DEMO_BASE) == fingerprint(DEMO_BASE)


@pytest.mark.slow
def test_logging_an_adapter_of_a_7b_shaped_base_stays_below_1500_mb(tmp_path):
    """The base has a configuration and a tokenizer only: weights could not be loaded if one tried."""
    base, checkpoint = tmp_path / "base", tmp_path / "checkpoint-1"
    code = (ROOT / "tests" / "support" / "make_7b_adapter.py").read_text()
    done = subprocess.run(
        [sys.executable, "-c", code, str(base), str(checkpoint), str(DEMO_BASE)], check=True, cwd=ROOT
    )
    assert done.returncode == 0
    assert (checkpoint / "adapter_model.safetensors").stat().st_size > 300e6
    run_id = mlflow.MlflowClient().create_run("0", tags={"finetune.checkpoints": str(tmp_path)}).info.run_id
    rename_cards(tmp_path, run_id)
    measure = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    command = [sys.executable, str(ROOT / "log_model.py"), run_id, "--no-reload-check"]
    done = subprocess.run([sys.executable, "-c", measure, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < 1500
    refused = call(predict.main, f"runs:/{run_id}/model", "--question", "q", "--context", "c")
    assert "cannot be loaded as a model" in refused  # there are no weights
