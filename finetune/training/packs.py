"""Training on packs: what makes batches of rows, how many rows a batch may have, and a Trainer that takes them."""

import logging
import math
import os
import sys
from collections.abc import Callable

from finetune.models.bases.attention import can_pack, can_share
from finetune.models.bases.quantization import is_sharded
from finetune.rows.packing import CompletionCollator, PackingCollator

import torch
from peft import PeftModel
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase, Trainer, TrainingArguments

logger = logging.getLogger(__name__)
MAX_TOKENS_UNTRIED = 2048  # computed at a time on a GPU where no preflight finds out how many fit


class PackTrainer(Trainer):
    """Trainer that takes the packs of a batch one after the other; see `PackingCollator`."""

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """Return the loss of a batch, with its gradients: of its packs one after the other, where it has packs."""
        *packs, last = inputs.get("packs", [inputs])
        loss = torch.zeros((), device=self.args.device)
        for pack in packs:  # Several processes add up their gradients with the last one.
            with self.accelerator.no_sync(model):
                loss += super().training_step(model, pack, num_items_in_batch)
        return loss + super().training_step(model, last, num_items_in_batch)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss, added up over the packs where there are some; then without logits."""
        if "packs" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        losses = [super(PackTrainer, self).compute_loss(model, p, False, num_items_in_batch) for p in inputs["packs"]]
        return (sum(losses), {}) if return_outputs else sum(losses)

    def floating_point_ops(self, inputs: dict) -> int:
        """Return the floating-point operations of a batch, forward and backward: of its packs, where it has packs."""
        return sum(super(PackTrainer, self).floating_point_ops(pack) for pack in inputs.get("packs", [inputs]))


def choose_collator(model: PeftModel, tokenizer: PreTrainedTokenizerBase, flags, args: TrainingArguments) -> Callable:
    """Return what makes batches of rows: packs, or padded rows of like length where the model cannot take packs.

    Args:
        flags: of a script that has --packing and --max-tokens-per-batch; `packing` becomes what is done.
        args: their micro-batches and row order become what goes with it.
    """
    if args.label_smoothing_factor:  # The Trainer's label smoothing shifts the labels itself, and wants all logits.
        flags.packing = False
    elif flags.packing and not can_pack(model.get_base_model(), flags.max_length):
        logger.info("this model cannot keep packed rows apart; batches are padded (--packing false).")
        flags.packing = False
    if flags.packing:
        budget = flags.max_tokens_per_batch or MAX_TOKENS_UNTRIED
        budget = limit_rows(flags.max_length, args, budget) if takes_one_pack(args) else budget
        return PackingCollator(budget, can_share(model.get_base_model()))
    if args.train_sampling_strategy == "random":
        args.train_sampling_strategy = "group_by_length"
    return DataCollatorForSeq2Seq(tokenizer) if args.label_smoothing_factor else CompletionCollator(tokenizer)


def takes_one_pack(args: TrainingArguments) -> bool:
    """Say whether a micro-batch has to be one pack.

    DeepSpeed takes an optimiser step at each backward, and FSDP's processes gather the layers of each pack together:
    where one has a pack more, the others wait for ever.
    """
    return is_sharded() or bool(args.deepspeed) or os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def limit_rows(max_length: int, args: TrainingArguments, budget: int) -> int:
    """Make micro-batches of as many rows as surely stay within the budget, the samples a step kept; return no limit."""
    rows = max(1, budget // max_length)
    if rows < args.per_device_train_batch_size:
        turns = args.per_device_train_batch_size * args.gradient_accumulation_steps
        args.per_device_train_batch_size, args.gradient_accumulation_steps = rows, math.ceil(turns / rows)
        args.per_device_eval_batch_size = rows
    return sys.maxsize
