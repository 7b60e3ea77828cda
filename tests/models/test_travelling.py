"""What travels with a model is enough to serve it, and what was logged before the package had rooms still answers."""

import json
import subprocess
import sys
import zipfile

import predict
from finetune.logged_models.uris import find_files
from finetune.logged_models.writing.code_models import copy_package

import pytest
from conftest import ROOT

BEFORE = ROOT / "tests" / "models" / "logged_before_rooms.zip"  # model, base, and what it said of TEXTS then
TEXTS = ["You waive your right to a trial by jury.", "We may end the service at any time without notice."]
# Loads models as a program does that knows MLflow alone, or one that has imported this package before.
LOAD = """
import importlib, json, sys
import mlflow, pandas
given = json.load(sys.stdin)
for name in given["imported"]:
    importlib.import_module(name)
for model, base, column in given["models"]:
    texts = pandas.DataFrame({column: given["texts"]})
    answers = mlflow.pyfunc.load_model(model, model_config={"base_model": base}).predict(texts)
    print(json.dumps(getattr(answers, "to_dict", lambda _: answers)("records"), default=float))
print(json.dumps(sorted({module.__file__ for name, module in sys.modules.items() if name.startswith("finetune.models")
                         and getattr(module, "__file__", None)})))
"""


def load(models, cwd, *imported) -> list:
    """Return what each model says in a process of its own, and last the files of this package that it ran.

    Args:
        models: folder or URI, base and name of the column of each.
        imported: modules imported before.
    """
    given = json.dumps({"models": models, "texts": TEXTS, "imported": imported}, default=str)
    done = subprocess.run([sys.executable, "-c", LOAD], input=given, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()[-len(models) - 1 :]]


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A classifier that was logged when all modules were in one folder."""
    folder = tmp_path_factory.mktemp("before")
    with zipfile.ZipFile(BEFORE) as file:
        file.extractall(folder)
    return folder


def close(found: list[dict], expected: list[dict]) -> bool:
    """Say whether labels are equal and scores nearly so."""
    return [row["labels"] for row in found] == [row["labels"] for row in expected] and all(
        row["scores"] == pytest.approx(other["scores"], abs=1e-3) for row, other in zip(found, expected, strict=True)
    )


def test_the_models_room_travels_and_no_other(logged_classifier, logged_summarizer, tmp_path):
    models = [(logged_classifier["uri"], None, "text"), (logged_summarizer["merged"], None, "article")]
    expected = sorted(str(path.relative_to(tmp_path)) for path in copy_package(tmp_path / "finetune").rglob("*.py"))
    for uri, *_ in models:
        code = find_files(uri) / "code"
        assert sorted(str(path.relative_to(code)) for path in code.rglob("*.py")) == expected
    *answers, files = load(models, tmp_path)
    assert [len(found) for found in answers] == [2, 2]
    assert files
    assert not any(str(ROOT) in file for file in files)
    *again, files = load(models, ROOT, "finetune.predicting.flags")
    assert again == answers


def test_a_model_from_before_answers_as_it_did(before, tmp_path, capsys):
    expected = json.loads((before / "expected.json").read_text())
    (found, _) = load([(before / "model", before / "base", "text")], ROOT)
    assert close(found, expected)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    given = ["--input", str(tmp_path / "texts.jsonl"), "--base-model", str(before / "base"), "--json"]
    predict.main([str(before / "model"), *given])
    assert close([json.loads(line) for line in capsys.readouterr().out.splitlines()], expected)
