"""The classifier's whole life, by the scripts: train, kill, resume, log, predict, score."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import evaluate_model
import log_model
import predict
import train_classifier
from finetune.models.bases.loading import load_tokenizer
from finetune.models.card import Card, ClassifierCard
from finetune.models.classifier.classifier import Classifier
from finetune.models.classifier.encoder import EncoderClassifier
from finetune.models.classifier.labels import Labels
from finetune.models.classifier.scoring import compute_logits, to_scores
from finetune.models.classifier.tfidf import FILE
from finetune.reports.classifier_scores import choose_thresholds
from finetune.reports.classifier_trainer import ClassifierTrainer
from finetune.rows.labelled_texts import LabelledTexts
from finetune.runs import tracking
from finetune.runs.checkpoints import checkpoints_of, find_checkpoint
from finetune.runs.reload_check import EXACT, MERGED, reload_check, tolerance_of
from finetune.runs.sending import delivery
from finetune.training.weighting import Weighting

import bitsandbytes as bnb
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSIFIER_FLAGS, call, kill_training, logged_models, run_script, said_in_full, stop_after
from encoders import CLAUSES, DECODERS, LABELS, labelled_rows, make_decoder, make_encoder, write_parts, write_rows
from made_runs import best_by_the_docs
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file
from spools import make_card
from transformers import DataCollatorWithPadding

FAIR = "welcome to our site and you can change your password ."
BOTH = f"{CLAUSES['Arbitration']} and {CLAUSES['Liability']}"
STEPS = (10, 20, 30, 40)


def adapters(folder: Path) -> dict[str, dict]:
    """Return the tensors of each checkpoint of a run by the checkpoint's name."""
    return {path.parent.name: load_file(path) for path in folder.glob("checkpoint-*/adapter_model.safetensors")}


def same_weights(one: dict, other: dict) -> bool:
    """Say whether two adapters are the same bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_prints_the_run_id_and_learns(classifier_run):
    assert classifier_run["process"].stdout == classifier_run["id"] + "\n"
    metrics = mlflow.get_run(classifier_run["id"]).data.metrics
    assert metrics["eval_macro_f1"] > 0.8
    assert metrics["test_macro_f1"] > 0.8
    assert metrics["test_last_micro_f1"] > 0.8
    messages = classifier_run["process"].stderr
    assert "160 rows / 16 = 10.0 steps an epoch" in messages
    assert "LOAD REPORT" not in messages
    assert "Traceback" not in messages
    assert "was not logged" not in messages


def test_the_run_holds_what_people_look_at(classifier_run):
    run, client = mlflow.get_run(classifier_run["id"]), mlflow.MlflowClient()
    assert run.info.status == "FINISHED"
    figures = {artifact.path for artifact in client.list_artifacts(classifier_run["id"], "figures")}
    expected = {f"figures/{part}_{kind}.png" for part in ("validation", "test", "test_last")
                for kind in ("by_label", "precision_recall")}  # fmt: skip
    assert figures == expected | {"figures/learning_curves.png"}
    assert run.data.params["lora.r"] == "16"
    assert run.data.params["data.train_rows"] == "160"
    inputs = {(i.dataset.name, i.tags[0].value) for i in run.inputs.dataset_inputs}
    assert inputs == {("train_rows", "training"), ("validation_rows", "validation"), ("test_rows", "test")}
    # Every evaluation is over the whole split and is logged once.
    assert len(client.get_metric_history(classifier_run["id"], "eval_macro_f1")) == 4
    labels = mlflow.artifacts.load_dict(f"runs:/{classifier_run['id']}/labels.json")
    assert labels["labels"]["names"] == list(LABELS)
    assert sum(labels["rows"]["train"].values()) == sum(len(row["labels"]) for row in labelled_rows(160, 0))


def test_each_epoch_is_a_model_linked_to_its_metrics_and_data(classifier_run):
    models = {model.name: model for model in logged_models(mlflow.get_run(classifier_run["id"]))}
    assert {f"checkpoint-{step}" for step in STEPS} <= models.keys()
    for step in STEPS:
        model = models[f"checkpoint-{step}"]
        (metric,) = (m for m in model.metrics if m.key == "validation_macro_f1" and m.dataset_name)
        assert (metric.step, metric.dataset_name) == (step, "validation_rows")
        assert any(m.key == "eval_loss" for m in model.metrics)
    assert models["checkpoint-20"].tags["epoch"] == "2"


def test_the_exact_files_of_a_checkpoint(classifier_run):
    folder = classifier_run["folder"] / classifier_run["id"]
    assert {path.name for path in folder.iterdir()} == {f"checkpoint-{step}" for step in STEPS}
    assert {path.name for path in (folder / "checkpoint-40").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "finetune.json", "optimizer.pt",
        "progress.json", "rng_state.pth", "scheduler.pt", "tfidf.safetensors", "tokenizer.json",
        "tokenizer_config.json", "trainer_state.json", "training_args.bin",
    }  # fmt: skip


def test_the_last_line_says_that_the_model_is_not_better_than_a_linear_svm(classifier_run):
    metrics = mlflow.get_run(classifier_run["id"]).data.metrics
    assert metrics["test_svm_macro_f1"] > 0.9  # Words alone tell these labels.
    for part in ("validation", "test"):
        low, high = (metrics[f"{part}_svm_difference_{end}"] for end in ("low", "high"))
        assert low <= metrics[f"{part}_svm_difference"] <= high
    assert metrics["test_svm_difference"] == pytest.approx(metrics["test_macro_f1"] - metrics["test_svm_macro_f1"])
    assert metrics["test_svm_difference_low"] <= 0
    last = classifier_run["process"].stderr.strip().splitlines()[-1]
    assert "not shown to be better than a linear SVM on TF-IDF, a minute of work at most: macro_f1 of the SVM" in last
    assert metrics["svm_train_texts"] == 160
    assert "a linear SVM on TF-IDF, same rows: micro_f1" in said_in_full(classifier_run["id"])


@pytest.mark.parametrize("with_svm", [True, False])
def test_the_svm_is_a_part_of_the_model_or_nothing_of_it_is_there(tiny_roberta, terms, tmp_path, with_svm):
    rows = [json.loads(line) for line in (terms / "validation.jsonl").read_text(encoding="utf-8").splitlines()]
    tokenizer, labels = load_tokenizer(str(tiny_roberta), kind="encoder"), Labels("multilabel", LABELS)
    part = LabelledTexts.encode(rows, labels, tokenizer, 64, False, "rows")
    flags = train_classifier.Flags(base_model=str(tiny_roberta), compute_dtype="fp32")
    model, _, _ = train_classifier.build_model(flags, None, partial(EncoderClassifier, outputs=3, pooling="mean"))
    args = train_classifier.ClassifierTrainingArguments(
        output_dir=str(tmp_path), report_to=[], max_steps=1, eval_strategy="steps", save_strategy="steps",
        eval_steps=1, save_steps=1, disable_tqdm=True, load_best_model_at_end=False,
        metric_for_best_model="macro_f1",
    )  # fmt: skip
    trainer = ClassifierTrainer(
        model=model, args=args, processing_class=tokenizer, validation=part, labels=labels, texts=part,
        train_dataset=part.dataset(), data_collator=DataCollatorWithPadding(tokenizer), with_svm=with_svm,
        compute_loss_func=Weighting.of(part.actual, labels, 0.2).loss,
    )  # fmt: skip
    trainer.train()
    assert trainer.svm.terms  # It is what the model is compared with, in any case.
    assert bool(trainer.found["tfidf"]) == (tmp_path / "checkpoint-1" / FILE).is_file() == with_svm


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_checkpoint_without_its_own_svm_is_refused(classifier_run, tmp_path, how):
    folder = tmp_path / "checkpoint-40"
    shutil.copytree(classifier_run["folder"] / classifier_run["id"] / folder.name, folder)
    file = folder / FILE
    file.unlink() if how == "gone" else file.write_bytes(file.read_bytes()[:-1] + b"\7")
    refused = call(predict.main, folder, "--text", BOTH)
    assert f"{file} {'cannot be read' if how == 'gone' else 'is not what was saved'}" in refused


def test_only_the_encoder_is_quantised_and_the_head_travels_with_the_adapter(classifier_run):
    checkpoint = classifier_run["folder"] / classifier_run["id"] / "checkpoint-40"
    model = Classifier.load(checkpoint).model
    quantised = [name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert len(quantised) == 2 * 6  # query, key, value, output and both of the MLP, in each layer
    assert all(name.endswith("base_layer") for name in quantised)  # and each has an adapter
    assert not any("classifier" in name or "pooler" in name for name in quantised)
    tensors = load_file(checkpoint / "adapter_model.safetensors")
    head = tensors["base_model.model.classifier.weight"]
    assert (head.shape, head.dtype) == ((3, 64), torch.float32)
    assert len([name for name in tensors if "lora_A" in name]) == len(quantised)


def test_logging_prints_the_uris_and_the_checks_pass(logged_classifier):
    assert logged_classifier["uri"] == f"runs:/{logged_classifier['run_id']}/model"
    assert logged_classifier["onnx"] == f"runs:/{logged_classifier['run_id']}/model-onnx"
    tags = mlflow.get_run(logged_classifier["run_id"]).data.tags
    assert (tags["reload_parity"], tags["onnx_parity"]) == ("pass", "pass")


def test_the_same_classifier_and_its_export_are_logged_once(logged_classifier, capsys):
    run_id = logged_classifier["run_id"]
    before = {model.model_id for model in logged_models(mlflow.get_run(run_id))}
    assert call(log_model.main, run_id, "--export", "onnx", "--no-reload-check") is None
    assert capsys.readouterr().out.split() == [logged_classifier["onnx"], logged_classifier["uri"]]
    assert {model.model_id for model in logged_models(mlflow.get_run(run_id))} == before
    # The last, as training ended; the best by macro-F1 is there too, and the documented search finds it.
    run = mlflow.get_run(run_id)
    assert find_checkpoint(run)[1] == "last, step 40"
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/reload_check.json")["step"] == 40
    chosen, why = find_checkpoint(run, "best")
    assert why == f"best by eval_macro_f1, step {chosen.name.removeprefix('checkpoint-')}"
    assert best_by_the_docs(run_id).name == chosen.name


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_an_export_without_its_packages_logs_nothing(classifier_run, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    refused = call(log_model.main, classifier_run["id"], "--export", "onnx", "--name", "unpacked")
    assert f"--export onnx needs {package}" in refused
    assert not logged_models(mlflow.get_run(classifier_run["id"]), "unpacked")


def test_the_reload_check_fails_where_scores_differ(logged_classifier, classifier_run, monkeypatch):
    run, folder = mlflow.get_run(classifier_run["id"]), classifier_run["folder"] / classifier_run["id"]
    recorded = tracking.load_artifact_json(classifier_run["id"], "reload_check.json")
    checkpoint = folder / f"checkpoint-{recorded['step']}"
    for shift, parity in ((2e-5, "fail"), (5e-6, "pass")):
        replayed = (np.array(recorded["scores"]) + shift).tolist()
        monkeypatch.setattr("finetune.runs.reload_check.replay", lambda model, card, found=replayed: found)
        found = reload_check(run.info.run_id, checkpoint, logged_classifier["uri"], EXACT)
        assert (found, mlflow.get_run(run.info.run_id).data.tags["reload_parity"]) == (parity == "pass", parity)


def test_merged_scores_may_differ_by_the_rounding_of_training():
    """On a GPU a base in 4 bits computes in bfloat16; merged, it is in float32."""
    card = ClassifierCard(base_model="x", base_revision=None, compute_dtype="bf16", quantization={"load_in_4bit": True},
                          max_length=9, labels=Labels("multilabel", LABELS), pooling="mean", long_texts="truncate",
                          thresholds=None)  # fmt: skip
    assert tolerance_of(card, False) == EXACT
    assert tolerance_of(card, True) == 2**-5
    assert tolerance_of(replace(card, quantization=None), True) == MERGED
    assert tolerance_of(replace(card, compute_dtype="fp32"), True) == MERGED


def test_under_autocast_it_is_scored_as_the_logged_model_scores(tiny_roberta, terms, tmp_path):
    """accelerate wraps the model's forward: scores and thresholds came from it, and the reload check failed."""
    rows = [json.loads(line) for line in (terms / "validation.jsonl").read_text(encoding="utf-8").splitlines()]
    tokenizer, labels = load_tokenizer(str(tiny_roberta), kind="encoder"), Labels("multilabel", LABELS)
    part = LabelledTexts.encode(rows, labels, tokenizer, 64, False, "rows")
    flags = train_classifier.Flags(base_model=str(tiny_roberta), compute_dtype="bf16")
    classifier = partial(EncoderClassifier, outputs=3, pooling="mean")
    model, _, _ = train_classifier.build_model(flags, None, classifier)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.1) if "lora_B" in name else None
    expected = compute_logits(model, tokenizer, part.encoded.pieces, 32)
    args = train_classifier.ClassifierTrainingArguments(
        output_dir=str(tmp_path), report_to=[], bf16=True, eval_strategy="no", load_best_model_at_end=False
    )
    trainer = ClassifierTrainer(
        model=model, args=args, processing_class=tokenizer, validation=part, labels=labels,
        compute_loss_func=Weighting.of(part.actual, labels, 0.2).loss,
    )  # fmt: skip
    trainer.accelerator.prepare_model(model)
    assert np.abs(compute_logits(model, tokenizer, part.encoded.pieces, 32) - expected).max() > 1e-4
    trainer.evaluate()
    assert trainer.found["thresholds"] == choose_thresholds(to_scores(expected, labels), part.actual)
    assert np.abs(compute_logits(model, tokenizer, part.encoded.pieces, 32) - expected).max() > 1e-4  # is on again


def test_pyfunc_takes_one_text_a_list_or_a_column(logged_classifier, tmp_path):
    """Loaded in another process, in another folder, from the URI alone."""
    code = f"""
import json, mlflow, pandas
model = mlflow.pyfunc.load_model({logged_classifier["uri"]!r})
texts = [{BOTH!r}, "1984", {FAIR!r}]
inputs = [texts[0], texts, pandas.DataFrame({{"text": texts, "id": [1, 2, 3]}}), pandas.Series(texts)]
print(json.dumps([model.predict(given).to_dict("records") for given in inputs]))
print(json.dumps(model.predict(texts, params={{"threshold": 1.0}})["labels"].tolist()))
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    answers, strict = map(json.loads, done.stdout.splitlines()[-2:])
    one, several, table, column = answers
    assert one[0]["labels"] == ["Arbitration", "Liability"]
    assert set(one[0]["scores"]) == set(LABELS)
    assert several == table == column
    assert several[2]["labels"] == []
    assert strict == [[], [], []]
    # The same scores as predict.py gives, whatever shares the batch.
    card = Card.read(Path(mlflow.artifacts.download_artifacts(f"{logged_classifier['uri']}/artifacts/checkpoint")))
    assert card.thresholds is not None
    found = Classifier.load(
        Path(mlflow.artifacts.download_artifacts(f"{logged_classifier['uri']}/artifacts/checkpoint"))
    ).score([BOTH])
    np.testing.assert_allclose(list(one[0]["scores"].values()), found[0], atol=1e-5)


def test_pyfunc_refuses_another_column_an_empty_text_and_an_impossible_threshold(logged_classifier):
    model = mlflow.pyfunc.load_model(logged_classifier["uri"])
    for given, part in ((pd.DataFrame({"id": ["a"], "text": ["b"]}), "found the column 'id'"),
                        (["a", " "], "text 2 is empty")):  # fmt: skip
        with pytest.raises(MlflowException, match=part) as error:
            model.predict(given)
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException, match="expected a number from 0 to 1"):
        model.predict("a", params={"threshold": 1.5})


def test_the_base_may_move(logged_classifier, tiny_roberta, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tiny_roberta, moved)
    model = mlflow.pyfunc.load_model(logged_classifier["uri"], model_config={"base_model": str(moved)})
    assert model.predict(BOTH)["labels"][0] == ["Arbitration", "Liability"]
    other = make_encoder(tmp_path / "other", "bert")
    refused = call(predict.main, logged_classifier["uri"], "--text", "a", "--base-model", other)
    assert "no longer matches the adapter" in refused


def test_predict_prints_labels_and_writes_files(logged_classifier, tmp_path, capsys):
    uri = logged_classifier["uri"]
    assert call(predict.main, uri, "--text", BOTH) is None
    line = capsys.readouterr().out.strip()
    assert line.startswith("Arbitration ")
    assert ", Liability " in line
    assert call(predict.main, uri, "--text", BOTH, "--param", "threshold=1.0") is None
    assert capsys.readouterr().out == "none\n"
    rows = [{"id": number, "text": text} for number, text in enumerate([BOTH, FAIR])]
    data = write_rows(tmp_path / "in.jsonl", rows)
    for suffix, read in ((".jsonl", lambda p: pd.read_json(p, lines=True)), (".csv", pd.read_csv),
                         (".parquet", pd.read_parquet)):  # fmt: skip
        output = tmp_path / f"out{suffix}"
        assert call(predict.main, uri, "--input", data, "--output", output) is None
        assert capsys.readouterr().out == f"{output}\n"
        frame = read(output)
        labels = frame["labels"].map(json.loads) if suffix == ".csv" else frame["labels"].map(list)
        assert labels.tolist() == [["Arbitration", "Liability"], []]
        assert frame["id"].tolist() == [0, 1]


def test_predict_from_an_epoch_and_from_onnx(logged_classifier, classifier_run, capsys):
    found = []
    step, epoch = (f"runs:/{classifier_run['id']}/checkpoint-{number}" for number in (20, 2))
    for model in (step, epoch, classifier_run["folder"] / classifier_run["id"] / "checkpoint-20",
                  logged_classifier["onnx"], logged_classifier["uri"]):  # fmt: skip
        assert call(predict.main, model, "--text", BOTH, "--json") is None
        found.append(list(json.loads(capsys.readouterr().out)["scores"].values()))
    assert found[0] == found[1] == found[2]
    np.testing.assert_allclose(found[3], found[4], atol=1e-3)
    assert found[0] != found[4]


def test_log_model_takes_an_epoch(classifier_run):
    assert (
        call(log_model.main, classifier_run["id"], "--checkpoint", 2, "--name", "second", "--no-reload-check") is None
    )
    models = {model.name: model for model in logged_models(mlflow.get_run(classifier_run["id"]))}
    assert json.loads(models["second"].tags.get("epoch", "0")) == 2
    assert "best, last or one of the steps 10, 20, 30, 40 or epochs 1, 2, 3, 4" in call(
        log_model.main, classifier_run["id"], "--checkpoint", 7
    )


def test_a_checkpoint_that_was_saved_in_haste_is_not_taken_by_itself(classifier_run, tmp_path):
    """Its thresholds are those of the evaluation before."""
    client, folder = mlflow.MlflowClient(), classifier_run["folder"] / classifier_run["id"]
    made = client.create_run("0", tags={"finetune.checkpoints": str(tmp_path)}).info.run_id
    client.log_param(made, "load_best_model_at_end", False)
    for step in (30, 40):
        checkpoint = shutil.copytree(folder / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
        card = checkpoint / "finetune.json"
        card.write_text(json.dumps(json.loads(card.read_text()) | {"run_id": made}))
    state = tmp_path / "checkpoint-40" / "trainer_state.json"
    known = json.loads(state.read_text())
    history = [entry for entry in known["log_history"] if entry["step"] < 40 or "eval_loss" not in entry]
    state.write_text(json.dumps(known | {"log_history": history}))
    run = mlflow.get_run(made)
    assert find_checkpoint(run)[1] == "last that was evaluated, step 30"
    assert find_checkpoint(run, "last")[1] == "last, step 40"


def test_a_document_is_searched_sentence_by_sentence(logged_classifier, tmp_path, capsys):
    page = tmp_path / "terms.html"
    clause = CLAUSES["Arbitration"]
    page.write_text(
        f"<h1>you can change your password</h1><p>{FAIR}\n<b>{clause}</b>. We hope you enjoy the music.</p>"
    )
    report = tmp_path / "report.html"
    arguments = (logged_classifier["uri"], "--input", page, "--split-sentences")
    assert call(predict.main, *arguments, "--report", report) is None
    (line,) = capsys.readouterr().out.splitlines()
    place, labels, text = line.split("\t")
    start = len(f"you can change your password  {FAIR} ")
    assert place == f"3:{start}-{start + len(clause) + 1}"
    assert labels.startswith("Arbitration ")
    assert text == clause + "."
    assert f'class="l0">{clause}.</mark>' in report.read_text()
    assert "<b>1</b> of 4 sentences" in report.read_text()
    assert call(predict.main, *arguments, "--json") is None
    assert json.loads(capsys.readouterr().out)["line"] == 3


def test_flags_of_another_task_are_refused(logged_classifier, tmp_path):
    document = tmp_path / "terms.txt"
    document.write_text("Welcome.")
    uri = logged_classifier["uri"]
    assert "--question: the model" in call(predict.main, uri, "--question", "q", "--context", "c")
    assert "search its sentences with --split-sentences" in call(predict.main, uri, "--input", document)
    assert "needs --split-sentences" in call(predict.main, uri, "--text", "a", "--report", tmp_path / "r.html")
    assert "no folder" in call(
        predict.main, uri, "--input", document, "--split-sentences", "--report", tmp_path / "no" / "r.html"
    )
    assert "row 1 of --text has no text" in call(predict.main, uri, "--text", " ")
    assert "--distractor-columns" in call(
        evaluate_model.main, uri, "--dataset", write_rows(tmp_path / "a.jsonl", labelled_rows(4, 0)),
        "--distractor-columns", 4,
    )  # fmt: skip


def test_evaluation_scores_into_the_run_of_the_model(logged_classifier, terms, tmp_path, capsys):
    assert call(evaluate_model.main, logged_classifier["uri"], "--dataset", terms / "test.jsonl", "--name", "again",
                "--json") is None  # fmt: skip
    result = json.loads(capsys.readouterr().out)
    metrics = mlflow.get_run(logged_classifier["run_id"]).data.metrics
    assert result["macro_f1"] == metrics["again_macro_f1"] == metrics["test_macro_f1"]
    model = next(m for m in logged_models(mlflow.get_run(logged_classifier["run_id"])) if m.name == "model")
    assert any(m.key == "again_macro_f1" and m.dataset_name == "again_rows" for m in model.metrics)
    onnx = logged_classifier["onnx"]
    rows = [json.loads(line) for line in (terms / "test.jsonl").read_text().splitlines()]
    data = write_rows(tmp_path / "rows.jsonl", [{"Body": row["text"], "tags": row["labels"]} for row in rows])
    columns = ("--column", "text=body", "labels=tags")
    assert call(evaluate_model.main, onnx, "--dataset", data, "--no-log", *columns) is None
    assert f"macro_f1                         {result['macro_f1']:.3f}" in capsys.readouterr().out


def test_killed_and_resumed_it_ends_with_the_same_weights_in_the_same_run(classifier_run, tmp_path):
    folder = kill_training("train_classifier.py", classifier_run["flags"], tmp_path, after=20, before=40)
    done = run_script("train_classifier.py", "--resume", folder.name)
    assert done.stdout == folder.name + "\n", done.stderr[-3000:]
    check_resumed(classifier_run, folder)


def test_a_run_without_a_folder_has_no_checkpoints(tmp_path, monkeypatch):
    """Least of all those of the folder that the script is called from."""
    with mlflow.start_run() as run:
        pass
    make_card(tmp_path / "checkpoint-5", run.info.run_id)
    monkeypatch.chdir(tmp_path)
    assert checkpoints_of(mlflow.get_run(run.info.run_id)) == {}
    mlflow.MlflowClient().set_tag(run.info.run_id, "finetune.checkpoints", str(tmp_path))
    assert list(checkpoints_of(mlflow.get_run(run.info.run_id))) == [5]


def check_resumed(classifier_run: dict, folder: Path) -> None:
    """Assert that a run that was cut off has ended as the one that was not."""
    assert mlflow.get_run(folder.name).info.status == "FINISHED"
    expected = adapters(classifier_run["folder"] / classifier_run["id"])["checkpoint-40"]
    assert same_weights(adapters(folder)["checkpoint-40"], expected)
    cards = [
        ClassifierCard.read(path / "checkpoint-40")
        for path in (folder, classifier_run["folder"] / classifier_run["id"])
    ]
    assert cards[0].tfidf == cards[1].tfidf
    assert cards[0].thresholds == cards[1].thresholds
    models = [model.name for model in logged_models(mlflow.get_run(folder.name))]
    assert sorted(models) == sorted(f"checkpoint-{path.name.split('-')[1]}" for path in folder.glob("checkpoint-*"))


def test_stopped_before_the_first_checkpoint_it_begins_again_in_the_same_run(
    classifier_run, tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(ClassifierTrainer, "evaluate", fail)
        with pytest.raises(RuntimeError, match="the machine is gone"):
            train_classifier.main([str(f) for f in (*classifier_run["flags"], "--output-dir", tmp_path)])
    (run,) = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"tags.`finetune.checkpoints` LIKE '{tmp_path}%'",
        output_format="list",
    )  # fmt: skip
    assert run.info.status == "FAILED"
    assert call(train_classifier.main, "--resume", run.info.run_id) is None
    assert capsys.readouterr().out.split()[-1] == run.info.run_id
    check_resumed(classifier_run, tmp_path / run.info.run_id)


def fail(*_, **__):
    """Stand for a library call that does not come back."""
    raise RuntimeError("the machine is gone")


def test_a_time_limit_stops_with_a_checkpoint_and_the_run_goes_on_from_within_the_epoch(
    classifier_run, tmp_path, capsys, caplog, monkeypatch
):
    stop_after(monkeypatch, 13)
    with monkeypatch.context() as patched:  # MLflow fails: training goes on, and the models are logged later.
        patched.setattr(delivery, "log_checkpoint", fail)
        assert (
            call(train_classifier.main, *classifier_run["flags"], "--output-dir", tmp_path, "--max-time", "1h") is None
        )
    assert "MLflow does not take checkpoint (the machine is gone)" in caplog.text
    run_id = capsys.readouterr().out.split()[-1]
    assert "--max-time has ended the training at step 13 of " in caplog.text
    assert f"--resume {run_id}\n" in caplog.text
    run = mlflow.get_run(run_id)
    assert (run.info.status, run.data.tags["finetune.stopped"]) == ("FINISHED", "max-time")
    assert sorted(adapters(tmp_path / run_id)) == ["checkpoint-10", "checkpoint-13"]
    assert call(train_classifier.main, "--resume", run_id) is None
    assert capsys.readouterr().out.split()[-1] == run_id
    check_resumed(classifier_run, tmp_path / run_id)
    assert "finetune.stopped" not in mlflow.get_run(run_id).data.tags
    assert "is finished" in call(train_classifier.main, "--resume", run_id)
    mlflow.MlflowClient().set_terminated(run_id, "FAILED")
    assert "--seed 42 -> 1: this would change what" in call(train_classifier.main, "--resume", run_id, "--seed", 1)


def binary(row: dict) -> dict:
    """Return a row with one label of two."""
    return {"text": row["text"], "label": int(bool(row["labels"]))}


def multiclass(row: dict) -> dict:
    """Return a row with one label of four."""
    return {"text": row["text"], "label": (row["labels"] or ["none"])[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "task", "change"),
    [("deberta", "binary", binary), ("bert", "multiclass", multiclass), ("gpt2", "binary", binary)],
)  # fmt: skip
def test_other_bases_and_tasks(tmp_path, capsys, kind, task, change):
    make = make_decoder if kind in DECODERS else make_encoder
    base, data = make(tmp_path / kind, kind), write_parts(tmp_path / "data", change)
    flags = [flag for flag in CLASSIFIER_FLAGS if flag not in ("--labels", *LABELS)]
    assert call(train_classifier.main, "--base-model", base, "--dataset", data, "--output-dir", tmp_path / "o", *flags,
                "--pooling", {"deberta": "cls", "gpt2": "last"}.get(kind, "mean"),
                "--tfidf", "none" if kind in DECODERS else "auto") is None  # fmt: skip
    run_id = capsys.readouterr().out.split()[-1]
    run = mlflow.get_run(run_id)
    metric = {"binary": "f1", "multiclass": "macro_f1"}[task]
    assert run.data.params["metric_for_best_model"] == metric
    assert run.data.metrics[f"test_{metric}"] > 0.8
    assert Card.read(tmp_path / "o" / run_id / "checkpoint-40").labels.task == task
    assert any("confusion" in a.path for a in mlflow.MlflowClient().list_artifacts(run_id, "figures"))
    uri = f"runs:/{run_id}/checkpoint-40"
    clause = f"welcome to our site and {CLAUSES['Arbitration']} ."  # It ends as in training: `last` reads the end.
    assert call(predict.main, uri, "--text", clause, "--json") is None
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == (["yes"] if task == "binary" else ["Arbitration"])
    assert set(found["scores"]) == ({"yes"} if task == "binary" else {*LABELS, "none"})
    assert call(log_model.main, run_id, "--checkpoint", "last", "--export", "onnx", "--no-reload-check") is None
    capsys.readouterr()
    assert call(predict.main, f"runs:/{run_id}/model-onnx", "--text", clause, "--json") is None
    exported = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(list(exported["scores"].values()), list(found["scores"].values()), atol=1e-3)
