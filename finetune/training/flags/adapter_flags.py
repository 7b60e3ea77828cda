"""A training that goes on with a trained adapter on other rows: flags that are the adapter's, and its weights."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from finetune import InputError
from finetune.logged_models.opening import open_model
from finetune.logged_models.uris import name_last
from finetune.models.bases.quantization import DTYPES, choose_compute_dtype, full_name, storage_dtype
from finetune.models.card import CARD, Card, SqlCard
from finetune.models.files.adapter_files import check_adapter
from finetune.models.prompts import Prompt
from finetune.models.restoring import attach_adapter, find_base, restored_quantization
from finetune.models.sql_writer import open_tokenizer
from finetune.runs import tracking
from finetune.runs.checkpoints import has_checkpoint, list_checkpoints
from finetune.training.flags.trainer_flags import spell

import torch
from mlflow.entities import Run
from peft import LoraConfig, PeftConfig, PeftModel
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
# Of the adapter, and nothing to choose for whoever goes on with it.
OWN = ("lora_r", "lora_alpha", "target_modules", "init_lora_weights", "load_in_4bit", "base_revision")
URI_TAG, RUN_TAG = "finetune.adapter", "finetune.adapter_run"


@dataclass
class AdapterFlags:
    """Where a training starts from, if not from a fresh adapter."""

    adapter: str | None = field(
        default=None,
        metadata={
            "help": "trained adapter to go on with, on other rows: runs:/ID/model, models:/NAME@ALIAS or a checkpoint;"
            " base, 4 bits, rank, layers and prompt are those it was trained with"
        },
    )


@dataclass
class Start:
    """The adapter that a training starts from: of a model, or, of a run that goes on, in its own checkpoint.

    Attributes:
        uri: of the model, where another run finds it again.
        tags: of the new run, which say where it comes from.
    """

    folder: Path
    card: SqlCard
    uri: str
    tags: dict[str, str]

    @property
    def config(self) -> LoraConfig:
        """The settings of the adapter."""
        return cast(LoraConfig, PeftConfig.from_pretrained(str(self.folder)))

    @property
    def prompt(self) -> Prompt:
        """The prompt that it was trained with."""
        return Prompt(self.card.prompt)

    def tokenizer(self, base_model: str) -> PreTrainedTokenizerBase:
        """Return the tokenizer that it was trained with."""
        return open_tokenizer(self.folder, self.card, base_model)[0]

    def quantization(self, compute_dtype: torch.dtype) -> BitsAndBytesConfig | None:
        """Return how the base is quantised, as it was in the adapter's training."""
        config = restored_quantization(self.card, None, compute_dtype)
        if config is not None:
            config.bnb_4bit_quant_storage = storage_dtype(compute_dtype)
        return config

    def attach(self, base: PreTrainedModel, lora_dropout: float) -> PeftModel:
        """Return the base with the adapter, its weights to be trained on.

        Raises:
            InputError: the adapter is damaged, or not of this base.
        """
        config = self.config
        config.lora_dropout = lora_dropout
        source = str(base.config.name_or_path)
        return attach_adapter(base, self.folder, source, is_trainable=True, config=config)


def start_from(flags, given: set[str], run: Run | None = None) -> Start | None:
    """Return the adapter of --adapter, or None, and make the flags those of its card, in place.

    Args:
        flags: with those of `AdapterFlags`.
        given: names of flags that were given, of a run that goes on those it was begun with too.
        run: that goes on; from its own checkpoint, where there is one.

    Raises:
        InputError: no such model, another task's, one that is damaged, its base is not here, or flags that are its own.
    """
    if getattr(flags, "adapter", None) is None:
        return None
    if others := [spell(name) for name in OWN if name in given]:
        raise InputError(
            f"{', '.join(others)}: this is the adapter's own, which --adapter goes on with as it is; leave it out."
        )
    start = _own_checkpoint(flags.adapter, run) if run and has_checkpoint(run) else _open(flags.adapter)
    flags.adapter = start.uri
    _take_over(flags, start, given, is_new=run is None)
    return start


def _open(uri: str) -> Start:
    if os.path.isdir(uri):
        uri = str(Path(uri).resolve())
    if not os.path.isfile(Path(uri) / CARD):
        tracking.connect()
        uri = name_last(uri)
    logged = open_model(uri)
    if not isinstance(logged.card, SqlCard):
        raise InputError(f"--adapter {uri} is a model for {logged.card.task}, expected one for {SqlCard.task}.")
    check_adapter(logged.adapter)
    # An alias may name another model later.
    found = f"models:/{logged.model_id}" if logged.model_id and not os.path.isdir(uri) else uri
    tags = {URI_TAG: str(Path(uri).resolve()) if os.path.isdir(uri) else uri}
    return Start(
        logged.adapter, logged.card, found, tags | ({RUN_TAG: logged.card.run_id} if logged.card.run_id else {})
    )


def _own_checkpoint(uri: str, run: Run) -> Start:
    """Return the run's newest checkpoint that can be read: the model it began with may be gone by now."""
    steps = list_checkpoints(run)
    for step in sorted(steps, reverse=True):
        try:
            card = Card.read(steps[step])
            check_adapter(steps[step])
        except InputError:
            if step == min(steps):
                raise
            continue
        break
    return Start(steps[step], cast(SqlCard, card), uri, {})


def _take_over(flags, start: Start, given: set[str], is_new: bool) -> None:
    """Make the flags say what the adapter is, in place; tell what is otherwise than in its training."""
    card, config = start.card, start.config
    flags.base_model, flags.base_revision = _base(card, flags.base_model if "base_model" in given else None)
    flags.load_in_4bit = card.quantization is not None
    flags.lora_r, flags.lora_alpha = config.r, config.lora_alpha
    flags.target_modules = sorted(config.target_modules or ())
    if "lora_dropout" not in given:
        flags.lora_dropout = config.lora_dropout
    if "dialect" not in given:
        flags.dialect = card.dialect
    if not is_new:  # It has been told, and it computes in what it was begun in.
        return
    _settle_dtype(flags, card, given)
    _tell(flags, start)


def _base(card: SqlCard, given: str | None) -> tuple[str, str | None]:
    """Return folder or Hub id of the adapter's base, and its revision.

    Raises:
        InputError: it is not here, or another is given.
    """
    if given is not None and not os.path.isdir(given) and given != card.base_model:
        raise InputError(
            f"--base-model {given}: the adapter was trained on {card.base_model}; leave it out, or give the folder that"
            " this has moved to."
        )
    return find_base(card, None if given == card.base_model else given)


def _settle_dtype(flags, card: SqlCard, given: set[str]) -> None:
    """Compute in the type of the adapter's training, unless told otherwise or it does not go here."""
    if given & {"compute_dtype", "bf16", "fp16"}:
        return
    try:
        choose_compute_dtype(card.trained_in, card.base_kind)
        flags.compute_dtype = card.trained_in
    except InputError as error:
        logger.warning(
            f"--adapter was trained in {full_name(DTYPES[card.trained_in])}, which does not go here: {error}"
        )


def _tell(flags, start: Start) -> None:
    card = start.card
    trained_by = f" of run {card.run_id}" if card.run_id else ""
    logger.info(f"Starts from the adapter {start.tags[URI_TAG]}{trained_by}, trained on {flags.base_model}")
    if card.quantization and flags.compute_dtype not in ("auto", card.trained_in):
        logger.warning(
            f"--compute-dtype {flags.compute_dtype}: the adapter was trained in {card.trained_in}; the 4-bit weights of"
            " its base are made from another type here, and some of them are rounded otherwise."
        )
    if start.card.prompt != Prompt.load("text_to_sql").text:
        logger.warning("the prompt is the adapter's, which is not the one in prompts/text_to_sql.txt.")
    if flags.dialect != card.dialect:
        logger.warning(f"--dialect {flags.dialect}: the adapter was trained to write {card.dialect}.")
