"""Models from code: a checkpoint written into its run as a pyfunc, with the file of this package that serves it."""

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from finetune import PACKAGE
from finetune.logged_models.checkpoint_files import digest_of, served_files, step_of
from finetune.logged_models.entries import log_saved
from finetune.models.bases.loading import fingerprint
from finetune.models.card import Card

import mlflow
from mlflow.entities import Run
from mlflow.models import ModelSignature

PINNED = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "mlflow")
METADATA_KEY = "finetune"
CHECKPOINT = Path("artifacts", "checkpoint")  # in a model from code
C = TypeVar("C", bound=Card)
TRAVELS = ("__init__.py", "progress_line.py", "redaction.py", "screen.py", "stopping.py")  # and the folder models


def copy_package(folder: Path) -> Path:
    """Write what a served model needs of this package into a folder that is not there yet; return the folder."""
    shutil.copytree(PACKAGE / "models", folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    for name in TRAVELS:
        shutil.copy(PACKAGE / name, folder)
    return folder


def log_code_model(
    run: Run,
    checkpoint: Path,
    name: str,
    code: str,
    signature: ModelSignature,
    example,
    requirements: list[str],
    instead: dict[str, Callable[[Path], object]] | None = None,
) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`, with a reference to its base; return its model id.

    The code and what it needs of this package travel with the model.

    Args:
        code: file below `finetune/models` that defines the served model.
        example: input that fits the signature.
        instead: what writes a file or folder, by the name that it gets, in place of the adapter.
    """
    card = card_to_log(Card.read(checkpoint), checkpoint)
    with tempfile.TemporaryDirectory() as scratch:
        package = copy_package(Path(scratch) / PACKAGE.name)
        served = Path(scratch) / "checkpoint"
        served.mkdir()
        for path in served_files(checkpoint):
            if not (instead and path.match("adapter_*")):
                shutil.copy(path, served)
        card.write(served)

        def save(folder: Path) -> None:
            mlflow.pyfunc.save_model(
                str(folder),
                python_model=str(package / "models" / code),
                artifacts={"checkpoint": str(served)},
                code_paths=[str(package)],
                model_config={"base_model": None, "precision": None, "compute_dtype": None},
                signature=signature,
                input_example=example,
                pip_requirements=requirements,
                metadata={METADATA_KEY: metadata_of(card)},
            )
            for file, write in (instead or {}).items():  # Into its place: a whole model is too large to be copied.
                write(folder / CHECKPOINT / file)

        return log_saved(run, checkpoint, name, digest_of(checkpoint, next(iter(instead or {}), "adapter")), save)


def card_to_log(card: C, checkpoint: Path) -> C:
    """Return a checkpoint's card as a logged model has it: with its step, and the fingerprint of a base in a folder."""
    base, known = Path(card.base_model), card.base_fingerprint
    return replace(
        card, step=step_of(checkpoint), base_fingerprint=known or (fingerprint(base) if base.is_dir() else None)
    )


def metadata_of(card: Card) -> str:
    """Return a card as it stands among the metadata of a logged model: without the sample."""
    return json.dumps(replace(card, sample=[]).values())


def requirements(others: tuple[str, ...] = ()) -> list[str]:
    """Return the packages that a logged model needs, pinned as they are here."""
    # "+cpu" is a local build of the same release.
    return [f"{package}=={importlib.metadata.version(package).split('+')[0]}" for package in PINNED + others]
