"""What every training does beside the Trainer's own work: cards, row order, limits, checkpoints in MLflow, a guard."""

import logging
import math
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from finetune import InputError, stopping
from finetune.logged_models.checkpoint_files import PROGRESS
from finetune.logged_models.writing.sql_models import build_skeleton
from finetune.models.card import Card, SqlCard
from finetune.permissions import share_files
from finetune.runs import tracking
from finetune.runs.checkpoints import STOPPED_TAG, checkpoints_in
from finetune.runs.sending import journal
from finetune.training.progress import ProgressCallback, read_progress

import torch
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

logger = logging.getLogger(__name__)
OVERFLOWING_STEPS = 25  # so many halvings leave less than 1 of a scale of 2^16


class CardCallback(TrainerCallback):
    """Writes the model card into every checkpoint: base, revision, quantisation, prompt, run id.

    With it a checkpoint alone is enough to restore the model it came from.

    Args:
        found: returns fields of the card that training has found out.
    """

    def __init__(self, card: Card, found: Callable[[], dict] = dict):
        self.card, self.found = card, found

    def on_save(self, args, state, control, **kwargs):
        """Write the card of the checkpoint that has just been saved."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            card = replace(self.card, epoch=state.epoch, **self.found())
            share_files(folder)
            # Written last: a checkpoint without its card was cut off while it was saved.
            card.write(folder)


class RowOrderCallback(TrainerCallback):
    """Makes the order of the rows depend on the seed, the epoch and the samples of a step alone.

    The Trainer draws it from the global generator, whose state at the start of an epoch no checkpoint
    within that epoch has: a run resumed there would see some rows twice and others never. And it groups
    rows by length for the batches of one process: two processes would see another order than one that
    accumulates two batches.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """Seed the sampler for this epoch."""
        sampler = train_dataloader.batch_sampler
        while hasattr(sampler, "batch_sampler"):  # one more for each process
            sampler = sampler.batch_sampler
        sampler.sampler.generator = torch.Generator().manual_seed(args.seed + int(state.epoch or 0))
        if isinstance(sampler.sampler, LengthGroupedSampler):
            sampler.sampler.batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size


class TimeLimitCallback(TrainerCallback):
    """Ends training after so many seconds, with an evaluation and a checkpoint, and tags the run as stopped."""

    def __init__(self, seconds: float, progress: ProgressCallback):
        self.seconds, self.progress, self.start, self.reached = seconds, progress, time.monotonic(), False

    def on_step_end(self, args, state, control, **kwargs):
        """Stop where the time is over; the first process's clock counts for all."""
        over = time.monotonic() - self.start > self.seconds and state.is_world_process_zero
        over = over and state.global_step < state.max_steps  # At its end it has come to its end.
        if self.seconds < math.inf and any_process(over, args):
            self.reached = self.progress.stopped = True
            self.progress.extra_evaluation = not is_evaluated(args, state, control)
            control.should_training_stop = control.should_evaluate = control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs):
        """Leave out what the Trainer does at the end of an epoch, and at a stop: it was done at this step."""
        if self.reached:
            control.should_evaluate = control.should_save = control.should_log = False

    def on_train_end(self, args, state, control, **kwargs):
        """Tag the run as stopped before its end, or take that of an earlier stop away; say what has ended it."""
        if not state.is_world_process_zero:
            return
        done = f"at step {state.global_step} of {state.max_steps}"
        if self.reached:
            tracking.set_tag(STOPPED_TAG, "max-time")
            command = shlex.join(["python", sys.argv[0] or "train.py", "--resume", Path(args.output_dir).name])
            logger.warning(f"--max-time has ended the training {done}; go on with\n  {command}")
            return
        tracking.delete_tag(STOPPED_TAG)
        if state.global_step < state.max_steps and not self.progress.stopped:
            logger.info(f"Early stopping has ended the training {done}: the best is step {state.best_global_step}.")


class StopCallback(TrainerCallback):
    """Saves a checkpoint when a process was asked to stop, and ends training once all that is saved.

    Every process learns of it at the same step. An evaluation that is due at that step is made up for on resume:
    the grace time is for the checkpoint. Stands last among the callbacks.

    Raises:
        KeyboardInterrupt: after the save.
    """

    def __init__(self, progress: ProgressCallback):
        self.progress = progress

    def on_train_begin(self, args, state, control, **kwargs):
        """From here on a signal waits for the end of a step."""
        stopping.in_training(True)

    def on_step_end(self, args, state, control, **kwargs):
        """Save at this step where one of the processes was asked to stop."""
        if any_process(stopping.requested(), args):
            stopping.seen()
            self.progress.pending_evaluation = is_evaluated(args, state, control)
            self.progress.stopped = True
            self.progress.cut_off = self.progress.pending_evaluation or not control.should_save
            control.should_evaluate, control.should_save = False, True

    def on_prediction_step(self, args, state, control, **kwargs):
        """End an evaluation."""
        stopping.check_evaluation()

    def on_save(self, args, state, control, **kwargs):
        """Leave, now that the checkpoint is complete."""
        if any_process(stopping.requested(), args):
            raise KeyboardInterrupt

    def on_train_end(self, args, state, control, **kwargs):
        """From here on a signal ends the script at once: all checkpoints are there."""
        stopping.in_training(False)
        if stopping.requested():
            raise KeyboardInterrupt


class CheckpointCallback(TrainerCallback):
    """Puts each checkpoint into MLflow, by the journal: as a model, and with its full state for resuming elsewhere.

    Args:
        log_checkpoints: `all`; `best`: only the best so far becomes a model, or, where training ends with the last
            one, the one that it ends or is stopped with; `none`.
    """

    def __init__(self, log_checkpoints: str, card: Card):
        self.log_checkpoints, self.card = log_checkpoints, card

    def on_train_begin(self, args, state, control, **kwargs):
        """Log what a run that was cut off did not come to log."""
        for step, folder in checkpoints_in(Path(args.output_dir)).items():
            self._log(
                folder, args, not was_cut_off(folder) and self._becomes_model(step, args, state, control), again=True
            )

    def on_save(self, args, state, control, **kwargs):
        """Log the checkpoint that has just been saved."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._log(folder, args, self._becomes_model(state.global_step, args, state, control), again=False)

    def _becomes_model(self, step: int, args, state, control) -> bool:
        if self.log_checkpoints == "best" and not args.load_best_model_at_end and args.save_strategy != "best":
            return step >= state.max_steps or control.should_training_stop
        if self.log_checkpoints == "best":
            return state.best_global_step in (None, step)
        return self.log_checkpoints == "all"

    def _log(self, folder: Path, args, model: bool, again: bool) -> None:
        running = journal.active_journal()
        if running is None or self.log_checkpoints == "none":
            return
        model = model and not stopping.requested()  # The grace time is for the state.
        try:
            if model and isinstance(self.card, SqlCard) and running.delivery.skeleton is None:
                running.delivery.skeleton = build_skeleton(self.card, folder)
        except Exception as error:  # Callbacks never raise into training.
            logger.warning(f"{folder.name} does not become a model ({error}); log it with log_model.py.")
            model = False
        running.delivery.keep = list(checkpoints_in(Path(args.output_dir)))
        rows = ["validation_rows", running.digests.get("validation_rows", "")]  # What the scores are about.
        running.checkpoint(folder, model=model, again=again, keep=running.delivery.keep, dataset=rows)


class LastKeptCallback(TrainerCallback):
    """Keeps the last checkpoint where training ends with it.

    With `save_total_limit` 1 the Trainer deletes it in the end, wherever another one was the best.
    """

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Forget where the best one lies, once all steps are done; the checkpoints' own states know it."""
        if "train_runtime" in (logs or {}) and not args.load_best_model_at_end:
            state.best_model_checkpoint = None


class LossGuardCallback(TrainerCallback):
    """Ends a run that can no longer learn, before it saves what has gone wrong.

    A loss that is not a number comes from float16 (T5 overflows there) or too high a rate, and never recovers;
    a loss or a gradient of exactly 0 means that nothing is supervised, or that no gradient reaches the adapter.
    In float16 a gradient that overflows alone is no end: the scaler leaves the step out and halves its scale. It
    begins at 2^16: what still overflows `OVERFLOWING_STEPS` later, in each of three logs or more, does so at any scale.
    """

    def __init__(self):
        self.overflows: list[int] = []  # steps of the last logs, where their gradients were not finite

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Look at every logged loss and gradient.

        Raises:
            InputError: where one is not a number or, in training, exactly 0.
        """
        logs = logs or {}
        for name in ("loss", "eval_loss", "grad_norm"):
            value = logs.get(name)
            if name == "grad_norm" and value is not None and self.is_passing(value, args, state.global_step):
                continue
            if value is not None and not math.isfinite(value):
                raise InputError(
                    f"training stopped at step {state.global_step}: {name} is {value}. Lower --learning-rate"
                    f" ({args.learning_rate:g}) or use --compute-dtype fp32; checkpoints before this step are kept in"
                    f" {args.output_dir}."
                )
            if value == 0 and name != "eval_loss":
                raise InputError(
                    f"training stopped at step {state.global_step}: {name} is exactly 0, so nothing is learned."
                    " Look at the supervised tokens above and at --target-modules."
                )

    def is_passing(self, norm: float, args: TrainingArguments, step: int) -> bool:
        """Say whether a gradient's norm is an overflow that loss scaling can still get over."""
        if math.isfinite(norm):
            self.overflows.clear()
            return False
        self.overflows.append(step)
        return bool(args.fp16) and (len(self.overflows) < 3 or step - self.overflows[0] < OVERFLOWING_STEPS)


def was_cut_off(folder: Path) -> bool:
    """Say whether a checkpoint was saved in haste, or does not say so any more."""
    try:
        return (folder / PROGRESS).is_file() and read_progress(folder)["cut_off"]
    except InputError as error:
        logger.warning(f"{folder.name} does not become a model: {error}")
        return True


def is_evaluated(args: TrainingArguments, state, control) -> bool:
    """Say whether training, left alone, evaluates at this step."""
    return control.should_evaluate or (args.eval_strategy == "epoch" and float(state.epoch).is_integer())


def any_process(value: bool, args: TrainingArguments) -> bool:
    """Say whether the value is true in one of the processes; all of them have to ask."""
    if args.world_size == 1:
        return value
    flag = torch.tensor(float(value), device=args.device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


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
