"""`log_model.py --from FOLDER`: an adapter of another program becomes a checkpoint of a run of its own."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from finetune import InputError
from finetune.logged_models.checkpoint_files import FOLDER_TAG, STATE, TASK_TAG
from finetune.logged_models.writing.sql_models import build_skeleton, check_prompt_parity
from finetune.models.bases.loading import load_config, load_tokenizer, longest_input, resolved_revision
from finetune.models.bases.quantization import DTYPES
from finetune.models.bases.tokenizers import end_openly, fit_to_vocabulary
from finetune.models.card import FULL_FORMS, SHORT, TEXT_TO_SQL, SqlCard
from finetune.models.files.adapter_files import CONFIG, WEIGHTS, check_adapter, check_numbers
from finetune.models.prompts import Prompt
from finetune.models.sql_writer import prompt_token_ids
from finetune.permissions import share_files
from finetune.rows.files.columns import QUESTIONS, parse_columns, read_columns
from finetune.rows.files.reading import read_rows
from finetune.rows.loading import check_writable
from finetune.rows.sql.cleaning import check_dialect
from finetune.runs import environment, lifecycle, tracking
from finetune.runs.adopting.foreign import Foreign, fit_to_base, read_foreign
from finetune.runs.checkpoints import start_card

from mlflow.entities import Run
from transformers import BitsAndBytesConfig

logger = logging.getLogger(__name__)
FROM_TAG = "finetune.adopted_from"
VARIABLES = ("question", "context")
SAMPLE_ROWS = 8
DIALECT, EXPERIMENT, OUTPUT_DIR = "sqlite", "sql-generator", "outputs"
# What goes with --from alone; --dialect goes with --if-better too.
OF_MODELS = ("task", "prompt", "base_model", "trained_in", "experiment", "output_dir")
# What a model that is logged whole, or by reference, has no use for.
OF_ADAPTERS = (
    "task", "prompt", "base_model", "trained_in", "output_dir", "export", "output", "overwrite", "tolerance",
    "llama_cpp", "register", "dataset", "quantized_base",
)  # fmt: skip
LONGEST = 4096  # tokens of prompt and answer, where the base names no limit
HEADS = "CREATE TABLE head (age INTEGER, name TEXT, born_in TEXT)"
# What the reload check asks where no rows are given.
SAMPLE = [
    {"context": HEADS, "question": "How many heads are older than 56?"},
    {"context": HEADS, "question": "List name and age of all heads, the oldest first."},
    {"context": "CREATE TABLE city (name TEXT, population INTEGER)", "question": "Which city has the most people?"},
    {
        "context": "CREATE TABLE ship (id INTEGER, name TEXT); CREATE TABLE voyage (ship_id INTEGER, days INTEGER)",
        "question": "How many days was each ship on voyages?",
    },
]


@dataclass
class AdoptedFlags:
    """What `start_card` reads of flags."""

    base_model: str
    base_revision: str | None
    compute_dtype: str
    max_length: int


def add_adopt_flags(parser) -> None:
    """Declare what goes with --from."""
    group = parser.add_argument_group("a model that was not trained here")
    group.add_argument(
        "--from",
        dest="source",
        metavar="FOLDER",
        help="in place of RUN: adapter that TRL, LLaMA-Factory, axolotl or unsloth trained, which gets a run of its"
        " own; with --mode checkpoint a decoder with all its weights; with --mode reference HUB_ID@COMMIT, without"
        " weights",
    )
    group.add_argument("--task", choices=(TEXT_TO_SQL,), help="what it was trained for")
    group.add_argument(
        "--prompt", metavar="FILE", type=Path, help="the prompt that it was trained with, with $question and $context"
    )
    group.add_argument("--base-model", metavar="FOLDER", help="its base, where that is not where the adapter says")
    group.add_argument(
        "--trained-in",
        choices=("nf4", *DTYPES),
        help="what its base was in: nf4 (4 bits, double quantisation), bf16, fp16, fp32; default: the base's own type",
    )
    group.add_argument(
        "--dialect", help=f"SQL that it writes, such as postgres [{DIALECT}]; with --if-better, SQL of a run's rows too"
    )
    group.add_argument("--experiment", help=f"MLflow experiment of its run [{EXPERIMENT}]")
    group.add_argument("--output-dir", help=f"its checkpoint goes to OUTPUT_DIR/<run id>/checkpoint-N [{OUTPUT_DIR}]")


def check_source(flags) -> None:
    """Raise InputError where neither a run nor a model of --from is given, or flags that do not go with it."""
    if flags.source is None:
        if flags.run is None:
            raise InputError("no run is named; give the id that training printed, or last; --help lists the flags.")
        if flags.mode in FULL_FORMS:
            raise InputError(f"--mode {flags.mode} is for a model that was not trained here; name it with --from.")
        _refuse(flags, OF_MODELS, "goes with --from, for a model that was not trained here")
        return
    if flags.run is not None:
        raise InputError(f"give a run ({flags.run}) or --from {flags.source}, not both.")
    if flags.sync:
        raise InputError("--sync sends what a training here has logged; give it with the run, without --from.")
    _refuse(flags, ("checkpoint",), "is for a run of several checkpoints; what --from names has one")
    _refuse(flags, ("replace",), "deletes older models of a run; what --from names gets a run of its own")
    if flags.mode in FULL_FORMS:
        _refuse(flags, OF_ADAPTERS, f"does not go with --mode {flags.mode}")
        return
    if flags.task is None or flags.prompt is None:
        raise InputError(
            "--from needs --task text-to-sql and --prompt FILE, the prompt that the adapter was trained with; a whole"
            " model is logged with --mode checkpoint, or reference."
        )
    flags.source, flags.dialect = Path(flags.source), flags.dialect or DIALECT
    flags.output_dir = flags.output_dir or OUTPUT_DIR


def _refuse(flags, names: tuple[str, ...], why: str) -> None:
    if given := [name for name in names if was_given(flags, name)]:
        raise InputError(f"--{given[0].replace('_', '-')} {why}.")


def was_given(flags, name: str) -> bool:
    """Say whether a flag that has no default was given; 0 is a value."""
    return getattr(flags, name) is not None and getattr(flags, name) is not False


def adopt(flags, check: Callable[[Path], None]) -> Run:
    """Return a run with one checkpoint: the adapter of --from, with the card that its own would have.

    Args:
        check: looks at the checkpoint before there is a run; raises InputError for what the flags cannot have of it.

    Raises:
        InputError: it is none that is taken here, or does not fit its base; no run is made then.
    """
    adapter, prompt = read_foreign(flags.source), read_prompt(flags.prompt)
    check_dialect(flags.dialect)
    check_writable(flags.output_dir)
    environment.check_environment()
    base, revision = _find_base(flags, adapter)
    targets = fit_to_base(adapter, base, revision)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / f"checkpoint-{adapter.step}"
        checkpoint.mkdir()
        card = write_checkpoint(flags, adapter, prompt, targets, (base, revision), checkpoint)
        check_prompt_parity(card, build_skeleton(card, checkpoint))
        check(checkpoint)
        return _make_run(flags, adapter, card, checkpoint)


def read_prompt(path: Path) -> Prompt:
    """Return the prompt of a file.

    Raises:
        InputError: there is none, or it has other variables than question and context.
    """
    try:
        prompt = Prompt(path.read_text(encoding="utf-8"))
        found = prompt.variables
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompt {path} cannot be read: {error}.") from error
    others = [name for name in found if name not in VARIABLES]
    if others or "question" not in found or not Template(prompt.text).is_valid():
        what = f"the variable ${others[0]}" if others else "no $question" if "question" not in found else "a bare $"
        raise InputError(
            f"--prompt {path} has {what}; expected the text of training with $question and $context in the places of"
            " these, and $$ for a dollar sign."
        )
    return prompt


def _find_base(flags, adapter: Foreign) -> tuple[str, str | None]:
    """Return folder or Hub id of the base, and its commit."""
    base = flags.base_model or adapter.base
    if base is None:
        raise InputError(f"--from {adapter.folder}: it does not name its base; give it with --base-model.")
    if not os.path.isdir(base) and (base.startswith((".", "/", "~")) or base.count("/") != 1):
        raise InputError(
            f"--from {adapter.folder}: its base {base} is no folder here; give it with --base-model FOLDER, or its id"
            " on the Hub."
        )
    revision = None if flags.base_model or os.path.isdir(base) else adapter.revision
    load_config(base, revision)
    return base, resolved_revision(base, revision)


def write_checkpoint(
    flags, adapter: Foreign, prompt: Prompt, targets: list[str], base: tuple[str, str | None], folder: Path
) -> SqlCard:
    """Write a checkpoint as training writes it, and return its card."""
    source, revision = base
    tokenizer = _tokenizer(adapter.folder, source, revision)
    fit_to_vocabulary(tokenizer, load_config(source, revision), source)
    settings = adapter.settings | {"target_modules": targets, "inference_mode": True}
    settings |= {"base_model_name_or_path": source, "revision": revision}
    (folder / CONFIG).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    shutil.copyfile(adapter.folder / WEIGHTS, folder / WEIGHTS)
    check_adapter(folder)
    check_numbers(folder)
    tokenizer.save_pretrained(folder)
    (folder / STATE).write_text(json.dumps({"global_step": adapter.step, "log_history": []}), encoding="utf-8")
    card = make_card(flags, prompt, tokenizer, source, revision)
    card.write(folder)
    return card


def _tokenizer(folder: Path, base: str, revision: str | None):
    """Return the tokenizer that an adapter was saved with, or else its base's."""
    has_own = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))
    tokenizer = load_tokenizer(str(folder)) if has_own else load_tokenizer(base, revision)
    end_openly(tokenizer, base)
    return tokenizer


def make_card(flags, prompt: Prompt, tokenizer, base: str, revision: str | None) -> SqlCard:
    """Return the card of an adopted adapter, with rows to check it with.

    Raises:
        InputError: the tokenizer does not go with base or prompt.
    """
    config = load_config(base, revision)
    dtype = SHORT.get(str(config.dtype).removeprefix("torch."), "fp32")
    dtype = flags.trained_in if flags.trained_in in DTYPES else dtype
    quantization = None
    if flags.trained_in == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPES[dtype],
        )
    longest = min(longest_input(config, tokenizer) or LONGEST, LONGEST)
    fields = start_card(AdoptedFlags(base, revision, dtype, longest), revision, quantization)
    # With --database the schema of the rows is not in them.
    rows = held_out(flags) if flags.dataset and not flags.database else SAMPLE
    sample = [{name: row[name] for name in prompt.variables} for row in rows[:SAMPLE_ROWS]]
    encoded = [prompt_token_ids(tokenizer, prompt, row) for row in sample]
    bos = tokenizer.bos_token_id
    if bos is not None and encoded[0][:2] == [bos, bos]:
        raise InputError(
            f"--prompt {flags.prompt} begins with {tokenizer.bos_token}, which the tokenizer puts before each text by"
            " itself; take it out of the file."
        )
    sample = [row | {"prompt_ids": ids} for row, ids in zip(sample, encoded, strict=True)]
    return SqlCard(**fields, prompt=prompt.text, dialect=flags.dialect, sample=sample)


def held_out(flags) -> list[dict]:
    """Return rows of --dataset to check a model with: where they are marked, those that it was not trained on."""
    given, what = parse_columns(flags.column, QUESTIONS), f"the rows of {flags.dataset}"
    rows, _ = read_columns(read_rows(flags.dataset, flags.encoding), QUESTIONS, given, what)
    return [row for row in rows if row.get("split") not in ("train", "training")] or rows


def _make_run(flags, adapter: Foreign, card: SqlCard, written: Path) -> Run:
    where = AdoptedRun(flags.experiment or EXPERIMENT)
    empty, tags = environment.place(where, flags.experiment is not None)
    tags |= {FROM_TAG: str(adapter.folder.resolve())}
    with lifecycle.run(where.experiment, flags.output_dir, tags=tags, empty=empty) as run_id:
        folder = (Path(flags.output_dir) / run_id).resolve()
        tracking.set_tag(FOLDER_TAG, str(folder))
        tracking.set_tag(TASK_TAG, card.task)
        settings = {name: str(value) for name, value in adapter.settings.items()}
        layers = ", ".join(sorted({name.split(".")[-1] for name in adapter.layers}))
        tracking.log_params({f"lora.{name}": value for name, value in settings.items()} | {"lora.layers": layers})
        tracking.log_params({"script.base_model": card.base_model, "base.revision": str(card.base_revision)})
        tracking.log_text(card.prompt, "prompts/text_to_sql.txt")
        moved = folder / f".{written.name}"
        shutil.copytree(written, moved)
        replace(card, run_id=run_id).write(moved)
        share_files(moved)
        moved.rename(folder / written.name)
    logger.info(f"{adapter.folder} is run {run_id} now: {folder / written.name}")
    if flags.dataset is None:
        logger.info(f"it has no score yet: python evaluate_model.py runs:/{run_id}/{flags.name} --dataset FILE")
    return tracking.find_run(run_id)


@dataclass
class AdoptedRun:
    """What `environment.place` reads and settles of flags."""

    experiment: str
    preflight_only: bool = False
    offline_ok: bool = False
