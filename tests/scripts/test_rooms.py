"""The rooms of the house: what each may use, how many modules it holds, and which of them travel with a model."""

import ast
import inspect
from pathlib import Path

from finetune.models.trained import kind_of

import pytest
from conftest import ROOT

PACKAGE = ROOT / "finetune"
FIRST = {"encode": "rows", "answer": "encoded", "line": "answer"}
# In the order of a script's main(): a room imports only from those before it.
ROOMS = (
    "models", "databases", "making_questions", "rows", "logged_models", "runs", "training", "reports", "predicting",
    "registering", "page",
)  # fmt: skip
TASKS = {"text-to-sql", "classification", "summarization", "TEXT_TO_SQL", "CLASSIFICATION", "SUMMARIZATION"}
SCRIPTS = (
    "train_sql_generator.py", "train_classifier.py", "train_summarizer.py", "log_model.py", "predict.py",
    "evaluate_model.py", "make_questions.py", "try_model.py",
)  # fmt: skip
TRAVELS = ("finetune", "finetune.progress_line", "finetune.redaction", "finetune.screen", "finetune.stopping")


def imports(path: Path) -> set[str]:
    """Return the modules of this package that a module imports, functions' own imports too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("finetune", "metrics"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if is_module(name) else node.module for name in names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in ("finetune", "metrics")}
    return found


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room(module: str) -> str:
    return module.split(".")[1] if module.count(".") > 1 or module.split(".")[-1] in ROOMS else ""


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_uses_only_those_before_it(name):
    later = ROOMS[ROOMS.index(name) + 1 :]
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((PACKAGE / name).rglob("*.py"))
        for module in sorted(imports(path))
        if room(module) in later or module == "finetune.resuming"
    ]
    assert not wrong


def test_what_travels_uses_nothing_else():
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((PACKAGE / "models").rglob("*.py"))
        for module in sorted(imports(path))
        if room(module) != "models" and module not in TRAVELS
    ]
    assert not wrong


def touched(path: Path) -> set[str]:
    """Return the private parts of other objects that a module touches, and what it sets on a trainer."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom | ast.Import):
            found |= {name for name in (alias.name for alias in node.names) if "mock" in name}
            found |= {node.module} if isinstance(node, ast.ImportFrom) and "unittest" in node.module else set()
        elif isinstance(node, ast.Attribute):
            shown = ast.unparse(node)
            own = ("self._", "cls._", "super()._", "os._exit")
            if node.attr.startswith("_") and not node.attr.endswith("__") and not shown.startswith(own):
                found.add(shown)
            is_set = isinstance(node.ctx, ast.Store) and ast.unparse(node.value) in ("trainer", "self.trainer")
            found |= {shown} if is_set else set()
    return found


def test_nothing_of_a_library_is_patched_outside_the_modules_for_it():
    paths = [*PACKAGE.rglob("*.py"), *ROOT.glob("*.py")]
    wrong = {path.relative_to(ROOT): touched(path) for path in paths if path.name != "private_apis.py"}
    assert {str(path): names for path, names in wrong.items() if names} == {}


def test_no_room_holds_more_than_ten_modules():
    counts = {folder: len(set(folder.glob("*.py")) - {folder / "__init__.py"}) for folder in PACKAGE.rglob("*/")}
    assert {str(folder): count for folder, count in counts.items() if count > 10} == {}


def names_a_task(node: ast.AST | None) -> bool:
    """Say whether an expression or a pattern has the name of a task in it, as a text or as its constant."""
    return node is not None and any(name in ast.unparse(node) for name in TASKS)


def comparisons(source: str) -> int:
    """Return in how many places code compares with a task's name: a comparison, a match or a table is one."""
    count = 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            count += names_a_task(node)
        elif isinstance(node, ast.Match):
            count += any(names_a_task(case.pattern) for case in node.cases)
        elif isinstance(node, ast.Dict):
            count += any(names_a_task(key) for key in node.keys)
    return count


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('card["task"] == "classification"', 1), ("task != card.TEXT_TO_SQL", 1), ("task in (CLASSIFICATION, x)", 1),
        ('{SUMMARIZATION: 1, "classification": 2}[task]', 1), ('start_card("classification")', 0), ("task == other", 0),
        ('match task:\n case "classification" | "text-to-sql":\n  pass\n case "summarization":\n  pass', 1),
    ],
)  # fmt: skip
def test_what_counts_as_a_comparison_with_the_name_of_a_task(source, expected):
    assert comparisons(source) == expected


def test_few_places_compare_with_the_name_of_a_task():
    """What differs between tasks stands on their classes: a new task is a case more in each of these places."""
    paths = [*ROOT.glob("*.py"), *PACKAGE.rglob("*.py")]
    counts = {str(path.relative_to(ROOT)): comparisons(path.read_text()) for path in sorted(paths)}
    found = {path: count for path, count in counts.items() if count}
    assert sum(found.values()) <= 6, found


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_read_in_one_sitting_and_its_main_on_one_screen(name):
    source = (ROOT / name).read_text()
    (main,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert 100 <= len(source.splitlines()) <= 300
    assert main.end_lineno - main.lineno < 50


@pytest.mark.parametrize("name", SCRIPTS[:3])
def test_a_training_script_shows_how_its_model_is_built_and_trained(name):
    tree = ast.parse((ROOT / name).read_text())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    bases = {ast.unparse(base) for node in tree.body if isinstance(node, ast.ClassDef) for base in node.bases}
    assert {"BitsAndBytesConfig", "LoraConfig"} <= called
    assert any(trainer.endswith("Trainer") for trainer in called)
    assert bases & {"TrainingArguments", "Seq2SeqTrainingArguments"}


def test_all_models_have_the_same_four_names():
    for kind in map(kind_of, ("text-to-sql", "classification", "summarization")):
        assert kind.columns
        assert "adapter" in kind.forms
        for name in ("encode", "answer", "line"):
            assert list(inspect.signature(getattr(kind, name)).parameters)[:2] == ["self", FIRST[name]]
