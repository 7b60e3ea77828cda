"""What a checkpoint of the Trainer leaves out, so that a run that was cut off logs what an uninterrupted one logs.

The Trainer forgets the losses since the last logged step, the sum behind `train_loss`, an evaluation that was due
when training was stopped, and whether training was at its end.
"""

import json
import random
from pathlib import Path

from finetune.logged_models.checkpoint_files import PROGRESS
from finetune.models.card import MEND
from finetune.models.files.schemas import FLAG, NUMBER, check, read_json, whole
from finetune.training.private_apis import (
    add_unlogged_loss,
    end_without_a_step,
    evaluate_and_save,
    last_logged_step,
    logged_loss,
    unlogged_loss,
)

import numpy as np
import torch
from transformers import Trainer, TrainerCallback


class ProgressCallback(TrainerCallback):
    """Keeps them in progress.json of every checkpoint and gives them back to the Trainer.

    Attributes:
        pending_evaluation: the step of the next save is yet to be evaluated.
        stopped: training ends before its time, and has more to do.
        extra_evaluation: the next evaluation is made only because of that.
        cut_off: it does so in haste, at a step that was not to be saved or is not evaluated.
    """

    def __init__(self, trainer: Trainer, checkpoint: Path | None):
        self.trainer, self.checkpoint = trainer, checkpoint
        self.pending_evaluation = self.stopped = self.extra_evaluation = self.cut_off = False
        self.random_state: dict | None = None
        self.earlier_loss = 0.0  # Sum over the steps up to the checkpoint that were logged.

    def on_step_end(self, args, state, control, **kwargs):
        """Remember the random state before an evaluation, which draws from it: it may be cut off."""
        if control.should_evaluate:
            self.random_state = get_random_state()

    on_epoch_end = on_step_end

    def on_evaluate(self, args, state, control, **kwargs):
        """Leave no trace of an evaluation that an uninterrupted training does not make."""
        if self.extra_evaluation:
            assert self.random_state is not None  # It was asked for at the end of a step.
            set_random_state(self.random_state)
            self.extra_evaluation = False

    def on_save(self, args, state, control, **kwargs):
        """Write what stands now; the loss is that of all processes."""
        loss = unlogged_loss(self.trainer)
        if not state.is_world_process_zero:
            return
        progress = {
            "loss_since_last_log": loss,
            "last_logged_step": last_logged_step(self.trainer),
            "logged_loss": self.earlier_loss + logged_loss(self.trainer),
            "pending_evaluation": self.pending_evaluation,
            "cut_off": self.cut_off,
            "ended": control.should_training_stop and not self.stopped,
        }
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / PROGRESS).write_text(json.dumps(progress, indent=2), encoding="utf-8")

    def on_train_begin(self, args, state, control, **kwargs):
        """Go on where the checkpoint stands: with its losses, its evaluation if that is due, and no step too many."""
        if self.checkpoint is None or not (self.checkpoint / PROGRESS).is_file():
            return
        progress, trainer = read_progress(self.checkpoint), self.trainer
        add_unlogged_loss(trainer, progress["loss_since_last_log"], progress["last_logged_step"])
        self.earlier_loss = progress["logged_loss"]
        if progress["pending_evaluation"]:
            evaluate_and_save(trainer, str(self.checkpoint))
        if progress["ended"] or control.should_training_stop or state.global_step >= state.max_steps:
            end_without_a_step(trainer)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Put the mean over all steps in place of the mean over those since the checkpoint."""
        if self.checkpoint and logs and "train_loss" in logs:
            total = self.earlier_loss + logged_loss(self.trainer)
            logs["train_loss"] = state.log_history[-1]["train_loss"] = total / max(state.global_step, 1)


def read_progress(checkpoint: Path) -> dict:
    """Return the progress.json of a checkpoint.

    Raises:
        InputError: it is damaged.
    """
    path = checkpoint / PROGRESS
    step, flags = whole(0, 2**62), dict.fromkeys(("pending_evaluation", "cut_off", "ended"), FLAG)
    known = {"loss_since_last_log": NUMBER, "last_logged_step": step, "logged_loss": NUMBER} | flags
    return check(read_json(path, MEND), known, path, MEND, others=lambda *_: True)


def get_random_state() -> dict:
    """Return the states of all generators that training draws from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict) -> None:
    """Put the generators back to where they were."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state_all(state["cuda"])
