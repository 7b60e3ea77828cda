"""The rooms of the house: what each may use, how many modules it holds, and which of them travel with a model."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "finetune"
# In the order of a script's main(): a room imports only from those before it.
ROOMS = ("models", "rows", "logged_models", "runs", "training", "reports", "predicting")
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
    wrong = {path.relative_to(ROOT): touched(path) for path in paths if path.name != "library_gaps.py"}
    assert {str(path): names for path, names in wrong.items() if names} == {}


def test_no_room_holds_more_than_ten_modules():
    counts = {folder: len(set(folder.glob("*.py")) - {folder / "__init__.py"}) for folder in PACKAGE.rglob("*/")}
    assert {str(folder): count for folder, count in counts.items() if count > 10} == {}
