"""A URI opened: a logged model or a checkpoint on disk, and from it the model that its task has."""

import logging
from dataclasses import dataclass
from pathlib import Path

from finetune import InputError
from finetune.logged_models.entries import is_running
from finetune.logged_models.mlmodel import read_model, read_unchecked
from finetune.logged_models.uris import find_files
from finetune.logged_models.writing.code_models import METADATA_KEY
from finetune.models.card import CARD, REFERENCE, Card
from finetune.models.files.digests import check_digests, read_digests
from finetune.models.files.own_base import with_own_base
from finetune.models.restoring import AS_TRAINED, Loading
from finetune.models.trained import kind_of

from mlflow.models.model import MLMODEL_FILE_NAME

logger = logging.getLogger(__name__)


@dataclass
class LoggedModel:
    """A logged model, or a checkpoint, on disk.

    Attributes:
        adapter: folder of the PEFT adapter.
        parameters: generation parameters of the signature with their defaults.
        step: optimiser step of the checkpoint.
        model_id: of the logged model; None for a checkpoint.
        own: the card that it is restored by, which names a base that is in the model; None for `card`.
    """

    card: Card
    adapter: Path
    parameters: dict
    step: int = 0
    model_id: str | None = None
    own: Card | None = None

    @property
    def restored_by(self) -> Card:
        """The card with the base that is in the model where there is one; `card` says what it was trained on."""
        return self.own or self.card

    def load(self, loading: Loading = AS_TRAINED):
        """Return the SqlWriter, Classifier or Summarizer that it is, with its weights."""
        return kind_of(self.card.task).load(self.adapter, loading, self.restored_by)


def open_model(uri: str) -> LoggedModel:
    """Open `runs:/<id>/model`, `models:/NAME@ALIAS`, or the folder of a model or checkpoint.

    Raises:
        InputError: when there is no such model (with the reason), or it was not logged by log_model.py.
    """
    folder = find_files(uri)
    if (folder / CARD).is_file():
        number = folder.resolve().name.removeprefix("checkpoint-")
        step = int(number) if number.isdigit() else 0
        card = Card.read(folder)
        _check_whole(folder, uri)
        parameters = kind_of(card.task).parameters | card.generation
        return LoggedModel(card, folder, parameters, step)
    try:
        (folder / MLMODEL_FILE_NAME).stat()
    except OSError as error:
        raise InputError(f"the model {uri} is not whole: {folder} has no file MLmodel that can be read.") from error
    model, card, parameters = read_model(folder, METADATA_KEY, uri)
    whole = folder / "artifacts" / "checkpoint"  # Of a model from code; a decoder is in the transformers flavour.
    in_flavor = folder / ("model" if card.form else "peft")
    adapter = whole if whole.is_dir() else in_flavor
    if card.form != REFERENCE:
        _check_whole(adapter, uri)
    digests = read_digests(model, folder / MLMODEL_FILE_NAME)
    check_digests(folder, digests)
    own = with_own_base(card, folder, digests)
    unchecked = read_unchecked(model)
    if unchecked and not is_running(unchecked["by"]):  # Its check comes here too.
        logger.warning(
            f"the base was put into the model {uri} by a log_model.py --persist that was cut off before its reload"
            " check: whether it answers as the trained model is not known. The same command again makes that check."
        )
    return LoggedModel(card, adapter, parameters, card.step or 0, model.model_id, own)


def _check_whole(folder: Path, uri: str) -> None:
    weights = "adapter_model.safetensors", "model.onnx", "merged", "model.safetensors", "model.safetensors.index.json"
    if not any((folder / name).exists() for name in weights):
        raise InputError(f"the model {uri} is not whole: {folder} has no {weights[0]}; log it again with log_model.py.")
