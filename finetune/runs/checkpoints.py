"""Checkpoints on disk: the model card that travels in each, and how one is found again from its run."""

import logging
import os
import re
from pathlib import Path
from typing import Any

from finetune import InputError
from finetune.logged_models.checkpoint_files import FOLDER_TAG, STATE, step_of
from finetune.models.bases.configs import read_config
from finetune.models.bases.loading import BaseFlags, fingerprint
from finetune.models.bases.quantization import to_record
from finetune.models.card import CARD, MEND, Card
from finetune.models.files.inside import inside, is_numbered
from finetune.models.files.schemas import ANY, NULL, check, either, listed, mapped, number, read_json, text, whole
from finetune.models.trained import kind_of
from finetune.runs.sending import uploads
from finetune.runs.sending.spool import HEADER, OFFLINE, OFFLINE_TAG, SPOOL, read_header

from mlflow.entities import Run
from transformers import BitsAndBytesConfig, Trainer

logger = logging.getLogger(__name__)
STOPPED_TAG = "finetune.stopped"
# Of a learning curve: its percentages; of each training of a share of the rows: its percentage.
CURVE_TAG, PERCENT_TAG = "finetune.learning_curve", "finetune.train_percent"


def start_card(flags: BaseFlags, revision: str | None, quantization: BitsAndBytesConfig | None) -> dict[str, Any]:
    """Return fields that the card of every task has: enough to restore the base as it was trained.

    Args:
        flags: with `base_model`, `compute_dtype` and `max_length`.
    """
    is_folder = os.path.isdir(flags.base_model)
    return {
        "base_model": str(Path(flags.base_model).resolve()) if is_folder else flags.base_model,
        "base_revision": revision,
        "base_fingerprint": fingerprint(Path(flags.base_model)) if is_folder else None,
        "base_config": read_config(flags.base_model, revision),
        "quantization": to_record(quantization),
        "compute_dtype": flags.compute_dtype,
        "max_length": flags.max_length,
    }


def final_step(trainer: Trainer) -> int:
    """Return the step of the weights that a training has ended with: the best, or the last."""
    best = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    return best or trainer.state.global_step


def find_checkpoint(run: Run, which: str | None = None) -> tuple[Path, str]:
    """Return the folder of a run's checkpoint, and why it is that one.

    Args:
        which: `best` (by the metric training selected on; the last one where nothing was evaluated),
            `last`, a step, or, where checkpoints are made at the end of epochs, an epoch; None for the one that
            training ends with: the best, or the last (of a classifier that was stopped the last that was evaluated).

    Raises:
        InputError: the run has no checkpoint, or not that one.
    """
    steps = list_checkpoints(run)
    last = steps[max(steps)]
    ends_with_last = run.data.params.get("load_best_model_at_end") == "False"
    if which is None and ends_with_last and hasattr(Card.read(last), "thresholds"):
        return _last_evaluated(steps)
    if which == "last" or (which is None and ends_with_last):
        return last, f"last, step {step_of(last)}"
    if which in ("best", None):
        return _best(run, steps, last)
    known, expected = {str(step): path for step, path in steps.items()}, f"steps {', '.join(map(str, steps))}"
    if kind_of(Card.read(last).task).by_epoch:
        epochs = {f"{Card.read(path).epoch or 0:g}": path for path in steps.values()}
        known, expected = known | epochs, f"{expected} or epochs {', '.join(epochs)}"
    if which not in known:
        raise InputError(
            f"run {run.info.run_id} has no checkpoint {which}; expected best, last or one of the {expected}."
        )
    return known[which], f"step {step_of(known[which])}, by --checkpoint {which}"


def _last_evaluated(steps: dict[int, Path]) -> tuple[Path, str]:
    """Return the last checkpoint with an evaluation of its own, as one that was saved in haste has none."""
    last, evaluated = max(steps), [step for step in steps if step in _evaluations(steps[step])]
    step = max(evaluated, default=last)
    return steps[step], f"last{'' if step == last else ' that was evaluated'}, step {step}"


def _evaluations(folder: Path) -> set[int]:
    return {entry.get("step") for entry in read_state(folder).get("log_history", []) if "eval_loss" in entry}


def _best(run: Run, steps: dict[int, Path], last: Path) -> tuple[Path, str]:
    best = read_state(last).get("best_global_step")
    if best in steps:
        metric = run.data.params.get("metric_for_best_model", "")
        by = f" by eval_{metric.removeprefix('eval_')}" if metric not in ("", "None") else ""
        return steps[best], f"best{by}, step {best}"
    why = f"the best, step {best}, is no longer there" if best else "nothing was evaluated"
    return last, f"last, step {step_of(last)}: {why}"


def list_checkpoints(run: Run) -> dict[int, Path]:
    """Return the complete checkpoints of a run by step, from MLflow where this machine has none.

    Raises:
        InputError: there is none.
    """
    if CURVE_TAG in run.data.tags:
        raise InputError(
            f"run {run.info.run_id} is a learning curve, whose trainings are its child runs: its table learning_curve"
            " names them; give the id of one."
        )
    if FOLDER_TAG not in run.data.tags:
        raise InputError(f"run {run.info.run_id} has no checkpoint; it was not made by a training script here.")
    steps = checkpoints_of(run) or checkpoints_in(uploads.download_all(run.info.run_id))
    if not steps:
        raise InputError(
            f"run {run.info.run_id} has no checkpoint in {run.data.tags[FOLDER_TAG][:300]} and none in MLflow: training"
            " ended before the first save, or the folder was moved or deleted, or is another run's."
        )
    return steps


def has_checkpoint(run: Run) -> bool:
    """Say whether a complete checkpoint of a run is on this machine or in MLflow."""
    return bool(checkpoints_of(run) or uploads.uploaded_steps(run.info.run_id))


def checkpoints_of(run: Run) -> dict[int, Path]:
    """Return the complete checkpoints of a run on this machine by step, in order; there may be none.

    The store says where they are; whatever is there counts only where its card says that it is this run's.
    """
    folder = run.data.tags.get(FOLDER_TAG)
    if not folder or not folder.isprintable() or not os.path.isabs(folder) or not os.path.isdir(folder):
        return {}  # A run cut off before its setup has none.
    ids, owners = ids_of(run), {path: _owner(path) for path in checkpoints_in(Path(folder)).values()}
    if not ids & set(owners.values()) and not (Path(folder).name in ids and set(owners.values()) == {None}):
        return {}
    return {step_of(path): path for path, owner in owners.items() if owner is None or owner in ids}


def folder_of(run: Run) -> Path | None:
    """Return the folder of a run that the store names where this machine knows it as the run's; None otherwise.

    No other path of the store is followed. It is the run's by its cards, by what it has not sent, or, before the first
    checkpoint, by its name and nothing else in it.
    """
    if own := checkpoints_of(run):
        return own[max(own)].parent
    folder = Path(run.data.tags.get(FOLDER_TAG, ""))
    header = folder / SPOOL / HEADER
    if not folder.is_absolute() or not os.path.isdir(folder):  # Of a name that is none, no either.
        return None
    if header.is_file():
        return folder if ids_of(run) & {read_header(header).get(name) for name in ("run_id", "offline_id")} else None
    if folder.name not in ids_of(run) or folder.is_symlink() or checkpoints_in(folder):
        return None
    return folder if all(re.fullmatch(r"checkpoint-\d+|lock", path.name) for path in folder.iterdir()) else None


def ids_of(run: Run) -> set[str]:
    """Return the ids that a run has, and had while MLflow did not know it."""
    offline = run.data.tags.get(OFFLINE_TAG, "")
    return {run.info.run_id} | ({offline} if offline.startswith(OFFLINE) else set())


def _owner(path: Path) -> str | None:
    """Return the run that a checkpoint says it is of; None where its card is damaged, which is told when it is used."""
    try:
        inside(path.parent, f"{path.name}/{CARD}", f"the tag {FOLDER_TAG}")
    except InputError:
        return ""
    try:
        return Card.read(path).run_id
    except InputError as error:
        logger.debug(f"{path}: {error}")
        return None


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """Return the complete checkpoints in a folder by step, in order; there may be none."""
    found = [path for path in folder.glob("checkpoint-*") if is_numbered(path.name.removeprefix("checkpoint-"))]
    return dict(sorted((step_of(path), path) for path in found if _is_complete(path)))


def _is_complete(path: Path) -> bool:
    return all((path / name).is_file() for name in ("adapter_model.safetensors", STATE, CARD))


def read_state(folder: Path) -> dict:
    """Return what the Trainer has written down in a checkpoint: of that, what is read here.

    Raises:
        InputError: it is damaged.
    """
    path = folder / STATE
    known = {"best_global_step": either(NULL, whole(0, 2**62)), "best_model_checkpoint": either(NULL, text(4096))}
    known |= {"global_step": whole(0, 2**62), "epoch": either(NULL, number(0)), "log_history": listed(mapped(ANY))}
    return check(read_json(path, MEND), {}, path, MEND, known, others=lambda *_: True)
