"""Forms of a logged model: merged, its base in it or stored in 4 bits, checked by digest, and full models."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import evaluate_model
import log_model
import predict
from finetune import InputError
from finetune.logged_models.mlmodel import UNCHECKED
from finetune.logged_models.opening import open_model
from finetune.logged_models.uris import find_files
from finetune.logged_models.writing.code_models import copy_package
from finetune.logged_models.writing.weights import disk_space, merging, persisting, quantized_base
from finetune.models.bases.loading import load_decoder
from finetune.models.bases.quantization import to_record
from finetune.models.card import SqlCard
from finetune.models.files.adapter_files import WEIGHTS
from finetune.models.files.digests import digests_of
from finetune.models.private_apis import keep_trainable_on_cpu
from finetune.models.restoring import Loading

import bitsandbytes as bnb
import huggingface_hub.constants
import mlflow
import pandas as pd
import pytest
import torch
from conftest import byte_level_tokenizer, call, demo_rows, logged_models, make_base
from fastapi.testclient import TestClient
from made_runs import PROMPT, make_checkpoint, make_run
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import scoring_server
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROW = {key: demo_rows("test")[0][key] for key in ("question", "context")}
ASKED = ("--question", ROW["question"], "--context", ROW["context"], "--json", "--token-ids",
         "--compute-dtype", "recorded", "--param", "max_new_tokens=12")  # fmt: skip
LOGGED = ("--no-reload-check",)
NF4 = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A run with a checkpoint whose adapter changes answers, on a base of its own in 4 bits: id, checkpoint, base."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    run = make_run(tmp_path, {1: 0.5})
    checkpoint, base = tmp_path / "checkpoint-1", tmp_path / "base"
    torch.manual_seed(1)
    weights = load_file(checkpoint / WEIGHTS)
    save_file({name: 0.05 * torch.randn_like(tensor) for name, tensor in weights.items()}, checkpoint / WEIGHTS)
    replace(SqlCard.read(checkpoint), quantization=to_record(NF4), compute_dtype="fp32").write(checkpoint)
    return {"id": run.info.run_id, "run": run, "checkpoint": checkpoint, "base": base}


def answer(uri, capsys, *flags) -> dict:
    """Return what predict.py answers to one question."""
    capsys.readouterr()
    assert call(predict.main, uri, *ASKED, *flags) is None
    return json.loads(capsys.readouterr().out)


def plain(uri: str) -> list:
    """Return what plain MLflow answers to it, and its server."""
    return predicted(uri, [PROMPT.model_input(ROW)], {"max_new_tokens": 12})


def predicted(uri: str, inputs: list, params: dict | None = None) -> list:
    """Return what plain MLflow answers to inputs, texts or rows, and what its server answers, which is the same."""
    model = mlflow.pyfunc.load_model(uri)
    server = TestClient(scoring_server.init(model))  # what `mlflow models serve` starts
    served = server.post("/invocations", json={"inputs": inputs, "params": params or {}})
    assert served.status_code == 200, served.text
    found = model.predict(pd.DataFrame(inputs) if isinstance(inputs[0], dict) else inputs, params=params)
    answers = found.to_dict("records") if isinstance(found, pd.DataFrame) else found
    assert served.json()["predictions"] == answers
    return answers


def log(run_id, *flags) -> None:
    assert call(log_model.main, run_id, *LOGGED, *flags) is None


def test_merged_weights_are_those_that_predict_merges_in_memory(made, capsys):
    log(made["id"], "--mode", "merged")
    uri = f"runs:/{made['id']}/model"
    folder = find_files(uri)
    assert not (folder / "peft").exists()
    expected = open_model(str(made["checkpoint"])).load(Loading(merged=True)).model.state_dict()
    found = AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-6, rtol=0)
    shutil.rmtree(made["base"])
    assert answer(uri, capsys)["token_ids"] == answer(uri, capsys, "--batch-size", 2)["token_ids"]
    assert plain(uri)
    for flags in (("--base-model", "x"), ("--precision", "fp32"), ("--no-adapter",)):
        assert "has no base and no adapter" in call(predict.main, uri, *ASKED, *flags)


def test_a_merged_model_is_scored_without_a_base(made, tmp_path, capsys):
    log(made["id"], "--mode", "merged")
    rows = "".join(json.dumps(row) + "\n" for row in demo_rows("test")[:2])
    (tmp_path / "rows.jsonl").write_text(rows)
    flags = ("--dataset", tmp_path / "rows.jsonl", "--distractor-columns", "0", "--json")
    capsys.readouterr()
    assert call(evaluate_model.main, f"runs:/{made['id']}/model", *flags) is None
    found = json.loads(capsys.readouterr().out)
    assert "exec_accuracy" in found
    assert not [name for name in found if name.endswith(("_base", "_delta", "changed_outputs"))]
    assert call(evaluate_model.main, f"runs:/{made['id']}/model", *flags[:-1], "--no-log") is None
    assert "there is no base beside it" in capsys.readouterr().out


def test_a_merge_in_several_files_is_the_same_model(made, monkeypatch, tmp_path):
    merging.prepare_merge(made["checkpoint"]).write(tmp_path / "one")
    monkeypatch.setattr(merging, "SHARD", 100_000)
    merging.prepare_merge(made["checkpoint"]).write(tmp_path / "many")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    one, many = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("one", "many"))
    assert all(torch.equal(one[name], many[name]) for name in one)
    again = merging.prepare_merge(made["checkpoint"])
    assert again.size == sum(tensor.nbytes for tensor in load_file(tmp_path / "one" / "model.safetensors").values())


def test_a_merge_of_dora_has_the_lengths_that_were_learned(made):
    config = made["checkpoint"] / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    weights = load_file(made["checkpoint"] / WEIGHTS)
    ups = {name: tensor for name, tensor in weights.items() if ".lora_B." in name}
    for name, tensor in ups.items():
        learned = 1 + torch.rand(len(tensor))  # other than the base's own
        weights[name.replace("lora_B.weight", "lora_magnitude_vector")] = learned
    save_file(weights, made["checkpoint"] / WEIGHTS)
    merge = merging.prepare_merge(made["checkpoint"])
    assert len(merge.layers) == len(ups)
    expected = open_model(str(made["checkpoint"])).load(Loading(merged=True)).model.state_dict()
    found = {name: merge.tensor(name) for name in merge.names if name in merge.layers}
    assert len(found) == len(ups)
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], atol=1e-5, rtol=0)


def test_a_base_whose_layers_are_turned_is_merged_as_it_was_in_4_bits(tmp_path):
    tokenizer, base, checkpoint = byte_level_tokenizer(), tmp_path / "base", tmp_path / "checkpoint-1"
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=1, n_head=2, n_positions=1024)
    GPT2LMHeadModel(shape).save_pretrained(base)
    tokenizer.save_pretrained(base)
    card = make_checkpoint(checkpoint, base)
    config = json.loads((checkpoint / "adapter_config.json").read_text())
    del config["fan_in_fan_out"]  # In 4 bits training knows no turned layers.
    (checkpoint / "adapter_config.json").write_text(json.dumps(config))
    replace(card, quantization=to_record(NF4), compute_dtype="fp32").write(checkpoint)
    weights = load_file(checkpoint / WEIGHTS)
    save_file({name: 0.05 * torch.randn_like(tensor) for name, tensor in weights.items()}, checkpoint / WEIGHTS)
    merge, packed = merging.prepare_merge(checkpoint), load_decoder(str(base), None, NF4, torch.float32)
    assert len(merge.layers) == len(merge.turned) == 4
    for name, layer in merge.layers.items():
        found = packed.get_parameter(name)
        unpacked = bnb.functional.dequantize_4bit(found.data, found.quant_state).T
        key = next(key for key, known in merge.names.items() if known == name)
        expected = unpacked + layer.get_delta_weight("default")
        torch.testing.assert_close(merge.tensor(key), expected, atol=1e-6, rtol=0)


def test_without_room_nothing_is_merged(made, monkeypatch):
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    refused = call(log_model.main, made["id"], "--mode", "merged", *LOGGED)
    assert "the merged model takes" in refused
    assert "set TMPDIR" in refused
    assert not logged_models(made["run"])


def test_what_cannot_be_merged_file_by_file_is_refused(made):
    path = made["base"] / "model.safetensors"
    weights = load_file(path)
    save_file({name.replace("q_proj", "query"): tensor for name, tensor in weights.items()}, path, {"format": "pt"})
    card = SqlCard.read(made["checkpoint"])
    replace(card, base_fingerprint=None).write(made["checkpoint"])
    assert "q_proj.weight" in call(log_model.main, made["id"], "--mode", "merged", *LOGGED)


def test_a_merged_classifier_has_the_scores_of_the_trained_one(classifier_run, capsys):
    assert call(log_model.main, classifier_run["id"], "--mode", "merged", "--name", "merged") is None
    assert mlflow.get_run(classifier_run["id"]).data.tags["reload_parity"] == "pass"
    uri = f"runs:/{classifier_run['id']}/merged"
    capsys.readouterr()
    assert call(predict.main, uri, "--text", "You waive your right to a trial.", "--json") is None
    shown = json.loads(capsys.readouterr().out)
    (found,) = mlflow.pyfunc.load_model(uri).predict(["You waive your right to a trial."]).to_dict("records")
    assert found["scores"] == pytest.approx(shown["scores"], abs=1e-6)
    assert "has no base" in call(predict.main, uri, "--text", "x", "--base-model", "y")
    assert "float32" in call(predict.main, uri, "--text", "x", "--compute-dtype", "bf16")


def test_a_persisted_model_answers_the_same_without_its_base(made, capsys, monkeypatch, caplog):
    log(made["id"])
    uri = f"runs:/{made['id']}/model"
    before = answer(uri, capsys), plain(uri)
    model_id = open_model(uri).model_id
    log(made["id"], "--persist")
    made["base"].rename(made["base"].with_name("elsewhere"))
    assert open_model(uri).model_id == model_id
    assert (answer(uri, capsys), plain(uri)) == before
    assert answer(uri, capsys, "--base-model", made["base"].with_name("elsewhere")) == before[0]
    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifact", None)
    log(made["id"], "--persist")  # It needs neither the base nor anything to be sent.
    monkeypatch.setattr(log_model, "reload_check", lambda *_: False)
    with pytest.raises(SystemExit):
        log_model.main([made["id"], "--persist"])
    assert "has its base in itself since an earlier --persist, and stays so" in caplog.text


def test_a_persisted_classifier_and_summarizer_need_no_base(classifier_run, summarizer_run, tmp_path, monkeypatch):
    for run, column, text in ((classifier_run, "text", "You waive a trial."), (summarizer_run, "article", "A report.")):
        base = Path(run["flags"][1])
        uri = f"runs:/{run['id']}/persisted"
        assert call(log_model.main, run["id"], "--name", "persisted", "--persist", *LOGGED) is None
        table = pd.DataFrame({column: [text]})
        before = mlflow.pyfunc.load_model(uri, model_config={"base_model": str(base)}).predict(table)
        base.rename(tmp_path / "moved")
        try:
            after = predicted(uri, [{column: text}])
            assert call(predict.main, uri, "--text", text) is None
        finally:
            (tmp_path / "moved").rename(base)
        assert after == before.to_dict("records")


def cut_off_before_check(run_id: str) -> None:
    """Put the base into a run's model by a process that was killed before the check."""

    def die(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(persisting, "this_process", lambda: "a machine 1 0")
        patched.setattr(persisting, "_put_back", lambda *_: None)
        patched.setattr(log_model, "reload_check", die)
        with pytest.raises(KeyboardInterrupt):
            log_model.main([run_id, "--persist"])


@pytest.mark.parametrize("again", [("--persist",), ()])
@pytest.mark.parametrize("passes", [True, False])
def test_a_persist_that_was_killed_before_its_check_is_known_and_checked_by_the_next(
    again, passes, made, capsys, monkeypatch, caplog
):
    log(made["id"])
    uri = f"runs:/{made['id']}/model"
    said = (find_files(uri) / "MLmodel").read_text()
    cut_off_before_check(made["id"])
    answer(uri, capsys)
    assert "--persist that was cut off before its reload check" in caplog.text
    log(made["id"])  # Without the check nothing is known.
    monkeypatch.setattr(log_model, "reload_check", lambda *_: passes)
    if passes:
        assert call(log_model.main, made["id"], *again) is None
    else:
        with pytest.raises(SystemExit):
            log_model.main([made["id"], *again])
        assert (find_files(uri) / "MLmodel").read_text() == said
    caplog.clear()
    made["base"].rename(made["base"].with_name("elsewhere"))
    refused = call(predict.main, uri, *ASKED)
    assert refused is None if passes else "give its folder with --base-model" in refused
    assert "was cut off" not in caplog.text


@pytest.mark.parametrize("given", ["{", "[]", '{"by": "a"}', '{"by": "a", "before": 1}'])
def test_a_damaged_note_of_a_persist_is_refused(given, made):
    log(made["id"])
    uri = f"runs:/{made['id']}/model"
    saved = Model.load(find_files(uri))
    saved.metadata |= {UNCHECKED: given}
    saved.save(find_files(uri) / "MLmodel")
    assert "damaged" in call(predict.main, uri, *ASKED)


def test_code_of_an_older_version_gets_no_base_that_it_would_not_find(tmp_path):
    package = copy_package(tmp_path / "code" / "finetune")
    persisting.check_code("m-1", digests_of(tmp_path))
    (package / "models" / "files" / "own_base.py").unlink()
    for digests in (digests_of(tmp_path), {}):
        with pytest.raises(InputError, match="was logged by an older version"):
            persisting.check_code("m-1", digests)


def test_an_interrupted_persist_leaves_the_model_as_it_was_and_goes_on(made, capsys, monkeypatch, caplog):
    log(made["id"])
    uri = f"runs:/{made['id']}/model"
    expected, said = answer(uri, capsys), (find_files(uri) / "MLmodel").read_text()
    sending, sent = mlflow.MlflowClient.log_model_artifact, []

    def stop(client, model_id, path, folder=None):
        if len(sent) == 3:
            raise KeyboardInterrupt
        sent.append(Path(path).name)
        sending(client, model_id, path, folder)

    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifact", stop)
    with pytest.raises(KeyboardInterrupt):
        log_model.main([made["id"], *LOGGED, "--persist"])
    assert sent == ["config.json", "generation_config.json", "model.safetensors"]
    assert (find_files(uri) / "MLmodel").read_text() == said
    assert answer(uri, capsys) == expected
    (find_files(uri) / "model" / "config.json").write_text("{")  # cut off
    left = find_files(uri) / "model" / ".artifact.uploading.x"  # as MLflow leaves it where it is killed
    left.write_bytes(b"half")
    sent.clear()
    monkeypatch.setattr(
        mlflow.MlflowClient, "log_model_artifact", lambda *a: (sent.append(Path(a[2]).name), sending(*a))
    )
    with caplog.at_level("INFO"):
        log(made["id"], "--persist")
    assert sent == ["config.json", "MLmodel", "MLmodel"]  # The last one says that it was checked.
    assert "model/model.safetensors is there already" in caplog.text
    assert not left.exists()
    assert answer(uri, capsys) == expected


def test_what_arrives_otherwise_or_reloads_otherwise_is_not_referred_to(made, monkeypatch, caplog):
    log(made["id"])
    uri = f"runs:/{made['id']}/model"
    said = (find_files(uri) / "MLmodel").read_text()
    sending = mlflow.MlflowClient.log_model_artifact

    def damage(client, model_id, path, folder=None):
        sending(client, model_id, path, folder)
        if folder == "model":
            (find_files(uri) / "model" / Path(path).name).write_bytes(b"other")

    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, "log_model_artifact", damage)
        assert "has not arrived" in call(log_model.main, made["id"], *LOGGED, "--persist")
    assert (find_files(uri) / "MLmodel").read_text() == said
    monkeypatch.setattr(log_model, "reload_check", lambda *_: False)
    with pytest.raises(SystemExit):
        log_model.main([made["id"], "--persist"])
    assert (find_files(uri) / "MLmodel").read_text() == said
    assert "as before" in caplog.text


def plain_logits(uri: str, ids: torch.Tensor) -> torch.Tensor:
    """Return what plain MLflow's model computes, but for the kernel that bitsandbytes has for CPUs with AVX512-BF16."""
    return keep_trainable_on_cpu(mlflow.transformers.load_model(uri).model)(ids).logits


@torch.inference_mode()
def test_plain_mlflow_has_the_logits_of_training_with_a_base_stored_in_4_bits(made, tmp_path, capsys):
    stored, uri = tmp_path / "nf4", f"runs:/{made['id']}/model"
    log(made["id"], "--quantized-base", stored)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    expected = open_model(str(made["checkpoint"])).load().model(ids).logits
    assert torch.equal(open_model(uri).load().model(ids).logits, expected)
    torch.testing.assert_close(plain_logits(uri, ids), expected, atol=1e-6, rtol=0)
    first = stored.stat().st_mtime_ns
    log(made["id"], "--quantized-base", stored, "--persist")
    assert stored.stat().st_mtime_ns == first
    assert "stored in 4 bits" in call(predict.main, uri, *ASKED, "--precision", "fp32")
    answered = answer(uri, capsys)
    shutil.rmtree(stored)
    full = answer(uri, capsys, "--base-model", made["base"])
    made["base"].rename(tmp_path / "elsewhere")
    assert answered == full == answer(uri, capsys)
    torch.testing.assert_close(plain_logits(uri, ids), expected, atol=1e-6, rtol=0)


def test_another_folder_is_not_taken_for_the_base_in_4_bits(made, tmp_path):
    log(made["id"], "--quantized-base", tmp_path / "nf4")
    path = tmp_path / "nf4" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "were changed" in call(log_model.main, made["id"], *LOGGED, "--quantized-base", tmp_path / "nf4")
    assert "holds something else" in call(log_model.main, made["id"], *LOGGED, "--quantized-base", made["base"])
    card = SqlCard.read(made["checkpoint"])
    replace(card, quantization=card.quantization | {"bnb_4bit_use_double_quant": False}).write(made["checkpoint"])
    assert "quantised otherwise" in call(log_model.main, made["id"], *LOGGED, "--quantized-base", tmp_path / "nf4")
    replace(card, quantization=None).write(made["checkpoint"])
    assert "unquantised base" in call(log_model.main, made["id"], *LOGGED, "--quantized-base", tmp_path / "other")


def test_storing_the_base_in_4_bits_touches_no_other_folder(made, tmp_path, monkeypatch):
    card, own = SqlCard.read(made["checkpoint"]), tmp_path / "stored" / "nf4.new" / "own.txt"
    own.parent.mkdir(parents=True)
    own.write_text("the user's")
    share, stored = quantized_base.share_files, tmp_path / "stored" / "nf4"

    def be_late(folder):
        share(folder)
        stored.mkdir()
        (stored / "of another process").touch()

    with monkeypatch.context() as patched:
        patched.setattr(quantized_base, "share_files", be_late)
        with pytest.raises(InputError, match="another process has stored the base meanwhile"):
            quantized_base.store_quantized(card, stored)
    (stored / "of another process").unlink()  # An empty folder may be taken.
    assert quantized_base.store_quantized(card, stored) == stored
    assert own.read_text() == "the user's"
    assert sorted(path.name for path in stored.parent.iterdir()) == ["nf4", "nf4.new"]


@pytest.mark.parametrize("flag", [("--persist",), ("--quantized-base", "nf4")])
def test_a_merged_model_has_no_base_to_keep(made, flag):
    assert "has no base" in call(log_model.main, made["id"], *LOGGED, "--mode", "merged", *flag)


def test_a_changed_file_of_a_model_is_refused(made):
    log(made["id"], "--persist")
    uri = f"runs:/{made['id']}/model"
    folder = find_files(uri)
    for name in ("peft/adapter_model.safetensors", "components/tokenizer/tokenizer.json", "model/model.safetensors"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert f"{name} is not what was logged" in call(predict.main, uri, *ASKED)
        (folder / name).unlink()
        assert "is not whole" in call(predict.main, uri, *ASKED)
        (folder / name).write_bytes(before)


def test_a_changed_file_is_refused_when_mlflow_serves_it(logged_classifier, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    folder = Path(shutil.copytree(find_files(logged_classifier["uri"]), tmp_path / "model"))
    assert len(mlflow.pyfunc.load_model(folder).predict(["a text"])) == 1
    path = folder / "artifacts" / "checkpoint" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(MlflowException, match="is not what was logged"):
        mlflow.pyfunc.load_model(folder)


def test_a_full_checkpoint_is_logged_without_loading_it(tmp_path, capsys, monkeypatch):
    base = make_base(tmp_path / "base", byte_level_tokenizer())
    (base / "pytorch_model.bin").write_bytes(b"pickle")
    with monkeypatch.context() as patched:
        patched.setattr(AutoModelForCausalLM, "from_pretrained", None)
        assert call(log_model.main, "--from", base, "--mode", "checkpoint") is None
    uri = capsys.readouterr().out.strip()
    assert not list(find_files(uri).rglob("*.bin"))
    expected = AutoModelForCausalLM.from_pretrained(base).state_dict()
    shutil.rmtree(base)
    found = open_model(uri).load().model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert "sql" in answer(uri, capsys)
    assert plain(uri)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A cache of the Hub with acme/tiny at one commit."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return make_base(cache / "models--acme--tiny" / "snapshots" / COMMIT, byte_level_tokenizer())


def test_a_model_of_the_hub_is_logged_by_reference_and_persisted(hub, capsys):
    weights, uris = hub / "model.safetensors", []
    weights.rename(hub / "away")
    assert call(log_model.main, "--from", f"acme/tiny@{COMMIT}", "--mode", "reference") is None
    uris += capsys.readouterr().out.split()
    assert not list(find_files(uris[0]).rglob("*.safetensors"))
    (hub / "away").rename(weights)
    assert call(log_model.main, "--from", f"acme/tiny@{COMMIT}", "--mode", "reference", "--persist") is None
    uris += capsys.readouterr().out.split()
    expected = answer(uris[0], capsys)
    assert plain(uris[0])
    shutil.rmtree(hub)
    assert answer(uris[1], capsys) == expected
    assert plain(uris[1])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--from", "acme/tiny@main", "--mode", "reference"), "40 digits"),
        (("--from", "nowhere", "--mode", "checkpoint"), "there is no such folder"),
        (("--from", "x"), "--from needs --task text-to-sql"),
        (("last", "--from", "x", "--mode", "checkpoint"), "give a run (last) or --from x, not both"),
        (("last", "--mode", "reference"), "name it with --from"),
        ((), "no run is named"),
        (("--from", "demo", "--mode", "checkpoint"), "no config.json"),
    ],
)
def test_what_is_no_full_model_is_refused(flags, sentence, monkeypatch):
    monkeypatch.chdir(Path(log_model.__file__).parent)
    assert sentence in call(log_model.main, *flags)


def test_pickled_weights_are_no_full_model(tmp_path):
    base = make_base(tmp_path / "base", byte_level_tokenizer())
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    assert "pickled weights are not opened" in call(log_model.main, "--from", base, "--mode", "checkpoint")
