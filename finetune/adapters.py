"""Adapters: put onto a base, and what training them comes to."""

import logging

from finetune.console import InputError

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, Trainer

logger = logging.getLogger(__name__)


def add_adapter(base: PreTrainedModel, lora: LoraConfig) -> PeftModel:
    """Return the base with a fresh adapter.

    Raises:
        InputError: when the base has none of the target modules.
    """
    try:
        return get_peft_model(base, lora)
    except ValueError as error:
        raise InputError(f"--target-modules: {error}") from error


def log_plan(trainer: Trainer) -> None:
    """Print the derived quantities as arithmetic."""
    args, rows = trainer.args, len(trainer.train_dataset)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    trainable, total = trainer.model.get_nb_trainable_parameters()
    logger.info(
        f"{args.per_device_train_batch_size} sequences x {args.gradient_accumulation_steps} accumulation"
        f" x {args.world_size} process{'es' * (args.world_size > 1)} = {batch} per step;"
        f" {rows} rows / {batch} = {rows / batch:.1f} steps an epoch\n"
        f"{trainable:,} of {total:,} parameters trained ({trainable / total:.2%})\n"
        f"checkpoints: {args.output_dir}"
    )
