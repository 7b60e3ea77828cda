"""log_model.py --export: folders that other programs load, and answers that are compared with the trained model's."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec

import log_model
from finetune import InputError
from finetune.logged_models.exports import folders, replay, replaying
from finetune.logged_models.exports.merged_folder import write_merged
from finetune.logged_models.writing.weights import disk_space
from finetune.logged_models.writing.weights.merging import prepare_merge
from finetune.models.card import Card, ClassifierCard, SummarizerCard
from finetune.models.classifier.labels import Labels
from finetune.registering.versions import find_holder
from finetune.reports.exports.exporting import refuse_form

import bitsandbytes as bnb
import mlflow
import pytest
import torch
from conftest import call, demo_rows
from made_runs import make_run
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with an adapter that changes answers, on a tiny base in float32: there are no near ties then."""
    folder = tmp_path_factory.mktemp("exports")
    run = make_run(folder, {5: 1.0})
    checkpoint = folder / "checkpoint-5"
    replace(Card.read(checkpoint), compute_dtype="fp32", generation={"max_new_tokens": 24}).write(checkpoint)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), checkpoint)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.05)
    model.save_pretrained(checkpoint)
    table = {
        "columns": ["question", "schema", "gold", "adapter_sql"],
        "data": [[row["question"], row["context"], row["answer"], ""] for row in demo_rows("validation")[:4]],
    }
    mlflow.MlflowClient().log_dict(run.info.run_id, table, "scorecard/validation.json")
    return run


@pytest.fixture
def in_process(monkeypatch):
    """Replay in this process, and leave out the check of the model itself: other tests have both."""
    monkeypatch.setattr(replaying, "run_in_process", lambda *files: replay.main(*map(str, files)))
    monkeypatch.setattr(log_model, "reload_check", lambda *_: True)


def export(run, form: str, folder, *flags) -> str | None:
    return call(log_model.main, run.info.run_id, "--export", form, "--output", folder, *flags)


def checkpoint_of(run):
    return log_model.find_checkpoint(run, "best")[0]


def test_an_adapter_for_peft(run, in_process, tmp_path, capsys):
    folder = tmp_path / "new" / "adapter"
    assert export(run, "peft", folder) is None
    assert capsys.readouterr().out.splitlines() == [str(folder), f"runs:/{run.info.run_id}/model"]
    config = json.loads((folder / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    assert PeftModel.from_pretrained(base, folder).peft_config["default"].r == config["r"]
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert "finetune.json" not in names
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def test_what_is_said_of_an_export_is_logged_and_in_its_card(run, in_process, tmp_path, caplog):
    caplog.set_level("INFO")
    assert export(run, "peft", tmp_path / "adapter") is None
    said = "In peft, 4 of 4 held-out answers are the trained model's; exec_accuracy on 4 rows is 0.000"
    assert said in caplog.text
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert said in card
    assert "Rank 8, alpha 8, on " in card
    assert "--max-lora-rank 8 --lora-modules" in card
    found = mlflow.get_run(run.info.run_id).data
    assert (found.metrics["export_peft_equal"], found.metrics["export_peft_rows"]) == (1.0, 4.0)
    assert found.metrics["export_peft_exec_accuracy_delta"] == 0.0
    assert found.tags["export_peft_parity"] == "pass"
    rows = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/exports/peft.json")["rows"]
    assert all(row["equal"] and row["trained"] for row in rows)


@torch.inference_mode()
def test_a_merged_model_that_transformers_loads_by_itself(run, in_process, tmp_path):
    folder = tmp_path / "merged"
    assert export(run, "safetensors", folder) is None
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype="auto"), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert model.generation_config.max_new_tokens == 24
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    base = AutoModelForCausalLM.from_pretrained(Card.read(checkpoint_of(run)).base_model, dtype=torch.float32)
    ids = tokenizer("SELECT name FROM head", return_tensors="pt")
    expected = PeftModel.from_pretrained(base, checkpoint_of(run))(**ids).logits
    torch.testing.assert_close(model(**ids).logits, expected, atol=1e-4, rtol=0)
    assert "In transformers, 4 of 4" in (folder / "README.md").read_text()


def test_more_answers_that_differ_than_may_end_with_status_1(run, in_process, tmp_path, monkeypatch, caplog):
    def another(questions, answers):
        replay.main(str(questions), str(answers))
        found = json.loads(answers.read_text())
        answers.write_text(json.dumps(found | {"answers": ["other", *found["answers"][1:]]}))

    monkeypatch.setattr(replaying, "run_in_process", another)
    with pytest.raises(SystemExit, match="1"):
        export(run, "peft", tmp_path / "adapter", "--register", "past", "--alias", "champion")
    assert find_holder("past", "champion") is not None  # It is the model's own answers that count there.
    assert "25% of the answers differ, more than --tolerance 0.1" in caplog.text
    assert "3 of 4 held-out answers" in (tmp_path / "adapter" / "README.md").read_text()
    assert mlflow.get_run(run.info.run_id).data.tags["export_peft_parity"] == "fail"
    assert export(run, "peft", tmp_path / "adapter", "--tolerance", 0.25, "--overwrite") is None


def test_an_export_that_its_library_cannot_load_leaves_nothing(run, in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(replaying, "run_in_process", lambda *_: None)
    assert "peft could not load the export" in export(run, "peft", tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_replaced_is_left_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "adapter"
    with folders.new_folder(target, False) as made:
        (made / "README.md").write_text(f"{folders.MARK}: the first")
    monkeypatch.setattr(folders, "share_files", shutil.rmtree)  # Nothing is there to take its place.
    with pytest.raises(FileNotFoundError), folders.new_folder(target, True) as made:
        (made / "README.md").write_text(f"{folders.MARK}: the second")
    assert (target / "README.md").read_text().endswith("the first")
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_export_has_left_is_named(tmp_path, caplog):
    cut, swapped, own = (tmp_path / name for name in (".adapter-a1b2_3d4", ".adapter-swapped1", ".adapter-mine"))
    for path in (cut / "adapter", swapped / "replaced", own / "adapter"):
        path.mkdir(parents=True)
    with folders.new_folder(tmp_path / "adapter", False):
        pass
    assert f"{cut} is left of an export that was cut off, if none is running" in caplog.text
    assert f"{swapped / 'replaced'} was {tmp_path / 'adapter'} before" in caplog.text
    assert str(own) not in caplog.text
    assert cut.is_dir()
    assert swapped.is_dir()


@pytest.mark.parametrize("copies", [1, 2])
def test_an_export_that_the_disk_has_no_room_for_is_refused_first(run, tmp_path, monkeypatch, copies):
    size = prepare_merge(checkpoint_of(run)).size
    free = int((copies - 0.5) * size)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 * size, 0, free))
    with pytest.raises(InputError, match=r"the export takes .* --output"):
        write_merged(checkpoint_of(run), tmp_path, copies)
    assert list(tmp_path.iterdir()) == []


def test_the_modules_of_this_package_shadow_no_library(tmp_path, monkeypatch):
    script = tmp_path / "exports" / "replay.py"
    script.parent.mkdir()
    (script.parent / "gguf.py").write_text("raise SystemExit('not the package')")
    script.write_text("import pathlib, sys\ntry:\n    import gguf\nexcept ImportError:\n    pass\n"
                      "pathlib.Path(sys.argv[2]).touch()\n")  # fmt: skip
    monkeypatch.setattr(replay, "__file__", str(script))
    replaying.run_in_process(tmp_path / "questions.json", tmp_path / "answers.json")
    assert (tmp_path / "answers.json").is_file()


def test_a_folder_that_is_there_is_left(run, in_process, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is there already" in export(run, "peft", tmp_path)
    assert "was not written by log_model.py --export" in export(run, "peft", tmp_path, "--overwrite")
    assert "is no folder that can be written" in export(run, "peft", tmp_path / "notes.txt" / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--export", "peft", "--tolerance", "2"), "--tolerance 2 is a share"),
        (("--output", "there"), "--output is for --export peft, safetensors, gguf"),
        (("--export", "onnx"), "only a classifier can be exported so"),
        (("--export", "gguf", "--llama-cpp", "nowhere"), "--llama-cpp nowhere has no convert_hf_to_gguf.py"),
        (("--export", "gguf"), "llama.cpp's converters are not on the PATH"),
    ],
)
def test_flags_that_cannot_be(run, flags, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sentence in call(log_model.main, run.info.run_id, *flags)
    assert list(tmp_path.iterdir()) == []


def test_without_converters_the_commands_are_said(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = call(log_model.main, run.info.run_id, "--export", "gguf")
    base = Card.read(checkpoint_of(run)).base_model
    assert f"python log_model.py {run.info.run_id} --export safetensors --output merged\n" in said
    assert "convert_hf_to_gguf.py merged --outfile model-f32.gguf --outtype f32\n" in said
    assert f"convert_lora_to_gguf.py adapter --base {base} --outfile adapter-f32.gguf" in said


CONVERTER = """import json, pathlib, sys
values = dict(zip(sys.argv[2::2], sys.argv[3::2]))
given = pathlib.Path(sys.argv[1])
if {fails}:
    sys.exit("BPE pre-tokenizer was not recognized")
config = json.loads(next(path for path in given.glob("*config.json") if path.name[0] in "ac").read_text())
files = sorted(path.name for path in given.iterdir())
pathlib.Path(values.pop("--outfile")).write_text(json.dumps({{"values": values, "config": config, "files": files}}))
"""


def make_converters(folder, fails: bool = False):
    """Make a llama.cpp whose converters write down what they were given; the real ones know no demo tokenizer."""
    folder.mkdir()
    for name in ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py"):
        (folder / name).write_text(CONVERTER.format(fails=fails))
    return folder


def test_converters_get_the_merged_model_and_the_adapter(run, in_process, tmp_path):
    llama, folder = make_converters(tmp_path / "llama.cpp"), tmp_path / "gguf"
    assert export(run, "gguf", folder, "--llama-cpp", llama, "--no-reload-check") is None
    model, adapter = (json.loads((folder / f"{name}.gguf").read_text()) for name in ("model-f32", "adapter-f32"))
    assert model["values"] == {"--outtype": "f32"}
    assert {"model.safetensors", "tokenizer.json"} <= set(model["files"])
    assert adapter["config"]["peft_type"] == "LORA"
    assert set(adapter["values"]) == {"--outtype", "--base"}
    assert "They were not compared" in (folder / "README.md").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "adapter-f32.gguf", "model-f32.gguf"]


def test_a_converter_that_fails_leaves_nothing(run, in_process, tmp_path):
    llama = make_converters(tmp_path / "llama.cpp", fails=True)
    said = export(run, "gguf", tmp_path / "gguf", "--llama-cpp", llama, "--no-reload-check")
    assert "llama.cpp's converter failed (BPE pre-tokenizer was not recognized)" in said
    assert [path.name for path in tmp_path.iterdir()] == ["llama.cpp"]


@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="llama-cpp-python is installed")
def test_gguf_is_not_written_where_it_cannot_be_compared(run, tmp_path):
    llama = make_converters(tmp_path / "llama.cpp")
    assert "pip install llama-cpp-python" in export(run, "gguf", tmp_path / "gguf", "--llama-cpp", llama)


def test_a_summarizer_for_peft_and_for_transformers(summarizer_run, in_process, tmp_path, caplog, monkeypatch):
    """In PEFT without the kernel of bitsandbytes for CPUs with AVX512-BF16, which rounds 4-bit layers to bfloat16."""
    caplog.set_level("INFO")
    monkeypatch.setattr(bnb.nn.modules, "has_avx512bf16", lambda: False)
    for form, library in (("peft", "peft"), ("safetensors", "transformers")):
        options = ("--export", form, "--output", tmp_path / form, "--tolerance", 0.2)
        assert call(log_model.main, summarizer_run["id"], *options) is None
        rows = int(mlflow.get_run(summarizer_run["id"]).data.metrics[f"export_{form}_rows"])
        assert f"In {library}, " in caplog.text
        assert f"of {rows} held-out answers are the trained model's; rougeL on {rows} rows" in caplog.text
    assert f"In peft, {rows} of {rows} held-out" in caplog.text
    AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "safetensors")


@pytest.mark.parametrize(
    ("kind", "form", "sentence"),
    [
        (ClassifierCard, "peft", "holds this classifier as it was trained"),
        (ClassifierCard, "safetensors", "Take --export onnx"),
        (SummarizerCard, "gguf", "answers with decoders only"),
    ],
)
def test_forms_that_a_task_does_not_have(kind, form, sentence):
    fields = {"base_model": "x", "base_revision": None, "quantization": None, "max_length": 8, "long_texts": "window"}
    own = {
        ClassifierCard: {"labels": Labels("binary", ("no", "yes")), "pooling": "mean", "thresholds": None},
        SummarizerCard: {"prompt": "$article", "columns": {}, "generation": {}},
    }
    with pytest.raises(InputError, match=sentence):
        refuse_form(form, kind(**fields, **own[kind]))


@pytest.mark.slow
def test_the_replay_in_a_process_of_its_own(run, monkeypatch, tmp_path):
    monkeypatch.setattr(log_model, "reload_check", lambda *_: True)
    assert export(run, "peft", tmp_path / "adapter") is None
    assert "In peft, 4 of 4" in (tmp_path / "adapter" / "README.md").read_text()
