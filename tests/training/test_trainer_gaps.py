"""What the Trainer has no public way to: it works, and it is still needed."""

import json

from finetune.training import private_apis as gaps

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments


class Line(torch.nn.Module):
    """One weight, and the losses it had."""

    def __init__(self):
        super().__init__()
        self.weight, self.losses = torch.nn.Parameter(torch.zeros(1)), []

    def forward(self, x, labels):
        loss = ((self.weight * x - labels) ** 2).mean()
        if self.training:
            self.losses.append(loss.item())
        return {"loss": loss, "logits": self.weight * x}


class Doing(TrainerCallback):
    """Calls functions at the events they are named for."""

    def __init__(self, **doing):
        for event, function in doing.items():
            setattr(self, event, lambda args, state, control, function=function, **_: [function(state)].clear())


def make(folder, doing=None, **options) -> Trainer:
    args = TrainingArguments(
        str(folder), use_cpu=True, report_to=[], disable_tqdm=True, per_device_train_batch_size=1, max_steps=4,
        learning_rate=0.1, logging_steps=3, save_steps=4, label_names=["labels"], **options,
    )  # fmt: skip
    rows = [{"x": torch.tensor([float(i)]), "labels": torch.tensor([2.0 * i])} for i in range(1, 9)]
    return Trainer(Line(), args, train_dataset=rows, eval_dataset=rows, callbacks=[doing] if doing else [])


def losses(trainer: Trainer) -> tuple:
    return gaps.unlogged_loss(trainer), gaps.last_logged_step(trainer), gaps.logged_loss(trainer)


def test_a_checkpoint_leaves_out_the_losses_that_were_not_logged(tmp_path):
    seen = {}
    trainer = make(tmp_path, Doing(on_save=lambda _: seen.update(saved=losses(trainer))))
    trainer.train()
    *logged, last = trainer.model.losses
    assert seen["saved"] == (pytest.approx(last), 3, pytest.approx(sum(logged)))
    # A training that goes on has forgotten them, until it is given them.
    checkpoint = tmp_path / "checkpoint-4"
    assert "loss" not in json.loads((checkpoint / "trainer_state.json").read_text()).keys() - {"log_history"}

    def give_back(_):
        seen["begun"] = losses(again)
        gaps.add_unlogged_loss(again, *seen["saved"][:2])
        seen["given"] = losses(again)

    again = make(tmp_path, Doing(on_train_begin=give_back))
    again.train(resume_from_checkpoint=str(checkpoint))
    assert seen["begun"] == (0, 4, 0)
    assert seen["given"] == (pytest.approx(last), 3, 0)


@pytest.mark.parametrize("ends", [False, True])
def test_a_training_at_its_end_takes_another_step(tmp_path, ends):
    make(tmp_path).train()
    trainer = make(tmp_path, Doing(on_train_begin=lambda _: ends and gaps.end_without_a_step(trainer)))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert trainer.state.global_step == (4 if ends else 5)
    assert len(trainer.model.losses) == (0 if ends else 1)


@pytest.mark.parametrize("whole", [False, True])
def test_an_evaluation_alone_neither_looks_for_the_best_nor_saves(tmp_path, whole):
    options = {"metric_for_best_model": "loss", "eval_strategy": "steps", "eval_steps": 100}
    make(tmp_path).train()
    checkpoint, seen = tmp_path / "checkpoint-4", {}
    (checkpoint / "optimizer.pt").rename(tmp_path / "kept.pt")

    def evaluate(state):
        if whole:
            gaps.evaluate_and_save(trainer, str(checkpoint))
        else:
            trainer.evaluate()
        seen.update(best=state.best_global_step, saved=(checkpoint / "optimizer.pt").exists())
        seen["evaluated"] = any("eval_loss" in point for point in state.log_history)
        gaps.end_without_a_step(trainer)

    trainer = make(tmp_path, Doing(on_train_begin=evaluate), **options)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert seen == {"best": 4 if whole else None, "saved": whole, "evaluated": True}
    assert not trainer.control.should_save


@pytest.mark.parametrize("whole", [False, True])
def test_a_saved_model_is_no_checkpoint(tmp_path, whole):
    seen, folder = [], tmp_path / "checkpoint-2"

    def save(state):
        if state.global_step == 2:
            gaps.save_checkpoint(trainer) if whole else trainer.save_model(str(folder))

    trainer = make(tmp_path, Doing(on_step_end=save, on_save=lambda state: seen.append(state.global_step)))
    trainer.train()
    assert (folder / "optimizer.pt").exists() == (folder / "trainer_state.json").exists() == whole
    assert seen == ([2, 4] if whole else [4])


def test_the_trainer_keeps_the_optimiser_that_is_there(tmp_path):
    trainer = make(tmp_path)
    first, schedule = trainer.create_optimizer(), trainer.create_scheduler(4)
    assert trainer.create_optimizer() is first
    gaps.forget_optimizer(trainer)
    assert trainer.create_optimizer() is not first
    assert trainer.create_scheduler(4) is not schedule
