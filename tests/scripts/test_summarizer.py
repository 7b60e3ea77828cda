"""The summarizer's whole life, by the scripts: train, kill, resume, log, predict, score."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import evaluate_model
import log_model
import predict
import train_sql_generator
import train_summarizer
from finetune.models.card import Card
from finetune.runs.checkpoints import find_checkpoint
from metrics.rouge.rouge import ROUGE

import bitsandbytes as bnb
import mlflow
import pandas as pd
import pytest
import torch
import wandb
from conftest import (
    ROOT,
    SUMMARIZER_FLAGS,
    call,
    kill_training,
    last_line,
    logged_models,
    said_in_full,
    stop_after,
)
from made_runs import best_by_the_docs
from mlflow.exceptions import MlflowException
from offline_wandb import read_run
from peft import PeftModel
from safetensors.torch import load_file
from summaries import write_reports
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BitsAndBytesConfig

SCORES = (*ROUGE, "repetition_rate", "gen_len", "ended")


def rows_of(file: Path, part: str) -> list[dict]:
    """Return the rows of one part."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row for row in rows if row["split"] == part]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the last checkpoint below a folder."""
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return load_file(last / "adapter_model.safetensors")


def same_weights(one: dict, other: dict) -> bool:
    """Say whether two adapters are the same bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def table(run_id: str, name: str) -> pd.DataFrame:
    """Return a table of a run."""
    return pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run_id}/{name}.json"))


def test_training_prints_the_run_id_and_learns(summarizer_run):
    assert summarizer_run["process"].stdout == summarizer_run["id"] + "\n"
    messages = summarizer_run["process"].stderr
    assert "64 rows / 16 = 4.0 steps an epoch" in messages
    assert "rows without supervised EOS: 0" in said_in_full(summarizer_run["id"])
    for unwanted in ("Traceback", "max_new_tokens", "Using default tokenizer"):
        assert unwanted not in messages
    losses = mlflow.MlflowClient().get_metric_history(summarizer_run["id"], "eval_loss")
    assert [point.step for point in losses] == [4, 8, 12, 16]
    assert losses[-1].value < 0.9 * losses[0].value


def test_the_run_holds_what_people_look_at(summarizer_run, reports):
    run, client = mlflow.get_run(summarizer_run["id"]), mlflow.MlflowClient()
    assert run.info.status == "FINISHED"
    # Beside `exports` of test_exports.py, which exports this run.
    assert {artifact.path for artifact in client.list_artifacts(run.info.run_id)} - {"exports"} == {
        "arguments.json", "checkpoints", "figures", "leak_report.json", "messages", "parameters.json", "preflight.json",
        "prompts", "reload_check.json", "report.html", "scorecard", "scores",
        "summaries", "supervision_audit.json", "supervision_audit.txt",
    }  # fmt: skip
    figures = {artifact.path.split("/")[1] for artifact in client.list_artifacts(run.info.run_id, "figures")}
    assert figures == {"loss_curve.png", "test_rouge.png", "token_lengths.png", "validation_rouge.png"}
    assert run.data.params["lora.r"] == "16"
    assert run.data.params["quantization.bnb_4bit_quant_type"] == "nf4"
    inputs = {(i.dataset.name, i.tags[0].value) for i in run.inputs.dataset_inputs}
    assert inputs == {("train_rows", "training"), ("validation_rows", "validation"), ("test_rows", "test")}
    for name in SCORES:
        assert [point.step for point in client.get_metric_history(run.info.run_id, f"eval_{name}")] == [4, 8, 12, 16]
    best = max(client.get_metric_history(run.info.run_id, "eval_rougeL"), key=lambda point: point.value)
    recorded = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/reload_check.json")
    assert recorded["step"] == best.step
    # Base and adapter on the same rows, and a table of what was generated at each evaluation.
    assert run.data.metrics["validation_rougeL"] == pytest.approx(best.value)
    assert run.data.metrics["validation_rougeL"] > run.data.metrics["validation_rougeL_base"]
    for part in ("validation", "test"):
        ours, lead = (run.data.metrics[f"{part}_{name}"] for name in ("rougeL", "lead_rougeL"))
        assert run.data.metrics[f"{part}_lead_rougeL_difference"] == pytest.approx(ours - lead)
    assert int(run.data.params["data.lead_sentences"]) >= 1
    steps = {artifact.path for artifact in client.list_artifacts(run.info.run_id, "summaries")}
    assert steps == {f"summaries/step-{step}.json" for step in (4, 8, 12, 16)}
    shown, expected = table(run.info.run_id, f"summaries/step-{best.step}"), rows_of(reports, "validation")
    assert set(zip(shown["article"], shown["reference"], strict=True)) == {
        (row["article"], row["summary"]) for row in expected
    }
    compared = table(run.info.run_id, "scorecard/validation")
    assert dict(zip(shown["article"], shown["summary"], strict=True)) == dict(
        zip(compared["article"], compared["summary"], strict=True)
    )


def test_wandb_has_the_same_metrics_settings_tables_and_figures(summarizer_run):
    run, offline = mlflow.get_run(summarizer_run["id"]), read_run(summarizer_run["folder"], summarizer_run["id"])
    assert offline["id"] == summarizer_run["id"]
    last, metrics = offline["last"], run.data.metrics
    names = [name for name in metrics if name.startswith(("eval_", "validation_", "test_"))]
    assert {f"eval_{name}" for name in SCORES} | {"eval_loss", "validation_rougeL", "test_rougeL_base"} <= set(names)
    for name in names:
        assert last[name.replace("eval_", "eval/", 1) if name.startswith("eval_") else name] == metrics[name], name
    assert last["train/loss"] == metrics["loss"]
    for name in ("script.max_target_length", "lora.r", "data.train_rows", "quantization.bnb_4bit_quant_type"):
        assert str(offline["config"][name]) == run.data.params[name]
    assert offline["config"]["learning_rate"] == 0.01
    files = summarizer_run["folder"] / "wandb" / "latest-run" / "files"
    for name in ("loss_curve", "token_lengths", "validation_rouge", "test_rouge"):
        assert (files / last[f"{name}/path"]).stat().st_size > 5000
    for name in ("summaries/step-16", "scorecard/validation", "scorecard/test"):
        written = json.loads((files / last[f"{name}/path"]).read_text())
        expected = table(run.info.run_id, name)
        assert written["columns"] == list(expected.columns)
        assert written["data"] == expected.to_numpy().tolist()


def test_only_linear_layers_are_quantised_and_the_card_travels(summarizer_run):
    checkpoint = max((summarizer_run["folder"] / "outputs" / summarizer_run["id"]).glob("checkpoint-*"))
    card = Card.read(checkpoint)
    assert (card.task, card.run_id) == ("summarization", summarizer_run["id"])
    assert card.generation == {"max_new_tokens": 40, "num_beams": 1, "no_repeat_ngram_size": 0}
    assert card.columns == {"article": "article", "summary": "summary"}
    assert len(card.sample) == 8
    assert "optimizer.pt" in {path.name for path in checkpoint.iterdir()}


def direct_generate(base: Path, checkpoint: Path, articles: list[str]) -> tuple[list[list[int]], list[str]]:
    """Return (token ids, texts) as transformers and PEFT alone generate them, one article at a time."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    model = AutoModelForSeq2SeqLM.from_pretrained(base, quantization_config=quantization, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, checkpoint).eval()
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = []
    for article in articles:
        encoded = tokenizer(f"summarize: {article}", return_tensors="pt")
        (output,) = model.generate(**encoded, max_new_tokens=40, do_sample=False).tolist()
        output = output[1:]
        ids.append(output[: output.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in output else output)
    return ids, [tokenizer.decode(own, skip_special_tokens=True) for own in ids]


def test_the_logged_model_generates_what_the_trained_model_generates(
    logged_summarizer, summarizer_run, tiny_t5, reports, tmp_path, capsys
):
    """In a new process, in another folder, with nothing installed that the model does not name."""
    assert logged_summarizer["uri"] == f"runs:/{logged_summarizer['run_id']}/model"
    assert mlflow.get_run(logged_summarizer["run_id"]).data.tags["reload_parity"] == "pass"
    articles = [row["article"] for row in rows_of(reports, "test")]
    step = mlflow.artifacts.load_dict(f"runs:/{logged_summarizer['run_id']}/reload_check.json")["step"]
    checkpoint = summarizer_run["folder"] / "outputs" / logged_summarizer["run_id"] / f"checkpoint-{step}"
    ids, texts = direct_generate(tiny_t5, checkpoint, articles)
    assert len({tuple(own) for own in ids}) > 1
    code = f"""
import json, sys
for name in ("sklearn", "matplotlib", "evaluate", "rouge_score", "wandb", "sqlglot", "onnx"):
    sys.modules[name] = None
import mlflow, pandas
articles = json.loads({json.dumps(json.dumps(articles))})
for uri in ({logged_summarizer["uri"]!r}, {logged_summarizer["merged"]!r}):
    model = mlflow.pyfunc.load_model(uri)
    table = pandas.DataFrame({{"id": range(len(articles)), "article": articles}})
    print(json.dumps(model.predict(table)["summary"].tolist()))
    print(json.dumps(model.predict(table[:1], params={{"max_new_tokens": 2}})["summary"].tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found, short, merged, _ = map(json.loads, done.stdout.splitlines()[-4:])
    assert found == texts
    assert merged == texts
    assert len(short[0]) < len(texts[0])
    data = tmp_path / "in.jsonl"
    data.write_text("".join(json.dumps({"article": article}) + "\n" for article in articles))
    for uri in (logged_summarizer["uri"], logged_summarizer["merged"]):
        capsys.readouterr()
        assert call(predict.main, uri, "--input", data, "--json", "--token-ids", "--batch-size", 3) is None
        assert [json.loads(line)["token_ids"] for line in capsys.readouterr().out.splitlines()] == ids


def test_pyfunc_takes_the_column_article_and_refuses_others(logged_summarizer):
    model = mlflow.pyfunc.load_model(logged_summarizer["uri"])
    assert model.metadata.signature.inputs.input_names() == ["article"]
    parameters = {spec.name: spec.default for spec in model.metadata.signature.params}
    assert (parameters["max_new_tokens"], parameters["num_beams"], parameters["do_sample"]) == (40, 1, False)
    for given in (pd.DataFrame({"text": ["a"]}), pd.DataFrame({"article": [1]})):
        with pytest.raises(MlflowException):
            model.predict(given)
    for given, params in ((" ", {}), ("a", {"num_beams": 0})):
        with pytest.raises(MlflowException) as error:
            model.predict(pd.DataFrame({"article": [given]}), params=params)
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"


def test_adapter_and_merged_of_one_name_are_two_models(summarizer_run, caplog):
    run_id, flags = summarizer_run["id"], ("--name", "twice", "--no-reload-check")
    assert call(log_model.main, run_id, *flags) is None
    assert call(log_model.main, run_id, *flags, "--mode", "merged") is None
    assert "has 2 models named twice" in caplog.text
    assert call(log_model.main, run_id, *flags, "--mode", "merged", "--replace") is None
    (model,) = logged_models(mlflow.get_run(run_id), "twice")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model.model_id}"))
    (merged,) = folder.rglob("model.safetensors")
    assert merged.stat().st_mode & 0o777 == 0o644  # The umask's; the library writes 0600.
    chosen, why = find_checkpoint(mlflow.get_run(run_id), "best")
    assert why.startswith("best by eval_rougeL, step ")
    assert best_by_the_docs(run_id).name == chosen.name


def test_a_merged_model_is_a_plain_model_without_a_base(logged_summarizer, reports, tiny_t5):
    folder = Path(mlflow.artifacts.download_artifacts(f"{logged_summarizer['merged']}/artifacts/checkpoint"))
    assert not list(folder.glob("adapter_*"))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "merged")
    tokenizer = AutoTokenizer.from_pretrained(folder / "merged")
    article = rows_of(reports, "test")[0]["article"]
    output = model.generate(**tokenizer(f"summarize: {article}", return_tensors="pt"), max_new_tokens=40)
    assert tokenizer.decode(output[0], skip_special_tokens=True)
    assert model.num_parameters() == AutoModelForSeq2SeqLM.from_pretrained(tiny_t5).num_parameters()
    assert "has no base" in call(predict.main, logged_summarizer["merged"], "--text", article, "--no-adapter")


def test_predict_takes_a_text_lines_files_and_documents(logged_summarizer, reports, tmp_path, capsys, monkeypatch):
    uri, rows = logged_summarizer["uri"], rows_of(reports, "test")[:3]
    assert call(predict.main, uri, "--text", rows[0]["article"]) is None
    (line,) = capsys.readouterr().out.splitlines()
    lines = f"{rows[0]['article']}\n{json.dumps({'article': rows[1]['article']})}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert call(predict.main, uri) is None
    assert capsys.readouterr().out.splitlines()[0] == line
    frame = pd.DataFrame([{"id": number, "article": row["article"]} for number, row in enumerate(rows)])
    frame.to_csv(tmp_path / "in.csv", index=False)
    assert call(predict.main, uri, "--input", tmp_path / "in.csv", "--output", tmp_path / "out.parquet") is None
    written = pd.read_parquet(tmp_path / "out.parquet")
    assert list(written.columns) == ["id", "article", "summary", "ended"]
    assert written["summary"][0] == line
    document = tmp_path / "report.txt"
    document.write_text(rows[0]["article"])
    capsys.readouterr()
    assert call(predict.main, uri, "--input", document) is None
    assert capsys.readouterr().out.strip() == line
    assert call(predict.main, uri, "--text", rows[0]["article"], "--no-adapter", "--json") is None
    assert json.loads(capsys.readouterr().out)["summary"] != line
    assert "--question: the model" in call(predict.main, uri, "--question", "q", "--context", "c")
    assert "has no text; expected one in the column article" in call(predict.main, uri, "--text", " ")
    assert "--precision bf16" in call(predict.main, uri, "--text", "a", "--precision", "bf16")


def test_a_long_article_is_cut_with_a_word_or_summarised_piece_by_piece(logged_summarizer, reports, capsys, caplog):
    """A report is about 70 tokens long; the model reads 512."""
    articles = [row["article"] for row in rows_of(reports, "train")]
    long = "\n".join(articles[:20])
    found = {}
    for choice in ("truncate", "window"):
        caplog.clear()
        flags = ("--text", long, "--long-texts", choice, "--json", "--token-ids")
        assert call(predict.main, logged_summarizer["uri"], *flags) is None
        found[choice] = json.loads(capsys.readouterr().out)
        assert "1 of 1 are longer than 512 tokens" in caplog.text
    assert "are summarised piece by piece" in caplog.text
    cut, whole = (found[choice]["token_ids"] for choice in ("truncate", "window"))
    assert whole[: len(cut)] == cut
    assert len(whole) > 2 * len(cut)


def test_evaluation_scores_base_and_adapter_into_the_run_of_the_model(logged_summarizer, reports, tmp_path, capsys):
    uri, run_id = logged_summarizer["uri"], logged_summarizer["run_id"]
    assert call(evaluate_model.main, uri, "--dataset", reports, "--name", "again", "--json") is None
    result, metrics = json.loads(capsys.readouterr().out), mlflow.get_run(run_id).data.metrics
    assert result["rows"] == 8
    for name in SCORES:
        assert result[name] == metrics[f"again_{name}"] == pytest.approx(metrics[f"test_{name}"])
        assert f"again_{name}_base" in metrics
    model = next(m for m in logged_models(mlflow.get_run(run_id)) if m.name == "model")
    linked = {metric.key: metric.dataset_name for metric in model.metrics}
    assert linked["again_rougeL"] == "again_rows"
    assert "validation_rougeL" in linked
    assert call(evaluate_model.main, logged_summarizer["merged"], "--dataset", reports, "--no-log") is None
    assert re.search(rf"rougeL +{result['rougeL']:.3f}\n", capsys.readouterr().out)
    other = write_reports(tmp_path / "other.jsonl", article="body")
    assert "no column article" in call(evaluate_model.main, uri, "--dataset", other)
    assert "text-to-SQL only" in call(evaluate_model.main, uri, "--dataset", reports, "--no-clean")


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_weights_in_the_same_run(summarizer_run, tmp_path):
    folder = kill_training("train_summarizer.py", summarizer_run["flags"], tmp_path, after=8, before=16)
    assert call(train_summarizer.main, "--resume", folder.name) is None
    assert mlflow.get_run(folder.name).info.status == "FINISHED"
    assert same_weights(adapter(folder), adapter(summarizer_run["folder"] / "outputs" / summarizer_run["id"]))


def test_a_time_limit_stops_with_a_checkpoint_and_the_run_goes_on_from_within_the_epoch(
    summarizer_run, tmp_path, capsys, monkeypatch
):
    stop_after(monkeypatch, 6)
    flags = (*summarizer_run["flags"], "--output-dir", tmp_path)
    assert call(train_summarizer.main, *flags, "--max-time", "1h") is None
    run_id = capsys.readouterr().out.split()[-1]
    assert mlflow.get_run(run_id).data.tags["finetune.stopped"] == "max-time"
    assert call(train_summarizer.main, "--resume", run_id) is None
    assert "finetune.stopped" not in mlflow.get_run(run_id).data.tags
    whole = adapter(summarizer_run["folder"] / "outputs" / summarizer_run["id"])
    assert same_weights(adapter(tmp_path / run_id), whole)
    other = train_sql_generator.main, "--resume", run_id
    assert f"run {run_id} is summarization, not text-to-sql" in call(*other)


@pytest.mark.slow
def test_two_processes_make_one_run_with_the_scores_of_one(summarizer_run, reports, tmp_path):
    """Each process summarises half of the rows; the last batch is filled up, and the fill does not count."""
    output, flags = tmp_path / "outputs", [*summarizer_run["flags"], "--learning-rate", 1e-30, "--max-steps", 1]
    flags += ["--per-device-eval-batch-size", 5, "--score-rows", 12, "--output-dir", output]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", ROOT / "train_summarizer.py"]
    done = subprocess.run([str(part) for part in (*command, *flags)], capture_output=True, text=True, check=False)
    run_id = last_line(done)
    assert "x 2 processes = 32 per step" in done.stderr
    client = mlflow.MlflowClient()
    assert [path.name for path in output.iterdir()] == [run_id]
    for name in SCORES:
        (point,) = client.get_metric_history(run_id, f"eval_{name}")
        # At a rate of 0 the adapter is the base: the scores of the one process that scores it at the end.
        assert point.value == pytest.approx(mlflow.get_run(run_id).data.metrics[f"validation_{name}_base"]), name
    shown = table(run_id, "summaries/step-1")
    assert sorted(shown["article"]) == sorted(row["article"] for row in rows_of(reports, "validation"))


def test_a_loss_that_is_not_a_number_ends_the_run_with_a_sentence(summarizer_run, tmp_path):
    flags = (*summarizer_run["flags"], "--output-dir", tmp_path, "--logging-steps", 1, "--max-grad-norm", 0)
    error = call(train_summarizer.main, *flags, "--learning-rate", 1e30, "--warmup-steps", 0)
    assert "training stopped at step" in error
    assert "is nan" in error
    assert "--learning-rate" in error
    (folder,) = tmp_path.iterdir() if list(tmp_path.iterdir()) else (None,)
    run = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"tags.`finetune.checkpoints` LIKE '{tmp_path}%'",
        output_format="list",
    )[0]  # fmt: skip
    assert run.info.status == "FAILED"
    assert folder is None or not list(folder.glob("checkpoint-*"))


def refused(tmp_path, *arguments) -> str:
    """Return the sentence with which training refuses; assert that nothing was written."""
    output = tmp_path / "refused"
    sentence = call(train_summarizer.main, *arguments, "--output-dir", output)
    assert sentence is not None
    assert "\n" not in sentence
    assert not output.exists()
    return sentence


def test_bad_input_is_refused(tiny_t5, tiny_roberta, reports, tmp_path, monkeypatch):
    flags = ("--base-model", tiny_t5, "--dataset", reports)
    other = write_reports(tmp_path / "other.jsonl", article="body", summary="gist")
    assert "no column article, summary; found body, gist" in refused(tmp_path, *flags, "--dataset", other)
    named = ("--dataset", other, "--text-column", "body", "--summary-column", "headline")
    assert "no column headline" in refused(tmp_path, *flags, *named)
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps({"article": "a", "summary": "b"}) + "\n" for _ in range(4)))
    assert "no validation part" in refused(tmp_path, *flags, "--dataset", plain)
    empty = tmp_path / "empty.jsonl"
    rows = [{"article": " ", "summary": "b", "split": part} for part in ("train", "validation")]
    empty.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "there are none with article and summary" in refused(tmp_path, *flags, "--dataset", empty)
    assert "not an encoder-decoder" in refused(tmp_path, *flags, "--base-model", tiny_roberta)
    assert "summary longer than 3 tokens" in refused(tmp_path, *flags, "--max-target-length", 3)
    wrong = refused(tmp_path, *flags, "--lora-r", 0, "--long-texts", "drop", "--metric-for-best-model", "bleu",
                    "--init-lora-weights", "pissa", "--generation-max-length", 9,
                    "--no-predict-with-generate")  # fmt: skip
    for part in ("--lora-r 0", "--long-texts drop", "--metric-for-best-model bleu is none of loss, rouge1",
                 "--init-lora-weights pissa is none of default, gaussian, loftq, eva", "--generation-max-length",
                 "--no-predict-with-generate"):  # fmt: skip
        assert part in wrong
    assert "does not go with --no-load-in-4bit" in refused(
        tmp_path, *flags, "--init-lora-weights", "loftq", "--no-load-in-4bit"
    )
    assert "overflows in float16" in refused(tmp_path, *flags, "--fp16", "true")
    assert "--report-to: smoke is not supported" in refused(tmp_path, *flags, "--report-to", "smoke")
    wandb.teardown()  # It keeps the mode that a test before has set.
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "WANDB_MODE=offline" in refused(tmp_path, *flags, "--report-to", "wandb")


def test_other_column_names_are_found_or_given(tiny_t5, tmp_path, capsys):
    data = write_reports(tmp_path / "dialogues.jsonl", article="dialogue")
    rows = [{name: value for name, value in row.items() if name != "split"} for row in rows_of(data, "train")]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--base-model", tiny_t5, *SUMMARIZER_FLAGS, "--max-steps", 1, "--score-rows", 0, "--dataset", data,
             "--generation-num-beams", 2, "--validation-fraction", 0.2)  # fmt: skip
    assert call(train_summarizer.main, *flags, "--output-dir", tmp_path / "outputs") is None
    run_id = capsys.readouterr().out.split()[-1]
    assert json.loads(mlflow.get_run(run_id).data.params["data.columns"].replace("'", '"'))["article"] == "dialogue"
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/leak_report.json")["validation"]["nearly_equal"] == 0
    checkpoint = tmp_path / "outputs" / run_id / "checkpoint-1"
    assert Card.read(checkpoint).generation["num_beams"] == 2
    assert call(predict.main, checkpoint, "--input", data, "--json") is None
    assert "dialogue" in json.loads(capsys.readouterr().out.splitlines()[0])
