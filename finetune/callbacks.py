"""What every training does beside the Trainer's own work: cards, row order, time limit, and a guard of the loss."""

import json
import math
import re
import time
from pathlib import Path

from finetune.checkpoints import CARD
from finetune.console import InputError

import mlflow
import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

STOPPED_TAG = "finetune.stopped"


def standard_callbacks(card: dict, max_time: str | None) -> list[TrainerCallback]:
    """Return the callbacks of every training.

    Args:
        card: the model card that goes into each checkpoint.
        max_time: as for `parse_duration`.
    """
    seconds = parse_duration(max_time) or math.inf
    return [LossGuardCallback(), CardCallback(card), RowOrderCallback(), TimeLimitCallback(seconds)]


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
    """Ends training after so many seconds, with an evaluation and a checkpoint, and tags the run as stopped."""

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

    def on_train_end(self, args, state, control, **kwargs):
        """Tag the run as stopped before its end, or take the tag of an earlier stop away."""
        run = mlflow.active_run()
        if not state.is_world_process_zero or run is None:
            return
        if self.reached:
            mlflow.set_tag(STOPPED_TAG, "max-time")
        elif STOPPED_TAG in mlflow.get_run(run.info.run_id).data.tags:
            mlflow.delete_tag(STOPPED_TAG)


class LossGuardCallback(TrainerCallback):
    """Ends a run that can no longer learn, before it saves what has gone wrong.

    A loss that is not a number comes from float16 (T5 overflows there) or too high a rate, and never recovers;
    a loss or a gradient of exactly 0 means that nothing is supervised, or that no gradient reaches the adapter.
    """

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Look at every logged loss and gradient.

        Raises:
            InputError: where one is not a number or, in training, exactly 0.
        """
        logs = logs or {}
        for name in ("loss", "eval_loss", "grad_norm"):
            value = logs.get(name)
            if value is not None and not math.isfinite(value):
                raise InputError(
                    f"training stopped at step {state.global_step}: {name} is {value}. Lower --learning-rate"
                    f" ({args.learning_rate:g}) or use --bf16 false; checkpoints before this step are kept in"
                    f" {args.output_dir}."
                )
            if value == 0 and name != "eval_loss":
                raise InputError(
                    f"training stopped at step {state.global_step}: {name} is exactly 0, so nothing is learned."
                    " Look at the supervised tokens above and at --target-modules."
                )


def parse_duration(text: str | None) -> float | None:
    """Return the seconds of a duration such as 90s, 45m, 2h or 1h30m; None for none and for 0.

    Raises:
        InputError: for anything else.
    """
    if text in (None, "0"):
        return None
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or not match:
        raise InputError(f"--max-time {text} is not a duration; expected one such as 90s, 45m, 2h or 1h30m.")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds
