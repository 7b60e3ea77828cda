"""Several processes: one run, the maths of one process, and an end for all when one of them dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import train_sql_generator
from finetune.models.bases.quantization import storage_dtype

import mlflow
import psutil
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from conftest import CLASSIFIER_FLAGS, DEMO_BASE, LONGEST_WAIT, ROOT, SUMMARIZER_FLAGS, call, last_line

CONFIGS = ROOT / "configs" / "accelerate"
SQL = ("--base-model", DEMO_BASE, "--max-validation-rows", 8, "--score-rows", 0, "--disable-tqdm", "true",
       "--distractor-columns", 0, "--compute-dtype", "fp32")  # fmt: skip


@pytest.fixture
def flags(few_rows, terms, tiny_roberta, reports, tiny_t5) -> dict[str, tuple]:
    """Flags of a short training for each script."""
    return {
        "train_sql_generator": (*SQL, "--dataset", few_rows, "--max-steps", 12, "--per-device-train-batch-size", 1,
                                "--save-steps", 3, "--eval-steps", 3, "--logging-steps", 1),
        "train_classifier": ("--base-model", tiny_roberta, "--dataset", terms, *CLASSIFIER_FLAGS, "--logging-steps", 1),
        "train_summarizer": ("--base-model", tiny_t5, "--dataset", reports, *SUMMARIZER_FLAGS, "--logging-steps", 1),
    }  # fmt: skip


def launch(script: str, flags, config: str = "ddp.yaml") -> list[str]:
    """Return the command that starts a script in two processes; where there is no GPU they talk over gloo."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / config]
    return [*map(str, (*launcher, "--num_processes", 2, "--main_process_port", 0, ROOT / f"{script}.py", *flags))]


def find_rank(process: subprocess.Popen, rank: int) -> psutil.Process | None:
    """Return the process of a rank among what a launcher has started."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.environ().get("RANK") == str(rank) and "train_" in " ".join(child.cmdline()):
                return child
        except psutil.Error:
            continue
    return None


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("train_sql_generator", marks=pytest.mark.faults),
        pytest.param("train_classifier", marks=pytest.mark.faults),
        pytest.param("train_summarizer", marks=pytest.mark.faults),
    ],
)
def test_a_rank_that_dies_ends_all_and_the_run_goes_on(script, flags, tmp_path):
    name = f"two-{script}"
    experiment = mlflow.create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())
    output = tmp_path / "outputs"
    command = launch(script, (*flags[script], "--experiment", name, "--output-dir", output))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + LONGEST_WAIT
    while not list(output.glob("*/checkpoint-*/finetune.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(find_rank(process, 1).pid, signal.SIGKILL)
    assert process.wait(timeout=LONGEST_WAIT) != 0
    (run,) = mlflow.search_runs([experiment], output_format="list")
    assert run.info.status == "FAILED", (tmp_path / "log").read_text()[-3000:]
    done = subprocess.run(
        launch(script, ("--resume", run.info.run_id)), capture_output=True, text=True, timeout=LONGEST_WAIT
    )
    assert last_line(done) == run.info.run_id
    assert [found.info.run_id for found in mlflow.search_runs([experiment], output_format="list")] == [run.info.run_id]
    run, client = mlflow.get_run(run.info.run_id), mlflow.MlflowClient()
    assert run.info.status == "FINISHED"
    assert "was FAILED" in run.data.tags["finetune.resumed"]
    if script == "train_classifier":  # The SVM of the first process was in the evaluations of both.
        assert run.data.metrics["validation_svm_macro_f1"] > 0.8
        assert run.data.metrics["svm_share"] > 0
    for key in run.data.metrics:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, key)]
        assert len(steps) == len(set(steps)), key
    losses = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
    assert losses == list(range(1, max(losses) + 1))


@pytest.mark.faults
def test_processes_that_are_asked_to_stop_save_together_and_go_on(flags, tmp_path):
    output, log = tmp_path / "outputs", tmp_path / "log"
    with log.open("w") as file:
        command = launch("train_sql_generator", (*flags["train_sql_generator"], "--output-dir", output))
        process = subprocess.Popen(command, stdout=file, stderr=file)
    deadline = time.monotonic() + LONGEST_WAIT
    while not list(output.glob("*/checkpoint-*/finetune.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # The launcher passes it on.
    assert process.wait(timeout=LONGEST_WAIT) != 0
    (folder,) = output.iterdir()
    run = mlflow.get_run(folder.name)
    assert run.info.status == "KILLED", log.read_text()[-3000:]
    assert "saving a checkpoint" in log.read_text()
    logged = [point.step for point in mlflow.MlflowClient().get_metric_history(folder.name, "loss")]
    assert (folder / f"checkpoint-{max(logged)}" / "finetune.json").is_file()
    done = subprocess.run(launch("train_sql_generator", ("--resume", folder.name)), capture_output=True, text=True)
    assert last_line(done) == folder.name


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates_two_batches(few_rows, tmp_path, capsys):
    flags = (*SQL, "--dataset", few_rows, "--max-steps", 6, "--per-device-train-batch-size", 2, "--logging-steps", 1,
             "--learning-rate", 2e-3, "--output-dir", tmp_path, "--max-tokens-per-batch", 150)  # fmt: skip
    done = subprocess.run(launch("train_sql_generator", flags), capture_output=True, text=True, timeout=LONGEST_WAIT)
    two = last_line(done)
    assert "2 sequences x 1 accumulation x 2 processes = 4 per step" in done.stderr
    assert call(train_sql_generator.main, *flags, "--gradient-accumulation-steps", 2) is None
    one = capsys.readouterr().out.split()[-1]
    client = mlflow.MlflowClient()
    losses = {run: [p.value for p in client.get_metric_history(run, "loss")] for run in (one, two)}
    norms = {run: [p.value for p in client.get_metric_history(run, "grad_norm")] for run in (one, two)}
    # The packs of a step add up to one gradient, over both processes; later the order of adding shows, in bfloat16.
    assert losses[two][:2] == pytest.approx(losses[one][:2], rel=1e-5)
    assert norms[two][:2] == pytest.approx(norms[one][:2], rel=1e-5)
    # Other rows have losses that are other by tenths: the same ones were seen, once each.
    assert losses[two] == pytest.approx(losses[one], rel=2e-2)
    assert max(losses[one]) - min(losses[one]) > 0.1
    evaluations = {run: [p.value for p in client.get_metric_history(run, "eval_loss")] for run in (one, two)}
    assert evaluations[two] == pytest.approx(evaluations[one], rel=2e-2)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_takes_the_configuration_and_every_line_says_why(path: Path):
    config = load_config_from_file(str(path))  # An unknown key is an error.
    assert config.num_processes >= 2
    for line in path.read_text().splitlines():
        assert "#" in line or line.endswith("_config:"), line
    values = yaml.safe_load(path.read_text())
    assert {key: getattr(config, key) for key in values if hasattr(config, key)}.keys() == values.keys()


def test_the_fsdp_configuration_is_a_plugin_and_stores_4_bit_weights_as_floats(monkeypatch):
    config = yaml.safe_load((CONFIGS / "fsdp_qlora.yaml").read_text())["fsdp_config"]
    assert storage_dtype(torch.bfloat16) == torch.uint8
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for key, value in config.items():
        # To load on one rank for all, the plugin asks for a GPU.
        on_gpu = key in ("fsdp_cpu_ram_efficient_loading", "fsdp_sync_module_states")
        monkeypatch.setenv(key.upper(), str(False if on_gpu and not torch.cuda.is_available() else value))
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.sharding_strategy.name == "FULL_SHARD"
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.activation_checkpointing
    assert storage_dtype(torch.bfloat16) == torch.bfloat16


def test_the_deepspeed_configuration_is_a_plugin():
    values = yaml.safe_load((CONFIGS / "deepspeed_zero2.yaml").read_text())["deepspeed_config"]
    plugin = DeepSpeedPlugin(
        gradient_accumulation_steps=values["gradient_accumulation_steps"],
        gradient_clipping=values["gradient_clipping"], zero_stage=values["zero_stage"],
        offload_optimizer_device=values["offload_optimizer_device"],
        offload_param_device=values["offload_param_device"], zero3_init_flag=values["zero3_init_flag"],
    )  # fmt: skip
    assert plugin.zero_stage == 2
    assert plugin.deepspeed_config["zero_optimization"]["stage"] == 2
