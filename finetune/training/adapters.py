"""Adapters: put onto a base, their first weights, and what training them comes to."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict

from finetune import InputError
from finetune.runs import tracking
from finetune.screen import DETAIL, in_full
from finetune.training.checks.preflight import Preflight
from finetune.training.loftq import replace_with_loftq

import torch
from peft import EvaConfig, LoraConfig, PeftModel, get_peft_model, initialize_lora_eva_weights
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer

logger = logging.getLogger(__name__)
EVA_ROWS, EVA_BATCH = 128, 8


def init_settings(init_lora_weights: str) -> dict:
    """Return the settings of a LoraConfig for a value of --init-lora-weights."""
    if init_lora_weights == "eva":
        # rho 1: every layer keeps the rank that was asked for.
        return {"init_lora_weights": "eva", "eva_config": EvaConfig(rho=1.0)}
    # LoftQ's weights replace the default's.
    return {"init_lora_weights": "gaussian" if init_lora_weights == "gaussian" else True}


def add_adapter(base: PreTrainedModel, lora: LoraConfig) -> PeftModel:
    """Return the base with a fresh adapter.

    Raises:
        InputError: when the base has none of the target modules.
    """
    try:
        return get_peft_model(base, lora)
    except ValueError as error:
        raise InputError(f"--target-modules: {error}") from error


def init_adapter(
    model: PeftModel, init_lora_weights: str, load_original: Callable[[], PreTrainedModel], dataset, collator: Callable
) -> None:
    """Give the adapter the first weights that were asked for, where they depend on base or data.

    Args:
        load_original: returns the base unquantised; called for `loftq` only.
        dataset: encoded training rows; `eva` looks at the first of them, the same on all processes.
    """
    if init_lora_weights == "loftq":
        count = replace_with_loftq(model, load_original())
        text = f"LoftQ: the adapters of {count} layers start by making up for the quantisation"
        logger.info(text, extra=DETAIL)
    elif init_lora_weights == "eva":
        rows = dataset.select(range(min(EVA_ROWS, len(dataset))))
        columns = [name for name in rows.column_names if name != "length"]
        loader = DataLoader(rows.select_columns(columns), EVA_BATCH, collate_fn=collator)
        _init_eva(model, loader)
        text = f"EVA: the adapters start along the main directions of {len(rows)} rows of the data"
        logger.info(text, extra=DETAIL)


def _init_eva(model: PeftModel, loader: Iterable) -> None:
    was_training = model.training
    model.eval()
    initialize_lora_eva_weights(
        model,
        loader,
        forward_fn=lambda model, batch: model(**batch.to(model.device)),
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=_seen_positions,
        gather_distributed_inputs=False,
        show_progress_bar=False,
    )
    model.train(was_training)


def _seen_positions(layer_input, batch, layer_name: str) -> torch.Tensor:
    """Return a layer's inputs, shape (positions, features), without padding and unsupervised positions.

    PEFT's own way takes labels to stand beside the input ids, which those of an encoder-decoder do not.
    """
    states = layer_input[0] if isinstance(layer_input, tuple | list) else layer_input
    mask = batch["attention_mask"].bool()
    labels = batch.get("labels")
    if labels is not None and labels.dim() == 2 and not labels.is_floating_point():
        supervised = labels != -100
        if labels.shape == mask.shape:
            mask = mask & supervised
        elif states.shape[:2] == labels.shape:
            mask = supervised
    return states[mask.to(states.device)]


def log_plan(trainer: Trainer, plan: Preflight | None) -> None:
    """Print the derived quantities as arithmetic; log what the preflight has found."""
    if plan and trainer.args.process_index == 0:
        tracking.log_dict(asdict(plan), "preflight.json")
    args, rows = trainer.args, len(trainer.train_dataset)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    trainable, total = trainer.model.get_nb_trainable_parameters()
    steps = (
        f"{args.per_device_train_batch_size} sequences x {args.gradient_accumulation_steps} accumulation"
        f" x {args.world_size} process{'es' * (args.world_size > 1)} = {batch} per step;"
        f" {rows} rows / {batch} = {rows / batch:.1f} steps an epoch"
    )
    trained = f"{trainable:,} of {total:,} parameters trained ({trainable / total:.2%})"
    logger.info(f"{steps}; {plan.headline()}" if plan else steps, extra=in_full(f"{steps}\n{trained}"))
    if args.process_index == 0:
        tracking.log_messages()  # A run that is killed has them so far.
