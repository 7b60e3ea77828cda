"""Fine-tune a 4-bit encoder or decoder with LoRA to find labels in texts, such as unfair clauses in terms of service.

The run is tracked in MLflow; its id is the last line on stdout. Go on with `python log_model.py RUN`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from finetune import InputError, console, resuming
from finetune.models.bases.loading import load_encoder
from finetune.models.bases.quantization import DTYPES, is_sharded
from finetune.models.card import CLASSIFICATION, ClassifierCard
from finetune.models.classifier.encoder import POOLING, EncoderClassifier, check_reading, open_classifier_base
from finetune.models.classifier.labels import TASKS, Labels
from finetune.reports.classifier_scores import MAIN_METRIC, METRICS
from finetune.reports.classifier_trainer import ClassifierTrainer, finish
from finetune.reports.curves.training import on_request
from finetune.rows.files.columns import TEXTS, parse_columns
from finetune.rows.labelled_texts import LabelledTexts
from finetune.rows.labels import balanced_sample, count_labels, find_labels, read_names, spell_parts, warn_of_labels
from finetune.rows.loading import Rows, check_writable
from finetune.rows.splits.holdout import hold_out_by_label
from finetune.rows.splits.leaks import text_leaks
from finetune.rows.splits.shares import by_label, take_percent
from finetune.rows.with_corrections import load_with_corrections
from finetune.runs import tracking
from finetune.runs.checkpoints import start_card
from finetune.training.adapters import add_adapter, init_adapter, init_settings, log_plan
from finetune.training.callbacks import parse_duration
from finetune.training.checks.preflight import preflight
from finetune.training.flags.script_parser import ScriptParser
from finetune.training.flags.shared_flags import SharedFlags, SharedTrainingArguments, problems, with_groups
from finetune.training.weighting import Weighting

import numpy as np
from peft import LoraConfig, PeftModel
from transformers import BitsAndBytesConfig, DataCollatorWithPadding, EarlyStoppingCallback, TrainingArguments, set_seed

logger = logging.getLogger(__name__)
RELOAD_CHECK_ROWS = 16


@dataclass
class Flags(SharedFlags):
    """The script's own flags."""

    base_model: str = field(
        default="FacebookAI/roberta-base", metadata={"help": "Hub id or folder of the encoder or decoder to fine-tune"}
    )
    dataset: list[str] = field(default_factory=lambda: ["coastalcph/lex_glue:unfair_tos"])
    experiment: str = "classifier"
    task: str | None = field(
        default=None,
        metadata={"help": f"{', '.join(TASKS)}; by itself from the data: lists in `labels`, one in `label`"},
    )
    labels: list[str] | None = field(
        default=None, metadata={"help": "names of the labels 0, 1, ..., or a .txt file with one a line"}
    )
    text_column: str | None = field(default=None, metadata={"help": "short for --column text=COLUMN"})
    label_column: str | None = field(
        default=None, metadata={"help": "short for --column label=COLUMN (one label a row) or labels=COLUMN (lists)"}
    )
    label_columns: list[str] | None = field(
        default=None, metadata={"help": "columns of 0 and 1, one for each label, in place of a column `labels`"}
    )
    max_length: int = field(
        default=256, metadata={"help": "tokens that are read of a text; longer texts are counted, see --long-texts"}
    )
    long_texts: str = field(
        default="truncate",
        metadata={"help": "truncate: keep the beginning; window: score all of a long text, and train on its beginning"},
    )
    # The first token of an encoder that was not trained to classify is nearly the same for all texts.
    pooling: str = field(
        default="auto",
        metadata={"help": "what the labels are found from: mean of the tokens, cls: the first token, of an encoder,"
                  " last: the last token, of a decoder; auto: mean of an encoder, last of a decoder"},
    )  # fmt: skip
    tfidf: str = field(
        default="auto", metadata={"help": "auto: add a linear SVM on TF-IDF, in a share chosen on validation; none"}
    )
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.1  # A few thousand texts are learned by heart without it: benchmarks/LOG.md.
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    imbalance_power: float = field(
        default=0.2,
        metadata={"help": "rare labels weigh more: (rows without it / rows with it)^power; 0: all alike, 1: balanced"},
    )
    early_stopping_patience: int = field(default=0, metadata={"help": "stop after so many without a rise; 0: never"})
    early_stopping_threshold: float = field(default=0.005, metadata={"help": "what counts as a rise of the metric"})
    log_checkpoints: str = field(
        default="all",
        metadata={"help": "checkpoints to log as models and to upload, so that the run can go on elsewhere: best (each"
                  " that is the best so far, or the last one), all or none"},
    )  # fmt: skip
    debug_sample: int | None = field(
        default=None, metadata={"help": "train on this many rows only, half of them with a label, for a quick look"}
    )
    groups = with_groups(
        data=("task", "labels", "text_column", "label_column", "label_columns", "long_texts", "debug_sample"),
        model=("pooling", "tfidf"),
        training=("imbalance_power", "early_stopping_patience", "early_stopping_threshold"),
    )


@dataclass
class ClassifierTrainingArguments(SharedTrainingArguments, TrainingArguments):
    """TrainingArguments with the defaults of this task."""

    num_train_epochs: float = field(default=3.0, metadata={"help": "passes over the training rows"})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "texts a device and micro-batch"})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "texts a device in evaluation"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate"})
    lr_scheduler_type: str = field(default="linear", metadata={"help": "learning rate schedule"})
    warmup_steps: float = field(default=0.1, metadata={"help": "steps of warm-up; below 1 a share of all steps"})
    metric_for_best_model: str | None = field(
        default="auto", metadata={"help": "auto: macro_f1, or f1 of a binary task; or another metric of the task"}
    )
    # Which epoch is best on a few validation documents is mostly chance: benchmarks/LOG.md.
    load_best_model_at_end: bool = field(default=False, metadata={"help": "end with the best checkpoint, not the last"})
    logging_steps: float = field(default=20, metadata={"help": "steps between logged training losses"})


@on_request
def main(arguments: list[str] | None = None) -> None:
    """Train, track, test; print the run id."""
    parser = ScriptParser(Flags, ClassifierTrainingArguments, description=__doc__)
    flags, args, origin = resuming.parse_resumable(parser, arguments, CLASSIFICATION)
    check_flags(flags, args)
    origin.online = flags.preflight_only or tracking.connect(flags.offline_ok)
    set_seed(args.seed)
    revision, tokenizer = open_classifier_base(flags)
    with args.main_process_first(desc="loading the data set"):
        rows = load_data(flags, args.seed)
    leaks = text_leaks(rows, "text")
    labels, splits = encode(rows, flags, args, tokenizer)
    weighting = Weighting.of(splits["train"].actual, labels, flags.imbalance_power)
    classifier = partial(EncoderClassifier, outputs=labels.outputs, pooling=flags.pooling, bias=weighting.bias)
    model, lora, quantization = build_model(flags, revision, classifier)
    dataset, collator = splits["train"].dataset(), DataCollatorWithPadding(tokenizer)
    original = partial(load_encoder, flags.base_model, revision, None)
    init_adapter(model, flags.init_lora_weights, lambda: classifier(original()), dataset, collator)
    card = make_card(flags, revision, quantization, labels, rows.columns, splits["validation"])

    trainer = ClassifierTrainer(
        model=model,
        args=args,
        train_dataset=dataset,
        data_collator=collator,
        processing_class=tokenizer,
        compute_loss_func=weighting.loss,
        validation=splits["validation"],
        labels=labels,
        texts=splits["train"],
        with_svm=flags.tfidf == "auto",
    )
    if flags.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(flags.early_stopping_patience, flags.early_stopping_threshold))
    plan = preflight(trainer, flags)
    if plan and flags.preflight_only:  # Without a plan, it is refused.
        return console.print_result(plan.to_json())

    with resuming.training_run(flags, args, origin) as run_id:
        card = replace(card, run_id=run_id)
        resuming.attach(trainer, card, flags, origin, lambda: trainer.found)
        if args.process_index == 0:
            datasets = log_setup(flags, args, lora, rows, splits, weighting, leaks, card)
        log_plan(trainer, plan)
        trainer.train(resume_from_checkpoint=origin.checkpoint)
        if args.process_index == 0:
            finish(trainer, card, splits, datasets)
    console.print_result(run_id)


def build_model(
    flags: Flags, revision: str | None, classifier: Callable
) -> tuple[PeftModel, LoraConfig, BitsAndBytesConfig | None]:
    """Return the base, in 4 bits unless told otherwise, as a classifier with a fresh adapter; the settings of both."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        # On a CPU float32, unless it was given: there a text has the same score in every batch.
        bnb_4bit_compute_dtype=DTYPES[flags.compute_dtype],
    )
    quantization = quantization if flags.load_in_4bit else None
    lora = LoraConfig(
        task_type="SEQ_CLS",  # Saves the head, `classifier`, with the adapter, and leaves it in float32.
        r=flags.lora_r,
        lora_alpha=flags.lora_alpha,
        lora_dropout=flags.lora_dropout,
        target_modules="all-linear" if flags.target_modules == ["all-linear"] else flags.target_modules,
        **init_settings(flags.init_lora_weights),
    )
    base = classifier(load_encoder(flags.base_model, revision, quantization))
    check_reading(base, flags.base_model)
    return add_adapter(base, lora), lora, quantization


def load_data(flags: Flags, seed: int) -> Rows:
    """Return the rows of the data under the task's names, those for validation apart."""
    given = parse_columns(flags.column, TEXTS, text=flags.text_column, label=flags.label_column)
    names, columns = read_names(flags.labels), flags.label_columns
    hold_out = partial(hold_out_by_label, names=names, columns=columns)
    spell = partial(spell_parts, names=names, columns=columns)
    split = flags.validation_fraction, seed
    rows = load_with_corrections(flags.dataset, TEXTS, *split, flags.encoding, given, hold_out, spell)
    return take_percent(rows, flags.train_percent, seed, by_label)


def encode(rows: Rows, flags: Flags, args, tokenizer) -> tuple[Labels, dict[str, LabelledTexts]]:
    """Return the labels of the task and the parts of the data by name, encoded; rows without a text go.

    Raises:
        InputError: no texts, labels that do not fit, or a metric that the task does not have.
    """
    names = read_names(flags.labels) or rows.label_names
    own = len(rows.train) - sum(len(one.train) for one in rows.corrections)  # Those may name what the data numbers.
    labels = find_labels(rows.train[:own], flags.task, flags.label_columns or names)
    logger.info(count_labels(rows.train, labels))
    check_metric(args, labels)
    splits = {}
    for name, part in rows.parts.items():
        # Training reads the beginning of a long text only: whose labels a window has, nobody said.
        window = flags.long_texts == "window" and name != "train"
        splits[name] = LabelledTexts.encode(part, labels, tokenizer, flags.max_length, window, f"{name} rows")
    warn_of_labels(labels.names, splits["validation"].actual, labels)
    if flags.debug_sample:
        train = splits["train"]
        splits["train"] = train.take(balanced_sample(train.actual, labels, flags.debug_sample, args.seed))
    return labels, splits


def check_flags(flags: Flags, args: ClassifierTrainingArguments) -> None:
    """Raise one InputError that names every setting that cannot work."""
    least = {"max_length": 8, "early_stopping_patience": 0, "early_stopping_threshold": 0, "debug_sample": 2}
    choices = {"task": (None, *TASKS), "long_texts": ("truncate", "window"), "pooling": ("auto", *POOLING),
               "tfidf": ("auto", "none")}  # fmt: skip
    found = problems(flags, args, least, choices)
    if is_sharded():
        found.append("FSDP is for text-to-SQL bases that one GPU does not hold; take configs/accelerate/ddp.yaml")
    if not 0 <= flags.imbalance_power <= 1:
        found.append(f"--imbalance-power {flags.imbalance_power} must lie between 0 and 1")
    if not args.load_best_model_at_end and args.save_strategy == "best":
        found.append("--save-strategy best keeps no last checkpoint; give --load-best-model-at-end true with it")
    if not args.load_best_model_at_end and flags.early_stopping_patience:
        logger.warning("--early-stopping-patience without --load-best-model-at-end true: the last checkpoint is taken.")
    if found:
        raise InputError("; ".join(found) + ".")
    parse_duration(flags.max_time)
    check_writable(args.output_dir)


def check_metric(args: ClassifierTrainingArguments, labels: Labels) -> None:
    """Put the task's own metric where none was chosen; refuse one that the task does not have."""
    known = ("loss", *METRICS[labels.task])
    if args.metric_for_best_model == "auto":
        args.metric_for_best_model = MAIN_METRIC[labels.task]
    elif (args.metric_for_best_model or "").removeprefix("eval_") not in known:
        raise InputError(
            f"--metric-for-best-model {args.metric_for_best_model}: a {labels.task} task has {', '.join(known)}."
        )


def make_card(flags, revision, quantization, labels: Labels, columns: dict, held_out: LabelledTexts) -> ClassifierCard:
    """Return what travels in every checkpoint: enough to restore the model, and texts to check it with."""
    with_label, without = (np.flatnonzero(held_out.actual.any(axis=1) == any_) for any_ in (True, False))
    sample = [*with_label[: RELOAD_CHECK_ROWS // 2], *without[: RELOAD_CHECK_ROWS // 2]]
    return ClassifierCard(
        **start_card(flags, revision, quantization),
        labels=labels,
        columns=columns,
        pooling=flags.pooling,
        long_texts=flags.long_texts,
        thresholds=None,
        sample=[{"text": held_out.texts[index]} for index in sample],
    )


def log_setup(flags, args, lora, rows, splits, weighting, leaks, card: ClassifierCard) -> dict:
    """Log what the run is made of: parameters, data sets, labels; return the data sets."""
    columns = ("text", "labels" if "labels" in rows.parts["train"][0] else "label")
    data = {f"{name}_rows": len(split.texts) for name, split in splits.items()}
    data |= {"leak_share": leaks["share"], "source": rows.origin}
    tracking.log_dict(leaks, "leak_report.json")
    data |= {f"{name}_long_texts": split.encoded.long_texts for name, split in splits.items()}
    datasets = tracking.log_begin(card.run_id, args, flags, lora, card, rows, rows.parts, columns, data)
    names = card.labels.names[-splits["train"].actual.shape[1] :]
    found = {part: split.actual.sum(axis=0).astype(int).tolist() for part, split in splits.items()}
    counts = {part: dict(zip(names, sums, strict=True)) for part, sums in found.items()}
    weights = dict(zip(names, weighting.weights.tolist(), strict=True))
    tracking.log_dict({"labels": card.values()["labels"], "rows": counts, "weights": weights}, "labels.json")
    return datasets


if __name__ == "__main__":
    console.run(main)
