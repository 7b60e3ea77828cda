"""The Trainer's own flags: values that cannot work, those that follow others, those that mean nothing here.

The Trainer looks at few of them, and at some only when training has begun. Here all are looked at as they were given,
before any of them takes effect.
"""

import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path

from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames
from transformers.utils import is_liger_kernel_available

logger = logging.getLogger(__name__)
SEEDS = 2**32  # NumPy takes the seeds below
LEAST = {
    "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1,
    "eval_accumulation_steps": 1, "torch_empty_cache_steps": 1, "dataloader_prefetch_factor": 1, "ddp_timeout": 1,
    "ddp_bucket_cap_mb": 1, "generation_num_beams": 1, "dataloader_num_workers": 0, "weight_decay": 0,
    "max_grad_norm": 0, "warmup_steps": 0, "eval_delay": 0,
}  # fmt: skip
ABOVE_0 = ("num_train_epochs", "learning_rate", "adam_epsilon", "neftune_noise_alpha")
BELOW_1 = ("adam_beta1", "adam_beta2", "label_smoothing_factor")
STEPS = ("save_steps", "eval_steps", "logging_steps")
CHOICES = {
    "optim": OptimizerNames,
    "lr_scheduler_type": SchedulerType,
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
    # Not batch_rebalance: its order of rows cannot be taken up again by a run that goes on.
    "torch_compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "train_sampling_strategy": ("random", "sequential", "group_by_length"),
}
OBJECTS = (
    "lr_scheduler_kwargs", "activation_checkpointing_kwargs", "gradient_checkpointing_kwargs", "liger_kernel_config",
)  # fmt: skip
OBJECTS_OR_FILES = ("accelerator_config", "fsdp_config", "deepspeed")
HUB = "the model goes to MLflow: log_model.py RUN; leave it out"
WHOLE = "all of a dataset is trained on and evaluated as it stands; leave it out"
METRICS = "the script computes the metrics of its task, over all rows at once; leave it out"
# What these scripts do themselves, or do not do, and what does it.
NOT_HERE = {
    "push_to_hub": HUB, "hub_model_id": HUB, "hub_strategy": HUB, "hub_private_repo": HUB, "hub_always_push": HUB,
    "hub_revision": HUB,
    "resume_from_checkpoint": "--resume RUN goes on with a run from its last checkpoint",
    "do_predict": "a test part is scored where the script scores one; evaluate_model.py scores any",
    "prediction_loss_only": METRICS,
    "batch_eval_metrics": METRICS,
    "eval_do_concat_batches": METRICS,
    "eval_delay": "each checkpoint is evaluated, the first ones too; leave it out",
    "save_only_model": "a run goes on with the state of its optimiser, which checkpoints would lack; leave it out",
    "remove_unused_columns": WHOLE,
    "length_column_name": "lengths are counted by the script; leave it out",
}  # fmt: skip
# By a flag of the script that was meant.
LABEL_NAMES = {
    "labels": "the names of the classes are given by --labels",
    "summary_column": "the column of the summaries is given by --summary-column",
    "distractor_columns": "the answers are in the column answer",
}

# A flag of the script whose checkpoints hold thresholds of their evaluation.
WITH_THRESHOLDS = "imbalance_power"


def given_names(arguments: Iterable[str]) -> set[str]:
    """Return the names of the flags among arguments, as attributes are spelled; those of --no-FLAG as FLAG too."""
    names = {item.partition("=")[0][2:].replace("-", "_") for item in arguments if item.startswith("--")}
    return names | {name.removeprefix("no_") for name in names}


def spell(name: str) -> str:
    """Return an attribute's name as the flag that sets it."""
    return "--" + name.replace("_", "-")


def settle(values: dict, defaults: dict, given: set[str], kept: set[str]) -> list[str]:
    """Make the flags that follow others do so, in place; return a sentence for each that cannot work.

    Those get their default instead, so that what else there is to say can be found too.

    Args:
        values: of all flags, by name.
        defaults: of all flags; what is given as it is by default is not looked at.
        given: names of flags on the command line.
        kept: names of flags that a run was begun with: they follow none.
    """
    refused = _impossible(values, given) | _contradictions(values)
    refused |= _foreign(values, defaults, given)
    found = list(refused.values())
    _reset(values, defaults, refused)
    follow_steps(values, given, kept)
    refused = _steps_apart(values, given, kept)
    _reset(values, defaults, refused)
    return found + list(refused.values())


def _reset(values: dict, defaults: dict, refused: dict) -> None:
    names = set(refused)
    if names & {"save_steps", "eval_steps", "save_strategy", "eval_strategy"}:  # One without the other will not do.
        names |= {"save_steps", "eval_steps", "save_strategy", "eval_strategy"}
    for name in names:
        values[name] = defaults[name]


def _impossible(values: dict, given: set[str]) -> dict[str, str]:
    """Return a sentence for each value that means nothing, whatever the others are."""
    found = {}
    for name, value in values.items():
        problem = None
        if value is None or isinstance(value, bool):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            problem = "must be a finite number"
        elif name in ("seed", "data_seed") and not 0 <= value < SEEDS:
            problem = f"must lie between 0 and {SEEDS - 1}"
        elif name == "max_steps" and value < 1 and value != -1:
            problem = "must be at least 1, or -1 to train for --num-train-epochs"
        elif name == "save_total_limit" and value < 1:
            problem = "must be at least 1; a large number keeps all checkpoints"
        elif name in LEAST and value < LEAST[name]:
            problem = f"must be at least {LEAST[name]}"
        elif name in ABOVE_0 and value <= 0:
            problem = "must be more than 0"
        elif name in BELOW_1 and not 0 <= value < 1:
            problem = "must lie in [0, 1)"
        elif name in STEPS and name in given and (value <= 0 or (value > 1 and value != int(value))):
            problem = "must be a number of steps, or below 1 a share of all steps, and more than 0"
        elif name in CHOICES and str(getattr(value, "value", value)) not in list(map(_name, CHOICES[name])):
            problem = f"is none of {', '.join(map(_name, CHOICES[name]))}"
        elif name in OBJECTS and not _is_object(value):
            problem = 'must be a JSON object, such as {"name": 1}'
        elif name in OBJECTS_OR_FILES and not _is_object(value) and not Path(value).is_file():
            problem = "is neither a JSON object nor a file"
        if problem:
            found[name] = f"{spell(name)} {value} {problem}"
    return found


def _name(choice) -> str:
    return str(getattr(choice, "value", choice))


def _is_object(value) -> bool:
    try:
        return isinstance(value if isinstance(value, dict) else json.loads(value), dict)
    except ValueError:
        return False


def _contradictions(values: dict) -> dict[str, str]:
    """Return a sentence for flags that do not go together."""
    found = {}
    if values["fp16"] and values["bf16"]:
        found["fp16"] = "--fp16 and --bf16 are two types to compute in; leave one out"
        values["bf16"] = None
    if values["fp16_full_eval"] and values["bf16_full_eval"]:
        found["fp16_full_eval"] = "--fp16-full-eval and --bf16-full-eval are two types to compute in; leave one out"
        values["bf16_full_eval"] = False
    metric, greater = values["metric_for_best_model"] or "loss", values["greater_is_better"]
    if greater is not None and greater == metric.endswith("loss"):
        found["greater_is_better"] = f"--greater-is-better {greater} would choose the worst checkpoint by {metric}"
    if values["use_liger_kernel"] and not is_liger_kernel_available():
        found["use_liger_kernel"] = "--use-liger-kernel needs a package: `pip install liger-kernel`"
    if not values["output_dir"]:
        found["output_dir"] = "--output-dir is empty; expected a folder"
    workers = values["dataloader_num_workers"]
    for name in ("dataloader_prefetch_factor", "dataloader_persistent_workers", "dataloader_multiprocessing_context"):
        if values[name] and workers == 0:
            found[name] = f"{spell(name)} is about worker processes; give --dataloader-num-workers of at least 1 too"
    return found


def _foreign(values: dict, defaults: dict, given: set[str]) -> dict[str, str]:
    """Return a sentence for each flag that the scripts would pass over."""
    found = {}
    for name, hint in NOT_HERE.items():
        if name in given and values[name] != defaults[name]:
            found[name] = f"{spell(name)}: {hint}"
    if "label_names" in given and values["label_names"] != defaults["label_names"]:
        hint = next(
            (text for flag, text in LABEL_NAMES.items() if flag in values), "the labels are found by the script"
        )
        found["label_names"] = f"{spell('label_names')} {' '.join(values['label_names'])}: {hint}"
    for name in ("do_train", "do_eval"):
        if name in given and not values[name]:
            found[name] = f"{spell(name)} false: evaluate_model.py scores a model without training; leave it out"
    return found


def follow_steps(values: dict, given: set[str], kept: set[str]) -> None:
    """Make checkpoints and evaluations come together, in place, where only the one of them was given.

    A number of steps means the strategy `steps`. The best checkpoint is chosen among those that were evaluated: where
    it is to be found at the end, strategies must be the same, and a checkpoint is due at an evaluation only.
    """
    fixed = given | kept
    for one in ("save", "eval", "logging"):
        if f"{one}_steps" in given and f"{one}_strategy" not in fixed:
            values[f"{one}_strategy"] = "steps"
    if not _each_is_evaluated(values, kept) or values["save_strategy"] == "best":
        return
    for one, other in (("save", "eval"), ("eval", "save")):
        if not given & {f"{one}_steps", f"{one}_strategy"} or values[f"{one}_strategy"] not in ("steps", "epoch"):
            continue
        moved = not fixed & {f"{other}_steps", f"{other}_strategy"}
        moved = moved and values[f"{other}_strategy"] != values[f"{one}_strategy"]
        if moved:
            values[f"{other}_strategy"] = values[f"{one}_strategy"]
        together = values[f"{one}_strategy"] == values[f"{other}_strategy"] == "steps"
        if together and f"{other}_steps" not in fixed and (moved or not _go_together(values)):
            values[f"{other}_steps"] = values[f"{one}_steps"] or values["logging_steps"]
            logger.info(f"{spell(other)}-steps {values[f'{other}_steps']:g}, as {spell(one)}-steps")
        elif moved:
            logger.info(f"{spell(other)}-strategy {values[f'{other}_strategy']}, as {spell(one)}-strategy")


def _each_is_evaluated(values: dict, kept: set[str]) -> bool:
    """Say whether each checkpoint has to be an evaluated one: to find the best, or for its thresholds.

    A run from before, which has kept flags, goes on as it was.
    """
    return values["load_best_model_at_end"] or (WITH_THRESHOLDS in values and not kept)


def _go_together(values: dict) -> bool:
    """Say whether each checkpoint is due at an evaluation."""
    save, evaluate = values["save_steps"], values["eval_steps"] or values["logging_steps"]
    if (save < 1) != (evaluate < 1):
        return False
    scale = 1_000_000 if save < 1 else 1  # The Trainer's: shares divide as whole numbers.
    return (save * scale) % (evaluate * scale) == 0


def _steps_apart(values: dict, given: set[str], kept: set[str]) -> dict[str, str]:
    """Return a sentence where checkpoints and evaluations do not come together, or steps are not counted at all."""
    found = {}
    for one in ("save", "eval", "logging"):
        steps, strategy = values[f"{one}_steps"], _name(values[f"{one}_strategy"])
        if f"{one}_steps" in given and strategy != "steps":
            text = f"{spell(one)}-steps {steps:g} says nothing with {spell(one)}-strategy {strategy}; leave one out"
            if f"{one}_strategy" in given:
                found[f"{one}_steps"] = text
            else:  # A run from before goes on as it was.
                logger.warning(text)
    save, evaluate = _name(values["save_strategy"]), _name(values["eval_strategy"])
    if save == "no":
        found["save_strategy"] = "--save-strategy no: the model is a checkpoint, and there would be none; leave it out"
    if WITH_THRESHOLDS in values and evaluate == "no":
        found["eval_strategy"] = "--eval-strategy no: without an evaluation there are no thresholds; leave it out"
    if found or not _each_is_evaluated(values, kept):
        return found
    if save == "best" and evaluate == "no":
        found["save_strategy"] = "--save-strategy best needs evaluations; give --eval-strategy epoch or steps"
    elif save != evaluate and save != "best":
        found["save_strategy"] = f"--save-strategy {save} and --eval-strategy {evaluate}: " + (
            "a checkpoint's thresholds come from its evaluation; give the same to both"
            if WITH_THRESHOLDS in values
            else "the best checkpoint is one that was evaluated; give the same to both, or"
            " --load-best-model-at-end false"
        )
    elif save == "steps" and not _go_together(values):
        evaluate = values["eval_steps"] or values["logging_steps"]
        found["save_steps"] = (
            f"--save-steps {values['save_steps']:g} and --eval-steps {evaluate:g}: each checkpoint must be due at an"
            " evaluation; give both in steps, or both as shares, the first a multiple of the second"
        )
    return found
