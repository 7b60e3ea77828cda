"""Text-to-SQL adapters written into their run, with a reference to the base in place of its weights."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from finetune import InputError
from finetune.logged_models.checkpoint_files import digest_of
from finetune.logged_models.entries import log_saved
from finetune.logged_models.writing.code_models import METADATA_KEY, card_to_log, metadata_of, requirements
from finetune.logged_models.writing.weights.merging import merge_for
from finetune.logged_models.writing.weights.skeletons import fill_in
from finetune.models.bases.loading import fingerprint, load_config, load_tokenizer
from finetune.models.bases.quantization import recorded_dtype
from finetune.models.card import Card, SqlCard
from finetune.models.files.adapter_files import check_adapter, check_fit
from finetune.models.generation import DEFAULTS
from finetune.models.prompts import Prompt
from finetune.models.restoring import MERGED

import mlflow
import torch
import transformers
from mlflow.entities import Run
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.transformers import FLAVOR_NAME
from mlflow.transformers.flavor_config import FlavorKey, update_flavor_conf_to_persist_pretrained_model
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import cached_file

WEIGHTS = "model"  # folder of a base's weights where they are in the model, as MLflow calls it


def build_skeleton(card: SqlCard, checkpoint: Path) -> transformers.Pipeline:
    """Return a text-generation pipeline of base and adapter in which only the adapter has memory.

    The base is made from its configuration on the meta device, so a 7B base costs nothing here. The
    pipeline moves all to its device (meta); the adapter's tensors are put back afterwards.
    """
    tokenizer = load_tokenizer(str(checkpoint))
    config = load_config(card.base_model, card.base_revision)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=recorded_dtype(card))
    if not os.path.isdir(card.base_model):
        # MLflow stores the repository under these names.
        base.name_or_path = tokenizer.name_or_path = card.base_model
    check_adapter(checkpoint)
    model = PeftModel.from_pretrained(base, checkpoint, low_cpu_mem_usage=True, torch_device="cpu")
    check_fit(model, checkpoint)
    meta = torch.device("meta")
    pipeline = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device=meta)
    fill_in(model, checkpoint)
    return pipeline


def check_prompt_parity(card: SqlCard, pipeline: transformers.Pipeline) -> None:
    """Compare what the logged model would feed to the base with what training fed, token id by token id.

    Raises:
        InputError: at the first row of the card's sample where they differ.
    """
    prompt = Prompt(card.prompt)
    for row in card.sample:
        text = prompt.mlflow_template.format(prompt=prompt.model_input(row))
        fed = pipeline.preprocess(text)["input_ids"][0].tolist()
        if fed != row["prompt_ids"]:
            differing = [i for i, (a, b) in enumerate(zip(fed, row["prompt_ids"], strict=False)) if a != b]
            position = differing[0] if differing else min(len(fed), len(row["prompt_ids"]))
            raise InputError(
                f"not logged: the logged model would feed other tokens than training did (the first difference is"
                f" at position {position} of the prompt for {row.get('question', row)!r}). The"
                " tokenizer or the prompt of the checkpoint was changed since."
            )


def log_adapter(
    run: Run,
    checkpoint: Path,
    name: str,
    form: str = "adapter",
    pipeline: transformers.Pipeline | None = None,
    quantized: Path | None = None,
) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`; return its model id.

    Args:
        form: `adapter`, with a reference to the base, or `merged`: one plain model that needs no base.
        pipeline: from `build_skeleton` of another checkpoint of the run; its adapter becomes this one.
        quantized: folder with the base in 4 bits, to refer to in place of the base.

    Raises:
        InputError: when the prompt tokens would differ from training's (nothing is logged then).
    """
    card = card_to_log(SqlCard.read(checkpoint), checkpoint)
    if pipeline is None:
        pipeline = build_skeleton(card, checkpoint)
    else:
        check_adapter(checkpoint)
        fill_in(pipeline.model, checkpoint)
    check_prompt_parity(card, pipeline)
    if quantized:
        card = replace(
            card, base_model=str(quantized), base_revision=None, quantized_fingerprint=fingerprint(quantized)
        )
    prompt, base_folder = Prompt(card.prompt), Path(card.base_model)
    merge = merge_for(run, checkpoint) if form == MERGED else None
    card = replace(card, form=MERGED) if merge else card

    def save(folder: Path) -> None:
        mlflow.transformers.save_model(
            pipeline,
            str(folder),
            task="text-generation",
            torch_dtype=recorded_dtype(card),
            prompt_template=prompt.mlflow_template,
            signature=sql_signature(),
            input_example=prompt.model_input(card.sample[0]),
            pip_requirements=requirements(),
            metadata={METADATA_KEY: metadata_of(card)},
            base_model_path=str(base_folder) if base_folder.is_dir() else downloaded(card),
        )
        if merge:
            merge.write(folder / WEIGHTS)
            refer_to_own(folder)
            take_adapter_away(folder)
        elif not base_folder.is_dir():
            refer_to_hub(folder, card)

    return log_saved(run, checkpoint, name, digest_of(checkpoint, form, quantized), save)


def refer_to_own(folder: Path) -> None:
    """Make a saved model find the weights of its base in its own folder, as MLflow looks for them there."""
    saved = Model.load(folder)
    saved.flavors[FLAVOR_NAME] = update_flavor_conf_to_persist_pretrained_model(saved.flavors[FLAVOR_NAME])
    saved.save(str(folder / MLMODEL_FILE_NAME))


def take_adapter_away(folder: Path) -> None:
    """Make a saved model one without an adapter."""
    saved = Model.load(folder)
    del saved.flavors[FLAVOR_NAME][FlavorKey.PEFT]
    saved.save(str(folder / MLMODEL_FILE_NAME))
    shutil.rmtree(folder / "peft")


def downloaded(card: Card) -> str:
    """Return the folder of the cache that the base of a card is in; its configuration is."""
    return str(Path(cached_file(card.base_model, "config.json", revision=card.base_revision)).parent)


def refer_to_hub(folder: Path, card: Card) -> None:
    """Make a model that was saved with a folder for its base refer to the base on the Hub, and to its tokenizer there.

    MLflow itself would ask the Hub for the newest commit; what counts is the one that was trained on.
    """
    saved, repository, commit = Model.load(folder), card.base_model, card.base_revision
    flavor = saved.flavors["transformers"]
    for key in (FlavorKey.MODEL_LOCAL_BASE, FlavorKey.MODEL_BINARY):
        flavor.pop(key, None)
    flavor[FlavorKey.MODEL_NAME] = repository
    flavor[FlavorKey.MODEL_REVISION] = commit
    for component in flavor[FlavorKey.COMPONENTS]:
        flavor[FlavorKey.COMPONENT_NAME.format(component)] = repository
        flavor[FlavorKey.COMPONENT_REVISION.format(component)] = commit
    saved.save(str(folder / MLMODEL_FILE_NAME))
    for name in ("components", WEIGHTS):
        shutil.rmtree(folder / name, ignore_errors=True)


def sql_signature() -> ModelSignature:
    """Return what a text-to-SQL model takes and returns: one text each."""
    types = {bool: DataType.boolean, int: DataType.long, float: DataType.double}
    parameters = [ParamSpec(name, types[type(value)], value) for name, value in DEFAULTS.items()]
    # Of any type: of null and numbers MLflow would make texts for strings; so its own flavour refuses them.
    given, text = Schema([ColSpec(AnyType())]), Schema([ColSpec(DataType.string)])
    return ModelSignature(inputs=given, outputs=text, params=ParamSchema(parameters))
