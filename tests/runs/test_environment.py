"""MLflow's own variables: those that MLflow Projects sets and the Trainer's callback knows are honoured or refused."""

import json
import logging
from types import SimpleNamespace

import log_model
import train_classifier
import train_sql_generator
import train_summarizer
from finetune import InputError, resuming
from finetune.logged_models.checkpoint_files import FOLDER_TAG, TASK_TAG
from finetune.runs import environment, lifecycle, tracking

import mlflow
import pytest
from conftest import DEMO_BASE, call, last_line, run_script
from transformers import MistralConfig, TrainerControl, TrainerState, TrainingArguments

SCRIPTS = [train_sql_generator, train_classifier, train_summarizer]
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)


def made(name: str = "project", experiment: str = "team", **tags) -> str:
    """Return the id of a run that is there before its training, as MLflow Projects makes it."""
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(experiment)
    number = found.experiment_id if found else client.create_experiment(experiment)
    return client.create_run(number, run_name=name, tags=tags).info.run_id


def flags(experiment: str = "sql-generator", **others) -> SimpleNamespace:
    """Return flags as `place` reads them."""
    return SimpleNamespace(**{"experiment": experiment, "offline_ok": False, "preflight_only": False} | others)


def refused(flags, is_given: bool = False) -> str:
    """Return the sentence with which the variables are refused."""
    with pytest.raises(InputError) as found:
        environment.place(flags, is_given)
    return str(found.value)


@each_script
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DISABLE_MLFLOW_INTEGRATION", "TRUE", "the model lives in MLflow"),
        ("DISABLE_MLFLOW_INTEGRATION", "1", "the model lives in MLflow"),
        ("MLFLOW_TAGS", "{team: a}", "it is no JSON"),
        ("MLFLOW_TAGS", '["a"]', "it is a list"),
        ("MLFLOW_TAGS", '{"a": {"b": 1}}', "a is a dict"),
        ("MLFLOW_TAGS", '{"a": null}', "a is a NoneType"),
        ("MLFLOW_TAGS", '{"a!": "b"}', "a!"),
        ("MLFLOW_TAGS", '{"finetune.checkpoints": "/etc"}', "the scripts' own"),
        ("MLFLOW_TAGS", '{"mlflow.runName": ""}', "cannot be a run's name"),
        ("MLFLOW_TAGS", '{"mlflow.runName": "a\\u0000b"}', "NUL"),
        ("MLFLOW_TAGS", '{"mlflow.runName": "a\\nb"}', "cannot be a run's name"),
        ("MLFLOW_TAGS", '{"note": "a\\u0000b"}', "NUL"),
        ("MLFLOW_NESTED_RUN", "perhaps", "neither true nor false"),
        ("MLFLOW_FLATTEN_PARAMS", "2", "neither true nor false"),
        ("HF_MLFLOW_LOG_ARTIFACTS", "s3", "neither true nor false"),
        ("MLFLOW_MAX_LOG_PARAMS", "²", "must be a whole number"),
        ("MLFLOW_MAX_LOG_PARAMS", "-1", "must be a whole number"),
        ("FINETUNE_PATIENCE", "abc", "number of seconds"),
        ("FINETUNE_PATIENCE", "nan", "number of seconds"),
        ("FINETUNE_PATIENCE", "inf", "number of seconds"),
        ("FINETUNE_PATIENCE", "-1", "number of seconds"),
        ("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef", "there is no such run"),
        ("MLFLOW_RUN_ID", "no id", "there is no such run"),
        ("MLFLOW_EXPERIMENT_ID", "987654", "there is no such experiment"),
        ("MLFLOW_EXPERIMENT_ID", "team", "there is no such experiment"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(script, name, value, said, monkeypatch):
    monkeypatch.setenv(name, value)
    sentence = call(script.main)
    assert said in sentence
    assert name in sentence


@each_script
@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0b", "x" * 251])
def test_a_name_that_no_run_can_have_is_refused_before_anything_starts(script, name):
    assert "--run-name" in (sentence := call(script.main, "--run-name", name))
    assert "cannot be a run's name" in sentence


def test_tags_are_texts_and_numbers(monkeypatch):
    monkeypatch.setenv("MLFLOW_TAGS", '{"team": "a", "release": 3, "mlflow.note.content": "x"}')
    assert environment.given_tags() == {"team": "a", "release": "3", "mlflow.note.content": "x"}


def test_what_is_ignored_is_said_once(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("HF_MLFLOW_LOG_ARTIFACTS", "true")
    environment.check_environment()
    assert caplog.text.count("HF_MLFLOW_LOG_ARTIFACTS is ignored") == 1
    monkeypatch.setenv("MLFLOW_NESTED_RUN", "1")
    assert environment.place(flags(), False) == (None, {})
    assert caplog.text.count("MLFLOW_NESTED_RUN is ignored") == 1


def test_the_experiment_of_the_variables_stands_between_flag_and_default(monkeypatch):
    made(experiment="by number")
    number = mlflow.get_experiment_by_name("by number").experiment_id
    for name, value, expected in (
        ("MLFLOW_EXPERIMENT_NAME", "team-a", "team-a"),
        ("MLFLOW_EXPERIMENT_NAME", " ", "sql-generator"),
        ("MLFLOW_EXPERIMENT_ID", number, "by number"),
    ):
        monkeypatch.setenv(name, value)
        given = flags()
        environment.place(given, False)
        assert given.experiment == expected
        given = flags("mine")
        environment.place(given, True)
        assert given.experiment == "mine"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team-a")
    assert "unset one" in refused(flags())


@each_script
def test_the_flag_counts_as_given_where_it_says_what_the_default_says(script, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team-a")
    parser = resuming.ScriptParser(script.Flags, _arguments_of(script), description="")

    def experiment(*given: str) -> str:
        flags, _, origin = resuming.parse_resumable(parser, ["--output-dir", str(tmp_path), *given], "classification")
        assert origin.settings["experiment"] == flags.experiment
        return flags.experiment

    default = script.Flags.experiment
    assert experiment() == "team-a"
    assert experiment("--experiment", default) == experiment(f"--experiment={default}") == default


def _arguments_of(script) -> type:
    return next(kind for name, kind in vars(script).items() if name.endswith("TrainingArguments")
                and kind.__module__ == script.__name__)  # fmt: skip


def test_a_training_goes_into_the_run_that_was_made_for_it(monkeypatch, tmp_path):
    run_id = made(**{"mlflow.source.name": "the project", "team": "b"})
    client = mlflow.MlflowClient()
    client.log_param(run_id, "learning_rate", "1e-3")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_TAGS", '{"team": "a"}')
    given = flags()
    empty, tags = environment.place(given, False)
    assert (given.experiment, empty.info.run_id) == ("team", run_id)
    with lifecycle.run(given.experiment, tmp_path, tags=tags, empty=empty) as inside:
        assert inside == run_id
        assert mlflow.get_run(run_id).info.status == "RUNNING"
        tracking.log_params({"learning_rate": "0.01", "seed": "7"})
    run = mlflow.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "project")
    assert run.data.params == {"learning_rate": "1e-3", "seed": "7"}
    assert run.data.tags["param_drift.learning_rate"] == "1e-3 -> 0.01"
    assert run.data.tags["mlflow.source.name"] == "the project"
    assert run.data.tags["team"] == "a"
    assert "mlflow.source.git.commit" in run.data.tags
    # --run-name renames it.
    other = made()
    with lifecycle.run("team", tmp_path, tags={"mlflow.runName": "mine"}, empty=mlflow.get_run(other)):
        pass
    assert mlflow.get_run(other).info.run_name == "mine"


def test_a_run_that_holds_a_training_or_is_gone_is_refused(monkeypatch):
    client = mlflow.MlflowClient()
    finished, cut_off, stopped, foreign, deleted = (made() for _ in range(5))
    for run_id in (finished, cut_off, stopped):
        client.set_tag(run_id, TASK_TAG, "classification")
    client.set_terminated(finished)
    client.set_tag(stopped, "finetune.stopped", "max-time")
    client.set_terminated(stopped)
    client.log_metric(foreign, "loss", 1.0, step=3)
    client.set_terminated(foreign)
    client.delete_run(deleted)
    begun = made()
    client.set_tag(begun, FOLDER_TAG, "/nowhere")
    for run_id, said in (
        (finished, "already holds a finished training"), (cut_off, f"--resume {cut_off}"),
        (stopped, f"--resume {stopped}"), (foreign, "already holds a finished training"),
        (begun, f"--resume {begun}"), (deleted, "was deleted"),
    ):  # fmt: skip
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        assert said in refused(flags())
    # One that ended without a training is as good as new.
    ended = made()
    client.set_terminated(ended)
    monkeypatch.setenv("MLFLOW_RUN_ID", ended)
    assert environment.place(flags(), False)[0].info.run_id == ended


def test_the_experiment_of_the_run_comes_first(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_RUN_ID", made())
    assert "--experiment other" in refused(flags("other"), is_given=True)
    assert environment.place(flags("team"), True)[0]
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    given = flags()
    environment.place(given, False)
    assert given.experiment == "team"
    assert "MLFLOW_EXPERIMENT_NAME is ignored" in caplog.text


def test_a_nested_run_is_a_child_of_the_run_that_is_named(monkeypatch, tmp_path):
    parent = made()
    mlflow.MlflowClient().set_tag(parent, TASK_TAG, "text-to-sql")  # What it holds does not matter.
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    monkeypatch.setenv("MLFLOW_NESTED_RUN", "true")
    given = flags()
    empty, tags = environment.place(given, False)
    assert (empty, given.experiment) == (None, "team")
    with lifecycle.run(given.experiment, tmp_path, tags=tags) as child:
        pass
    assert child != parent
    assert mlflow.get_run(child).data.tags["mlflow.parentRunId"] == parent
    assert mlflow.get_run(parent).info.status == "RUNNING"


def test_what_cannot_be_looked_up_without_a_server_is_said(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    before = mlflow.get_tracking_uri()
    try:
        for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
            monkeypatch.setenv(name, "1")
            assert "--offline-ok" in refused(flags(offline_ok=True))
    finally:
        mlflow.set_tracking_uri(before)


@each_script
def test_resume_and_another_run_id_contradict_each_other(script, trained_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert "unset MLFLOW_RUN_ID" in call(script.main, "--resume", trained_run["id"])
    monkeypatch.setenv("MLFLOW_RUN_ID", trained_run["id"])
    assert "MLFLOW_RUN_ID" not in call(script.main, "--resume", trained_run["id"])  # It is finished, or another task's.


@pytest.mark.parametrize("flatten", ["0", "1"])
def test_the_trainers_callback_logs_under_any_variables(flatten, monkeypatch, tmp_path):
    for name, value in {
        "MLFLOW_RUN_ID": "0" * 32, "MLFLOW_NESTED_RUN": "1", "MLFLOW_EXPERIMENT_NAME": "x", "MLFLOW_TAGS": "{broken",
        "HF_MLFLOW_LOG_ARTIFACTS": "1", "MLFLOW_FLATTEN_PARAMS": flatten,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    labels = {0: "fair", 1: "unfair (arbitration!)", 2: "ümlaut/../x", 3: "x" * 300}
    model = SimpleNamespace(config=MistralConfig(id2label=labels, label2id={v: k for k, v in labels.items()}))
    args, callback = TrainingArguments(str(tmp_path), report_to=[]), lifecycle.RunCallback(lambda: None)
    with lifecycle.run("callbacks", tmp_path) as run_id:
        callback.on_train_begin(args, TrainerState(), TrainerControl(), model=model)
        callback.on_log(args, TrainerState(global_step=1), TrainerControl(), logs={"loss": 1.0})
        callback.on_save(args, TrainerState(global_step=1), TrainerControl())
    run = mlflow.get_run(run_id)
    assert run.data.params["seed"] == "42"
    assert run.data.metrics["loss"] == 1
    assert ("label2id.unfair _arbitration__" in run.data.params) == (flatten == "1")
    assert not any((tmp_path / run_id).iterdir())  # Nothing was refused.
    assert mlflow.get_experiment_by_name("x") is None


def test_each_run_has_a_name_of_its_own(tmp_path):
    origin = resuming.Origin([], {})
    names = set()
    for script, task in zip(SCRIPTS, ("sql-generator", "classifier", "summarizer"), strict=True):
        given = script.Flags(base_model="mistralai/Mistral-7B-v0.1", lora_r=32)
        (name,) = resuming._name(given, SimpleNamespace(run_name=None), origin).values()
        assert name.startswith(f"{task}-Mistral-7B-v0.1-r32-")
        names |= {name, *resuming._name(given, SimpleNamespace(run_name=None), origin).values()}
        assert resuming._name(given, SimpleNamespace(run_name="mine"), origin) == {"mlflow.runName": "mine"}
        given = script.Flags(base_model=f"{DEMO_BASE}/", lora_r=8)
        assert next(iter(resuming._name(given, SimpleNamespace(run_name=""), origin).values())).startswith(
            f"{task}-sql-base-r8-"
        )
    assert len(names) == 6
    origin = resuming.Origin([], {}, tags={"mlflow.runName": "by MLFLOW_TAGS"})
    assert resuming._name(given, SimpleNamespace(run_name=None), origin) == {}


def test_a_training_of_the_default_seed_is_named_for_what_it_is(trained_run, classifier_run, summarizer_run):
    for run, name in ((trained_run, "sql-generator-sql-base-r"), (classifier_run, "classifier-roberta-r16-"),
                      (summarizer_run, "summarizer-base-r16-")):  # fmt: skip
        assert mlflow.get_run(run["id"]).info.run_name.startswith(name)


def test_log_model_pays_no_attention(logged_model, monkeypatch, capsys):
    """In an MLflow project each step has a run of its own; the model goes into the run that is named."""
    own = made()
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "made-by-nobody")
    monkeypatch.setenv("MLFLOW_NESTED_RUN", "1")
    assert call(log_model.main, logged_model["run_id"], "--no-reload-check", "--name", "in-a-project") is None
    assert capsys.readouterr().out.split()[-1] == f"runs:/{logged_model['run_id']}/in-a-project"
    assert mlflow.get_run(own).info.status == "RUNNING"
    assert mlflow.get_experiment_by_name("made-by-nobody") is None


@pytest.mark.slow
def test_all_variables_in_a_training(few_rows, tmp_path):
    run_id = made(experiment="sql-generator")
    done = run_script(
        "train_sql_generator.py", "--base-model", DEMO_BASE, "--dataset", few_rows, "--max-steps", 2, "--score-rows", 0,
        "--distractor-columns", 0, "--preflight", "false", "--max-validation-rows", 4, "--log-checkpoints", "none",
        "--output-dir", tmp_path, "--run-name", "mine", MLFLOW_RUN_ID=run_id, MLFLOW_TAGS=json.dumps({"team": "a"}),
        MLFLOW_NESTED_RUN="0", HF_MLFLOW_LOG_ARTIFACTS="1", MLFLOW_FLATTEN_PARAMS="1", MLFLOW_MAX_LOG_PARAMS="5",
    )  # fmt: skip
    assert last_line(done) == run_id
    assert done.stderr.count("HF_MLFLOW_LOG_ARTIFACTS") == 1
    run = mlflow.get_run(run_id)
    assert (run.info.status, run.info.run_name, run.data.tags["team"]) == ("FINISHED", "mine", "a")
