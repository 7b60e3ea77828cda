"""What would end a training once it has begun: optimiser, schedule, batches and ids, looked at before."""

import json

from finetune import InputError
from finetune.training.private_apis import forget_optimizer

import pyarrow.compute as pc
from transformers import GenerationMixin, Trainer


def check_trainer(trainer: Trainer, is_whole: bool) -> None:
    """Find what a training could not start with, or would pass over.

    Args:
        is_whole: the model is on this device as it is, not cut up by FSDP or given to DeepSpeed.

    Raises:
        InputError: no full batch, ids that the base has no row for, or an optimiser or schedule that cannot be made.
    """
    found = incomplete_batches(trainer)
    if is_whole:
        found += unknown_ids(trainer) + failing_optimizer(trainer)
    if found:
        raise InputError("; ".join(found) + ".")


def incomplete_batches(trainer: Trainer) -> list[str]:
    """Return a sentence for each part of the data that --dataloader-drop-last would leave nothing or not all of."""
    args = trainer.args
    if not args.dataloader_drop_last:
        return []
    found, rows = [], len(trainer.train_dataset)
    batch = args.train_batch_size * args.world_size
    if rows < batch:
        found.append(
            f"--dataloader-drop-last: {rows} training rows make no batch of {batch}, and none would be trained on;"
            " leave it out, or give a smaller --per-device-train-batch-size"
        )
    rows, processes = len(trainer.eval_dataset), args.world_size
    left = rows % (args.eval_batch_size * processes)
    # A classifier is evaluated row by row, not in the Trainer's batches.
    in_batches = isinstance(trainer.model.get_base_model(), GenerationMixin)
    if in_batches and args.eval_strategy != "no" and left:
        fitting = [size for size in range(1, args.eval_batch_size) if rows % (size * processes) == 0]
        instead = f", or give --per-device-eval-batch-size {fitting[-1]}" if fitting else ""
        found.append(
            f"--dataloader-drop-last would leave {left} of {rows} validation rows out of each evaluation; leave it out"
            + instead
        )
    return found


def unknown_ids(trainer: Trainer) -> list[str]:
    """Return a sentence where rows hold a token that the base has no embedding for."""
    rows = trainer.model.get_base_model().get_input_embeddings().num_embeddings
    for name, dataset in (("training", trainer.train_dataset), ("validation", trainer.eval_dataset)):
        for column in ("input_ids", "labels"):
            values = dataset.data.column(column)
            # A classifier's labels are no tokens: one number, or a few of 0 and 1.
            highest = pc.max(pc.list_flatten(values)).as_py() if hasattr(values.type, "value_type") else 0
            if highest >= rows:
                token = trainer.processing_class.convert_ids_to_tokens(highest)
                return [
                    f"the {name} rows hold the token {token} with the id {highest}, and the base knows the ids below"
                    f" {rows} only; give a base and a tokenizer that belong together, or take it out of the data"
                ]
    return []


def failing_optimizer(trainer: Trainer) -> list[str]:
    """Return a sentence where optimiser or schedule cannot be made of their flags."""
    args = trainer.args
    doing = f"--optim {args.optim.value}" + (f" --optim-args {args.optim_args}" if args.optim_args else "")
    try:
        trainer.create_optimizer()
        doing = f"--lr-scheduler-type {args.lr_scheduler_type.value}"
        doing += f" --lr-scheduler-kwargs '{json.dumps(args.lr_scheduler_kwargs or {})}'"
        trainer.create_scheduler(args.max_steps if args.max_steps > 0 else 1000)
    except Exception as error:  # Nothing is computed here: whatever libraries say, they say of the flags.
        return [f"{doing} cannot be had here: {' '.join(str(error).split())[:200].rstrip('.')}"]
    finally:
        forget_optimizer(trainer)
    return []
