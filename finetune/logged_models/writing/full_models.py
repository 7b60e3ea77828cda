"""Decoders that were not trained here, logged whole or by reference; their weights are never loaded.

MLflow's own way, a path in place of the model, ends in an error with transformers 5.
"""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

from finetune import InputError
from finetune.logged_models.entries import log_saved
from finetune.logged_models.writing.code_models import METADATA_KEY, metadata_of, requirements
from finetune.logged_models.writing.sql_models import (
    WEIGHTS,
    downloaded,
    refer_to_hub,
    refer_to_own,
    sql_signature,
    take_adapter_away,
)
from finetune.logged_models.writing.weights.base_files import files_of, weight_files
from finetune.logged_models.writing.weights.disk_space import check_disk
from finetune.logged_models.writing.weights.skeletons import make_base
from finetune.models.bases.configs import read_config
from finetune.models.bases.loading import fingerprint, load_config, load_tokenizer, longest_input, open_base
from finetune.models.bases.quantization import recorded_dtype
from finetune.models.card import CHECKPOINT, REFERENCE, SHORT, SqlCard
from finetune.models.prompts import Prompt

import mlflow
import torch
import transformers
from accelerate.utils import set_module_tensor_to_device
from mlflow.entities import Run
from peft import LoraConfig, get_peft_model

LONGEST = 4096  # tokens, where a model names no limit
EXAMPLE = {"question": "How many heads are older than 56?", "context": "CREATE TABLE head (age INTEGER)"}


def describe(source: str, form: str, prompt: Prompt) -> SqlCard:
    """Return the card of a full model that is asked with a prompt, as a text-to-SQL model.

    Args:
        source: a folder, or HUB_ID@COMMIT for a reference.

    Raises:
        InputError: there is no such model, or it is not one that is loaded here: no decoder, no safetensors.
    """
    name, revision = (source, None) if form == CHECKPOINT else _split(source)
    if form == CHECKPOINT and not os.path.isdir(name):
        raise InputError(f"--from {name} --mode checkpoint: there is no such folder; expected one with a full model.")
    # All that a training would ask of it, which could go on with it.
    flags = SimpleNamespace(base_model=name, base_revision=revision, compute_dtype="auto", max_length=1)
    commit, tokenizer = open_base(flags, SqlCard.base_kind)
    config = load_config(name, commit)
    if getattr(config, "quantization_config", None):
        raise InputError(f"--from {source}: its weights are stored quantised; give the full model.")
    if form == CHECKPOINT:
        name = os.path.abspath(name)
        weight_files(Path(name))
    return SqlCard(
        base_model=name,
        base_revision=commit,
        base_fingerprint=fingerprint(Path(name)) if form == CHECKPOINT else None,
        base_config=read_config(name, commit),
        quantization=None,
        compute_dtype=SHORT.get(str(config.dtype).removeprefix("torch."), "fp32"),
        max_length=longest_input(config, tokenizer) or LONGEST,
        prompt=prompt.text,
        form=form,
    )


def log_full_model(run: Run, card: SqlCard, name: str) -> str:
    """Log the model of a card as `runs:/RUN/NAME`; return its model id.

    Raises:
        InputError: there is no room for its weights.
    """
    folder, prompt = Path(card.base_model), Prompt(card.prompt)
    if card.form == CHECKPOINT:
        check_disk(sum(path.stat().st_size for path in files_of(folder)), run, "the model")
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint-0"
        checkpoint.mkdir()
        card.write(checkpoint)

        def save(target: Path) -> None:
            mlflow.transformers.save_model(
                _weightless_pipeline(card),
                str(target),
                task="text-generation",
                torch_dtype=recorded_dtype(card),
                prompt_template=prompt.mlflow_template,
                signature=sql_signature(),
                input_example=prompt.model_input(EXAMPLE),
                pip_requirements=requirements(),
                metadata={METADATA_KEY: metadata_of(card)},
                base_model_path=str(folder) if card.form == CHECKPOINT else downloaded(card),
            )
            take_adapter_away(target)
            if card.form == REFERENCE:
                refer_to_hub(target, card)
                return
            refer_to_own(target)
            (target / WEIGHTS).mkdir()
            for path in files_of(folder):
                shutil.copyfile(path, target / WEIGHTS / path.name)

        return log_saved(run, checkpoint, name, _digest(card), save)


def _weightless_pipeline(card: SqlCard) -> transformers.Pipeline:
    """Return a pipeline of a model without memory, with an adapter: MLflow leaves the weights of no other model out."""
    source, revision, meta = card.base_model, card.base_revision, torch.device("meta")
    tokenizer = load_tokenizer(source, revision)
    base = make_base(load_config(source, revision), card.base_kind, recorded_dtype(card))
    if card.form == REFERENCE:
        # MLflow stores the repository under these names.
        base.name_or_path = tokenizer.name_or_path = source
    layer = next(name for name, module in base.named_modules() if isinstance(module, torch.nn.Linear))
    with meta:
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=1, target_modules=[layer]))
    pipeline = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device=meta)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            set_module_tensor_to_device(model, name, "cpu", value=torch.zeros(parameter.shape))
    return pipeline


def _split(source: str) -> tuple[str, str]:
    found = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)?)@([0-9a-f]{40})", source, re.ASCII)
    if not found:
        raise InputError(
            f"--from {source} --mode reference: expected HUB_ID@COMMIT with the 40 digits of a commit, such as"
            " owner/name@0123456789abcdef0123456789abcdef01234567; a branch may be another model tomorrow."
        )
    return found[1], found[2]


def _digest(card: SqlCard) -> str:
    parts = f"{card.form} {card.base_model} {card.base_revision} {card.base_fingerprint} {card.prompt}"
    return hashlib.sha256(parts.encode()).hexdigest()[:16]
