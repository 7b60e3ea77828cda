"""Flags from a file, in groups of --help, and completed by the shell."""

import dataclasses
import re
import subprocess
import sys
from contextlib import suppress

import evaluate_model
import log_model
import make_questions
import predict
import train_classifier
import train_sql_generator
import train_summarizer
from finetune import InputError, resuming
from finetune.completion import completion
from finetune.config_file import without_secrets
from finetune.console import Parser
from finetune.models.card import CLASSIFICATION
from finetune.training.flags.script_parser import SHOWN, ScriptParser

import mlflow
import pytest
from conftest import DEMO_BASE, ROOT, call

TRAINING = {
    train_sql_generator: train_sql_generator.SqlTrainingArguments,
    train_classifier: train_classifier.ClassifierTrainingArguments,
    train_summarizer: train_summarizer.SummarizerTrainingArguments,
}
REQUIRED = {
    log_model: ["RUN"], predict: ["URI"], evaluate_model: ["URI", "--dataset", "rows.jsonl"],
    make_questions: ["--database", "demo/library.db", "--output", "pairs.csv"],
}  # fmt: skip
SCRIPTS = (*TRAINING, *REQUIRED)
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
each_training = pytest.mark.parametrize("script", TRAINING, ids=lambda script: script.__name__)


def make_parser() -> Parser:
    """A parser with a flag of each kind."""
    parser = Parser(prog="asked.py")
    parser.add_argument("uri")
    parser.add_argument("--precision", choices=("nf4", "bf16"))
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--column", nargs="+", action="extend")
    parser.add_argument("--param", action="append", default=[])
    parser.add_argument("--max-rows", type=int, default=3)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--text")
    parser.add_argument("--execute", action="store_true")
    parser.add_argument("--no-clean", dest="clean", action="store_false")
    return parser


@pytest.fixture
def file(tmp_path):
    """Write a file of flags and return its path."""

    def write(text: str | bytes) -> str:
        path = tmp_path / "flags.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def test_a_file_means_what_the_command_line_means(file):
    path = file(
        "# for tonight\nmax_rows: 5\ntimeout: 1e-4\nexecute: true\nno-clean: yes\ntables: &both [a, b]\ncolumn: *both\n"
        "param:\n  - x=1\n  - y=2\ntext: no\nverbose: false\n"
    )
    words = "U --max-rows 5 --timeout 1e-4 --execute --no-clean --tables a b --column a b --param x=1 --param y=2"
    expected = make_parser().parse_args([*words.split(), "--text", "no"])
    assert make_parser().parse_args(["U", "--config", path]) == expected
    assert make_parser().parse_args([f"--config={path}", "U"]) == expected


@pytest.mark.parametrize(
    ("line", "value"),
    [("text: 2026-01-01", "2026-01-01"), ("text: 010", "010"), ("text: 1:30", "1:30"), ("text: 'null'", "null"),
     ("text: -5", "-5"), ("text: --verbose", "--verbose"), ("text: |\n  two\n  lines", "two\nlines"), ('text: ""', "")],
)  # fmt: skip
def test_yaml_makes_nothing_else_of_a_text(file, line, value):
    assert make_parser().parse_args(["U", "--config", file(line)]).text == value


def test_the_command_line_wins(file):
    path = file("max-rows: 5\ncolumn: [a=b]\nparam: [x=1]\nno_clean: true\ntables: [q]\n")
    flags = make_parser().parse_args(["--max-rows=7", "--column", "c=d", "--param", "y=2", "--config", path, "U"])
    assert (flags.max_rows, flags.column, flags.param) == (7, ["c=d"], ["y=2"])
    assert (flags.clean, flags.tables, flags.uri) == (False, ["q"], "U")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no flags in it"), ("# nothing\n", "has no flags in it"), ("{}", "has no flags in it"),
        ("- a\n- b\n", "is a list; expected lines `flag: value`"), ("word", "is one text"),
        ("a: b: c", "is not YAML in line 1"), ("a: 1\n---\nb: 2", "is not YAML in line 2"), ("text: *b", "undefined"),
        ("text: \x01", "is not YAML"), (b"\xff\xfe\x00", "is no text in UTF-8"), ("text: " + "[" * 3000, "is not YAML"),
        ("max_row: 5", "max_row is no flag of this script; did you mean max-rows?"),
        ("zzz: 5", "zzz is no flag of this script. --help lists them."), ("<<: {text: a}", "<< is no flag"),
        ("uri: x", "uri is no flag; it stands on the command line"), ("clean: false", "did you mean no-clean"),
        ("config: other.yaml", "cannot name another"), ("help: true", "help is no flag"),
        ("print_completion: bash", "print_completion is no flag"), ("? [a]\n: b", "must be a word"),
        ("max-rows: 1\ntext: a\nmax_rows: 2", "gives max_rows twice, in lines 1 and 3"),
        ("max-rows: big", "max-rows is big; expected a whole number"), ("max-rows: 5.0", "expected a whole number"),
        ("max-rows: true", "max-rows is true; expected a whole number"), ("timeout: soon", "expected a number"),
        ("max-rows: [1]", "max-rows is a list; expected a whole number"), ("text: {a: 1}", "text is a mapping"),
        ("text:", "text is nothing; expected one value; or leave the line out"), ("text: null", "text is nothing"),
        ("tables: []", "tables is an empty list"), ("tables: [a, [b]]", "tables is a list"),
        ("tables: [a, -b]", "values that do not begin with a dash"), ("param: {a: 1}", "expected a list"),
        ("execute: 3", "execute is 3; expected true or false"), ("precision: fp8", "expected one of nf4, bf16"),
        ("text: !!python/object/apply:os.system [ls]", "line 1: the tag !!python/object/apply:os.system is not taken"),
        ("text: !mine x", "the tag !mine"), ("tables: &a [*a]", "one within itself"),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]", "too many values"),
        ("text: a\n" * 200_000, "has more than 1 MB"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_understood_is_refused_in_a_sentence(file, text, sentence):
    path = file(text)
    with pytest.raises(InputError) as refused:
        make_parser().parse_args(["U", "--config", path])
    assert sentence in str(refused.value)
    assert f"--config {path}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_is_there_and_there_is_one(tmp_path, file):
    path = file("text: a")
    for arguments, sentence in (
        (["--config"], "--config needs a file"), (["--config="], "needs a file"), (["--config", "--text"], "a file"),
        (["--config", path, f"--config={path}"], "is given 2 times"), (["--config", str(tmp_path)], "Is a directory"),
        (["--config", str(tmp_path / "no.yaml")], "No such file or directory"), (["--config", "a\0b"], "cannot be"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=sentence):
            make_parser().parse_args(["U", *arguments])


def test_secrets_of_a_file_are_hidden_and_the_rest_is_as_it_was_written():
    given = (
        "# mine\napi_key: abcd # of then\npassword: |\n  q\n  w\nb: {token_count: 1, api_token: 'zz'}\n"
        "dataset: postgres://me:pw123@h/x\nhub_token: &a xyz\ntext: *a\n"
    )
    assert without_secrets(given) == (
        "# mine\napi_key: *** # of then\npassword: ***\nb: {token_count: 1, api_token: ***}\n"
        "dataset: postgres://me:***@h/x\nhub_token: ***\ntext: *a\n"
    )


def test_a_secret_of_a_wrong_type_is_not_repeated(file):
    parser = make_parser()
    parser.add_argument("--api-token", type=int)
    with pytest.raises(InputError, match=r"api-token is \*\*\*; expected a whole number"):
        parser.parse_args(["U", "--config", file("api-token: zzzz")])


@each_script
def test_every_script_takes_a_file_and_refuses_what_it_does_not_know(script, file):
    given = REQUIRED.get(script, [])
    assert "no-such is no flag of this script" in call(script.main, *given, "--config", file("no-such: 1"))
    assert "verbose is 7; expected true or false" in call(script.main, *given, "--config", file("verbose: 7"))
    assert "cannot be read" in call(script.main, *given, "--config", "nowhere.yaml")


@each_training
def test_flags_of_a_training_and_of_the_trainer_in_a_file(script, file):
    parser = ScriptParser(script.Flags, TRAINING[script], description="")
    path = file(
        "lora-r: 4\nlearning_rate: 1e-4\nmax_steps: 7\ntarget_modules: [q, v]\nno-load-in-4bit: true\nbf16: false\n"
        "preflight: false\nlr_scheduler_kwargs: {num_cycles: 2, rate: 1e-1}\ncolumn: [split=part]\neval_strategy: no\n"
        "load_best_model_at_end: false\ndataset: other.jsonl\n"
    )
    flags, args = parser.parse(["--config", path, "--lora_r", "8", "--load-in-4bit", "--dataset=rows.jsonl"])
    assert (flags.lora_r, flags.load_in_4bit, flags.dataset) == (8, True, "rows.jsonl")
    evaluates = "epoch" if script is train_classifier else "no"  # Its thresholds need evaluations: refused.
    assert (args.learning_rate, args.max_steps, args.eval_strategy.value) == (1e-4, 7, evaluates)
    assert args.lr_scheduler_kwargs == {"num_cycles": 2, "rate": 0.1}
    assert (flags.target_modules, flags.column, flags.preflight, args.bf16) == (
        ["q", "v"],
        ["split=part"],
        False,
        False,
    )
    for text, sentence in (
        ("learning-rat: 1", "did you mean learning-rate"), ("max_steps: lots", "max_steps is lots; expected a whole"),
        ("packing: off\npooling: 3\nlora_r: 1\nno_preflight: true\npreflight: false", "no flag|expected true or false"),
        ("preflight: false\nno-preflight: true", "preflight and no-preflight are the same flag"),
        ("load_in_4bit: maybe", "expected true or false"), ("lr_scheduler_kwargs: 3", "must be a JSON object"),
    ):  # fmt: skip
        try:
            sentences = parser.parse(["--config", file(text)])[1].refused
        except InputError as error:
            sentences = [str(error)]
        assert any(part in " ".join(sentences) for part in sentence.split("|")), sentences


def test_the_file_is_logged_with_the_run_and_a_run_goes_on_with_another(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = ScriptParser(train_classifier.Flags, train_classifier.ClassifierTrainingArguments, description="")
    given = f"base_model: {DEMO_BASE}\nlora_r: 4\nseed: 3\noutput_dir: here\n# password=abcd\n"

    def begin(*arguments) -> tuple:
        flags, args, origin = resuming.parse_resumable(parser, [*map(str, arguments)], CLASSIFICATION)
        with suppress(KeyboardInterrupt), resuming.training_run(flags, args, origin) as run_id:
            resuming._note_resume(args, origin)
            raise KeyboardInterrupt
        return flags, args, run_id

    flags, args, run_id = begin("--config", file(given), "--seed", 5)
    assert (flags.lora_r, args.seed) == (4, 5)
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/config.yaml") == given.replace("abcd", "***")
    # What it was started with is whole without the file.
    recorded = mlflow.artifacts.load_dict(f"runs:/{run_id}/arguments.json")
    assert recorded["arguments"] == ["--seed", "5", f"--base-model={DEMO_BASE}", "--lora-r=4", "--output-dir=here"]
    assert recorded["settings"]["lora_r"] == 4
    (tmp_path / "flags.yaml").unlink()
    flags, args, again = begin("--resume", run_id)
    assert (flags.lora_r, args.seed, again) == (4, 5, run_id)
    # A file beside --resume is as the command line: it may change what trains the same, and names the run too.
    flags, args, again = begin("--config", file(f"resume: {run_id}\nlogging_steps: 3\n"))
    assert (flags.lora_r, args.logging_steps, again) == (4, 3, run_id)
    assert mlflow.get_run(run_id).data.tags["param_drift.logging_steps"] == "20 -> 3"
    logged = {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run_id)}
    assert len([path for path in logged if path.startswith("config-")]) == 1
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/config.yaml") == given.replace("abcd", "***")
    with pytest.raises(InputError, match="--lora-r 4 -> 8: this would change what is trained"):
        begin("--resume", run_id, "--config", file("lora-r: 8"))
    assert begin("--resume", run_id, "--config", file("lora-r: 4"))[2] == run_id


def test_the_file_in_the_docs_is_one(file):
    page = (ROOT / "docs" / "text_to_sql.md").read_text(encoding="utf-8")
    path = file(re.search(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[1])
    parser = ScriptParser(train_sql_generator.Flags, TRAINING[train_sql_generator], description="")
    flags, args = parser.parse(["--config", path, "--max-steps", "1000"])
    assert (flags.lora_r, flags.target_modules, args.max_steps) == (16, ["q_proj", "v_proj"], 1000)
    assert args.refused == []
    assert args.lr_scheduler_kwargs == {"min_lr_rate": 0.1}


@each_training
def test_every_flag_of_a_script_stands_in_one_group_with_what_it_means(script, capsys):
    names = [name for names in script.Flags.groups.values() for name in names]
    assert sorted(names) == sorted({field.name for field in dataclasses.fields(script.Flags)} | SHOWN)
    with pytest.raises(SystemExit):
        script.main(["--help"])
    lines = [*capsys.readouterr().out.splitlines(), ""]
    places = [lines.index(f"{title}:") for title in script.Flags.groups]
    assert places == sorted(places)
    for name in names:
        shown = [at for at, line in enumerate(lines) if line.startswith("  --" + name.replace("_", "-") + " ")]
        shown = shown or [lines.index("  --" + name.replace("_", "-"))]
        assert len(f"{lines[shown[0]]} {lines[shown[0] + 1]}".split(maxsplit=1)[1]) > 9


@pytest.mark.parametrize("script", REQUIRED, ids=lambda script: script.__name__)
def test_the_other_scripts_show_their_flags_in_groups_too(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["--help"])
    shown = capsys.readouterr().out
    assert len([line for line in shown.splitlines() if line.endswith(":") and line[0] != " "]) >= 4
    assert "\nthis command:\n" in shown
    assert "--config FILE" in shown


TAB = """
try() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
  _finetune_scripts "$1" "${@: -1}"; echo "${COMPREPLY[*]}"
}
try python asked.py --ma
try python3 ./asked.py U --precision ""
try python asked.py U --config REA
try python other.py REA
"""


def test_the_shell_completes_flags_choices_and_files_behind_python(capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(["--print-completion", "bash"])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    done = subprocess.run(["bash", "-c", script + TAB], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["--max-rows", "nf4 bf16", "README.md", "README.md"]
    for shell in ("zsh", "tcsh"):
        assert "precision" in completion(make_parser(), make_parser().actions, shell)


def test_completion_of_a_training_script_has_the_trainers_flags_once(capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        train_classifier.main(["--print-completion", "bash"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--lora-r", "--no-preflight", "--adam-beta1", "--config"))
    assert "--lora_r" not in shown


def test_completion_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(InputError, match=r"pip install -r requirements.txt"):
        make_parser().parse_args(["--print-completion", "bash"])
    with pytest.raises(InputError, match=r"invalid choice"):
        make_parser().parse_args(["--print-completion", "fish"])
