"""The README and the pages: commands exist with the flags they are given, links and files lead somewhere."""

import json
import re
import shlex
from pathlib import Path

import evaluate_model
import log_model
import make_questions
import predict
import train_classifier
import train_sql_generator
import train_summarizer
import try_model
from finetune.logged_models.writing.checkpoints_as_models import log_checkpoint
from finetune.runs.checkpoints import find_checkpoint

import mlflow
import pytest
from conftest import ROOT
from made_runs import best_by_the_docs, make_run

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
# Without blocks of code, in which `# ...` is no heading.
PROSE = {page: re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE) for page, text in TEXTS.items()}
BLOCKS = [block for text in TEXTS.values() for block in re.findall(r"```(?:bash|sh)\n(.*?)```", text, flags=re.DOTALL)]
LINES = [line.split(" #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in LINES if line and not line.startswith("#")]
INLINE = [code for text in PROSE.values() for code in re.findall(r"`([^`\n]+)`", text)]
FOLDERS = ("benchmarks/", "configs/", "demo/", "docs/", "finetune/", "metrics/", "prompts/", "tests/")


def test_the_readme_has_commands():
    assert "make demo" in COMMANDS
    assert len(COMMANDS) >= 10


def test_the_readme_stays_short_and_names_every_page():
    readme, *pages = PAGES
    assert len(TEXTS[readme].splitlines()) <= 170
    assert all(f"]({page.relative_to(ROOT)})" in TEXTS[readme] for page in pages)


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS + INLINE if c.startswith("make ")}))
def test_make_targets_exist(command):
    makefile = (ROOT / "Makefile").read_text()
    targets = [word for word in command.split()[1:] if "=" not in word]
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
    for name, value in (word.split("=") for word in command.split()[1:] if "=" in word):
        assert f"$({name})" in makefile
        assert (ROOT / value).exists()


def known_flags(capsys) -> dict[str, set[str]]:
    """Return the flags of each script, from its own help."""
    found = {}
    training = (train_sql_generator, train_classifier, train_summarizer)
    for script in (*training, log_model, predict, evaluate_model, make_questions, try_model):
        with pytest.raises(SystemExit):
            script.main(["--help-all" if script in training else "--help"])
        found[f"{script.__name__}.py"] = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    return found


def test_scripts_know_the_flags_they_are_shown_with(capsys):
    flags, seen = known_flags(capsys), 0
    for command in COMMANDS + [code for code in INLINE if any(script in code for script in flags)]:
        words = shlex.split(command)
        for position, word in enumerate(words):
            if word in flags:
                given = {w.split("=")[0] for w in words[position + 1 :] if w.startswith("--")}
                assert given <= flags[word], command
                seen += 1
    assert seen >= 8


def test_benchmarks_and_builders_know_the_flags_they_are_shown_with():
    commands = [c for c in COMMANDS + INLINE if re.search(r"(benchmarks|demo)/\w+\.py", c)]
    assert len(commands) >= 8
    for command in commands:
        code = (ROOT / re.search(r"(?:benchmarks|demo)/\w+\.py", command)[0]).read_text(encoding="utf-8")
        assert all(f'"{flag}"' in code for flag in re.findall(r"--[a-z][\w-]*", command)), command


def anchors(page: Path) -> set[str]:
    """Return what GitHub calls the headings of a page in links to them."""
    found = set()
    for heading in re.findall(r"^#+ +(.+)$", PROSE[page], flags=re.MULTILINE):
        name = re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")
        assert name not in found, f"{page.name} has two headings {heading}"
        found.add(name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_and_heading_a_page_links_to_exists(page: Path):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", PROSE[page])
    assert links
    for file, anchor in links:
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_a_page_names_exists(page: Path):
    words = [code.split()[0] for code in re.findall(r"`([^`\n]+)`", PROSE[page]) if code.strip()]
    named = [word for word in words if word.startswith(FOLDERS) and not re.search(r"TASK|NAME|<", word)]
    assert [word for word in named if not (ROOT / word).exists()] == []


def test_the_measuring_command_knows_the_steps_and_flags_of_its_page():
    page = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    code = (ROOT / "benchmarks" / "gpu_session.py").read_text(encoding="utf-8")
    steps = re.findall(r'Step\("(\w+)"', code)
    assert [name for name in re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)] == steps
    commands = [command for command in COMMANDS if "gpu_session.py" in command]
    assert commands
    assert all(f'"{flag}"' in code for command in commands for flag in re.findall(r"--[\w-]+", command))


@pytest.mark.parametrize(
    ("losses", "params", "best"),
    [
        ({5: 3.0, 10: 1.0, 100: 2.0}, {}, 10),
        ({5: 1.0, 10: 1.0, 100: 2.0}, {"metric_for_best_model": "loss"}, 5),  # Of equal ones the first.
        ({5: 3.0, 10: 1.0, 100: 2.0}, {"metric_for_best_model": "macro_f1", "greater_is_better": True}, 100),
    ],
)
def test_the_search_for_the_best_checkpoint_finds_what_log_model_takes(losses, params, best, tmp_path):
    run = make_run(tmp_path, losses, **params)
    client = mlflow.MlflowClient()
    for step in losses:  # Of the other metric the later is the better.
        client.log_metric(run.info.run_id, "eval_macro_f1", step / 1000, step=step)
        state = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
        state.write_text(json.dumps({"best_global_step": best}))
    run = client.get_run(run.info.run_id)
    for step in losses:
        log_checkpoint(run, tmp_path / f"checkpoint-{step}", f"checkpoint-{step}")
    chosen, why = find_checkpoint(run, "best")
    log_checkpoint(run, chosen, "model")
    assert best_by_the_docs(run.info.run_id).name == chosen.name == f"checkpoint-{best}"
    assert f"best by eval_{params.get('metric_for_best_model', 'loss').removeprefix('eval_')}, step {best}" == why
