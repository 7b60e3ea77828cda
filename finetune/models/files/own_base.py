"""A base whose weights are in the logged model: it counts where the model's digests name its files.

A folder alone does not: it may be what an interrupted log_model.py --persist has left.
"""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from finetune.models.bases.configs import CONFIG
from finetune.models.card import REFERENCE, Card
from finetune.models.files.digests import check_digests, read_digests

from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME

# Of a model in MLflow's flavour for transformers, which looks for it there, and of one from code.
PLACES = IN_FLAVOR, IN_CODE = "model", "artifacts/checkpoint/base"
C = TypeVar("C", bound=Card)


def with_own_base(card: C, folder: Path, digests: dict[str, str]) -> C:
    """Return the card of a logged model that names the base in the model's own folder, where there is one."""
    for place in PLACES if card.form in (None, REFERENCE) else ():
        if f"{place}/{CONFIG}" in digests:
            return replace(card, base_model=str(folder / place), base_revision=None)
    return card


def read_served(checkpoint: Path) -> Card:
    """Return the card of a model from code that MLflow loads, its files checked.

    Args:
        checkpoint: `artifacts/checkpoint` of the model.

    Raises:
        InputError: a file was changed since it was logged.
    """
    card, folder = Card.read(checkpoint), checkpoint.parent.parent
    if not (folder / MLMODEL_FILE_NAME).is_file():
        return card
    digests = read_digests(Model.load(str(folder)), folder / MLMODEL_FILE_NAME)
    check_digests(folder, digests)
    return with_own_base(card, folder, digests)
