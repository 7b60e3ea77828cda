"""Fine-tune a 4-bit encoder-decoder with LoRA to summarise articles or dialogues.

The run is tracked in MLflow; its id is the last line on stdout. Go on with `python log_model.py RUN`.
"""

from dataclasses import dataclass, field, replace
from functools import partial

from finetune import InputError, console, resuming
from finetune.models.bases.loading import load_encoder_decoder, open_base
from finetune.models.bases.quantization import DTYPES, is_sharded
from finetune.models.card import SUMMARIZATION, SummarizerCard
from finetune.models.generation import DEFAULTS
from finetune.models.prompts import Prompt
from finetune.models.summarizer.articles import warn_of_long_articles
from finetune.reports import figures
from finetune.reports.curves.training import on_request
from finetune.reports.summaries.at_end import finish, score
from finetune.reports.summaries.lead import choose_lead
from finetune.reports.summary_scorecard import MAIN_METRIC, RougeEvaluation
from finetune.rows.article_rows import COLUMNS, drop_empty, encode_summaries, longest_first
from finetune.rows.files.columns import SUMMARIES, parse_columns
from finetune.rows.loading import Rows, check_writable
from finetune.rows.splits.holdout import hold_out_by_text
from finetune.rows.splits.leaks import text_leaks
from finetune.rows.splits.shares import take_percent
from finetune.rows.supervision import IGNORED, Supervision, show_audit
from finetune.rows.with_corrections import load_with_corrections
from finetune.runs import tracking
from finetune.runs.checkpoints import start_card
from finetune.training.adapters import add_adapter, init_adapter, init_settings, log_plan
from finetune.training.callbacks import parse_duration
from finetune.training.checks.preflight import preflight
from finetune.training.flags.script_parser import ScriptParser
from finetune.training.flags.shared_flags import SharedFlags, SharedTrainingArguments, problems, with_groups
from metrics.rouge.rouge import ROUGE

from peft import LoraConfig, PeftModel
from torch.utils.data import SequentialSampler
from transformers import BitsAndBytesConfig, DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments, set_seed

RELOAD_CHECK_ROWS = 8


@dataclass
class Flags(SharedFlags):
    """The script's own flags."""

    base_model: str = field(default="google-t5/t5-small", metadata={"help": "Hub id or folder of the encoder-decoder"})
    dataset: list[str] = field(
        default_factory=lambda: ["knkarthick/samsum"],
        metadata={
            "help": "Hub id[:configuration], file with a column `split`, or folder with train.*, validation.*; beside"
            " it mlflow:EXPERIMENT, its corrected answers"
        },
    )
    text_column: str | None = field(
        default=None, metadata={"help": "column of the articles; otherwise article, dialogue, document or text"}
    )
    summary_column: str | None = field(
        default=None, metadata={"help": "column of the summaries; otherwise summary, highlights or abstract"}
    )
    experiment: str = "summarizer"
    max_length: int = field(
        default=512, metadata={"help": "tokens that are read of prompt and article; longer articles are counted"}
    )
    max_target_length: int = field(
        default=128, metadata={"help": "tokens of a summary; a row with a longer one is dropped and counted, never cut"}
    )
    long_texts: str = field(
        default="truncate",
        metadata={"help": "truncate: read the beginning; window: also summarise the rest, piece by piece (training"
                  " and its evaluations read the beginning)"},
    )  # fmt: skip
    lora_r: int = 6
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    target_modules: list[str] = field(
        default_factory=lambda: ["q", "k", "v"], metadata={"help": "layers that get an adapter, or all-linear"}
    )
    max_train_rows: int | None = field(default=None, metadata={"help": "train on this many rows only, the first ones"})
    max_validation_rows: int = field(
        default=500, metadata={"help": "evaluate on at most this many validation rows, the first ones"}
    )
    score_rows: int = field(
        default=100, metadata={"help": "rows of validation and of test that base and adapter summarise at the end"}
    )
    groups = with_groups(
        data=("text_column", "summary_column", "max_target_length", "long_texts", "max_train_rows",
              "max_validation_rows"),
        run=("score_rows",),
    )  # fmt: skip


@dataclass
class SummarizerTrainingArguments(SharedTrainingArguments, Seq2SeqTrainingArguments):
    """Seq2SeqTrainingArguments with the defaults of this task."""

    num_train_epochs: float = field(default=3.0, metadata={"help": "passes over the training rows"})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "articles a device and micro-batch"})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "articles a device in evaluation"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate"})
    lr_scheduler_type: str = field(default="linear", metadata={"help": "learning rate schedule"})
    warmup_steps: float = field(default=0.05, metadata={"help": "steps of warm-up; below 1 a share of all steps"})
    save_total_limit: int = field(default=2, metadata={"help": "checkpoints kept: the best and the last"})
    metric_for_best_model: str | None = field(
        default=MAIN_METRIC, metadata={"help": f"metric of the best checkpoint: loss, {', '.join(ROUGE)}"}
    )
    # The loss goes by the reference's words, given one by one; a summary has to be written.
    predict_with_generate: bool = field(default=True, metadata={"help": "evaluate what the model generates"})
    generation_num_beams: int | None = field(default=1, metadata={"help": "beams of the search; 1: greedy"})


@on_request
def main(arguments: list[str] | None = None) -> None:
    """Train, track, score; print the run id."""
    parser = ScriptParser(Flags, SummarizerTrainingArguments, description=__doc__)
    flags, args, origin = resuming.parse_resumable(parser, arguments, SUMMARIZATION)
    check_flags(flags, args)
    origin.online = flags.preflight_only or tracking.connect(flags.offline_ok)
    set_seed(args.seed)

    revision, tokenizer = open_base(flags, "encoder-decoder")
    prompt = Prompt.load("summarize")
    with args.main_process_first(desc="loading the data set"):
        rows = load_data(flags, args.seed)
    leaks = text_leaks(rows, "article")
    splits, data = encode(rows, leaks, flags, prompt, tokenizer)
    report = show_audit(splits, tokenizer)
    model, lora, quantization = build_model(flags, revision)
    collator = DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=IGNORED)
    original = partial(load_encoder_decoder, flags.base_model, revision, None)
    init_adapter(model, flags.init_lora_weights, original, splits["train"].dataset, collator)
    card = make_card(flags, args, revision, quantization, prompt, data["columns"], splits["validation"].rows)
    generate_as(card, model, args)

    evaluated = longest_first(splits["validation"])
    rouge = RougeEvaluation(tokenizer, evaluated)
    trainer = SummaryTrainer(
        model=model,
        args=args,
        train_dataset=splits["train"].dataset,
        eval_dataset=evaluated.dataset,
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=rouge,
        callbacks=[rouge],
    )
    plan = preflight(trainer, flags)
    if plan and flags.preflight_only:  # Without a plan, it is refused.
        return console.print_result(plan.to_json())

    with resuming.training_run(flags, args, origin) as run_id:
        card = replace(card, run_id=run_id)
        resuming.attach(trainer, card, flags, origin)
        if args.process_index == 0:
            datasets = log_setup(flags, args, lora, rows, splits, report, leaks, data, card)
        log_plan(trainer, plan)
        trainer.train(resume_from_checkpoint=origin.checkpoint)
        parts = {"validation": splits["validation"].rows, "test": drop_empty(rows.test or [])}
        summarizer, scorecards = score(trainer, card, parts, flags.score_rows, data["lead_sentences"])
        if args.process_index == 0:
            finish(trainer, summarizer, scorecards, datasets)
    console.print_result(run_id)


def build_model(flags: Flags, revision: str | None) -> tuple[PeftModel, LoraConfig, BitsAndBytesConfig | None]:
    """Return the base, in 4 bits unless told otherwise, with a fresh adapter, and the settings of both."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[flags.compute_dtype],  # Never float16: T5 overflows.
    )
    quantization = quantization if flags.load_in_4bit else None
    lora = LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=flags.lora_r,
        lora_alpha=flags.lora_alpha,
        lora_dropout=flags.lora_dropout,
        target_modules="all-linear" if flags.target_modules == ["all-linear"] else flags.target_modules,
        **init_settings(flags.init_lora_weights),
    )
    return add_adapter(load_encoder_decoder(flags.base_model, revision, quantization), lora), lora, quantization


def load_data(flags: Flags, seed: int) -> Rows:
    """Return the rows of the data under the task's names, those for validation apart."""
    given = parse_columns(flags.column, SUMMARIES, article=flags.text_column, summary=flags.summary_column)
    split = flags.validation_fraction, seed
    rows = load_with_corrections(flags.dataset, SUMMARIES, *split, flags.encoding, given, hold_out_by_text)
    return take_percent(rows, flags.train_percent, seed)


class SummaryTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer that evaluates rows in their own order, so that what it generates can be set beside them.

    Where training goes by length, the Trainer would draw the evaluation's order too.
    """

    def _get_eval_sampler(self, eval_dataset) -> SequentialSampler:
        return SequentialSampler(eval_dataset)


def encode(rows: Rows, leaks: dict, flags: Flags, prompt: Prompt, tokenizer) -> tuple[dict[str, Supervision], dict]:
    """Return training and validation rows encoded, and what is to be known of the data.

    Raises:
        InputError: no row that can be used.
    """
    limits = {"train": flags.max_train_rows, "validation": flags.max_validation_rows}
    splits = {}
    data = {"columns": {name: rows.columns[name] for name in SUMMARIES}, "leak_share": leaks["share"]}
    data["source"] = rows.origin
    for name, limit in limits.items():
        what, part = f"{name} rows", rows.parts[name][:limit]
        lengths = (flags.max_length, flags.max_target_length)
        splits[name], long_articles = encode_summaries(part, prompt, tokenizer, *lengths, what)
        data[f"{name}_long_articles"] = long_articles
        warn_of_long_articles(long_articles, len(splits[name].rows), flags.max_length, False, what)
    data["lead_sentences"] = choose_lead(splits["train"].rows).count
    return splits, data


def check_flags(flags: Flags, args: SummarizerTrainingArguments) -> None:
    """Raise one InputError that names every setting that cannot work."""
    least = {"max_length": 8, "max_target_length": 2, "max_train_rows": 1, "max_validation_rows": 1, "score_rows": 0}
    found = problems(flags, args, least, {"long_texts": ("truncate", "window")})
    if is_sharded():
        found.append("FSDP is for text-to-SQL bases that one GPU does not hold; take configs/accelerate/ddp.yaml")
    known = ("loss", *ROUGE)  # Of the others neither more nor less is better by itself.
    if (args.metric_for_best_model or "loss").removeprefix("eval_") not in known:
        found.append(f"--metric-for-best-model {args.metric_for_best_model} is none of {', '.join(known)}")
    if args.fp16_full_eval:
        found.append("--fp16-full-eval: T5 overflows in float16; leave it out")
    if not args.predict_with_generate:
        found.append("--no-predict-with-generate: ROUGE needs generated summaries; leave it out")
    if args.generation_max_length is not None or args.generation_config is not None:
        found.append("--generation-max-length and --generation-config: the length of a summary is --max-target-length")
    if found:
        raise InputError("; ".join(found) + ".")
    parse_duration(flags.max_time)
    check_writable(args.output_dir)


def make_card(flags, args, revision, quantization, prompt, columns: dict, held_out: list[dict]) -> SummarizerCard:
    """Return what travels in every checkpoint: enough to restore the model, and articles to check it with."""
    beams = args.generation_num_beams or 1
    return SummarizerCard(
        **start_card(flags, revision, quantization),
        prompt=prompt.text,
        columns=columns,
        long_texts=flags.long_texts,
        generation={"max_new_tokens": flags.max_target_length, "num_beams": beams, "no_repeat_ngram_size": 0},
        sample=[{"article": row["article"]} for row in held_out[:RELOAD_CHECK_ROWS]],
    )


def generate_as(card: SummarizerCard, model: PeftModel, args: SummarizerTrainingArguments) -> None:
    """Have the evaluations of a training generate as its model will."""
    # The Trainer counts the start token too, and would warn of max_new_tokens beside its own limit.
    args.generation_max_length = card.generation["max_new_tokens"] + 1
    model.generation_config.update(**DEFAULTS | card.generation | {"max_new_tokens": None})


def log_setup(flags, args, lora, rows: Rows, splits, report, leaks: dict, data: dict, card: SummarizerCard) -> dict:
    """Log what the run is made of: parameters, data sets, prompt, audit; return the data sets by part."""
    parts = {name: split.rows for name, split in splits.items()} | ({"test": rows.test} if rows.test else {})
    datasets = tracking.log_begin(card.run_id, args, flags, lora, card, rows, parts, COLUMNS, data)
    tracking.log_text(card.prompt, "prompts/summarize.txt")
    tracking.log_dict(leaks, "leak_report.json")
    figures.log_supervision(report, splits, flags.max_length)
    return datasets


if __name__ == "__main__":
    console.run(main)
