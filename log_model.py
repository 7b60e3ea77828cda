"""Log a run's adapter as an MLflow model in the same run, and check that it reloads to the same answers.

The model's URI is the last line on stdout. Go on with `python predict.py URI`.
"""

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from finetune import InputError, console, screen
from finetune.console import Parser
from finetune.logged_models.checkpoint_files import digest_of
from finetune.logged_models.entries import check_name, clear_left, clear_older, find_logged, ready_models
from finetune.logged_models.last_run import find_last, is_last
from finetune.logged_models.refusals import check_rights, logging_into, refuse_deleted
from finetune.logged_models.writing.checkpoints_as_models import log_checkpoint
from finetune.logged_models.writing.onnx_export import check_packages
from finetune.models.bases.quantization import recorded_dtype
from finetune.models.card import CARD, MEND, Card
from finetune.models.classifier.onnx_model import FILE as ONNX
from finetune.models.files.adapter_files import check_adapter, check_numbers
from finetune.models.files.schemas import NUMBER, check, listed, whole
from finetune.models.generation import parts_at_near_tie
from finetune.models.trained import kind_of
from finetune.reports.explaining.description import describe
from finetune.runs import lifecycle, tracking
from finetune.runs.checkpoints import find_checkpoint, has_checkpoint
from finetune.screen import DETAIL

import mlflow
import numpy as np
from mlflow.entities import Run

logger = logging.getLogger(__name__)
RECORD = "reload_check.json"
EXACT, MERGED = 1e-5, 1e-3  # differences of scores: the same weights, and weights merged in full precision


def main(arguments: list[str] | None = None) -> None:
    """Find the checkpoint, log it, replay held-out prompts through it; print its URI."""
    flags = parse(arguments)
    tracking.connect()
    if flags.sync:
        refuse_deleted(flags.run.removeprefix("runs:/").split("/")[0])
        console.print_result(lifecycle.sync(flags.run, flags.sync))
        return
    run = find_last(has_checkpoint, "has a checkpoint") if is_last(flags.run) else tracking.find_run(flags.run)
    check_rights(run)
    checkpoint, why = find_checkpoint(run, flags.checkpoint)
    card = Card.read(checkpoint)
    check_flags_of_task(flags, card.task)
    if not card.sample:
        raise InputError(f"{checkpoint / CARD} is damaged: sample is missing; {MEND}.")
    recorded_answers(run.info.run_id)
    check_adapter(checkpoint)
    check_numbers(checkpoint)
    uri = f"runs:/{run.info.run_id}/{flags.name}"
    with logging_into(run):
        parity = log_and_check(flags, run, checkpoint, why, flags.name, flags.mode)
        if flags.export:
            parity &= log_and_check(flags, run, checkpoint, why, f"{flags.name}-onnx", ONNX)
        describe(run.info.run_id)
        tracking.log_messages(run.info.run_id)
    for printed in [f"{uri}-onnx", uri] if flags.export else [uri]:
        console.print_result(printed)
    if not parity:
        sys.exit(1)


def parse(arguments: list[str] | None):
    """Return the flags, the model's name checked."""
    parser = Parser(usage="%(prog)s RUN [flags]", description=__doc__)
    parser.add_argument("run", help="run id, runs:/<id>, or last: the newest run with a checkpoint")
    model = parser.add_argument_group("model")
    check = parser.add_argument_group("reload check")
    offline = parser.add_argument_group("run")
    model.add_argument(
        "--checkpoint", default="best", help="which checkpoint: best, last, or its step (of a classifier, its epoch)"
    )
    model.add_argument("--name", default="model", help="name of the model in the run")
    model.add_argument(
        "--mode",
        choices=("adapter", "merged"),
        default="adapter",
        help="adapter: it refers to its base; merged (summarizers only): one model that needs no base",
    )
    model.add_argument(
        "--export",
        choices=("onnx",),
        help="log a classifier as one ONNX file too, base and adapter in one, under NAME-onnx",
    )
    check.add_argument(
        "--reload-check",
        action="store_true",
        default=True,
        help="by default: load the logged model in a fresh process and compare its answers with the trained model's",
    )
    check.add_argument(
        "--no-reload-check",
        dest="reload_check",
        action="store_false",
        help="leave that out, where the base does not fit on this machine",
    )
    model.add_argument(
        "--replace", action="store_true", help="delete older models of the same name, once the new one is there"
    )
    offline.add_argument(
        "--sync",
        metavar="FOLDER",
        type=Path,
        help="only send what training logged while the server was away; FOLDER is OUTPUT_DIR/<run id>",
    )
    flags = parser.parse_args(arguments)
    check_name(flags.name)
    return flags


def check_flags_of_task(flags, task: str) -> None:
    """Raise InputError for flags that the task does not have, or whose packages are missing."""
    forms = kind_of(task).forms
    if flags.export and ONNX not in forms:
        raise InputError(f"--export {flags.export}: only a classifier can be exported; this is {task}.")
    if flags.mode not in forms:
        raise InputError(f"--mode merged: only a summarizer can be merged; this is {task}.")
    if flags.export:
        check_packages()


def log_and_check(flags, run: Run, checkpoint: Path, why: str, name: str, form: str) -> bool:
    """Log a checkpoint under a name, unless it is there, and say whether it reloads to the same answers.

    Args:
        why: it is this checkpoint.
        form: `adapter`, `merged`, or `ONNX` for an exported classifier.
    """
    run_id = run.info.run_id
    clear_left(run, name)
    model_id = log_once(run, checkpoint, why, name, form)
    tolerance, shown = MERGED if form == ONNX else EXACT, f" of model {model_id} ({why})"
    parity = not flags.reload_check or reload_check(run_id, checkpoint, f"runs:/{run_id}/{name}", tolerance, shown)
    if flags.replace and parity:
        clear_older(run, name, model_id)
    others = [model.model_id for model in ready_models(run, name) if model.model_id != model_id]
    if others:
        logger.warning(
            f"run {run_id} has {len(others) + 1} models named {name}: {model_id} ({why}) is the newest, which"
            f" runs:/{run_id}/{name} means; {', '.join(others)} older. --replace deletes the older ones."
        )
    return parity


def log_once(run: Run, checkpoint: Path, why: str, name: str, form: str) -> str:
    """Log a checkpoint under a name, and return the id of its model; the newest one may be this already."""
    place = f"runs:/{run.info.run_id}/{name}"
    if found := find_logged(run, name, digest_of(checkpoint, form)):
        logger.info(f"{place} is this checkpoint already ({why}): model {found}; nothing is logged again.")
        return found
    logger.info(f"logging {checkpoint} ({why})", extra=DETAIL)
    model_id = log_checkpoint(run, checkpoint, name, form)
    link_scorecard(run, checkpoint, model_id)
    logger.info(f"{place} is model {model_id} ({why})")
    return model_id


def link_scorecard(run: Run, checkpoint: Path, model_id: str) -> None:
    """Attach the scorecard that training ended with to the model, where it is the same checkpoint's."""
    recorded = recorded_answers(run.info.run_id)
    if not recorded or checkpoint.name != f"checkpoint-{recorded['step']}":
        return
    scores = {name: value for name, value in run.data.metrics.items() if name.startswith("validation_")}
    if scores:
        mlflow.log_metrics(scores, step=recorded["step"], run_id=run.info.run_id, model_id=model_id)


def recorded_answers(run_id: str) -> dict | None:
    """Return what the trained model answered at the end of training, None where it did not come to that.

    Raises:
        InputError: the artifact is not as training writes it.
    """
    found = tracking.load_artifact_json(run_id, RECORD)
    where, mend = f"{RECORD} of run {run_id}", "delete that artifact, and the checkpoint is asked instead"
    each = {"token_ids": listed(listed(whole(0, 2**31)), 1), "scores": listed(listed(NUMBER), 1)}
    if found is None:
        return None
    check(found, {"step": whole(0, 2**62)}, where, mend, each | {"margins": listed(listed(NUMBER))})
    answers = found.get("token_ids") or found.get("scores") or []
    # Of each token and of the end.
    if not answers or ("margins" in found and list(map(len, found["margins"])) != [len(row) + 1 for row in answers]):
        raise InputError(f"{where} is damaged: its answers and their margins do not go together; {mend}.")
    return found


def reload_check(run_id: str, checkpoint: Path, uri: str, tolerance: float, shown: str = "") -> bool:
    """Replay the sample through the logged model, tag the run with the result and return it.

    Args:
        tolerance: by how much the score of a classifier may differ; tokens are the same or not.
        shown: which model that is.
    """
    card = Card.read(checkpoint)
    recorded, lead = recorded_answers(run_id), None
    if recorded and checkpoint.name == f"checkpoint-{recorded['step']}":
        expected, lead = recorded["token_ids" if "token_ids" in recorded else "scores"], recorded.get("margins")
    else:  # Training ended with another checkpoint in memory, or did not end.
        expected = replay(str(checkpoint), card)
    actual = replay(uri, card)
    if len(expected) != len(actual):
        raise InputError(
            f"{RECORD} of run {run_id} is damaged: it has {len(expected)} answers, and the card {len(actual)} rows to"
            " ask; delete that artifact, and the checkpoint is asked instead."
        )
    if kind_of(card.task).checked_by == "scores":
        pairs = zip(expected, actual, strict=True)
        same = sum(len(a) == len(b) and np.allclose(a, b, rtol=0, atol=tolerance) for a, b in pairs)
        what = f"texts have the trained model's scores to {tolerance:g}"
    else:
        same = sum(a == b for a, b in zip(expected, actual, strict=True))
        what = "answers have the trained model's tokens"
        # Training may have answered with other kernels, such as Liger's, in the same arithmetic.
        triples = zip(expected, actual, lead or [], strict=lead is not None)
        near = sum(a != b and parts_at_near_tie(a, b, leads, recorded_dtype(card)) for a, b, leads in triples)
        if near:
            same, what = same + near, f"{what}, {near} of them up to a near tie"
    parity = "pass" if same == len(expected) else "fail"
    tag = "onnx_parity" if uri.endswith("-onnx") else "reload_parity"
    mlflow.MlflowClient().set_tag(run_id, tag, parity)
    logger.info(f"reload check{shown}: {same} of {len(expected)} {what}: {parity}")
    return parity == "pass"


def replay(model: str, card: Card) -> list[list]:
    """Return greedy token ids, or scores, for the card's sample, from predict.py in a process of its own."""
    kind = kind_of(card.task)
    options = ["--token-ids"] if kind.checked_by == "token_ids" else []
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in card.inputs))
        file.flush()
        script = str(Path(__file__).parent / "predict.py")
        # As in training: in another type near ties may fall otherwise.
        options += ["--compute-dtype", "recorded", *["--verbose"] * screen.is_verbose()]
        command = [sys.executable, script, model, "--input", file.name, "--json", *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"the reload check could not load {model} (see above); where the base does not fit here, use"
            " --no-reload-check."
        )
    found = [json.loads(line)[kind.checked_by] for line in done.stdout.splitlines()]
    return [list(answer.values()) if isinstance(answer, dict) else answer for answer in found]


if __name__ == "__main__":
    console.run(main)
