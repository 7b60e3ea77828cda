"""What a run was started with, and what may be another when it goes on."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from finetune import InputError
from finetune.models.card import card_classes
from finetune.models.files.schemas import ANY, check, listed, mapped, text, whole
from finetune.redaction import HIDDEN, redact_values
from finetune.rows.splits.question_split import ANY_SIZE
from finetune.training.flags.shared_flags import SharedFlags

from transformers import TrainingArguments

ARTIFACT = "arguments.json"  # in its run
DATABASE = "--database"
PATH_FLAGS = ("--dataset", "--base-model", "--output-dir", "--adapter", DATABASE)
# Another value of these trains the same weights. Rows and base are compared by what they hold.
FREE = {
    "dataset", "database", "encoding", "base_model", "output_dir", "use_cpu", "dataloader_pin_memory",
    "dataloader_num_workers", "accelerator_config",
    "dataloader_prefetch_factor", "dataloader_persistent_workers", "disable_tqdm", "log_level", "log_level_replica",
    "logging_steps", "logging_first_step", "save_steps", "save_total_limit", "report_to", "run_name",
    "log_checkpoints", "ddp_timeout", "ddp_backend", "per_device_eval_batch_size", "local_rank", "experiment",
    "max_tokens_per_batch", "checkpoint_every_n_layers", "preflight", "activation_checkpointing",
    "activation_checkpointing_kwargs", "rows", "trust_role",
}  # fmt: skip
NOT_COMPARED = {"resume", "max_time", "offline_ok", "preflight_only", "verbose"}
# Defaults that depend on the machine or its variables, or were others once: a run keeps those it began with.
KEPT = (
    "compute_dtype", "bf16", "fp16", "optim", "per_device_train_batch_size", "gradient_accumulation_steps",
    "train_sampling_strategy", "packing", "use_liger_kernel", "save_strategy", "eval_strategy", "save_steps",
    "eval_steps", "experiment", "max_length", "distractor_columns", "split_by", "pooling", "tfidf",
    "load_best_model_at_end", "early_stopping_patience", "num_train_epochs",
)  # fmt: skip
# What the scripts did before there was a flag for it.
BEFORE_FLAGS = {
    "packing": False, "dialect": "sqlite", "values": 0, "split_by": ANY_SIZE, "rows": True, "trust_role": False,
    "tfidf": "none",
}  # fmt: skip
# They would end the script, name another run, or read a file here: that of --config is spelled out in the record.
NEVER = {"-h", "--help", "--help-all", "--help_all", "--resume", "--config", "--print-completion"}
# The parameter that says what NF4 computed in, of runs from before --compute-dtype.
OLD_DTYPE = "quantization.bnb_4bit_compute_dtype"
BATCH = {"per_device_train_batch_size", "gradient_accumulation_steps"}


def check_recorded(recorded: object, where: str) -> dict:
    """Return the arguments and settings that a run says it was started with.

    Raises:
        InputError: a training script here has not written that.
    """
    mend = "the run cannot be resumed; start a new one"
    known = {"arguments": listed(text())}
    recorded = check(recorded, known, where, mend, {"settings": mapped(ANY)})
    if strange := sorted(NEVER & {argument.partition("=")[0] for argument in recorded["arguments"]}):
        raise InputError(f"{where} is damaged: no run is started with {strange[0]}; {mend}.")
    numbers = dict.fromkeys((*BATCH, "world_size"), whole(1, 10**6))
    check(recorded.get("settings", {}), {}, f"{where}, settings,", mend, numbers, lambda *_: True)
    return recorded


def settings_of(flags: SharedFlags, args: TrainingArguments) -> dict:
    """Return all settings of a training as plain values without secrets, with the number of its processes."""
    settings = asdict(flags) | args.to_dict() | {"world_size": args.world_size}
    return redact_values(json.loads(json.dumps(settings, default=str)))


def begun_in(settings: dict, parameters: dict[str, str], task: str) -> str:
    """Return the compute type of a run as --compute-dtype names it, of one from before that flag too.

    Text-to-SQL was in bfloat16 everywhere then, the others on a GPU.

    Args:
        parameters: of the run in MLflow.
    """
    if "compute_dtype" in settings:
        return settings["compute_dtype"]
    if card_classes()[task].base_kind == "decoder":
        return "bf16"
    on_gpu = settings.get("use_cpu") is False
    return {"bfloat16": "bf16", "float32": "fp32"}.get(parameters.get(OLD_DTYPE, ""), "bf16" if on_gpu else "fp32")


def changed_settings(before: dict, now: dict) -> dict[str, str]:
    """Return the settings that have changed, as `before -> now`.

    Raises:
        InputError: for those that would change what is trained.
    """
    if not before:
        return {}
    before = redact_values(before)
    changed = {
        name: f"{before.get(name)} -> {value}"
        for name, value in now.items()
        if name not in NOT_COMPARED and before.get(name) != value
    }
    free = FREE
    if _samples_a_step(before) == _samples_a_step(now):
        free = FREE | BATCH | {"world_size"}
    refused = {name: change for name, change in changed.items() if name not in free}
    if "world_size" in refused:
        raise InputError(
            f"this run was trained by {before['world_size']} processes, {_samples_a_step(before)} samples a step, and"
            f" would go on by {now['world_size']} with {_samples_a_step(now)}; give --per-device-train-batch-size and"
            " --gradient-accumulation-steps that make as many."
        )
    if refused:
        shown = ", ".join(f"--{name.replace('_', '-')} {change}" for name, change in sorted(refused.items()))
        raise InputError(f"{shown}: this would change what is trained; --resume goes on with the run as it is.")
    return changed


def _samples_a_step(settings: dict) -> int:
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size")
    first, second, third = (settings.get(name, 1) for name in names)
    return first * second * third


def without_resume(arguments: list[str]) -> list[str]:
    """Return the arguments without --resume and its value."""
    rest, skip = [], False
    for argument in arguments:
        if argument == "--resume" or skip:
            skip = not skip
        elif not argument.startswith("--resume="):
            rest.append(argument)
    return rest


def without_flags(arguments: list[str], flags: Sequence[str]) -> list[str]:
    """Return the arguments without some flags and all that is given to them.

    Args:
        flags: spelled with dashes.
    """
    rest, leaves_out = [], False
    for argument in arguments:
        if argument.startswith("--"):
            leaves_out = argument.partition("=")[0].replace("_", "-") in flags
        if not leaves_out:
            rest.append(argument)
    return rest


def hides_database(arguments: list[str]) -> bool:
    """Say whether the last --database among recorded arguments had a password, which is not recorded."""
    found = ""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        flag, _, value = argument.partition("=")
        if flag == DATABASE or before == DATABASE:
            found = value if flag == DATABASE else argument
    return HIDDEN in found


def _absolute(place: str) -> str:
    """Return the path of what is here, also of a database by its URL, made absolute; anything else as it is."""
    if os.path.exists(place):
        return str(Path(place).resolve())
    file = re.fullmatch(r"((?:sqlite|duckdb):///)([^/?][^?]*)(\?.*)?", place)
    return f"{file[1]}{Path(file[2]).resolve()}{file[3] or ''}" if file and os.path.exists(file[2]) else place


def absolute(arguments: list[str]) -> list[str]:
    """Return the arguments with local paths made absolute: a run may be resumed from another folder."""
    found, expects, named = [], False, ""
    for argument in arguments:
        flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        if flag:
            named = flag.replace("_", "-")
            expects = named in PATH_FLAGS
        found.append(f"{flag}{equals}{_resolved(named, value)}" if expects and value else argument)
    return found


def _resolved(flag: str, value: str) -> str:
    """Return a path as an absolute one, a data set's with its weight behind it; what is no path here as it is."""
    place = _absolute(value)
    if place != value or flag != "--dataset":  # `models:/m-1` of --adapter is no file `models` with a weight.
        return place
    path, colon, weight = value.rpartition(":")
    return f"{Path(path).resolve()}:{weight}" if colon and path and os.path.exists(path) else value
