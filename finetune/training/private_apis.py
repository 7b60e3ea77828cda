"""What transformers 5.23 has no public way to: parts of its Trainer that are private, touched here and nowhere else.

Each of these has a test in tests/training/test_trainer_gaps.py, which fails when a release changes it or needs it no
more.
"""

import time

from transformers import Trainer
from transformers.trainer_pt_utils import nested_gather


def unlogged_loss(trainer: Trainer) -> float:
    """Return the sum of the losses since the last logged step, the mean over all processes; all have to ask.

    The Trainer's checkpoints leave it out.
    """
    return nested_gather(trainer._tr_loss, trainer.args.parallel_mode).mean().item()


def last_logged_step(trainer: Trainer) -> int:
    """Return the step at which a loss was logged last; the Trainer's checkpoints leave it out."""
    return trainer._globalstep_last_logged


def logged_loss(trainer: Trainer) -> float:
    """Return the sum of the losses that `train()` has logged since it began, which is behind `train_loss`."""
    return trainer._total_loss_scalar


def add_unlogged_loss(trainer: Trainer, loss: float, last_logged: int) -> None:
    """Give a training that has begun the losses since the last step that was logged before."""
    trainer._tr_loss += loss
    trainer._globalstep_last_logged = last_logged


def evaluate_and_save(trainer: Trainer, checkpoint: str) -> None:
    """Evaluate now and save again, with the random state of a checkpoint, as the Trainer does at the end of a step.

    `Trainer.evaluate` alone would neither look for the best checkpoint nor save.
    """
    trainer._load_rng_state(checkpoint)
    trainer.control.should_evaluate = trainer.control.should_save = True
    trainer._maybe_log_save_evaluate(
        trainer._tr_loss, None, trainer.model, None, trainer.state.epoch, None, time.time()
    )  # fmt: skip
    trainer.control.should_evaluate = trainer.control.should_save = False


def end_without_a_step(trainer: Trainer) -> None:
    """Let a training that has begun come to its end at once: the Trainer looks whether it is there after a step only.

    A callback cannot: the first one that the Trainer listens to comes after that step.
    """

    def no_epoch(*args, **kwargs) -> None:
        trainer.control.should_training_stop = True

    trainer._run_epoch = no_epoch


def save_checkpoint(trainer: Trainer) -> None:
    """Save a checkpoint of the step that training is at; `Trainer.save_model` would leave out all but the weights."""
    trainer._save_checkpoint(trainer.model, trial=None)
    trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)


def forget_optimizer(trainer: Trainer) -> None:
    """Have the Trainer make optimiser and schedule anew when training begins; it keeps those that are there."""
    trainer.optimizer = trainer.lr_scheduler = None
