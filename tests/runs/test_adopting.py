"""log_model.py --from: adapters of other programs, as TRL saved one, and in the forms of the others."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import evaluate_model
import log_model
from finetune import InputError
from finetune.logged_models.opening import open_model
from finetune.logged_models.writing.weights import disk_space
from finetune.models.card import Card
from finetune.runs import full_models
from finetune.runs.adopting import scoring
from finetune.runs.adopting.foreign import fit_to_base, read_foreign

import mlflow
import pytest
import safetensors.torch
import torch
from conftest import DEMO_BASE, ROOT, byte_level_tokenizer, call, demo_rows, make_base
from mlflow.exceptions import MlflowException

PROMPT = ROOT / "prompts" / "text_to_sql.txt"


@pytest.fixture
def trl(tmp_path) -> Path:
    """What TRL has saved, see tests/support/make_trl_adapter.py."""
    folder = tmp_path / "trl"
    with zipfile.ZipFile(Path(__file__).parent / "trl_adapter.zip") as file:
        file.extractall(folder)
    return folder


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(log_model, "reload_check", lambda *_: True)


def adopt(folder: Path, tmp_path: Path, *flags) -> str | None:
    given = ("--from", folder, "--task", "text-to-sql", "--prompt", PROMPT, "--base-model", DEMO_BASE)
    return call(log_model.main, *given, "--output-dir", tmp_path / "outputs", *flags)


def change(folder: Path, **fields) -> None:
    """Set fields of an adapter's configuration."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rewrite(folder: Path, make) -> None:
    """Write an adapter's weights anew, as `make` makes them of what they are."""
    path = folder / "adapter_model.safetensors"
    safetensors.torch.save_file(make(safetensors.torch.load_file(path)), path, {"format": "pt"})


def test_an_adapter_of_trl_is_logged_and_scored(trl, in_process, tmp_path, capfd):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in demo_rows("test")[:6]))
    assert adopt(trl, tmp_path, "--dataset", rows, "--experiment", "sql-generator") is None
    *scorecard, uri = capfd.readouterr().out.splitlines()
    assert scorecard[0].startswith("test: 6 rows")
    run = mlflow.get_run(uri.split("/")[1])
    assert (run.info.status, run.data.tags["finetune.adopted_from"]) == ("FINISHED", str(trl))
    assert run.data.params["lora.r"] == "4"
    assert "test_exec_accuracy" in run.data.metrics
    logged = open_model(uri)
    assert logged.card.sample == []
    card = Card.read(tmp_path / "outputs" / run.info.run_id / "checkpoint-0")
    assert (len(card.sample), card.quantization, card.compute_dtype) == (6, None, "bf16")
    assert card.run_id == run.info.run_id
    writer = logged.load()
    row = demo_rows("test")[0]
    (answer,) = writer.answer(writer.encode([row]), max_new_tokens=48)
    with writer.model.disable_adapter():
        (before,) = writer.answer(writer.encode([row]), max_new_tokens=48)
    assert answer["sql"] != before["sql"]


def test_without_rows_it_says_how_to_score_it(trl, in_process, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(evaluate_model, "main", lambda *_: pytest.fail("scored"))
    caplog.set_level("INFO")
    assert adopt(trl, tmp_path, "--trained-in", "nf4") is None
    assert "python evaluate_model.py runs:/" in caplog.text
    (checkpoint,) = (tmp_path / "outputs").glob("*/checkpoint-0")
    assert Card.read(checkpoint).quantization["bnb_4bit_quant_type"] == "nf4"


def test_what_scores_it_gets_the_flags_of_rows_and_its_status_counts(trl, in_process, tmp_path, monkeypatch, caplog):
    rows = tmp_path / "rows.jsonl"
    made = [{"asked": row["question"], "context": row["context"], "answer": row["answer"]} for row in demo_rows("test")]
    rows.write_text("".join(json.dumps(row) + "\n" for row in made[:4]), encoding="utf-16")
    given, commands = ("--column", "question=asked", "--encoding", "utf-16", "--max-rows", 2), []

    def die(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, -9)

    monkeypatch.setattr(scoring, "subprocess", SimpleNamespace(run=die))
    with pytest.raises(SystemExit, match="1"):
        adopt(trl, tmp_path, "--no-reload-check", "--dataset", rows, *given, "--register", "unscored")
    expected = ["--dataset", rows, "--column", "question=asked", "--encoding", "utf-16", "--split", "test"]
    assert commands[-1][3:] == [str(one) for one in (*expected, "--max-rows", 2)]
    assert "ended with status -9" in caplog.text
    assert mlflow.MlflowClient().get_registered_model("unscored")
    (checkpoint,) = (tmp_path / "outputs").glob("*/checkpoint-0")
    assert Card.read(checkpoint).sample[0]["question"] == made[0]["asked"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--mode", "merged", "--persist"), "--persist: a model of --mode merged has no base"),
        (("--quantized-base", "nf4"), "--quantized-base: this adapter was trained on an unquantised base"),
        (("--trained-in", "nf4", "--quantized-base", "."), "it holds something else"),
        (("--replace",), "--replace deletes older models of a run"),
        (("--export", "onnx"), "only a classifier"),
        (("--export", "gguf"), "--prompt"),
        (("--export", "peft", "--tolerance", 2), "--tolerance 2 is a share"),
        (("--export", "peft", "--output", "."), "is there already"),
        (("--dataset", "rows.jsonl", "--split", "validation"), "has no rows of --split validation"),
        (("--register", "m", "--alias", "a", "--if-better", "f1", "--dataset", "rows.jsonl"), "--if-better f1: models"),
    ],
)
def test_what_it_cannot_have_is_refused_before_it_has_a_run(trl, flags, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = [row | {"split": "test"} for row in demo_rows("test")[:4]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert sentence in adopt(trl, tmp_path, *flags)
    assert not list((tmp_path / "outputs").glob("*"))


def test_what_is_refused_later_names_its_run(trl, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    refused = adopt(trl, tmp_path, "--trained-in", "nf4", "--quantized-base", tmp_path / "nf4")
    assert "the base in 4 bits takes" in refused
    (folder,) = (tmp_path / "outputs").iterdir()
    assert f"go on with: python log_model.py {folder.name}" in refused


def llama_factory(folder: Path) -> None:
    for name in ("all_results.json", "train_results.json"):
        (folder / name).write_text("{}")
    change(folder, use_rslora=True, task_type="CAUSAL_LM", use_qalora=False, qalora_group_size=16)


def axolotl(folder: Path) -> None:
    shutil.copytree(folder, folder / "checkpoint-40")
    shutil.copy(DEMO_BASE / "config.json", folder)
    (folder / "checkpoint-40" / "optimizer.pt").write_bytes(b"\x80")
    change(folder, exclude_modules=None, layers_to_transform=[0, 1, 2, 3, 4, 5], layers_pattern=None)


def unsloth(folder: Path) -> None:
    mapping = {"base_model_class": "MistralForCausalLM", "parent_library": "os", "unsloth_fixed": True}
    pattern = r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|v_proj))|(?:\bmodel\.layers\.\d+\..*)"
    base = "unsloth/mistral-7b-v0.3-bnb-4bit"
    change(folder, auto_mapping=mapping, target_modules=pattern, base_model_name_or_path=base)
    rewrite(folder, lambda weights: {name: weight.to(torch.bfloat16) for name, weight in weights.items()})


def dora(folder: Path) -> None:
    def with_magnitudes(weights):
        base = safetensors.torch.load_file(DEMO_BASE / "model.safetensors")
        names = [name.removeprefix("base_model.model.").split(".lora_")[0] for name in weights if ".lora_A." in name]
        return weights | {
            f"base_model.model.{name}.lora_magnitude_vector": base[f"{name}.weight"].float().norm(dim=1)
            for name in names
        }

    change(folder, use_dora=True)
    rewrite(folder, with_magnitudes)


@pytest.mark.parametrize("form", [llama_factory, axolotl, unsloth, dora])
def test_the_forms_of_other_programs(trl, form, in_process, tmp_path):
    """Folders in their form, made of TRL's: none of these programs was run."""
    form(trl)
    assert adopt(trl, tmp_path, "--no-reload-check") is None
    (checkpoint,) = (tmp_path / "outputs").glob("*/checkpoint-0")
    config = json.loads((checkpoint / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert config["base_model_name_or_path"] == str(DEMO_BASE)


def of_no_number(weights):
    first = next(iter(weights))
    return weights | {first: torch.full_like(weights[first], torch.nan)}


def of_another_width(weights):
    return {n: w[:, :64].contiguous() if ".lora_A." in n else w for n, w in weights.items()}


def with_more_tokens(weights):
    return weights | {"base_model.model.lm_head.weight": torch.zeros(2049, 256)}


def on_the_embeddings(weights):
    return weights | {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 2048)}


@pytest.mark.parametrize(
    ("fields", "make", "sentence"),
    [
        ({"peft_type": "PROMPT_TUNING"}, None, "an adapter of the kind prompt tuning"),
        ({"peft_type": "IA3"}, None, "an adapter of the kind (IA)3"),
        ({"peft_type": "XLORA"}, None, "an adapter of the kind X-LoRA"),
        ({"peft_type": ["LORA"]}, None, "an adapter of the kind ['LORA']"),
        ({"task_type": "SEQ_CLS"}, None, "it was trained for 'SEQ_CLS'"),
        ({"modules_to_save": ["lm_head"]}, None, "it trained ['lm_head'] in full"),
        ({"init_lora_weights": "pissa_niter_4"}, None, "it started from 'pissa_niter_4'"),
        ({"layer_replication": [[0, 4], [2, 6]]}, None, "its layer_replication is"),
        ({"target_parameters": ["experts.down_proj"]}, None, "its target_parameters is"),
        ({"bias": "all"}, None, "bias is 'all'"),
        ({"r": 8}, None, "has the rank 4"),
        ({"fan_in_fan_out": True}, None, "its fan_in_fan_out is true"),
        ({}, of_no_number, "NaN or infinite"),
        ({}, of_another_width, "give the base that it was trained on with --base-model"),
        ({}, with_more_tokens, "2049 rows, where the base"),
        ({}, on_the_embeddings, "an adapter on the embeddings"),
    ],
)
def test_an_adapter_that_cannot_be_taken_is_refused_by_name(trl, fields, make, sentence, tmp_path):
    change(trl, **fields)
    if make:
        rewrite(trl, make)
    assert sentence in adopt(trl, tmp_path)
    assert not list((tmp_path / "outputs").glob("*"))


def test_a_folder_that_holds_no_single_adapter_in_safetensors(trl, tmp_path):
    other = tmp_path / "output"
    shutil.copytree(trl, other / "checkpoint-3")
    assert f"of its checkpoints give one: {other / 'checkpoint-3'}" in adopt(other, tmp_path)
    assert "there is no such folder" in adopt(tmp_path / "nowhere", tmp_path)
    shutil.copytree(trl, trl / "second")
    assert "there are several adapters in it (second)" in adopt(trl, tmp_path)
    shutil.rmtree(trl / "second")
    (trl / "adapter_model.safetensors").rename(trl / "adapter_model.bin")
    assert "adapter_model.bin is a pickle" in adopt(trl, tmp_path)
    assert read_foreign(other / "checkpoint-3").step == 3


def test_a_base_or_a_prompt_that_is_not_the_one(trl, tmp_path):
    change(trl, base_model_name_or_path="/models/gone")
    given = ("--from", trl, "--task", "text-to-sql", "--prompt")
    assert "its base /models/gone is no folder here" in call(log_model.main, *given, PROMPT)
    for text, sentence in (
        ("$schema $question", "the variable $schema"),
        ("$context", "no $question"),
        ("$question $", "bare"),
    ):
        (tmp_path / "prompt.txt").write_text(text)
        assert sentence in call(log_model.main, *given, tmp_path / "prompt.txt", "--base-model", DEMO_BASE)
    config = json.loads((DEMO_BASE / "config.json").read_text())
    quantised = tmp_path / "quantised"
    quantised.mkdir()
    (quantised / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    )
    assert "is stored quantised" in adopt(trl, tmp_path, "--base-model", quantised)


def of_no_dimension(weights):
    first = next(iter(weights))
    return weights | {first: torch.tensor(1.0)}


def of_one_dimension(weights):
    return {name: weight[0].contiguous() if ".lora_A." in name else weight for name, weight in weights.items()}


@pytest.mark.parametrize("make", [of_no_dimension, of_one_dimension])
def test_weights_of_another_number_of_dimensions_are_refused(trl, make):
    rewrite(trl, make)
    with pytest.raises(InputError, match="which no adapter's weight has"):
        fit_to_base(read_foreign(trl), str(DEMO_BASE), None)


@pytest.mark.parametrize("name", ["model.embed_tokens", "lm_head", "model.norm"])
def test_full_weights_beside_the_adapter_are_the_bases_own_or_refused(trl, name):
    stored = safetensors.torch.load_file(DEMO_BASE / "model.safetensors")
    own = stored.get(f"{name}.weight", stored["model.embed_tokens.weight"])
    rewrite(trl, lambda weights: weights | {f"base_model.model.{name}.weight": own.clone()})
    assert fit_to_base(read_foreign(trl), str(DEMO_BASE), None) == ["q_proj", "v_proj"]
    rewrite(trl, lambda weights: weights | {f"base_model.model.{name}.weight": own * 1.01})
    with pytest.raises(InputError, match="trained in full beside the LoRA layers"):
        fit_to_base(read_foreign(trl), str(DEMO_BASE), None)


def test_layers_that_not_all_have_an_adapter_are_named_in_full(trl):
    rewrite(trl, lambda weights: {name: weight for name, weight in weights.items() if ".layers.0." in name})
    adapter = read_foreign(trl)
    names = [f"model.layers.0.self_attn.{name}_proj" for name in "qv"]
    assert fit_to_base(adapter, str(DEMO_BASE), None) == names


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "no run is named"),
        (("0" * 32, "--from", "x"), "not both"),
        (("--from", "x"), "--from needs --task text-to-sql and --prompt FILE"),
        (("--from", "x", "--task", "text-to-sql", "--prompt", PROMPT, "--sync", "y"), "without --from"),
        (("--from", "x", "--mode", "reference", "--sync", "y"), "without --from"),
        (("--from", "x", "--task", "text-to-sql", "--prompt", PROMPT, "--max-rows", "3"), "is scored on (--dataset)"),
        (("0" * 32, "--dialect", "postgres"), "--dialect is about the rows of --if-better"),
        (("0" * 32, "--trained-in", "nf4"), "--trained-in goes with --from"),
        (("0" * 32, "--experiment", "x"), "--experiment goes with --from"),
        (("0" * 32, "--output-dir", "x"), "--output-dir goes with --from"),
        (("--from", "x", "--task", "text-to-sql", "--prompt", PROMPT, "--checkpoint", "last"), "--checkpoint is for"),
        (("--from", "x", "--mode", "checkpoint", "--replace"), "--replace deletes older models of a run"),
        *(
            (("--from", "x", "--mode", "checkpoint", *given), f"{given[0]} does not go with --mode checkpoint")
            for given in (
                ("--output-dir", "y"),
                ("--output", "y"),
                ("--overwrite",),
                ("--llama-cpp", "y"),
                ("--tolerance", "0"),
                ("--export", "peft"),
            )
        ),
        (("0" * 32, "--dataset", "x"), "or of those that an adapter of --from is scored on"),
    ],
)
def test_flags_that_do_not_go_together(flags, sentence):
    assert sentence in call(log_model.main, *flags)


def test_a_full_model_gets_its_experiment_and_dialect(tmp_path, capsys):
    base = make_base(tmp_path / "base", byte_level_tokenizer())
    flags = ("--from", base, "--mode", "checkpoint", "--experiment", "whole models", "--dialect")
    assert "none of sqlglot's dialects" in call(log_model.main, *flags, "klingon")
    assert mlflow.get_experiment_by_name("whole models") is None
    assert call(log_model.main, *flags, "postgres") is None
    uri = capsys.readouterr().out.strip()
    assert open_model(uri).card.dialect == "postgres"
    experiment = mlflow.get_run(uri.split("/")[1]).info.experiment_id
    assert experiment == mlflow.get_experiment_by_name("whole models").experiment_id


@pytest.mark.parametrize("error", [MlflowException("the store says no"), OSError(28, "No space left on device")])
def test_a_full_model_that_a_store_refuses_is_a_sentence_and_no_run(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    base = make_base(tmp_path / "base", byte_level_tokenizer())
    flags = ("--from", base, "--mode", "checkpoint", "--experiment", "refused")
    with monkeypatch.context() as patch:
        patch.setattr(full_models, "log_full_model", refuse)
        assert "cannot be written: " in call(log_model.main, *flags)
    assert mlflow.search_runs(experiment_names=["refused"]).empty
    monkeypatch.setattr(mlflow.MlflowClient, "create_run", refuse)
    if isinstance(error, MlflowException):
        assert "no run can be made in" in call(log_model.main, *flags)
