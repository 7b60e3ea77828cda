"""The trainings of a learning curve in the store: the same validation rows, the same defaults, and no run left open."""

import logging
from argparse import Namespace

from finetune import InputError
from finetune.reports.curves import training
from finetune.reports.curves.children import ROWS, children_of, refuse_other_rows, rows_of_curve
from finetune.runs import tracking
from finetune.runs.checkpoints import CURVE_TAG, PERCENT_TAG

import mlflow
import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

ORIGIN = {"run": None, "empty": None, "online": True, "task": "classification", "arguments": ["--seed", "1"],
          "settings": {}, "config": None, "given": [], "kept": []}  # fmt: skip
NAMES = ("compute_dtype=fp32", "save_steps=0.5", "eval_steps=0.5", "eval_strategy=steps", "max_length=9")


def make_curve(**texts: str | None) -> str:
    """Make a curve with a training for each share, p50 and so on, on a validation row of its text; return its id."""
    client = mlflow.MlflowClient()
    curve = client.create_run("0", tags={CURVE_TAG: "50, 100"}).info.run_id
    for share, text in texts.items():
        tags = {MLFLOW_PARENT_RUN_ID: curve, PERCENT_TAG: share[1:]}
        child = client.create_run("0", tags=tags).info.run_id
        tracking.log_dataset(child, [{"text": "train"}], ("text",), "a.jsonl", "train_rows", "training")
        if text:
            tracking.log_dataset(child, [{"text": text}], ("text",), "a.jsonl", ROWS, "validation")
        client.set_terminated(child, "FINISHED" if text else "FAILED")
    return curve


def request_of(**origin) -> training.Request:
    flags = Namespace(experiment="Default", learning_curve=[50, 100], max_time=None)
    return training.Request(flags, {"mlflow.runName": "c"}, Namespace(**ORIGIN | origin))


def test_shares_on_different_validation_rows_are_no_curve():
    curve = make_curve(p50="one", p100="two")
    runs = children_of(curve)
    with pytest.raises(InputError, match=r"different validation rows: run .* and run .*start a new curve"):
        refuse_other_rows(runs.values())
    for refuse in (lambda: training._next(request_of(), curve, 50, None), lambda: training._show(curve, request_of())):
        with pytest.raises(InputError, match="different validation rows"):
            refuse()
    refuse_other_rows([runs[50]])


def test_a_fresh_training_gets_the_rows_and_the_defaults_of_its_curve():
    curve = make_curve(p50="one", p100=None)
    assert list(rows_of_curve(curve)) == [ROWS]
    assert rows_of_curve(children_of(curve)[50].info.run_id) == rows_of_curve("0" * 32) == {}
    kept = [f"--{name}" for name in NAMES]
    settings = {"save_strategy": "epoch", "eval_strategy": "steps"}
    request = request_of(kept=kept, settings=settings)
    assert training._next(request, curve, 50, None) == (None, None)
    arguments, _ = training._next(request, curve, 100, None)  # It failed before it had rows.
    assert arguments[:6] == ["--seed", "1", *(kept[place] for place in (0, 2, 3)), "--train-percent=100"]


def test_a_curve_whose_files_cannot_be_written_ends_in_a_sentence(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "file").write_text("")
    name = f"unwritable {tmp_path.name}"
    experiment = mlflow.create_experiment(name, artifact_location=(tmp_path / "file" / "artifacts").as_uri())
    request = request_of()
    request.flags.experiment = name
    with pytest.raises(InputError, match=r"the files of the learning curve cannot be written: .*\.$"):
        training.train(None, request)
    (run,) = mlflow.search_runs([experiment], output_format="list")
    assert run.info.status == "FAILED"
    assert "--resume" not in caplog.text  # It has nothing to go on from.
