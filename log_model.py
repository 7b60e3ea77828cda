"""Log a run's adapter as an MLflow model in the same run, and check that it reloads to the same answers.

The model's URI is the last line on stdout; with --register, that in the registry. Go on with
`python predict.py URI`.
"""

import logging
import shlex
import sys
from pathlib import Path

from finetune import InputError, console
from finetune.console import Parser
from finetune.logged_models.checkpoint_files import digest_of
from finetune.logged_models.entries import check_name, clear_left, clear_older, find_logged, ready_models
from finetune.logged_models.last_run import find_last, is_last
from finetune.logged_models.refusals import check_rights, logging_into, refuse_deleted
from finetune.logged_models.writing.checkpoints_as_models import log_checkpoint
from finetune.logged_models.writing.onnx_export import check_packages
from finetune.logged_models.writing.weights.persisting import is_unchecked, persist
from finetune.logged_models.writing.weights.quantized_base import is_stored, store_quantized
from finetune.models.card import CARD, FULL_FORMS, MEND, Card
from finetune.models.classifier.onnx_model import FILE as ONNX
from finetune.models.files.adapter_files import check_adapter, check_numbers
from finetune.models.trained import kind_of
from finetune.registering import registration
from finetune.registering.flags import add_flags, check_flags
from finetune.registering.prompts import record_prompt
from finetune.reports.explaining.description import describe
from finetune.reports.exports.exporting import FOLDERS, add_export_flags, check_export, prepare_export
from finetune.runs import lifecycle, tracking
from finetune.runs.adopting.adopting import add_adopt_flags, adopt, check_source
from finetune.runs.adopting.scoring import naming_run, score_adopted
from finetune.runs.checkpoints import find_checkpoint, has_checkpoint
from finetune.runs.full_models import log_full
from finetune.runs.reload_check import recorded_answers, reload_check, tolerance_of
from finetune.screen import DETAIL

import mlflow
from mlflow.entities import Run

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Find the checkpoint, log it, replay held-out prompts through it; print its URI."""
    flags = parse(arguments)
    tracking.connect()
    if flags.mode in FULL_FORMS:
        return console.print_result(log_full(flags))
    if flags.sync:
        refuse_deleted(flags.run.removeprefix("runs:/").split("/")[0])
        return console.print_result(lifecycle.sync(flags.run, flags.sync))
    run = find_run(flags)
    with naming_run(flags, run):
        is_well = log_run(flags, run)
    if not is_well:
        sys.exit(1)


def log_run(flags, run: Run) -> bool:
    """Log the checkpoint of a run, check it, export and register it; print the URIs; say whether all of it passed."""
    check_rights(run)
    checkpoint, why = find_checkpoint(run, flags.checkpoint)
    card = Card.read(checkpoint)
    check_flags_of_task(flags, card.task)
    if not card.sample:
        raise InputError(f"{checkpoint / CARD} is damaged: sample is missing; {MEND}.")
    recorded_answers(run.info.run_id)
    check_adapter(checkpoint)
    check_numbers(checkpoint)
    exported = prepare_export(flags, run, checkpoint)
    wanted = registration.begin(flags, run, checkpoint)
    uri = f"runs:/{run.info.run_id}/{flags.name}"
    registered = f"{flags.name}-onnx" if flags.export == "onnx" else flags.name
    if flags.quantized_base:
        flags.quantized_base = store_quantized(card, flags.quantized_base.absolute())
    with logging_into(run):
        reloaded = {flags.name: log_and_check(flags, run, checkpoint, why, flags.name, flags.mode)}
        if flags.export == "onnx":
            reloaded[registered] = log_and_check(flags, run, checkpoint, why, registered, ONNX)
        is_exported = exported.make(why) if exported else True
        describe(run.info.run_id)
        tracking.log_messages(run.info.run_id)
    is_scored = score_adopted(uri, flags) if flags.source and flags.dataset else True
    if flags.export:
        console.print_result(str(exported.target) if exported else f"{uri}-onnx")
    console.print_result(uri)
    is_registered = wanted.carry_out(registered, reloaded[registered]) if wanted else True
    return all(reloaded.values()) and is_exported and is_scored and is_registered


def parse(arguments: list[str] | None):
    """Return the flags, the model's name checked."""
    parser = Parser(usage="%(prog)s RUN [flags]", description=__doc__)
    parser.add_argument("run", nargs="?", help="run id, runs:/<id>, or last: the newest run with a checkpoint")
    model = parser.add_argument_group("model")
    check = parser.add_argument_group("reload check")
    offline = parser.add_argument_group("run")
    model.add_argument(
        "--checkpoint",
        help="which checkpoint: best, last, or its step (of a classifier, its epoch) [what training ended with]",
    )
    model.add_argument("--name", default="model", help="name of the model in the run")
    model.add_argument(
        "--mode",
        choices=("adapter", "merged", *FULL_FORMS),
        default="adapter",
        help="adapter: it refers to its base; merged: base and adapter in one model that needs no base; checkpoint,"
        " reference: with --from",
    )
    model.add_argument(
        "--persist",
        action="store_true",
        help="put the base into the model too: it then loads with no Hub and no other folder",
    )
    model.add_argument(
        "--quantized-base",
        metavar="DIR",
        type=Path,
        help="store a decoder's 4-bit base in DIR once and refer to it: plain MLflow then has it as in training",
    )
    model.add_argument(
        "--export",
        choices=(*FOLDERS, "onnx"),
        help="for other programs too, in a folder: peft, the adapter; safetensors, base and adapter in one; gguf, both"
        " for llama.cpp. onnx: a classifier as one file, logged under NAME-onnx",
    )
    add_export_flags(model)
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
    add_adopt_flags(parser)
    add_flags(parser)
    flags = parser.parse_args(arguments)
    check_name(flags.name)
    check_source(flags)
    check_flags(flags)
    return flags


def find_run(flags) -> Run:
    """Return the run to log, made for the adapter of --from where there is one."""
    if flags.source:
        return adopt(flags, lambda checkpoint: check_adopted(flags, checkpoint))
    return find_last(has_checkpoint, "has a checkpoint") if is_last(flags.run) else tracking.find_run(flags.run)


def check_adopted(flags, checkpoint: Path) -> None:
    """Raise InputError for what flags ask of the adapter of --from that it cannot have, before there is a run."""
    card = Card.read(checkpoint)
    check_flags_of_task(flags, card.task)
    if flags.quantized_base:
        is_stored(card, flags.quantized_base.absolute())
    given = {"--from": flags.source, "--task": flags.task, "--prompt": flags.prompt}
    given |= {"--base-model": flags.base_model, "--trained-in": flags.trained_in, "--dialect": flags.dialect}
    again = [part for name, value in given.items() if value for part in (name, str(value))]
    check_export(flags, shlex.join(again), card)
    registration.check_rows(flags, checkpoint)


def check_flags_of_task(flags, task: str) -> None:
    """Raise InputError for flags that the task does not have, or whose packages are missing."""
    forms = kind_of(task).forms
    if flags.export == "onnx" and ONNX not in forms:
        raise InputError(f"--export onnx: only a classifier can be exported so; this is {task}.")
    if flags.mode != "adapter" and (flags.persist or flags.quantized_base):
        flag = "--persist" if flags.persist else "--quantized-base"
        raise InputError(f"{flag}: a model of --mode {flags.mode} has no base; leave the flag out.")
    if flags.export == "onnx":
        check_packages()


def log_and_check(flags, run: Run, checkpoint: Path, why: str, name: str, form: str) -> bool:
    """Log a checkpoint under a name, unless it is there, and say whether it reloads to the same answers.

    Args:
        why: it is this checkpoint.
        form: `adapter`, `merged`, or `ONNX` for an exported classifier.
    """
    run_id = run.info.run_id
    clear_left(run, name)
    quantized = flags.quantized_base if form == flags.mode else None
    model_id = log_once(run, checkpoint, why, name, form, quantized)
    card = Card.read(checkpoint)
    record_prompt(run, card, model_id)
    tolerance, shown = tolerance_of(card, form != "adapter"), f" of model {model_id} ({why})"

    def check() -> bool:
        return not flags.reload_check or reload_check(run_id, checkpoint, f"runs:/{run_id}/{name}", tolerance, shown)

    # One whose --persist was cut off before its check gets it now.
    is_persisted = flags.persist or (flags.reload_check and is_unchecked(model_id))
    parity = persist(model_id, checkpoint, check) if is_persisted and form == flags.mode else check()
    if flags.replace and parity:
        clear_older(run, name, model_id)
    others = [model.model_id for model in ready_models(run, name) if model.model_id != model_id]
    if others:
        logger.warning(
            f"run {run_id} has {len(others) + 1} models named {name}: {model_id} ({why}) is the newest, which"
            f" runs:/{run_id}/{name} means; {', '.join(others)} older. --replace deletes the older ones."
        )
    return parity


def log_once(run: Run, checkpoint: Path, why: str, name: str, form: str, quantized: Path | None) -> str:
    """Log a checkpoint under a name, and return the id of its model; the newest one may be this already."""
    place = f"runs:/{run.info.run_id}/{name}"
    if found := find_logged(run, name, digest_of(checkpoint, form, quantized)):
        logger.info(f"{place} is this checkpoint already ({why}): model {found}; nothing is logged again.")
        return found
    logger.info(f"logging {checkpoint} ({why})", extra=DETAIL)
    model_id = log_checkpoint(run, checkpoint, name, form, quantized=quantized)
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


if __name__ == "__main__":
    console.run(main)
