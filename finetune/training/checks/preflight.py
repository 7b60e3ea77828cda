"""Before a training: one real step on its longest rows, and what that says of memory and time."""

import gc
import json
import logging
import math
import sys
from dataclasses import asdict, dataclass

from finetune import InputError
from finetune.models.bases.memory import memory_limit, peak_memory
from finetune.models.bases.quantization import faster_dtypes, is_sharded
from finetune.screen import DETAIL
from finetune.training.checks.trainer_checks import check_trainer
from finetune.training.checks.trial_steps import (
    NEW_TOKENS,
    Step,
    computed_share,
    longest_rows,
    one_generation,
    one_step,
    undone,
)
from finetune.training.flags.shared_flags import SharedFlags

import torch
from accelerate.utils import gather_object
from transformers import GenerationMixin, Trainer
from transformers.integrations.liger import apply_liger_kernel

logger = logging.getLogger(__name__)
# Every fourth layer's activations are computed again, every second's, all: the first that fits is the fastest.
CHECKPOINTING = (0, 4, 2, 1)
# Fewer tokens at a time leave a GPU waiting for the host; from there on, recomputing some layers costs less.
LEAST_TOKENS = 2048
# Seconds: an estimate above the first is told how to come down to the second.
LONG, SHORT = 3600, 1200


@dataclass
class Preflight:
    """What a training takes on this device.

    Attributes:
        rows: the longest that are computed at a time; `tokens` in them, padding included.
        peak_bytes: the most memory that a step on them or a generation took.
        limit_bytes: what the process can have.
        step_seconds: of forward, backward and optimiser on those rows.
        every_n_layers: one layer in so many computes its activations again; 0: none.
        training_seconds: of the whole training with its evaluations of the loss, without scorecards; estimated.
        generation_seconds: of `NEW_TOKENS` tokens for a batch of the longest prompts; None without a generation.
        shorter: a sentence on what would make a long training short; empty where it is not long.
    """

    rows: int
    tokens: int
    peak_bytes: int
    limit_bytes: int
    step_seconds: float
    every_n_layers: int
    training_seconds: float
    generation_seconds: float | None = None
    shorter: str = ""

    def to_json(self) -> str:
        """Return the measurement as one line."""
        return json.dumps(asdict(self))

    def headline(self) -> str:
        """Return what is shown of it before training: about how long, and in how much memory."""
        again = f", one layer in {self.every_n_layers} computed again" if self.every_n_layers else ""
        shorter = f"; {self.shorter}" if self.shorter else ""
        return (
            f"about {format_seconds(self.training_seconds)} without scorecards, at most {self.peak_bytes / 1e9:.2f} of"
            f" {self.limit_bytes / 1e9:.1f} GB{again}{shorter}"
        )

    def format(self) -> str:
        """Return what is shown before training, in full."""
        checkpointing = f", one layer in {self.every_n_layers} computed twice" if self.every_n_layers else ""
        generation = ""
        if self.generation_seconds is not None:
            generation = f"\n  {NEW_TOKENS} tokens generated in {self.generation_seconds:.1f} s"
        shorter = f"\n  {self.shorter}" if self.shorter else ""
        return (
            f"Preflight\n  longest {self.rows} rows, {self.tokens} tokens{checkpointing}: {self.step_seconds:.2f} s,"
            f" at most {self.peak_bytes / 1e9:.2f} of {self.limit_bytes / 1e9:.1f} GB"
            f"{generation}\n  training will take about {format_seconds(self.training_seconds)}, without scorecards"
            f"{shorter}"
        )


def preflight(trainer: Trainer, flags: SharedFlags) -> Preflight | None:
    """Return what training takes on this device, and choose `--checkpoint-every-n-layers auto`.

    Weights, random state and optimiser are as before afterwards. Sizes are raised step by step, so that memory
    that will not do is seen before it is used up.

    Raises:
        InputError: when the longest rows do not fit; it names flags with which they do. As `check_trainer`, too.
    """
    supported = trainer.model.get_base_model().supports_gradient_checkpointing
    choices = CHECKPOINTING if supported else (0,)
    if flags.checkpoint_every_n_layers != "auto":
        choices = (int(flags.checkpoint_every_n_layers),)
    if choices[0] and not supported:
        raise InputError("--checkpoint-every-n-layers: this model cannot recompute its activations; leave it out.")
    set_checkpointing(trainer.args, choices[0])
    cut_up = is_sharded() or trainer.is_deepspeed_enabled
    check_trainer(trainer, is_whole=not cut_up)
    if cut_up and flags.preflight_only:
        raise InputError("--preflight-only tries a whole model on one device; it does not go with FSDP or DeepSpeed.")
    if cut_up or not (flags.preflight or flags.preflight_only):
        return None
    if trainer.args.use_liger_kernel:
        apply_liger_kernel(trainer.model, trainer.args.liger_kernel_config)  # The Trainer does so when it starts.
    # Padded batches know no budget of tokens.
    open_budget = hasattr(trainer.data_collator, "max_tokens") and getattr(flags, "max_tokens_per_batch", None) is None
    try:
        with undone(trainer):
            found, problem = find_settings(trainer, choices, open_budget), None
        # With --max-steps, fewer rows are only seen more often.
        can_drop_rows = hasattr(flags, "max_train_rows") and trainer.args.max_steps < 1
        work = workload(trainer, found.step_seconds / found.tokens)
        found.shorter = shorter(work, can_drop_rows, faster_dtypes(flags.compute_dtype))
        logger.info(found.format(), extra=DETAIL)
    except InputError as error:
        found, problem = None, str(error)
    # All processes end where one of them has no room: the others would wait for it.
    problems = [given for given in gather_object([problem]) if given]
    if problems:
        raise InputError(problems[0])
    return found


def find_settings(trainer: Trainer, choices: tuple[int, ...], open_budget: bool) -> Preflight:
    """Return what the first settings that fit take; the trainer has them then.

    Args:
        choices: one layer in so many recomputed, in the order to be tried.
        open_budget: as many tokens at a time as fit, up to a step.

    Raises:
        InputError: none fit.
    """
    for every_n_layers in choices:
        set_checkpointing(trainer.args, every_n_layers)
        if open_budget:
            trainer.data_collator.max_tokens = sys.maxsize
        rows = longest_rows(trainer)
        found = try_out(trainer, rows)
        tokens = 0 if isinstance(found, Preflight) else sum(len(row["input_ids"]) for row in rows[: int(found)])
        if open_budget and tokens >= (LEAST_TOKENS if every_n_layers != choices[-1] else 1):
            trainer.data_collator.max_tokens = tokens
            found = try_out(trainer, longest_rows(trainer))
        if isinstance(found, Preflight):
            return found
        fit = found
    raise InputError(advice(trainer, rows, fit, every_n_layers))


def set_checkpointing(args, every_n_layers: int) -> None:
    """Tell the Trainer to compute the activations of one layer in so many again; 0 leaves its own flags as they are."""
    if every_n_layers:
        args.activation_checkpointing = True
        args.activation_checkpointing_kwargs = {"use_reentrant": False, "every_n_layers": every_n_layers}


def try_out(trainer: Trainer, rows: list[dict]) -> Preflight | int:
    """Return what the longest rows take, or how many of them fit, where not all do."""
    limit, count, every_n_layers = memory_limit(), 1, 0
    measured: list[Step] = []
    enabled = trainer.args.activation_checkpointing
    if enabled:
        options = dict(trainer.args.activation_checkpointing_kwargs or {"use_reentrant": False})
        every_n_layers = options.pop("every_n_layers", 1)
        trainer.model.activation_checkpointing_enable(options, every_n_layers=every_n_layers)
    try:
        one_step(trainer, rows[:1])  # The first step of a process takes more of everything.
        for count in sorted({1, min(len(rows), max(2, len(rows) // 4)), len(rows)}):
            if not torch.cuda.is_available() and fitting(measured, limit) < count:
                return fitting(measured, limit)  # Without an exception to come, it is not tried.
            measured.append(one_step(trainer, rows[:count]))
        step = one_step(trainer, rows)  # The first time at a size allocates; that is not what training is like.
        if step.peak_bytes + bucket_bytes(trainer) > limit:
            return min(fitting(measured, limit), len(rows) - 1)
        seconds, peak = None, step.peak_bytes
        if isinstance(trainer.model.get_base_model(), GenerationMixin):
            seconds = one_generation(trainer, rows)
            peak = max(peak, peak_memory())
        whole = workload(trainer, step.seconds / step.tokens).seconds
        peak += bucket_bytes(trainer)
        return Preflight(len(rows), step.tokens, peak, limit, step.seconds, every_n_layers, whole, seconds)
    except torch.OutOfMemoryError:
        pass  # Its traceback holds the graph: what can be freed is freed below.
    finally:
        if enabled:
            trainer.model.activation_checkpointing_disable()
    trainer.model.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.empty_cache()
    return min(fitting(measured, limit), count - 1)


def bucket_bytes(trainer: Trainer) -> int:
    """Return what DistributedDataParallel takes besides, once training begins: gradients a second time."""
    if trainer.args.world_size == 1:
        return 0
    trained = (weight for weight in trainer.model.parameters() if weight.requires_grad)
    return sum(weight.numel() * weight.element_size() for weight in trained)


def fitting(measured: list[Step], limit: int) -> int:
    """Return how many rows fit, by a straight line through the last two measurements; without two, no limit."""
    if measured and measured[0].peak_bytes > limit:
        return 0
    if len(measured) < 2 or measured[-1].rows == measured[-2].rows:
        return sys.maxsize
    before, last = measured[-2:]
    slope = (last.peak_bytes - before.peak_bytes) / (last.rows - before.rows)
    room = 0.95 * limit - last.peak_bytes  # Allocators leave holes.
    return sys.maxsize if slope <= 0 else max(0, last.rows + math.floor(room / slope))


@dataclass
class Workload:
    """What a training will do: its rows, its steps, the seconds of the steps and of the evaluations of the loss."""

    rows: int
    steps: int
    step_seconds: float
    evaluation_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole training."""
        return self.step_seconds + self.evaluation_seconds


def workload(trainer: Trainer, seconds_a_token: float) -> Workload:
    """Return the estimated training, at the speed of the step on trial; a forward takes a third of a step."""
    args, train = trainer.args, list(trainer.train_dataset["length"])
    samples = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    steps_an_epoch = math.ceil(len(train) / samples)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_an_epoch)
    tokens = steps / steps_an_epoch * sum(train) * computed_share(trainer) / args.world_size
    if args.eval_strategy == "steps":
        evaluations = steps // max(1, args.eval_steps if args.eval_steps >= 1 else math.ceil(args.eval_steps * steps))
    else:
        evaluations = steps / steps_an_epoch * (args.eval_strategy == "epoch")
    evaluated = evaluations * sum(trainer.eval_dataset["length"]) / args.world_size
    return Workload(len(train), steps, seconds_a_token * tokens, seconds_a_token * evaluated / 3)


def shorter(work: Workload, can_drop_rows: bool, faster: dict[str, float] | None = None) -> str:
    """Return the sentence that says what would make a training of over an hour short; empty for another.

    The evaluations are counted in full: fewer steps or rows may leave them as they are.

    Args:
        can_drop_rows: --max-train-rows is a flag of the script, and would make this training shorter.
        faster: types in place of this one, and how many times as fast products of matrices are in each.
    """
    if work.seconds <= LONG:
        return ""
    goal = max(SHORT, 2 * work.evaluation_seconds)
    share = (goal - work.evaluation_seconds) / work.step_seconds
    ways = []
    if share < 1:
        flags = {"--max-steps": work.steps} | ({"--max-train-rows": work.rows} if can_drop_rows else {})
        names = " or ".join(f"{flag} {max(1, math.floor(share * count))}" for flag, count in flags.items())
        ways.append(f"{names}: about {format_seconds(goal)}")
    for name, ratio in (faster or {}).items():
        ways.append(f"--compute-dtype {name}: products of matrices are {ratio:.2g} times as fast in it here")
    return f"to be done sooner: {'; '.join(ways)}" if ways else ""


def advice(trainer: Trainer, rows: list[dict], fit: int, every_n_layers: int) -> str:
    """Return the sentence for rows that do not fit: what to give instead."""
    args = trainer.args
    longest = max(len(row["input_ids"]) for row in rows)
    given = f"{len(rows)} rows of up to {longest} tokens do not fit into {memory_limit() / 1e9:.1f} GB;"
    if fit < 1 and every_n_layers != 1:
        return f"{given} give --checkpoint-every-n-layers 1."
    if fit < 1:
        return f"{given} not one of them does. Give a lower --max-length, or a smaller base."
    if hasattr(trainer.data_collator, "max_tokens"):
        return f"{given} give --max-tokens-per-batch {sum(len(row['input_ids']) for row in rows[:fit])}."
    turns = math.ceil(args.train_batch_size * args.gradient_accumulation_steps / fit)
    return f"{given} give --per-device-train-batch-size {fit} --gradient-accumulation-steps {turns}."


def format_seconds(seconds: float) -> str:
    """Return seconds as `50 s`, `12 min` or `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
