"""The scripts as a user calls them: processes of their own, the demo base, a real MLflow store."""

import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import build_shop
import evaluate_model
import log_model
import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune.logged_models.opening import open_model
from finetune.models import sql_writer
from finetune.models.generation import generate_all
from finetune.models.prompts import Prompt

import mlflow
import pandas as pd
import pytest
from conftest import (
    CONTEXT,
    DEMO_BASE,
    DEMO_DATA,
    LONGEST_WAIT,
    QUESTIONS,
    ROOT,
    call,
    demo_rows,
    last_line,
    logged_models,
    said_in_full,
    stop_after,
)
from safetensors.torch import load_file, save_file

REQUIRED = {
    train_sql_generator: [],
    train_classifier: [],
    train_summarizer: [],
    evaluate_model: ["x", "--dataset", "x"],
}
SCRIPTS = (train_sql_generator, train_classifier, train_summarizer, log_model, predict, evaluate_model)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_help_is_a_result_and_an_unknown_flag_is_an_error(script, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "--help" in shown
    assert len(shown.splitlines()) < (110 if script is log_model else 70)
    assert "--no-such-flag" in call(script.main, *REQUIRED.get(script, ["x"]), "--no-such-flag")


def test_help_shows_the_own_flags_and_help_all_the_trainers(capsys):
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            train_sql_generator.main([flag])
        shown[flag] = capsys.readouterr().out
    for flag in ("base-model", "base-revision", "dataset", "experiment", "max-length", "lora-r", "lora-alpha",
                 "lora-dropout", "target-modules", "load-in-4bit / --no-load-in-4bit", "validation-fraction",
                 "max-train-rows", "seed"):  # fmt: skip
        assert re.search(rf"--{flag}\s", shown["--help"]), flag
    assert "--adam-beta1" not in shown["--help"]
    assert "--adam-beta1" in shown["--help-all"]


def held_out_table(run_id: str) -> pd.DataFrame:
    """Return the table of the scorecard that training ended with."""
    return pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run_id}/scorecard/validation.json"))


def test_training_prints_the_run_id_and_nothing_else(trained_run):
    assert trained_run["process"].stdout == trained_run["id"] + "\n"
    assert len(trained_run["id"]) == 32
    messages = trained_run["process"].stderr
    assert "rows without supervised EOS: 0" in said_in_full(trained_run["id"])
    assert "8 sequences x 1 accumulation x 1 process = 8 per step" in messages
    # Of progress there are more lines where it is slow.
    assert len(re.findall(r"^(?!training: |questions, )", messages.rstrip(), flags=re.MULTILINE)) <= 9, messages
    ended = r"^training: 24 steps in .*, loss [0-9.e-]+, held-out loss [0-9.e-]+$"
    assert len(re.findall(ended, messages, flags=re.MULTILINE)) == 1, messages
    for unwanted in ("%|", "{'loss'", "Supervision audit", "Warning"):
        assert unwanted not in messages
    for kept in ("Parameters, lora: {", "[supervised]", "[masked]", "Preflight", "tokens a second"):
        assert kept in said_in_full(trained_run["id"])


def test_the_run_holds_what_it_should(trained_run):
    run = mlflow.get_run(trained_run["id"])
    assert run.info.status == "FINISHED"
    parameters = run.data.params
    assert parameters["lora.r"] == "32"
    assert parameters["quantization.bnb_4bit_quant_type"] == "nf4"
    assert parameters["quantization.bnb_4bit_use_double_quant"] == "True"
    assert parameters["learning_rate"] == "0.003"
    assert parameters["data.train_rows"] == "3000"
    assert parameters["data.validation_rows"] == "24"
    assert run.data.tags["mlflow.source.git.commit"]
    client = mlflow.MlflowClient()
    losses, evaluations = (client.get_metric_history(run.info.run_id, name) for name in ("loss", "eval_loss"))
    assert [point.step for point in losses] == [1, 10, 20]
    assert [point.step for point in evaluations] == [5, 10, 15, 20, 24]
    assert evaluations[-1].value < evaluations[0].value
    assert [name for name in run.data.metrics if name.startswith("system/")]
    named = {i.tags[0].value: i.dataset.name for i in run.inputs.dataset_inputs}
    named.pop("evaluation", None)  # Of test_against.py, which scores this run beside another.
    assert named == {
        "training": "train_rows",
        "validation": "validation_rows",
    }
    assert all(len(i.dataset.digest) == 16 for i in run.inputs.dataset_inputs)
    assert (
        mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/prompts/text_to_sql.txt")
        == Prompt.load("text_to_sql").text
    )
    table = held_out_table(run.info.run_id)
    assert len(table) == 12
    assert list(table.columns) == [
        "question", "schema", "gold", "base_sql", "adapter_sql", "base_verdict", "adapter_verdict", "adapter_ended",
        "first_difference",
    ]  # fmt: skip
    wrong = table[table["adapter_verdict"] == "another result"]
    assert wrong["first_difference"].str.startswith("CREATE TABLE").all()
    right = (table["adapter_verdict"] == "right").mean()
    assert run.data.metrics["validation_exec_accuracy"] == pytest.approx(right)
    assert run.data.metrics["validation_exec_accuracy"] > run.data.metrics["validation_exec_accuracy_base"]
    assert 0 < run.data.metrics["validation_mcnemar_p"] < 0.05
    assert run.data.metrics["validation_changed_outputs"] == 1.0
    assert "validation_distractors_exec_accuracy" in run.data.metrics


def artifacts(run_id: str, path: str = "") -> set[str]:
    found = set()
    for item in mlflow.MlflowClient().list_artifacts(run_id, path):
        found |= artifacts(run_id, item.path) if item.is_dir else {item.path}
    return found


def test_the_exact_files_are_written(trained_run):
    state = {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "finetune.json", "manifest.json",
        "optimizer.pt", "progress.json", "rng_state.pth", "scheduler.pt", "tokenizer.json", "tokenizer_config.json",
        "trainer_state.json",
    }  # fmt: skip
    found = artifacts(trained_run["id"])
    uploaded = {path for path in found if path.startswith("checkpoints/")}
    assert uploaded == {f"checkpoints/checkpoint-{step}/{name}" for step in (20, 24) for name in state}
    messages = {path for path in found if path.startswith("messages/")}  # Of the scripts that came after, too.
    assert [path for path in messages if path.startswith("messages/train_sql_generator-")]
    compared = {path for path in found if "/pair" in path}  # Of test_against.py, which scores this run beside another.
    assert found - uploaded - messages - compared == {
        "arguments.json",
        "preflight.json",
        "report.html",
        "data_cleaning.json",
        "figures/loss_curve.png",
        "figures/token_lengths.png",
        "figures/validation_by_shape.png",
        "figures/validation_distractors_by_shape.png",
        "figures/validation_distractors_scorecard.png",
        "figures/validation_scorecard.png",
        "leak_report.json",
        "parameters.json",
        "prompts/text_to_sql.txt",
        "reload_check.json",
        "scorecard/validation.json",
        "scorecard/validation_distractors.json",
        "scores/validation_by_row.json",
        "supervision_audit.json",
        "supervision_audit.txt",
    }
    assert [path.name for path in trained_run["folder"].iterdir()] == [trained_run["id"]]
    checkpoint = trained_run["folder"] / trained_run["id"] / "checkpoint-24"
    assert json.loads((checkpoint / "finetune.json").read_text())["run_id"] == trained_run["id"]
    assert (checkpoint / "adapter_model.safetensors").stat().st_size < 8e6  # no embeddings in the adapter
    # The permissions of the umask; safetensors writes 0600.
    assert {path.stat().st_mode & 0o777 for path in checkpoint.iterdir()} == {0o644}


def test_a_trained_model_stops_by_itself(trained_run):
    table = held_out_table(trained_run["id"])
    assert table["adapter_ended"].mean() >= 0.9


def test_logging_prints_the_uri_and_the_reload_check_passes(logged_model):
    assert logged_model["process"].stdout == f"runs:/{logged_model['run_id']}/model\n"
    run = mlflow.get_run(logged_model["run_id"])
    assert run.data.tags["reload_parity"] == "pass"
    assert run.info.status == "FINISHED"
    (model,) = [model for model in logged_models(run) if model.name == "model"]
    linked = {metric.key: metric.value for metric in model.metrics}
    assert linked["validation_exec_accuracy"] == run.data.metrics["validation_exec_accuracy"]


def test_another_checkpoint_is_logged_under_its_name_and_checked_from_its_folder(trained_run, capsys):
    assert call(log_model.main, f"runs:/{trained_run['id']}", "--checkpoint", "last", "--name", "last") is None
    assert capsys.readouterr().out.split()[-1] == f"runs:/{trained_run['id']}/last"
    assert mlflow.get_run(trained_run["id"]).data.tags["reload_parity"] == "pass"


def test_the_reload_check_fails_where_answers_differ(trained_run, caplog):
    """A run whose recorded tokens are not the logged model's ends with status 1 and the tag `fail`."""
    client = mlflow.MlflowClient()
    record = mlflow.artifacts.load_dict(f"runs:/{trained_run['id']}/reload_check.json")
    changed = {"step": record["step"], "token_ids": [[5, 6, 7], *record["token_ids"][1:]]}
    try:
        client.log_dict(trained_run["id"], changed, "reload_check.json")
        caplog.set_level("INFO")
        with pytest.raises(SystemExit) as stopped:
            log_model.main([trained_run["id"], "--name", "broken"])
        assert stopped.value.code == 1
        assert "7 of 8 answers" in caplog.text
        assert mlflow.get_run(trained_run["id"]).data.tags["reload_parity"] == "fail"
    finally:
        client.log_dict(trained_run["id"], record, "reload_check.json")
        client.set_tag(trained_run["id"], "reload_parity", "pass")


def test_the_logged_model_refers_to_its_base(logged_model):
    folder = mlflow.artifacts.download_artifacts(logged_model["uri"])
    model = mlflow.models.Model.load(folder)
    assert model.flavors["transformers"]["local_base_model_path"] == str(DEMO_BASE)
    assert not [name for _, _, files in os.walk(folder) for name in files if name == "model.safetensors"]
    assert json.loads(model.metadata["finetune"])["quantization"]["bnb_4bit_quant_type"] == "nf4"
    assert model.signature.params.to_dict()[0]["name"] == "max_new_tokens"
    with open(os.path.join(folder, "requirements.txt")) as file:
        assert all("==" in line for line in file.read().split())


def test_plain_pyfunc_in_another_process_gives_the_sql_of_predict(logged_model, capsys, monkeypatch):
    prompt = Prompt.load("text_to_sql")
    rows = [{"question": question, "context": CONTEXT} for question in QUESTIONS]
    code = (
        "import json, mlflow, sys; model = mlflow.pyfunc.load_model(sys.argv[1]);"
        "print(json.dumps([model.predict(text)[0] for text in json.loads(sys.argv[2])]))"
    )
    inputs = json.dumps([prompt.model_input(row) for row in rows])
    command = [sys.executable, "-c", code, logged_model["uri"], inputs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = json.loads(done.stdout.splitlines()[-1])
    stdin = "".join(json.dumps(row) + "\n" for row in rows)
    flags = ("--precision", open_model(logged_model["uri"]).card.compute_dtype, "--batch-size", "1", "--json")
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    capsys.readouterr()
    assert call(predict.main, logged_model["uri"], *flags) is None
    assert [json.loads(line)["sql"] for line in capsys.readouterr().out.splitlines()] == expected
    assert all(text.startswith("SELECT") for text in expected)


def test_predict_answers_one_question_on_one_line(logged_model, capsys, monkeypatch):
    assert logged_model["answer"].startswith("SELECT")
    # One at a time: in bfloat16 a near tie may fall otherwise in another batch.
    flags = ("--context", CONTEXT, "--batch-size", 1)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(QUESTIONS)))
    assert call(predict.main, logged_model["uri"], *flags) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == logged_model["answer"]
    assert len(lines) == 2


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_predict_reads_and_writes_files(logged_model, tmp_path, suffix, capsys):
    rows = [{key: row[key] for key in ("question", "context")} for row in demo_rows("validation")[:6]]
    given, written = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".jsonl":
        given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".csv":
        with given.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pd.DataFrame(rows).to_parquet(given)
    assert call(predict.main, logged_model["uri"], "--input", given, "--output", written) is None
    assert capsys.readouterr().out == f"{written}\n"
    read = {".jsonl": lambda p: pd.read_json(p, lines=True), ".csv": pd.read_csv, ".parquet": pd.read_parquet}
    frame = read[suffix](written)
    assert list(frame["question"]) == [row["question"] for row in rows]
    assert frame["sql"].str.startswith("SELECT").all()
    assert sorted(path.name for path in tmp_path.iterdir()) == [given.name, written.name]


def test_generation_parameters_and_the_bare_base(logged_model, capsys):
    one = (logged_model["uri"], "--context", CONTEXT, "--question", QUESTIONS[0], "--json", "--token-ids")
    assert call(predict.main, *one, "--param", "max_new_tokens=3") is None
    short = json.loads(capsys.readouterr().out)
    assert len(short["token_ids"]) == 3
    assert short["ended"] is False
    assert call(predict.main, *one, "--no-adapter", "--param", "max_new_tokens=40") is None
    assert json.loads(capsys.readouterr().out)["ended"] is False  # only the adapter has learned to stop


def test_a_base_that_has_moved_is_given_by_flag(logged_model, tmp_path, capsys):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in DEMO_BASE.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    one = ("--context", CONTEXT, "--question", QUESTIONS[0])
    assert call(predict.main, logged_model["uri"], *one, "--base-model", moved) is None
    assert capsys.readouterr().out.strip() == logged_model["answer"]


def test_evaluation_scores_base_and_adapter_into_the_run_of_the_model(logged_model, tmp_path, capsys):
    before = mlflow.get_run(logged_model["run_id"]).info
    flags = ("--dataset", DEMO_DATA, "--max-rows", 16, "--distractor-columns", 2)
    assert call(evaluate_model.main, logged_model["uri"], *flags) is None
    shown = capsys.readouterr().out
    assert shown.startswith("test: 16 rows, 16 with usable gold\n")
    assert "\ntest_distractors: 16 rows" in shown
    assert "McNemar p = " in shown
    run = mlflow.get_run(logged_model["run_id"])
    assert (run.info.status, run.info.end_time) == (before.status, before.end_time)
    accuracy = run.data.metrics["test_exec_accuracy"]
    assert f"{accuracy:.1%}" in shown
    assert run.data.metrics["test_exec_accuracy_base"] < accuracy
    table = pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/scorecard/test.json"))
    assert (table["adapter_verdict"] == "right").mean() == pytest.approx(accuracy)
    assert [*table["question"]] == [row["question"] for row in demo_rows("test")[:16]]
    # The metrics belong to the model and to the data set.
    models = logged_models(run)
    linked = [m for model in models for m in model.metrics if m.key == "test_exec_accuracy"]
    assert [(metric.value, metric.dataset_name) for metric in linked] == [(accuracy, "test_rows")]
    # Once more: the first table stays. Rows whose gold is corrupt are counted and listed, never scored.
    good, corrupt = demo_rows("test")[0], demo_rows("test")[1] | {"answer": "SELECT 1 WHERE 2005 > 2"}
    mixed = tmp_path / "mixed.jsonl"
    names = {"question": "Q", "context": "sql_context", "answer": "sql"}
    renamed = [{names.get(name, name): value for name, value in row.items()} for row in (corrupt, good)]
    mixed.write_text("".join(json.dumps(row) + "\n" for row in renamed))
    columns = ("--column", "question=q", "context=sql_context", "--column", "answer=sql")
    assert (
        call(evaluate_model.main, logged_model["uri"], "--dataset", mixed, "--distractor-columns", 0, *columns) is None
    )
    assert capsys.readouterr().out.startswith("test: 1 rows, 1 with usable gold\n")
    skipped = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/scorecard/test_skipped.json")
    assert [dict(zip(skipped["columns"], row, strict=True))["reason"] for row in skipped["data"]] == [
        "comparison of constants"
    ]
    assert {"scorecard/test.json", "scorecard/test-2.json"} <= artifacts(run.info.run_id, "scorecard")


WRAPPERS = ("```sql\n{}\n```", "SQL: {}", "Here is the query:\n\n```\n{};\n```\nIt reads one table.", "{}")


def test_unwrapped_answers_score_as_bare_ones_and_are_counted(logged_model, capsys, monkeypatch):
    def wrapped(*arguments, **options):
        found = generate_all(*arguments, **options)
        return [replace(one, text=WRAPPERS[number % 4].format(one.text)) for number, one in enumerate(found)]

    flags = ("--dataset", DEMO_DATA, "--max-rows", 8, "--distractor-columns", 0, "--json", "--name")
    assert call(evaluate_model.main, logged_model["uri"], *flags, "bare", "--no-log") is None
    monkeypatch.setattr(sql_writer, "generate_all", wrapped)
    assert call(evaluate_model.main, logged_model["uri"], *flags, "wrapped", "--no-log") is None
    assert call(evaluate_model.main, logged_model["uri"], *flags, "taken_off", "--unwrap") is None
    bare, refused, unwrapped = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert refused["valid"] <= 0.25 < bare["valid"] == unwrapped["valid"]
    assert bare["exec_accuracy"] == unwrapped["exec_accuracy"]
    assert "unwrapped" not in bare | refused
    assert (unwrapped["unwrapped"], unwrapped["unwrapped_base"]) == (6, 6)
    assert mlflow.get_run(logged_model["run_id"]).data.metrics["taken_off_unwrapped"] == 6


def test_an_adapter_that_changes_nothing_is_an_error(trained_run, tmp_path, capsys):
    folder = tmp_path / "checkpoint-24"
    shutil.copytree(trained_run["folder"] / trained_run["id"] / "checkpoint-24", folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: 0 * tensor for name, tensor in weights.items()}, folder / "adapter_model.safetensors")
    flags = ("--dataset", DEMO_DATA, "--max-rows", 2, "--distractor-columns", 0, "--no-log", "--json")
    with pytest.raises(SystemExit) as stopped:
        call(evaluate_model.main, folder, *flags)
    assert stopped.value.code == 1
    assert json.loads(capsys.readouterr().out)["changed_outputs"] == 0


def test_a_question_to_a_database_is_answered_only_when_asked_to(logged_model, tmp_path, capsys, monkeypatch):
    path = tmp_path / "shop.db"
    build_shop.build(path)
    content = path.read_bytes()
    one = (
        logged_model["uri"],
        "--database",
        path,
        "--tables",
        "customer",
        "--question",
        "What is the average age of all customers?",
    )
    assert call(predict.main, *one) is None
    (sql,) = capsys.readouterr().out.splitlines()
    assert sql.lower() == "select avg(age) from customer"
    assert call(predict.main, *one, "--execute") is None
    shown, header, value = capsys.readouterr().out.splitlines()
    assert (shown, header.strip()) == (sql, "AVG(age)")
    with sqlite3.connect(path) as shop:
        (expected,) = shop.execute("SELECT AVG(age) FROM customer").fetchone()
    assert float(value) == pytest.approx(expected)
    assert call(predict.main, *one, "--execute", "--json") is None
    found = json.loads(capsys.readouterr().out)
    assert (found["sql"], found["rows"], found["retries"], found["truncated"]) == (sql, [[expected]], 0, False)
    assert call(predict.main, *one, "--execute", "--csv") is None
    assert capsys.readouterr().out.splitlines() == ["AVG(age)", str(expected)]
    # The model stays loaded for the next question.
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("What is the average age of all customers?\n\nHow many customers are there?\n")
    )
    assert call(predict.main, *one[:-2], "--execute", "--interactive") is None
    printed = capsys.readouterr()
    asked = "question> What is the average age of all customers?"
    assert printed.out.splitlines()[:4] == [asked, shown, header, value]
    assert printed.out.count("question> ") == 2
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["shop.db"]


# On CPUs accelerate starts one process only, whatever --num_processes says, unless MPI is set up; torchrun starts two.
@pytest.mark.parametrize(
    ("launcher", "plan"),
    [
        pytest.param(
            "accelerate.commands.launch --cpu --num_processes 2", "x 1 process = 2 per step", marks=pytest.mark.slow
        ),
        ("torch.distributed.run --nproc_per_node 2", "x 2 processes = 4 per step"),
    ],
)
def test_a_launcher_makes_one_run_and_logs_each_metric_once(few_rows, tmp_path, launcher, plan):
    name = f"launched-{plan.split()[1]}"
    experiment = mlflow.create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())
    output = tmp_path / "outputs"
    flags = ["--base-model", DEMO_BASE, "--dataset", few_rows, "--output-dir", output, "--max-steps", 2,
             "--max-validation-rows", 8, "--score-rows", 3, "--experiment", name,
             "--metric-for-best-model", "exec_accuracy", "--distractor-columns", 0,
             "--per-device-train-batch-size", 2, "--max-train-rows", 64]  # fmt: skip
    command = [sys.executable, "-m", *launcher.split(), ROOT / "train_sql_generator.py", *flags]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=LONGEST_WAIT, check=False)
    run_id = last_line(done)
    assert plan in done.stderr
    assert [run.info.run_id for run in mlflow.search_runs([experiment], output_format="list")] == [run_id]
    client = mlflow.MlflowClient()
    assert [point.step for point in client.get_metric_history(run_id, "eval_loss")] == [1, 2]
    assert [point.step for point in client.get_metric_history(run_id, "loss")] == [1]
    # The three questions are shared out over the processes and scored together.
    scores = client.get_metric_history(run_id, "eval_exec_accuracy")
    assert [point.step for point in scores] == [1, 2]
    assert all(round(3 * point.value, 6) in (0, 1, 2, 3) for point in scores)
    assert [path.name for path in output.iterdir()] == [run_id]


@pytest.mark.parametrize(
    ("sent", "code", "status"),
    [(signal.SIGTERM, 143, "KILLED"), pytest.param(signal.SIGINT, 130, "KILLED", marks=pytest.mark.faults)],
)
def test_a_stopped_run_ends_as_killed(few_rows, tmp_path, sent, code, status):
    experiment = mlflow.create_experiment(f"stopped-{code}")
    flags = ["--base-model", DEMO_BASE, "--dataset", few_rows, "--output-dir", tmp_path, "--num-train-epochs", 99,
             "--experiment", f"stopped-{code}", "--max-validation-rows", "4"]  # fmt: skip
    command = [sys.executable, str(ROOT / "train_sql_generator.py"), *map(str, flags)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A suite that itself runs in the background has inherited an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    client, deadline = mlflow.MlflowClient(), time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline and process.poll() is None:
        runs = client.search_runs([experiment])
        if runs and "loss" in runs[0].data.metrics:
            break
        time.sleep(0.5)
    process.send_signal(sent)
    stdout, _ = process.communicate(timeout=LONGEST_WAIT)
    assert process.returncode == code
    assert stdout == ""
    assert client.search_runs([experiment])[0].info.status == status


def test_a_stopped_run_goes_on_with_the_same_weights(few_rows, tmp_path, capsys, monkeypatch):
    stop_after(monkeypatch, 3)
    flags = ("--base-model", DEMO_BASE, "--dataset", few_rows, "--max-steps", 5, "--per-device-train-batch-size", 2,
             "--max-train-rows", 40, "--max-validation-rows", 4, "--score-rows", 0, "--save-steps", 2, "--eval-steps",
             2, "--output-dir", tmp_path, "--disable-tqdm", "true", "--lora-dropout", 0.1)  # fmt: skip
    assert call(train_sql_generator.main, *flags, "--max-time", "1h") is None
    stopped = capsys.readouterr().out.split()[-1]
    assert mlflow.get_run(stopped).data.tags["finetune.stopped"] == "max-time"
    assert call(train_sql_generator.main, "--resume", stopped) is None
    assert call(train_sql_generator.main, *flags) is None
    whole = capsys.readouterr().out.split()[-1]
    one, other = (load_file(tmp_path / run / "checkpoint-5" / "adapter_model.safetensors") for run in (stopped, whole))
    assert all((one[name] == other[name]).all() for name in other)
    assert one.keys() == other.keys()
