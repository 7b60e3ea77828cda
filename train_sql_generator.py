"""Fine-tune a 4-bit decoder with LoRA to write SQL from a question and CREATE TABLE statements.

The run is tracked in MLflow; its id is the last line on stdout. Go on with `python log_model.py RUN`.
"""

import logging
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

from finetune import console, reports, tracking
from finetune.adapters import add_adapter, log_plan
from finetune.base_models import load_config, load_decoder, load_tokenizer, resolved_revision
from finetune.checkpoints import FOLDER_TAG, CardCallback
from finetune.console import InputError, ScriptParser
from finetune.data import Rows, check_writable, load_rows
from finetune.distractors import distract
from finetune.generation import generate_all
from finetune.leaks import format_leaks, leak_report, refuse_leaks
from finetune.prompts import Prompt
from finetune.quantization import to_record
from finetune.scorecard import answer_rows, compare, log_scorecard
from finetune.sql_cleaning import clean_parts
from finetune.supervision import IGNORED, audit, encode_rows, format_audit, prompt_token_ids
from metrics.sql_execution.sql_execution import summarize

import mlflow
import torch
from accelerate.utils import broadcast_object_list, gather_object
from peft import LoraConfig
from transformers import BitsAndBytesConfig, DataCollatorForSeq2Seq, Trainer, TrainingArguments, set_seed

logger = logging.getLogger(__name__)
COLUMNS = ("question", "context", "answer")
RELOAD_CHECK_ROWS = 8
ON_GPU = torch.cuda.is_available()


@dataclass
class Flags:
    """The script's own flags."""

    base_model: str = field(
        default="mistralai/Mistral-7B-v0.1", metadata={"help": "Hub id or folder of the decoder to fine-tune"}
    )
    base_revision: str | None = field(default=None, metadata={"help": "Hub branch, tag or commit of the base model"})
    dataset: str = field(
        default="b-mc2/sql-create-context",
        metadata={"help": "Hub id, .jsonl/.json/.csv/.parquet file, or folder with train.* and validation.*"},
    )
    experiment: str = field(default="sql-generator", metadata={"help": "MLflow experiment of the run"})
    max_length: int = field(
        default=512, metadata={"help": "tokens of prompt and answer; a longer row is dropped and counted, never cut"}
    )
    lora_r: int = field(default=32, metadata={"help": "rank of the adapter; its size and cost grow with it"})
    lora_alpha: int = field(default=64, metadata={"help": "the update is scaled by alpha / r"})
    # The reference recipe's 0.05-0.1 buys nothing in one epoch and cost 27 % of a CPU step.
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout before the adapter; above 0 it slows a step"})
    # Not lm_head as in the reference recipe: it makes PEFT save the embeddings, at 1.4x the cost of a step.
    target_modules: list[str] = field(
        default_factory=lambda: ["all-linear"],
        metadata={"help": "layers that get an adapter; all-linear: attention and MLP projections, not lm_head"},
    )
    load_in_4bit: bool = field(default=True, metadata={"help": "NF4 base; without it the base stays in bfloat16"})
    validation_fraction: float = field(
        default=0.05, metadata={"help": "share of rows held out, by schema, where the data has no validation part"}
    )
    max_train_rows: int | None = field(default=None, metadata={"help": "train on the first so many rows only"})
    max_validation_rows: int = field(default=500, metadata={"help": "evaluate on the first so many held-out rows"})
    clean: bool = field(default=True, metadata={"help": "leave out rows with corrupt SQL, mend quotes and letter case"})
    allow_leaks: bool = field(
        default=False,
        metadata={"help": "train although over 1 %% of the validation rows share rows with training"},
    )
    distractor_columns: int = field(
        default=4,
        metadata={"help": "foreign columns a table in half of the training rows and in a second held-out set; 0: none"},
    )
    score_rows: int = field(default=100, metadata={"help": "held-out questions of the scorecard; 0: no scorecard"})


@dataclass
class SqlTrainingArguments(TrainingArguments):
    """TrainingArguments with the defaults of this task."""

    output_dir: str = field(default="outputs", metadata={"help": "checkpoints go to OUTPUT_DIR/<run id>/checkpoint-N"})
    num_train_epochs: float = field(default=1.0, metadata={"help": "passes over the training rows"})
    max_steps: int = field(default=-1, metadata={"help": "stop after so many optimiser steps; -1: after the epochs"})
    seed: int = field(default=42, metadata={"help": "of the adapter's first weights, the row order and the split"})
    # A GPU of 24 GB holds 8 of a 7B model without activation checkpointing; both give 16 sequences a step.
    per_device_train_batch_size: int = field(
        default=8 if ON_GPU else 16, metadata={"help": "sequences a device and micro-batch"}
    )
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "sequences a device in evaluation"})
    gradient_accumulation_steps: int = field(
        default=2 if ON_GPU else 1, metadata={"help": "micro-batches an optimiser step"}
    )
    # The reference recipe's 2e-5 is a full fine-tuning rate; LoRA needs about ten times as much.
    learning_rate: float = field(default=2e-4, metadata={"help": "peak learning rate"})
    # Warm-up and decay: at a constant rate the last steps still jump about, and the first ones spoil B = 0.
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "learning rate schedule"})
    warmup_steps: float = field(default=0.03, metadata={"help": "steps of warm-up; below 1 a share of all steps"})
    # Rows of like length share a batch and are padded to its longest, not all to 256 tokens.
    train_sampling_strategy: str = field(default="group_by_length", metadata={"help": "order of the rows"})
    eval_strategy: str = field(default="steps", metadata={"help": "when to evaluate"})
    eval_steps: float = field(default=0.2, metadata={"help": "steps between evaluations; below 1 a share of all steps"})
    save_strategy: str = field(default="steps", metadata={"help": "when to save a checkpoint"})
    save_steps: float = field(default=0.2, metadata={"help": "steps between checkpoints; below 1 a share"})
    save_total_limit: int = field(default=2, metadata={"help": "checkpoints kept: the best and the last"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "end with the best checkpoint"})
    # Without label names the Trainer finds no labels behind PEFT's forward, and there is no eval_loss.
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "label columns"})
    metric_for_best_model: str | None = field(default="eval_loss", metadata={"help": "metric of the best checkpoint"})
    logging_steps: float = field(default=10, metadata={"help": "steps between logged training losses"})
    logging_first_step: bool = field(default=True, metadata={"help": "log the first step too"})
    report_to: list[str] | None = field(default_factory=lambda: ["mlflow"], metadata={"help": "trackers"})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "all adapter weights are used"})
    use_cpu: bool = field(default=not ON_GPU, metadata={"help": "train on the CPU; by itself where there is no GPU"})
    # bf16 autocast on the GPU; tiny CPU batches spend more on the casts than the matrices gain.
    bf16: bool = field(default=ON_GPU and torch.cuda.is_bf16_supported(), metadata={"help": "bfloat16 autocast"})
    # Paged: moves the optimiser state out to the host when a long batch needs the memory.
    optim: str = field(default="paged_adamw_8bit" if ON_GPU else "adamw_torch_fused", metadata={"help": "optimiser"})
    dataloader_pin_memory: bool = field(default=ON_GPU, metadata={"help": "page-locked batches, for a GPU only"})


def main(arguments: list[str] | None = None) -> None:
    """Train, track, sample; print the run id."""
    parser = ScriptParser(Flags, SqlTrainingArguments, description=__doc__, shown=("max_steps", "output_dir", "seed"))
    flags, args = parser.parse(arguments)
    check_flags(flags, args)
    tracking.connect()
    set_seed(args.seed)

    load_config(flags.base_model, flags.base_revision)
    revision = resolved_revision(flags.base_model, flags.base_revision)
    tokenizer = load_tokenizer(flags.base_model, revision)
    prompt = Prompt.load("text_to_sql")
    with args.main_process_first(desc="loading the data set"):
        rows, findings = load_data(flags, args.seed)
    splits = {
        "train": encode_rows(rows.train[: flags.max_train_rows], prompt, tokenizer, flags.max_length),
        "validation": encode_rows(rows.validation[: flags.max_validation_rows], prompt, tokenizer, flags.max_length),
    }
    report = audit(splits, tokenizer)
    logger.info(format_audit(report))
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,  # The library's default is float32.
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=flags.lora_r,
        lora_alpha=flags.lora_alpha,
        lora_dropout=flags.lora_dropout,
        target_modules="all-linear" if flags.target_modules == ["all-linear"] else flags.target_modules,
    )
    quantization = quantization if flags.load_in_4bit else None
    model = add_adapter(load_decoder(flags.base_model, revision, quantization, torch.bfloat16), lora)
    card = make_card(flags, revision, quantization, prompt, tokenizer, splits["validation"].rows)

    with tracking.run(flags.experiment) if args.process_index == 0 else nullcontext() as run_id:
        # Every process saves below the folder of the one run.
        card["run_id"] = broadcast_object_list([run_id])[0]
        args.output_dir = str(Path(args.output_dir).resolve() / card["run_id"])
        trainer = SqlTrainer(
            model=model,
            args=args,
            train_dataset=splits["train"].dataset,
            eval_dataset=splits["validation"].dataset.sort("length"),
            # Pads to the longest row of the batch; labels with -100.
            data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
            processing_class=tokenizer,
            callbacks=[CardCallback(card)],
        )
        trainer.prompt, trainer.score_rows = prompt, splits["validation"].rows[: flags.score_rows]
        if args.process_index == 0:
            validation = log_setup(flags, args, lora, rows, splits, report, findings, card)
        log_plan(trainer)
        trainer.train()
        if args.process_index == 0:
            log_outcome(trainer, card)
            log_scores(trainer, run_id, validation, flags.distractor_columns)
    console.print_result(card["run_id"])


class SqlTrainer(Trainer):
    """Trainer that can select its best checkpoint by answering held-out questions.

    With `--metric-for-best-model exec_accuracy`, every evaluation answers `score_rows` greedily, shared out
    over the processes. Set `prompt` and `score_rows` before training.
    """

    prompt: Prompt
    score_rows: list[dict]

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Return the losses and, where the best checkpoint goes by it, `eval_exec_accuracy`."""
        metrics = super().evaluate(*args, **kwargs)
        if (self.args.metric_for_best_model or "").removeprefix("eval_") == "exec_accuracy":
            share = self.score_rows[self.args.process_index :: self.args.world_size]
            model = self.accelerator.unwrap_model(self.model)
            verdicts = answer_rows(model, self.processing_class, self.prompt, share).verdicts if share else []
            score = {"eval_exec_accuracy": summarize(gather_object(verdicts))["exec_accuracy"]}
            self.log(score)
            metrics |= score
        return metrics


def load_data(flags: Flags, seed: int) -> tuple[Rows, dict]:
    """Return the cleaned rows, training rows with distractors among them, and what was found on the way.

    Raises:
        InputError: unreadable data, nothing left after cleaning, or a leak between the parts.
    """
    rows = load_rows(flags.dataset, COLUMNS, flags.validation_fraction, seed)
    findings = clean_parts(rows) if flags.clean else {"cleaning": {}, "skipped": []}
    findings["leaks"] = leak_report(rows.train, rows.validation)
    summaries = [f"Cleaning, {name}: {found}" for name, found in findings["cleaning"].items()]
    logger.info("\n".join([*summaries, format_leaks(findings["leaks"])]))
    if not flags.allow_leaks:
        refuse_leaks(findings["leaks"])
    rows.train = distract(rows.train, flags.distractor_columns, seed, share=0.5)
    return rows, findings


def check_flags(flags: Flags, args: SqlTrainingArguments) -> None:
    """Raise one InputError that names every setting that cannot work."""
    positive = {name: getattr(flags, name) for name in ("max_length", "lora_r", "lora_alpha", "max_validation_rows")}
    if flags.max_train_rows is not None:
        positive["max_train_rows"] = flags.max_train_rows
    problems = [f"--{n.replace('_', '-')} {value} must be at least 1" for n, value in positive.items() if value < 1]
    counts = {name: getattr(flags, name) for name in ("score_rows", "distractor_columns")}
    problems += [f"--{n.replace('_', '-')} {value} must not be negative" for n, value in counts.items() if value < 0]
    if flags.score_rows < 1 and (args.metric_for_best_model or "").endswith("exec_accuracy"):
        problems.append("--metric-for-best-model exec_accuracy needs --score-rows of at least 1")
    if not 0 <= flags.lora_dropout < 1:
        problems.append(f"--lora-dropout {flags.lora_dropout} must lie in [0, 1)")
    if not 0 < flags.validation_fraction < 1:
        problems.append(f"--validation-fraction {flags.validation_fraction} must lie between 0 and 1")
    if problems:
        raise InputError("; ".join(problems) + ".")
    check_writable(args.output_dir)


def make_card(flags, revision, quantization, prompt, tokenizer, held_out: list[dict]) -> dict:
    """Return what travels in every checkpoint: enough to restore the model, and prompts to check it with."""
    is_folder = Path(flags.base_model).is_dir()
    return {
        "task": "text-to-sql",
        "base_model": str(Path(flags.base_model).resolve()) if is_folder else flags.base_model,
        "base_revision": revision,
        "quantization": to_record(quantization),
        "prompt": prompt.text,
        "max_length": flags.max_length,
        "sample": [
            {name: row[name] for name in prompt.variables} | {"prompt_ids": prompt_token_ids(tokenizer, prompt, row)}
            for row in held_out[:RELOAD_CHECK_ROWS]
        ],
    }


def log_setup(flags, args, lora, rows, splits, report, findings, card):
    """Log what the run is made of: parameters, data sets, prompt, audits; return the validation data set."""
    sizes = {f"{name}_rows": len(split.rows) for name, split in splits.items()}
    leaks = {"leak_share": findings["leaks"]["share"]}
    data = {"source": rows.source, "split_by": rows.split_by, **sizes, **leaks}
    groups = {"script": asdict(flags), "lora": lora.to_dict(), "quantization": card["quantization"] or {}}
    groups |= {"data": data, "base": {"revision": card["base_revision"]}}
    tracking.log_parameters(groups, training=args.to_dict())
    mlflow.set_tags({FOLDER_TAG: args.output_dir, "finetune.task": card["task"]})
    _, validation = (
        tracking.log_dataset(
            card["run_id"], splits[name].rows, COLUMNS, rows.source, f"{name}_rows", context, rows.from_hub
        )
        for name, context in (("train", "training"), ("validation", "validation"))
    )
    mlflow.log_dict(findings["cleaning"], "data_cleaning.json")
    mlflow.log_dict(findings["leaks"], "leak_report.json")
    if findings["skipped"]:
        reports.log_table(findings["skipped"], "skipped_rows")
    mlflow.log_text(card["prompt"], "prompts/text_to_sql.txt")
    mlflow.log_dict(report, "supervision_audit.json")
    mlflow.log_text(format_audit(report), "supervision_audit.txt")
    lengths = {name: list(split.dataset["length"]) for name, split in splits.items()}
    reports.log_figure(reports.token_lengths(lengths, flags.max_length), "token_lengths")
    return validation


def log_outcome(trainer: SqlTrainer, card: dict) -> None:
    """Log the loss curve, and the tokens that log_model.py compares the reloaded model's with."""
    reports.log_figure(reports.loss_curve(trainer.state.log_history), "loss_curve")
    if not trainer.args.load_best_model_at_end:
        step = trainer.state.global_step
    else:
        step = trainer.state.best_global_step or trainer.state.global_step
    expected = generate_all(trainer.model, trainer.processing_class, [row["prompt_ids"] for row in card["sample"]])
    mlflow.log_dict({"step": step, "token_ids": [completion.token_ids for completion in expected]}, "reload_check.json")


def log_scores(trainer: SqlTrainer, run_id: str, validation, distractor_columns: int) -> None:
    """Score base and adapter on held-out rows, as they are and with distractors, and log both scorecards."""
    rows = trainer.score_rows
    sets = {"validation": rows, "validation_distractors": distract(rows, distractor_columns, trainer.args.seed)}
    if not distractor_columns:
        sets.pop("validation_distractors")
    for name, questions in sets.items() if rows else ():
        card = compare(trainer.model, trainer.processing_class, trainer.prompt, questions)
        log_scorecard(card, name, run_id, trainer.state.global_step, validation)
        logger.info(card.format(name))
        if not card.changed:
            logger.error("the adapter changed none of the answers: the run was too short, or its rate too low.")


if __name__ == "__main__":
    console.run(main)
