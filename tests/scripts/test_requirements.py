"""What is installed: the scripts' packages first, each optional part from a file of its own, which is named."""

import re
import sys

import install
from finetune import InputError
from finetune.databases import database, urls
from finetune.logged_models.writing import onnx_export
from finetune.models.classifier import onnx_model
from finetune.predicting import spark
from finetune.runs import trackers

import pytest
from conftest import ROOT

FILES = {path.stem.removeprefix("requirements-"): path for path in ROOT.glob("requirements-*.txt")}
EXTRAS = ("databases", "onnx", "spark", "tests", "wandb")


def packages(name: str) -> set[str]:
    """Return the packages that a file of requirements pins itself."""
    path = FILES.get(name, ROOT / "requirements.txt")
    lines = [line for line in path.read_text().splitlines() if line and line[0] not in "#-"]
    assert all("==" in line for line in lines)
    return {re.split(r"[=\[]", line)[0].lower() for line in lines}


def test_the_scripts_need_none_of_the_extras_and_development_all():
    base = packages("requirements")
    for name in EXTRAS:
        assert not base & packages(name)
        assert f"-r requirements-{name}.txt" in FILES["dev"].read_text()
    assert {"pyspark", "wandb", "onnxruntime", "duckdb", "pytest", "trl"}.isdisjoint(base)


def test_the_demos_install_what_the_scripts_need_and_no_more():
    makefile = (ROOT / "Makefile").read_text()
    rule = re.compile(r"^([\w.-]+(?:/\w+)?): ?([^#\n]*)", flags=re.MULTILINE)
    needs = {target: needed.split() for target, needed in rule.findall(makefile)}

    def all_of(target: str) -> set[str]:
        return {target}.union(*(all_of(name) for name in needs.get(target, [])))

    for demo in ("demo", "demo-classifier", "demo-summarizer", "server"):
        assert "requirements.txt" in all_of(demo)
        assert ".venv/developed" not in all_of(demo)
    for target in ("lint", "test", "test-slow", "bench", "faults"):
        assert ".venv/developed" in all_of(target)
    assert "--quiet" not in makefile


def refusal(call, *arguments) -> str:
    with pytest.raises(InputError) as refused:
        call(*arguments)
    return str(refused.value)


def test_a_missing_package_is_said_with_the_file_that_has_it(monkeypatch, tmp_path):
    for name in ("pyspark", "pyspark.errors", "pyspark.sql", "onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(urls.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    nothing = (None,) * 7
    said = {
        "spark": refusal(spark.predict, *nothing),
        "onnx": refusal(onnx_export.check_packages),
        "wandb": refusal(trackers.check_trackers, type("Arguments", (), {"report_to": ["wandb"]})),
        "databases": refusal(database.open_database, "mysql://host/x", None),
    }
    said |= {"onnx 2": refusal(onnx_model.OnnxModel, tmp_path)}
    for name in ("postgresql://host/x", f"duckdb:///{tmp_path}/x.duckdb"):
        assert "pip install -r requirements-databases.txt" in refusal(database.open_database, name, None)
    for name, sentence in said.items():
        assert f"pip install -r requirements-{name.split()[0]}.txt" in sentence
        assert "\n" not in sentence


def test_what_pip_is_at_is_read_from_its_lines():
    said = ["Collecting torch==2.13.0\n", "  Downloading torch-2.13.0.whl.metadata (27 kB)\n"]
    assert install.state_of(said) == (0, "")
    said += [
        "  Downloading torch-2.13.0-cp311.whl (190.1 MB)\n",
        "Processing /wheels/scipy-1.17.1-cp311.whl (from x)\n",
    ]
    assert install.state_of(said[:-1]) == (1, ", torch (190.1 MB)")
    assert install.state_of(said) == (2, ", scipy")
    said += ["Installing collected packages: scipy, torch\n"]
    assert install.state_of(said) == (2, ", putting them in place")
    assert install.state_of([*said, "Successfully installed scipy torch\n"]) == (2, "")


def test_pip_is_shown_in_full_where_it_fails(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(install, "show_progress", lambda: None)  # It would stay for the tests that follow.
    (tmp_path / "none.txt").write_text("no such requirement at all\n")
    assert install.main(["-r", str(tmp_path / "none.txt")]) != 0
    assert "no such requirement at all" in capfd.readouterr().err
