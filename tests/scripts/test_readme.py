"""Every command of the README and the pages in docs/ exists with the flags it is given."""

import json
import re
import shlex
from pathlib import Path

import evaluate_model
import log_model
import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune.logged_models.writing.checkpoints_as_models import log_checkpoint
from finetune.runs.checkpoints import find_checkpoint

import mlflow
import pytest
from conftest import ROOT
from made_runs import best_by_the_readme, make_run

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
]
LINES = [line.split(" #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in LINES if line and not line.startswith("#")]


def test_the_readme_has_commands():
    assert "make demo" in COMMANDS
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if c.startswith("make ")}))
def test_make_targets_exist(command):
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in command.split()[1:])


def known_flags(capsys) -> dict[str, set[str]]:
    """Return the flags of each script, from its own help."""
    found = {}
    training = (train_sql_generator, train_classifier, train_summarizer)
    for script in (*training, log_model, predict, evaluate_model):
        with pytest.raises(SystemExit):
            script.main(["--help-all" if script in training else "--help"])
        found[f"{script.__name__}.py"] = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    return found


def test_scripts_know_the_flags_they_are_shown_with(capsys):
    flags, seen = known_flags(capsys), 0
    for command in COMMANDS:
        words = shlex.split(command)
        for position, word in enumerate(words):
            if word in flags:
                given = {w.split("=")[0] for w in words[position + 1 :] if w.startswith("--")}
                assert given <= flags[word], command
                seen += 1
    assert seen >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_a_page_names_exists(page: Path):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert all((page.parent / link).exists() for link in links)


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
    assert best_by_the_readme(run.info.run_id).name == chosen.name == f"checkpoint-{best}"
    assert f"best by eval_{params.get('metric_for_best_model', 'loss').removeprefix('eval_')}, step {best}" == why
