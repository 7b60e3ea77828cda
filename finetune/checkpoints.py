"""Checkpoints on disk: the model card that travels in each, and how one is found again from its run."""

import json
import time
from pathlib import Path

from finetune.console import InputError

import torch
from accelerate.utils import broadcast_object_list
from mlflow.entities import Run
from transformers import TrainerCallback

CARD = "finetune.json"
FOLDER_TAG = "finetune.checkpoints"


class CardCallback(TrainerCallback):
    """Writes the model card into every checkpoint: base, revision, quantisation, prompt, run id.

    With it a checkpoint alone is enough to restore the model it came from.
    """

    def __init__(self, card: dict):
        self.card = card

    def on_save(self, args, state, control, **kwargs):
        """Write the card of the checkpoint that has just been saved."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            card = self.card | {"epoch": state.epoch}
            # Written last: a checkpoint without its card was cut off while it was saved.
            (folder / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")


class RowOrderCallback(TrainerCallback):
    """Makes the order of the rows depend on the seed and the epoch alone.

    The Trainer draws it from the global generator, whose state at the start of an epoch no checkpoint
    within that epoch has: a run resumed there would see some rows twice and others never.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """Seed the sampler for this epoch."""
        sampler = train_dataloader.batch_sampler
        while hasattr(sampler, "batch_sampler"):  # one more for each process
            sampler = sampler.batch_sampler
        sampler.sampler.generator = torch.Generator().manual_seed(args.seed + int(state.epoch or 0))


class TimeLimitCallback(TrainerCallback):
    """Ends training after so many seconds, with an evaluation and a checkpoint."""

    def __init__(self, seconds: float):
        self.seconds, self.start, self.reached = seconds, time.monotonic(), False

    def on_step_end(self, args, state, control, **kwargs):
        """Stop where the time is over; the first process's clock counts for all."""
        over = time.monotonic() - self.start > self.seconds
        if args.world_size > 1:
            over = broadcast_object_list([over])[0]
        if over:
            self.reached = True
            control.should_training_stop = control.should_evaluate = control.should_save = True


def find_checkpoint(run: Run, which: str) -> Path:
    """Return the folder of a run's checkpoint.

    Args:
        which: `best` (by the metric training selected on; the last one where nothing was evaluated),
            `last`, a step, or, where checkpoints are made at the end of epochs, an epoch.

    Raises:
        InputError: the run has no checkpoint, or not that one.
    """
    steps = list_checkpoints(run)
    last = steps[max(steps)]
    if which == "last":
        return last
    if which == "best":
        best = json.loads((last / "trainer_state.json").read_text(encoding="utf-8")).get("best_global_step")
        return steps.get(best, last)
    known, expected = {str(step): path for step, path in steps.items()}, f"steps {', '.join(map(str, steps))}"
    if load_card(last)["task"] == "classification":
        epochs = {f"{load_card(path).get('epoch', 0):g}": path for path in steps.values()}
        known, expected = known | epochs, f"{expected} or epochs {', '.join(epochs)}"
    if which not in known:
        raise InputError(
            f"run {run.info.run_id} has no checkpoint {which}; expected best, last or one of the {expected}."
        )
    return known[which]


def list_checkpoints(run: Run) -> dict[int, Path]:
    """Return the complete checkpoints of a run by step.

    Raises:
        InputError: there is none.
    """
    if FOLDER_TAG not in run.data.tags:
        raise InputError(f"run {run.info.run_id} has no checkpoint; it was not made by a training script here.")
    steps = checkpoints_of(run)
    if not steps:
        raise InputError(
            f"run {run.info.run_id} has no checkpoint in {run.data.tags[FOLDER_TAG]}: training ended before the first"
            " save, or the folder was moved or deleted."
        )
    return steps


def checkpoints_of(run: Run) -> dict[int, Path]:
    """Return the complete checkpoints of a run by step, in order; there may be none."""
    folder = run.data.tags.get(FOLDER_TAG)
    found = Path(folder).glob("checkpoint-*") if folder else ()  # A run cut off before its setup has none.
    return dict(sorted((int(path.name.split("-")[1]), path) for path in found if _is_complete(path)))


def last_checkpoint(run: Run | None) -> str | None:
    """Return the folder of the last complete checkpoint of a run, None without a run or a checkpoint."""
    steps = checkpoints_of(run) if run else {}
    return str(steps[max(steps)]) if steps else None


def _is_complete(path: Path) -> bool:
    return all((path / name).is_file() for name in ("adapter_model.safetensors", "trainer_state.json", CARD))


def load_card(folder: Path) -> dict:
    """Return the model card of a checkpoint or of a logged model's folder."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))
