"""What all training scripts can be told alike: shared flags, shared defaults of TrainingArguments, their checks."""

import logging
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from finetune.models.bases.quantization import is_sharded
from finetune.redaction import redact_arguments

import torch

logger = logging.getLogger(__name__)
ON_GPU = torch.cuda.is_available()
LOG_CHECKPOINTS = ("best", "all", "none")
LORA_INITS = ("default", "gaussian", "loftq", "eva")


def default_list(*values: str) -> list[str]:
    """Return the default of a flag that takes several values, for the dataclass of a script."""
    return field(default_factory=lambda: list(values))


@dataclass
class SharedFlags:
    """Flags that mean the same in every training script; the script's own `Flags` adds the others.

    A script gives the first ones their defaults, and another help where there is more to say.

    Attributes:
        groups: names of flags by the heading that `--help` shows them under; a script adds its own.
    """

    base_model: str = field(metadata={"help": "Hub id or folder of the base to fine-tune"})
    dataset: list[str] = field(
        metadata={
            "help": "Hub id[:configuration], file, or folder with train.*, validation.* and perhaps test.*; beside it"
            " mlflow:EXPERIMENT, its corrected answers"
        }
    )
    experiment: str = field(metadata={"help": "MLflow experiment of the run"})
    max_length: int = field(metadata={"help": "tokens that are read of a row"})
    lora_r: int = field(metadata={"help": "rank of the adapter; its size and cost grow with it"})
    lora_alpha: int = field(metadata={"help": "the adapter's effect is multiplied by alpha / r"})
    lora_dropout: float = field(metadata={"help": "dropout before the adapter; above 0 each step takes longer"})
    target_modules: list[str] = field(metadata={"help": "layers of the base that get an adapter"})
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": ("dataset", "column", "encoding", "validation_fraction", "train_percent"),
        "model and adapter": (
            "base_model", "base_revision", "load_in_4bit", "compute_dtype", "max_length", "lora_r", "lora_alpha",
            "lora_dropout", "target_modules", "init_lora_weights",
        ),
        "training": (
            "num_train_epochs", "max_steps", "seed", "max_time", "checkpoint_every_n_layers", "preflight",
            "preflight_only", "learning_curve",
        ),
        "run and tracking": ("experiment", "output_dir", "resume", "log_checkpoints", "offline_ok"),
        "this command": ("config", "verbose", "print_completion", "help", "help_all"),
    }  # fmt: skip

    encoding: str = field(
        default="utf-8", metadata={"help": "encoding of the files of --dataset, such as latin-1 or utf-16"}
    )
    column: list[str] | None = field(
        default=None,
        metadata={
            "help": "NAME=COLUMN ...: where the data calls a column otherwise, such as split=part",
            "action": "extend",
        },
    )
    validation_fraction: float | None = field(
        default=None,
        metadata={"help": "share of the rows to hold out of training where the data has no validation part"},
    )
    train_percent: int | None = field(
        default=None,
        metadata={"help": "train on this percentage of the rows; rare labels stay, those of 25 are among those of 50"},
    )
    base_revision: str | None = field(default=None, metadata={"help": "Hub branch, tag or commit of the base model"})
    load_in_4bit: bool = field(
        default=True, metadata={"help": "load the base in 4 bits (NF4); otherwise it is not quantised"}
    )
    compute_dtype: str = field(
        default="auto",
        metadata={"help": "number type to compute in: bf16, fp16, fp32; auto: the one that this machine is fast at"},
    )
    init_lora_weights: str = field(
        default="default",
        metadata={
            "help": "first weights of the adapter. default, gaussian: it has no effect yet; loftq: it makes up for what"
            " 4 bits took from the base; eva: no effect yet, along the main directions of the data"
        },
    )
    max_time: str | None = field(
        default=None, metadata={"help": "save a checkpoint and stop after this time, such as 90s, 45m, 2h or 1h30m"}
    )
    resume: str | None = field(
        default=None,
        metadata={
            "help": "id of a run to go on with, here or on another machine, or last: with the flags that it was started"
            " with; beside it only flags that do not change what is trained"
        },
    )
    log_checkpoints: str = field(
        default="best",
        metadata={
            "help": "checkpoints to log as models and to upload, so that the run can go on elsewhere: best (each that"
            " is the best so far, or the last one where training ends with that), all or none"
        },
    )
    offline_ok: bool = field(
        default=False,
        metadata={"help": "start even if the tracking server does not answer; what is logged is sent later"},
    )
    checkpoint_every_n_layers: str = field(
        default="auto",
        metadata={
            "help": "to save memory, compute the activations of every n-th layer a second time in place of keeping"
            " them, which takes longer. 1: of all layers, 0: of none, auto: of as few as will do"
        },
    )
    preflight: bool = field(
        default=True,
        metadata={"help": "before training, try a step on the longest rows: do they fit, and how long will it take"},
    )
    preflight_only: bool = field(
        default=False, metadata={"help": "print what the preflight finds as JSON, and do not train"}
    )
    learning_curve: list[int] | None = field(
        default=None,
        metadata={
            "help": "percentages of the rows, such as 25 50 100: a training on each, as child runs of one, and what"
            " twice the rows would give"
        },
    )
    verbose: bool = field(
        default=False, metadata={"help": "say all on stderr, in full; it stands in the run's messages in any case"}
    )

    def __post_init__(self):
        """Leave a single data set what it is."""
        if isinstance(self.dataset, list) and len(self.dataset) == 1:
            self.dataset = self.dataset[0]  # type: ignore[assignment]


@dataclass
class SharedTrainingArguments:
    """Defaults of every task; stands before TrainingArguments among the bases of a script's own class.

    `refused`, which is no flag, holds the sentences that the parser found for flags of this class.
    """

    refused = ()
    output_dir: str = field(default="outputs", metadata={"help": "checkpoints go to OUTPUT_DIR/<run id>/checkpoint-N"})
    max_steps: int = field(default=-1, metadata={"help": "stop after this many optimiser steps; -1: after the epochs"})
    seed: int = field(default=42, metadata={"help": "seed of the adapter's first weights, the row order and the split"})
    # Rows of like length share a batch and are padded to its longest, not all to one length.
    train_sampling_strategy: str = field(default="group_by_length", metadata={"help": "order of the rows"})
    eval_strategy: str = field(default="epoch", metadata={"help": "when to evaluate"})
    save_strategy: str = field(default="epoch", metadata={"help": "when to save a checkpoint"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "end with the best checkpoint"})
    # Without label names the Trainer finds no labels behind PEFT's forward, and there is no eval_loss.
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "label columns"})
    # Patience is counted on from the checkpoint, not from 0, in a run that is resumed.
    restore_callback_states_from_checkpoint: bool = field(default=True, metadata={"help": "with --resume"})
    logging_steps: float = field(default=10, metadata={"help": "steps between logged training losses"})
    logging_first_step: bool = field(default=True, metadata={"help": "log the first step too"})
    # The filter would log the mean of the other steps in place of a loss that is not a number.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide losses that are not numbers"})
    report_to: list[str] | None = field(
        default_factory=lambda: ["mlflow"],
        metadata={"help": "trackers, such as mlflow wandb; MLflow, where the model lives, is always one of them"},
    )
    optim: str = field(default="adamw_torch_fused", metadata={"help": "optimiser"})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "all adapter weights are used"})
    use_cpu: bool = field(default=not ON_GPU, metadata={"help": "train on the CPU; by itself where there is no GPU"})
    # Where they are not given they follow --compute-dtype: see mixed_precision.py.
    bf16: bool | None = field(default=None, metadata={"help": "bfloat16 autocast; by itself on a GPU that has it"})
    fp16: bool | None = field(default=None, metadata={"help": "float16 autocast; by itself on a GPU without bfloat16"})
    dataloader_pin_memory: bool = field(default=ON_GPU, metadata={"help": "page-locked batches, for a GPU only"})
    # The host goes on while a batch is copied.
    accelerator_config: dict | str | None = field(
        default_factory=lambda: {"non_blocking": ON_GPU}, metadata={"help": "settings of accelerate"}
    )

    def __post_init__(self):
        """Take one GPU where several are there and one process was started.

        The Trainer would multiply the batch by them and count on torch's DataParallel, which it does not put around
        4-bit models: losses and gradients come out as many times too large.
        """
        super().__post_init__()  # type: ignore[misc]  # of TrainingArguments, which stands behind this class
        count = super().n_gpu  # type: ignore[misc]  # of TrainingArguments, too
        if count > 1:
            logger.warning(
                f"{count} GPUs are here, and one is used. For all of them: accelerate launch --config_file"
                f" configs/accelerate/ddp.yaml --num_processes {count} {shlex.join(redact_arguments(sys.argv))}"
            )

    @property
    def n_gpu(self) -> int:
        """Return the number of GPUs of this process: one, or none."""
        return min(1, super().n_gpu)  # type: ignore[misc]  # of TrainingArguments


def with_groups(**names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the groups of the shared flags, with names of a script's own in them.

    Args:
        names: by the first word of the heading: data, model, training, run.
    """
    return {title: (*shared, *names.get(title.split()[0], ())) for title, shared in SharedFlags.groups.items()}


def problems(
    flags: SharedFlags,
    args: SharedTrainingArguments,
    least: Mapping[str, float],
    choices: dict[str, tuple] | None = None,
) -> list[str]:
    """Return a sentence for each flag that is below its least value or none of its choices.

    The flags that every task has are checked too, and what the parser refused of the Trainer's is among them. A flag
    without a value is not checked; a choice None stands for it.
    """
    least = {"lora_r": 1, "lora_alpha": 1, **least}
    choices = {"init_lora_weights": LORA_INITS, "log_checkpoints": LOG_CHECKPOINTS} | (choices or {})
    values = {name: getattr(flags, name) for name in least}
    found = list(args.refused)
    found += [
        f"--{name.replace('_', '-')} {value} must be at least {least[name]}"
        for name, value in values.items()
        if value is not None and value < least[name]
    ]
    for name, allowed in choices.items():
        if getattr(flags, name) not in allowed:
            expected = ", ".join(filter(None, allowed))
            found.append(f"--{name.replace('_', '-')} {getattr(flags, name)} is none of {expected}")
    if flags.validation_fraction is not None and not 0 < flags.validation_fraction < 1:
        found.append(f"--validation-fraction {flags.validation_fraction} must lie between 0 and 1 (0.05: one in 20)")
    if not 0 <= flags.lora_dropout < 1:
        found.append(f"--lora-dropout {flags.lora_dropout} must be at least 0 and below 1")
    if flags.checkpoint_every_n_layers != "auto" and not flags.checkpoint_every_n_layers.isdecimal():
        found.append(f"--checkpoint-every-n-layers {flags.checkpoint_every_n_layers} is neither auto nor a number")
    if flags.init_lora_weights == "loftq" and not flags.load_in_4bit:
        found.append("--init-lora-weights loftq makes up for 4-bit weights; it does not go with --no-load-in-4bit")
    return found + _share_problems(flags)


def _share_problems(flags: SharedFlags) -> list[str]:
    """Return a sentence for each thing that is wrong with the shares of the rows to train on."""
    curve, percent = flags.learning_curve, flags.train_percent
    if curve is None and percent is None:
        return []
    name = "--train-percent" if curve is None else "--learning-curve"
    found, shown = [], " ".join(map(str, [percent] if curve is None else curve))
    if any(not 1 <= one <= 100 for one in [*(curve or ()), *([] if percent is None else [percent])]):
        found.append(f"{name} {shown}: percentages of the training rows are whole numbers from 1 to 100")
    if curve is not None and (len(curve) < 2 or sorted(set(curve)) != curve):
        found.append(f"--learning-curve {shown}: expected at least two percentages, each above the last: 25 50 100")
    if curve is not None and percent is not None:
        found.append("--learning-curve and --train-percent: the one trains on several shares, the other on one")
    for other in ("max_train_rows", "debug_sample"):
        if getattr(flags, other, None) is not None:
            found.append(f"{name} and --{other.replace('_', '-')}: both say which rows to train on; give one")
    if curve is not None and getattr(flags, "score_rows", 1) < 1:
        found.append("--learning-curve is drawn of scores and needs --score-rows of at least 1")
    if curve is not None and is_sharded():
        found.append("--learning-curve: a base that FSDP has cut up is not scored; start it without FSDP")
    return found
