"""Fine-tune a 4-bit decoder with LoRA to write SQL from a question and CREATE TABLE statements.

The run is tracked in MLflow; its id is the last line on stdout. Go on with `python log_model.py RUN`.
"""

from dataclasses import dataclass, field, replace
from functools import partial

from finetune import InputError, console, resuming
from finetune.models.bases.loading import load_decoder, open_base
from finetune.models.bases.quantization import DTYPES, is_sharded, storage_dtype
from finetune.models.card import TEXT_TO_SQL, SqlCard
from finetune.models.prompts import Prompt
from finetune.reports import figures
from finetune.reports.curves.training import on_request
from finetune.reports.scorecards.beforehand import ask_beforehand
from finetune.reports.sql_trainer import SqlTrainer, check_scores, finish, score
from finetune.rows.files.columns import QUESTIONS as COLUMNS
from finetune.rows.loading import Rows, check_writable
from finetune.rows.splits.question_split import ANY_SIZE, SPLITS
from finetune.rows.sql.cleaning import check_dialect
from finetune.rows.sql.encoding import AUTO, encode_questions, prompt_token_ids
from finetune.rows.sql.loading import load_questions
from finetune.rows.supervision import show_audit
from finetune.runs import tracking
from finetune.runs.checkpoints import start_card
from finetune.training.adapters import add_adapter, init_adapter, init_settings, log_plan
from finetune.training.callbacks import parse_duration
from finetune.training.checks.preflight import preflight
from finetune.training.flags.adapter_flags import AdapterFlags, Start
from finetune.training.flags.adapter_rows import warn_of_learnt_rows
from finetune.training.flags.database_flags import DatabaseFlags, read_database
from finetune.training.flags.script_parser import ScriptParser
from finetune.training.flags.shared_flags import ON_GPU, SharedFlags, SharedTrainingArguments, problems, with_groups
from finetune.training.packs import choose_collator

from peft import LoraConfig, PeftModel
from transformers import BitsAndBytesConfig, DataCollatorForSeq2Seq, TrainingArguments, set_seed
from transformers.utils import is_liger_kernel_available

RELOAD_CHECK_ROWS = 8


@dataclass
class Flags(AdapterFlags, DatabaseFlags, SharedFlags):
    """The script's own flags."""

    base_model: str = field(
        default="mistralai/Mistral-7B-v0.1", metadata={"help": "Hub id or folder of the decoder to fine-tune"}
    )
    dataset: list[str] = field(
        default_factory=lambda: ["b-mc2/sql-create-context"],
        metadata={
            "help": "Hub id, .jsonl/.json/.csv/.parquet file, or folder with train.* and validation.*; several are"
            " mixed, with weights as in own.csv:3 other.csv:1, and measured on the first; mlflow:EXPERIMENT: its"
            " corrected answers"
        },
    )
    experiment: str = "sql-generator"
    max_length: str = field(  # type: ignore[assignment]  # A number by the time that it is used as one.
        default=AUTO,
        metadata={
            "help": "tokens of prompt and answer; a longer row is dropped and counted, never cut. auto: as the longest"
            " row has, within what the base reads"
        },
    )
    lora_r: int = 32
    lora_alpha: int = 64
    lora_dropout: float = 0.0  # The reference recipe's 0.05-0.1 buys nothing in one epoch and cost 27 % of a CPU step.
    # Not lm_head as in the reference recipe: it makes PEFT save the embeddings, at 1.4x the cost of a step.
    target_modules: list[str] = field(
        default_factory=lambda: ["all-linear"],
        metadata={"help": "layers that get an adapter; all-linear: attention and MLP projections, not lm_head"},
    )
    validation_fraction: float = field(
        default=0.05,
        metadata={"help": "share of rows to hold out where the data has no validation part"},
    )
    split_by: str = field(
        default="auto",
        metadata={
            "help": "what is held out: schema, query (all of a shape), row; auto: schema, query where there is one"
        },
    )
    max_train_rows: int | None = field(default=None, metadata={"help": "train on this many rows only, the first ones"})
    max_validation_rows: int = field(
        default=500, metadata={"help": "evaluate on at most this many held-out rows, the first ones"}
    )
    clean: bool = field(default=True, metadata={"help": "leave out rows with corrupt SQL, mend quotes and letter case"})
    dialect: str = field(
        default="sqlite",
        metadata={"help": "SQL of the data, such as postgres, mysql, tsql, bigquery; cleaned and scored as SQLite's"},
    )
    allow_leaks: bool = field(
        default=False,
        metadata={"help": "train even if over 1 %% of the validation rows share question, schema or SQL with training"},
    )
    packing: bool = field(
        default=True,
        metadata={"help": "the rows of a step one after the other, without padding; otherwise padded, by length"},
    )
    max_tokens_per_batch: int | None = field(
        default=None if ON_GPU else 4096,
        metadata={
            "help": "tokens computed at a time; memory grows with it. A step with more takes several turns. On a GPU as"
            " many as the preflight finds room for"
        },
    )
    score_rows: int = field(
        default=100, metadata={"help": "held-out questions for the scorecard at the end; 0: no scorecard"}
    )
    rows: bool = field(
        default=True,
        metadata={
            "help": "first rows of both results on --database in the run's table of failing questions; --no-rows: none"
        },
    )
    groups = with_groups(
        data=("database", "tables", "values", "candidates", "split_by", "max_train_rows", "max_validation_rows",
              "clean", "dialect", "allow_leaks", "distractor_columns", "trust_role"),
        model=("adapter",),
        training=("packing", "max_tokens_per_batch"),
        run=("score_rows", "rows"),
    )  # fmt: skip

    def __post_init__(self):
        """Leave a number what it is; settle what goes with --database."""
        super().__post_init__()
        if str(self.max_length).isdecimal():
            self.max_length = int(self.max_length)  # type: ignore[assignment]


@dataclass
class SqlTrainingArguments(SharedTrainingArguments, TrainingArguments):
    """TrainingArguments with the defaults of this task."""

    num_train_epochs: float = field(default=1.0, metadata={"help": "passes over the training rows"})
    # What is computed at a time goes by --max-tokens-per-batch.
    per_device_train_batch_size: int = field(default=16, metadata={"help": "sequences a device and micro-batch"})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "sequences a device in evaluation"})
    # Packing needs no rows of like length in a step.
    train_sampling_strategy: str = field(default="random", metadata={"help": "order of the rows"})
    # The reference recipe's 2e-5 is a full fine-tuning rate; LoRA needs about ten times as much.
    learning_rate: float = field(default=2e-4, metadata={"help": "peak learning rate"})
    # Warm-up and decay: at a constant rate the last steps still jump about, and the first ones spoil B = 0.
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "learning rate schedule"})
    warmup_steps: float = field(default=0.03, metadata={"help": "steps of warm-up; below 1 a share of all steps"})
    eval_strategy: str = field(default="steps", metadata={"help": "when to evaluate"})
    eval_steps: float = field(default=0.2, metadata={"help": "steps between evaluations; below 1 a share of all steps"})
    save_strategy: str = field(default="steps", metadata={"help": "when to save a checkpoint"})
    save_steps: float = field(default=0.2, metadata={"help": "steps between checkpoints; below 1 a share"})
    save_total_limit: int = field(default=2, metadata={"help": "checkpoints kept: the best and the last"})
    metric_for_best_model: str | None = field(
        default="eval_loss",
        metadata={"help": "metric of the best checkpoint; exec_accuracy is that on generated databases in any case"},
    )
    # Kernels of RMSNorm, RoPE and SwiGLU for a GPU, and no logits in memory; `pip install liger-kernel`.
    use_liger_kernel: bool = field(
        default=ON_GPU and is_liger_kernel_available(), metadata={"help": "Liger's kernels, where they are installed"}
    )


@on_request
def main(arguments: list[str] | None = None) -> None:
    """Train, track, sample; print the run id."""
    parser = ScriptParser(Flags, SqlTrainingArguments, description=__doc__)
    flags, args, origin = resuming.parse_resumable(parser, arguments, TEXT_TO_SQL)
    check_flags(flags, args)
    origin.online = flags.preflight_only or tracking.connect(flags.offline_ok)
    set_seed(args.seed)

    revision, tokenizer = open_base(flags, "decoder")
    prompt = origin.start.prompt if origin.start else Prompt.load("text_to_sql")
    tokenizer = origin.start.tokenizer(flags.base_model) if origin.start else tokenizer
    with args.main_process_first(desc="loading the data set"):
        rows, findings = load_questions(flags, args.seed, read_database(flags, begun=origin.run))
    splits = encode_questions(rows, flags, prompt, revision, tokenizer)
    origin.settings["max_length"] = flags.max_length
    report = show_audit(splits, tokenizer)
    model, lora, quantization = build_model(flags, revision, origin.start)
    collator = choose_collator(model, tokenizer, flags, args)
    original = partial(load_decoder, flags.base_model, revision, None, DTYPES[flags.compute_dtype])
    init_adapter(model, flags.init_lora_weights, original, splits["train"].dataset, DataCollatorForSeq2Seq(tokenizer))
    card = make_card(flags, revision, quantization, prompt, tokenizer, rows.columns, splits["validation"].rows)

    trainer = SqlTrainer(
        model=model,
        args=args,
        train_dataset=splits["train"].dataset,
        eval_dataset=splits["validation"].dataset.sort("length"),
        data_collator=collator,
        processing_class=tokenizer,
        card=card,
        score_rows=splits["validation"].rows[: flags.score_rows],
        database=findings["database"],
    )
    check_scores(trainer, for_curve=bool(flags.learning_curve))
    plan = preflight(trainer, flags)
    if plan and flags.preflight_only:  # Without a plan, it is refused.
        return console.print_result(plan.to_json())

    with resuming.training_run(flags, args, origin) as run_id:
        card = replace(card, run_id=run_id)
        resuming.attach(trainer, card, flags, origin)
        if args.process_index == 0:
            datasets = log_setup(flags, args, origin, lora, rows, splits, report, findings, card)
        log_plan(trainer, plan)
        ask_beforehand(trainer, is_resumed=bool(origin.checkpoint))
        trainer.train(resume_from_checkpoint=origin.checkpoint)
        scorecards = score(trainer, flags.distractor_columns, flags.rows, flags.candidates)
        if args.process_index == 0:
            finish(trainer, card, datasets["validation"], scorecards)
    console.print_result(run_id)


def build_model(
    flags: Flags, revision: str | None, start: Start | None
) -> tuple[PeftModel, LoraConfig, BitsAndBytesConfig | None]:
    """Return the base, in 4 bits unless told otherwise, with its adapter, fresh or of `start`, and their settings."""
    compute_dtype = DTYPES[flags.compute_dtype]  # What the machine is fast at, unless it was given.
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        bnb_4bit_quant_storage=storage_dtype(compute_dtype),
    )
    quantization = quantization if flags.load_in_4bit else None
    if start:
        quantization = start.quantization(compute_dtype)
        base = load_decoder(flags.base_model, revision, quantization, compute_dtype)
        model = start.attach(base, flags.lora_dropout)
        return model, model.peft_config["default"], quantization
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=flags.lora_r,
        lora_alpha=flags.lora_alpha,
        lora_dropout=flags.lora_dropout,
        target_modules="all-linear" if flags.target_modules == ["all-linear"] else flags.target_modules,
        **init_settings(flags.init_lora_weights),
    )
    return add_adapter(load_decoder(flags.base_model, revision, quantization, compute_dtype), lora), lora, quantization


def check_flags(flags: Flags, args: SqlTrainingArguments) -> None:
    """Raise one InputError that names every setting that cannot work."""
    least = {"max_train_rows": 1, "max_validation_rows": 1, "score_rows": 0, "distractor_columns": 0}
    least |= {"max_tokens_per_batch": 1} | ({"max_length": 1} if isinstance(flags.max_length, int) else {})
    found = problems(flags, args, least, {"split_by": (*SPLITS, ANY_SIZE)})
    if not isinstance(flags.max_length, int) and flags.max_length != AUTO:
        found.append(f"--max-length {flags.max_length} is neither auto nor a number of at least 1")
    if is_sharded() and (args.metric_for_best_model or "").endswith("exec_accuracy"):
        found.append("--metric-for-best-model exec_accuracy answers questions, which a base cut up by FSDP cannot")
    if flags.score_rows < 1 and (args.metric_for_best_model or "").endswith("exec_accuracy"):
        found.append("--metric-for-best-model exec_accuracy needs --score-rows of at least 1")
    if (args.metric_for_best_model or "loss").removeprefix("eval_") not in ("loss", "exec_accuracy"):
        found.append(f"--metric-for-best-model {args.metric_for_best_model} is none of loss, exec_accuracy")
    if found:
        raise InputError("; ".join(found) + ".")
    check_dialect(flags.dialect)
    parse_duration(flags.max_time)
    check_writable(args.output_dir)


def make_card(flags, revision, quantization, prompt, tokenizer, columns: dict, held_out: list[dict]) -> SqlCard:
    """Return what travels in every checkpoint: enough to restore the model, and prompts to check it with."""
    return SqlCard(
        **start_card(flags, revision, quantization),
        prompt=prompt.text,
        columns=columns,
        dialect=flags.dialect,
        sample_values=flags.values or None,
        sample=[
            {name: row[name] for name in prompt.variables} | {"prompt_ids": prompt_token_ids(tokenizer, prompt, row)}
            for row in held_out[:RELOAD_CHECK_ROWS]
        ],
    )


def log_setup(flags, args, origin, lora, rows: Rows, splits, report: dict, findings: dict, card: SqlCard) -> dict:
    """Log what the run is made of: parameters, data sets, prompt, audits; return the data sets by part."""
    parts = {name: split.rows for name, split in splits.items()}
    data = {"leak_share": findings["leaks"]["share"]} | findings["schema"].get("facts", {})
    datasets = tracking.log_begin(card.run_id, args, flags, lora, card, rows, parts, COLUMNS, data)
    tracking.log_text(card.prompt, "prompts/text_to_sql.txt")
    tracking.log_dict(findings["cleaning"], "data_cleaning.json")
    tracking.log_dict(findings["leaks"], "leak_report.json")
    if "sql" in findings["schema"]:
        tracking.log_text(findings["schema"]["sql"], "schema.sql")
    if findings["skipped"]:
        figures.log_table(findings["skipped"], "skipped_rows")
    figures.log_supervision(report, splits, flags.max_length)
    warn_of_learnt_rows(None if origin.run or not origin.online else origin.start, datasets["validation"])
    return datasets


if __name__ == "__main__":
    console.run(main)
