"""A training that ends before its last step says what has ended it."""

import logging
from types import SimpleNamespace

from finetune.training.callbacks import TimeLimitCallback

import pytest
from transformers import TrainerControl


@pytest.mark.parametrize(
    ("steps", "seconds", "said"),
    [
        (3, -1, "--max-time has ended the training at step 3 of 9; go on with"),
        (3, 1e9, "Early stopping has ended the training at step 3 of 9: the best is step 1."),
        (9, 1e9, ""),
        (9, -1, ""),
    ],
)
def test_what_has_ended_a_training_is_said(steps, seconds, said, caplog, tmp_path):
    caplog.set_level(logging.INFO, "finetune")
    args = SimpleNamespace(output_dir=str(tmp_path / "0123"), world_size=1, eval_strategy="no")
    state = SimpleNamespace(is_world_process_zero=True, global_step=steps, max_steps=9, best_global_step=1)
    limit = TimeLimitCallback(seconds, SimpleNamespace(stopped=False))
    limit.on_step_end(args, state, TrainerControl())
    limit.on_train_end(args, state, TrainerControl())
    assert said in caplog.text
    assert ("has ended" in caplog.text) == bool(said)
    assert ("--resume 0123" in caplog.text) == ("--max-time" in said)
