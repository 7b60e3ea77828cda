"""--if-better: a worse model and a tie are refused, a better one gets the alias, with real adapters."""

import json
import logging
import shutil
from pathlib import Path

import evaluate_model
import log_model
import predict
from finetune import InputError
from finetune.logged_models.opening import LoggedModel
from finetune.logged_models.writing.checkpoints_as_models import log_checkpoint
from finetune.models.card import CARD, SqlCard
from finetune.registering import registration
from finetune.registering.gate import scoring_flags
from finetune.registering.versions import find_holder
from finetune.reports.scorecards.evaluations import SqlEvaluation

import mlflow
import pytest
import safetensors.torch
from conftest import CONTEXT, DEMO_DATA, QUESTIONS, ROOT, call
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server

CLIENT = mlflow.MlflowClient
FEW = {"share": 0.0}


def other_model(checkpoint: Path, folder: Path, factor: float = 1.0, of: str = "lora_B", leaks: dict | None = FEW):
    """Log a checkpoint in a run of its own, some of its weights times a factor; return run and checkpoint."""
    client = mlflow.MlflowClient()
    copy = folder / checkpoint.name
    shutil.copytree(checkpoint, copy, ignore=shutil.ignore_patterns("*optim*", "rng*", "sched*"))
    weights = safetensors.torch.load_file(copy / "adapter_model.safetensors")
    weights = {name: tensor * factor if of in name else tensor for name, tensor in weights.items()}
    safetensors.torch.save_file(weights, copy / "adapter_model.safetensors", {"format": "pt"})
    run = client.create_run("0", tags={"finetune.checkpoints": str(folder)})
    card = json.loads((copy / CARD).read_text())
    if factor != 1:
        card.pop("tfidf", None)  # The SVM beside it would find these labels alone.
    (copy / CARD).write_text(json.dumps(card | {"run_id": run.info.run_id}))
    if leaks is not None:
        client.log_dict(run.info.run_id, leaks, "leak_report.json")
    log_checkpoint(run, copy, "model")
    return run, copy


def enter(run, checkpoint: Path, name: str, metric: str, *rows) -> bool:
    """Take the model of a run through the gate, as after a reload check that passed."""
    flags = (run.info.run_id, "--register", name, "--alias", "champion", "--if-better", metric, "--dataset", *rows)
    wanted = registration.begin(log_model.parse([str(flag) for flag in flags]), run, checkpoint)
    return wanted.carry_out("model", True)


def last_checkpoint(fixture: dict) -> Path:
    return max(Path(fixture["folder"]).rglob(f"{fixture['id']}/checkpoint-*"), key=lambda path: int(path.name[11:]))


def champion(name: str) -> tuple[str, int]:
    """Return the version that has the alias, and how many versions there are."""
    return find_holder(name, "champion").version, len(CLIENT().search_model_versions(f"name = '{name}'"))


def take_through(name, good, metric, rows, tmp_path, caplog, capsys, of="lora_B", factor=0.0):
    """Take a worse model, a better one, the worse again and one that ties with the better through the gate."""
    caplog.set_level(logging.INFO)
    worse = other_model(good, tmp_path / "worse", factor, of)
    better, again = (other_model(good, tmp_path / side) for side in ("better", "again"))
    assert enter(*worse, name, metric, *rows)
    assert "accepted: no version had the alias" in caplog.text
    assert champion(name) == (1, 1)
    assert enter(*better, name, metric, *rows)
    assert champion(name) == (2, 2)
    assert f"better than models:/{name}/1 (p = " in find_holder(name, "champion").tags["finetune.gate"]
    assert CLIENT().get_run(better[0].info.run_id).data.metrics[f"gate_against_{metric}_p"] < 0.05
    assert not enter(*worse, name, metric, *rows)
    assert f"worse than models:/{name}/2 (p = " in caplog.text
    assert not enter(*again, name, metric, *rows)
    assert f"no difference from models:/{name}/2 can be told" in caplog.text
    assert caplog.text.count(f"No version of {name} was made; the alias champion stays at version 2") == 2
    assert champion(name) == (2, 2)
    assert capsys.readouterr().out.splitlines() == [f"models:/{name}@champion"] * 2
    return worse[0].info.run_id


def test_questions(trained_run, tmp_path, caplog, capsys):
    rows = (DEMO_DATA, "--max-rows", 10)
    good, uri = last_checkpoint(trained_run), "models:/asked@champion"
    take_through("asked", good, "exec_accuracy", rows, tmp_path, caplog, capsys)
    question = ("--context", CONTEXT, "--question", QUESTIONS[0])
    assert call(predict.main, uri, *question) is call(predict.main, good, *question) is None
    assert len(set(capsys.readouterr().out.splitlines())) == 1
    assert call(evaluate_model.main, uri, "--dataset", DEMO_DATA, "--max-rows", 1, "--no-log", "--json") is None
    assert json.loads(capsys.readouterr().out.splitlines()[0])["rows"] == 1
    about = tmp_path / "shop.jsonl"
    about.write_text('{"question": "How many customers are there?", "answer": "SELECT COUNT(*) FROM customer"}\n')
    database = (about, "--database", ROOT / "demo/shop.db")
    assert not enter(*other_model(good, tmp_path / "shop"), "asked", "exec_accuracy_database", *database)
    assert "refused: exec_accuracy_database " in caplog.text


def test_texts(classifier_run, terms, tmp_path, caplog, capsys, monkeypatch):
    good, rows = last_checkpoint(classifier_run), (terms / "test.jsonl",)
    worse = take_through("texts", good, "micro_f1", rows, tmp_path, caplog, capsys, "classifier")
    monkeypatch.setattr(log_model, "reload_check", lambda *arguments: True)  # Two processes of ten seconds.
    with pytest.raises(SystemExit) as left:
        call(log_model.main, worse, "--checkpoint", "last", "--register", "texts", "--alias", "champion",
             "--if-better", "micro_f1", "--dataset", *rows)  # fmt: skip
    assert left.value.code == 1
    assert capsys.readouterr().out.splitlines() == [f"runs:/{worse}/model"]
    server = TestClient(scoring_server.init(mlflow.pyfunc.load_model("models:/texts@champion")))
    text = json.loads((terms / "test.jsonl").read_text().splitlines()[0])["text"]
    (answer,) = server.post("/invocations", json={"inputs": [text]}).json()["predictions"]
    assert call(predict.main, "models:/texts@champion", "--text", text, "--json") is None
    assert answer["labels"] == json.loads(capsys.readouterr().out)["labels"]


def test_articles(summarizer_run, reports, tmp_path, caplog, capsys):
    take_through("news", last_checkpoint(summarizer_run), "rougeL", (reports,), tmp_path, caplog, capsys)


def entering(run_id: str, *flags) -> str | None:
    """Return why log_model.py refuses its input."""
    return call(log_model.main, run_id, *flags)


def test_a_leak_is_refused_before_anything_is_compared(trained_run, tmp_path, caplog):
    run, checkpoint = other_model(last_checkpoint(trained_run), tmp_path, leaks={"share": 0.03, "train_rows": 9})
    assert not enter(run, checkpoint, "leaking", "exec_accuracy", DEMO_DATA)
    assert "refused: 3.0% of the run's validation rows are training rows too (leak_report.json" in caplog.text
    assert "No version of leaking was made; the alias champion stays at nothing." in caplog.text
    assert find_holder("leaking", "champion") is None


def test_a_run_without_a_leak_report_is_taken_and_that_is_said(trained_run, tmp_path, caplog, capsys):
    run, checkpoint = other_model(last_checkpoint(trained_run), tmp_path, leaks=None)
    assert enter(run, checkpoint, "adopted", "exec_accuracy", DEMO_DATA)
    assert "has no leak_report.json: whether its rows leak was not looked at" in caplog.text
    # What has the alias is not compared with itself; a model that no longer loads is said before all work.
    assert enter(run, checkpoint, "adopted", "exec_accuracy", DEMO_DATA)
    assert champion("adopted") == (1, 1)
    shutil.rmtree(mlflow.get_logged_model(find_holder("adopted", "champion").source[8:]).artifact_location)
    refused = entering(trained_run["id"], "--register", "adopted", "--alias", "champion", "--if-better",
                       "exec_accuracy", "--dataset", DEMO_DATA)  # fmt: skip
    assert refused.startswith("--if-better: the files of the model models:/adopted/1 were moved or deleted")
    assert refused.endswith("Without --if-better the alias moves without a comparison.")


def test_a_failed_reload_check_is_refused_with_and_without_the_gate(trained_run, tmp_path, caplog):
    run, checkpoint = other_model(last_checkpoint(trained_run), tmp_path)
    for more in ((), ("--if-better", "exec_accuracy", "--dataset", str(DEMO_DATA))):
        flags = log_model.parse([run.info.run_id, "--register", "unlike", "--alias", "a", *more])
        assert not registration.begin(flags, run, checkpoint).carry_out("model", False)
    assert caplog.text.count("refused: the reload check failed") == 2
    assert find_holder("unlike", "a") is None


def test_an_alias_that_moved_meanwhile_stays_where_it_is(trained_run, tmp_path, caplog, capsys):
    one, two = (other_model(last_checkpoint(trained_run), tmp_path / side) for side in ("one", "two"))
    flags = ("--register", "raced", "--alias", "champion", "--if-better", "exec_accuracy", "--dataset", DEMO_DATA)
    late = registration.begin(log_model.parse([one[0].info.run_id, *map(str, flags)]), *one)
    assert enter(*two, "raced", "exec_accuracy", DEMO_DATA)
    assert not late.carry_out("model", True)
    assert "another version got the alias meanwhile" in caplog.text
    assert "the alias champion stays at version 1" in caplog.text
    assert champion("raced") == (1, 1)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--alias", "a"), "--alias needs --register NAME"),
        (("--tag", "a=b"), "--tag needs --register NAME"),
        (("--if-better", "f1"), "--if-better f1 needs --register"),
        (("--register", "m", "--if-better", "f1"), "--if-better f1 needs --alias"),
        (("--register", "m", "--alias", "a", "--if-better", "f1"), "--if-better f1 needs --dataset"),
        (("--register", "m", "--dataset", DEMO_DATA), "--dataset is about the rows of --if-better"),
        (("--register", "m", "--trust-role"), "--trust-role is about the rows of --if-better"),
        (("--register", "m", "--alias", "latest"), "cannot be an alias"),
        (("--register", "m", "--alias", "V2"), "cannot be an alias"),
        (("--register", "m", "--alias", "a b"), "cannot be an alias"),
        (("--register", "m", "--alias", ""), "cannot be an alias"),
        (("--register", ""), "cannot be the name of a registered model"),
        (("--register", "a/b"), "cannot be the name of a registered model"),
        (("--register", "a@b"), "cannot be the name of a registered model"),
        (("--register", "m", "--tag", "a"), "is no tag; expected KEY=VALUE"),
        (("--register", "m", "--tag", "=a"), "is no tag; expected KEY=VALUE"),
        (("--register", "m", "--tag", "a=1", "--tag", "a=2"), "--tag a is given with two values"),
        (("--register", "m", "--tag", "mlflow.x=1"), "are not yours to set"),
        (("--register", "m", "--sync", "x"), "--sync only sends"),
        (("--register", "m", "--alias", "a", "--if-better", "x", "--dataset", "f", "--no-reload-check"),
         "takes no model without the reload check"),
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together_are_refused(flags, part):
    assert part in entering("0" * 32, *flags)


def test_the_gate_logs_no_rows_of_the_database():
    gate = ["0" * 32, "--register", "m", "--alias", "a", "--if-better", "exec_accuracy", "--dataset", "rows.jsonl"]
    assert not scoring_flags(log_model.parse([*gate, "--database", "shop.db"]), None).rows
    assert scoring_flags(log_model.parse(gate), None).rows  # Which other tasks would be refused for.


def test_a_dialect_that_cannot_be_given_is_not_advised(tmp_path):
    fields = {"base_model": "b", "base_revision": None, "compute_dtype": "bf16", "quantization": None, "run_id": "r",
              "max_length": 9, "prompt": "p", "sample": []}  # fmt: skip
    ours, theirs = (LoggedModel(SqlCard(**fields, dialect=name), tmp_path, {}) for name in ("postgres", "sqlite"))
    gate = ["0" * 32, "--register", "m", "--alias", "a", "--if-better", "exec_accuracy", "--dataset", "rows.jsonl"]
    flags = log_model.parse(gate)
    for flags.source, advice in ((None, "--dialect says in which both"), ("adapter", "compare models of one dialect")):
        with pytest.raises(InputError, match=f"SQL of postgres, the one to compare it with SQL of sqlite; {advice}"):
            SqlEvaluation(scoring_flags(flags, None), ours).check_other(theirs)


def test_the_gate_reads_the_rows_in_the_dialect_that_is_given(trained_run, tmp_path, caplog, capsys):
    good = last_checkpoint(trained_run)
    holder, other = (other_model(good, tmp_path / side) for side in ("holder", "other"))
    assert enter(*holder, "spoken", "exec_accuracy", DEMO_DATA)
    card = other[1] / CARD
    card.write_text(json.dumps(json.loads(card.read_text()) | {"dialect": "postgres"}))
    rows = DEMO_DATA, "--max-rows", 2
    with pytest.raises(InputError, match=r"writes SQL of postgres.*--dialect says in which both are read"):
        enter(*other, "spoken", "exec_accuracy", *rows)
    assert not enter(*other, "spoken", "exec_accuracy", *rows, "--dialect", "sqlite")
    assert "no difference from models:/spoken/1 can be told" in caplog.text


def test_bad_rows_and_metrics_are_refused_before_the_model_is_logged(trained_run, tmp_path):
    gate = (trained_run["id"], "--name", "never", "--register", "bad", "--alias", "a", "--if-better")
    refused = entering(*gate, "macro_f1", "--dataset", DEMO_DATA)
    assert refused == (
        "--if-better macro_f1: models for text-to-sql are compared by exec_accuracy; expected one of these."
    )
    score = (*gate, "exec_accuracy", "--dataset")
    assert "is the file that the run trained on" in entering(*score, DEMO_DATA, "--split", "train")
    assert "--dialect sqlight is none of sqlglot's dialects" in entering(*score, DEMO_DATA, "--dialect", "sqlight")
    assert "--max-rows 0 must be at least 1" in entering(*score, DEMO_DATA, "--max-rows", 0)
    assert "nothing.jsonl" in entering(*score, tmp_path / "nothing.jsonl")
    (tmp_path / "columns.jsonl").write_text('{"a": 1}\n')
    assert "question" in entering(*score, tmp_path / "columns.jsonl")
    assert "not for text-to-SQL" not in entering(*score, DEMO_DATA, "--database", tmp_path / "none.db")
    names = [model.name for model in mlflow.search_logged_models(["0"], output_format="list")]
    assert "never" not in names
