"""Models from code: a checkpoint written into its run as a pyfunc, with the file of this package that serves it."""

import json
import shutil
import tempfile
from pathlib import Path

from finetune.logged_models.entries import log_saved
from finetune.logged_models.opening import METADATA_KEY
from finetune.models.bases.loading import fingerprint
from finetune.runs.checkpoints import CARD, digest_of, load_card, served_files, step_of

import mlflow
from mlflow.entities import Run
from mlflow.models import ModelSignature

PACKAGE = Path(__file__).parent


def log_code_model(
    run: Run,
    checkpoint: Path,
    name: str,
    code: str,
    signature: ModelSignature,
    example,
    requirements: list[str],
    instead: dict[str, Path] | None = None,
) -> str:
    """Log a checkpoint as the model `runs:/RUN/NAME`, with a reference to its base; return its model id.

    The code and this package travel with the model.

    Args:
        code: file of this package that defines the served model.
        example: input that fits the signature.
        instead: files or folders by the name they get, in place of the adapter.
    """
    card = load_card(checkpoint)
    card["step"] = step_of(checkpoint)
    base = Path(card["base_model"])
    if base.is_dir():
        card["base_fingerprint"] = card.get("base_fingerprint") or fingerprint(base)
    with tempfile.TemporaryDirectory() as scratch:
        served = Path(scratch) / "checkpoint"
        served.mkdir()
        for path in served_files(checkpoint):
            if not (instead and path.match("adapter_*")):
                shutil.copy(path, served)
        for file, source in (instead or {}).items():
            (shutil.copytree if source.is_dir() else shutil.copy)(source, served / file)
        (served / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")

        def save(folder: Path) -> None:
            mlflow.pyfunc.save_model(
                str(folder),
                python_model=str(PACKAGE / code),
                artifacts={"checkpoint": str(served)},
                code_paths=[str(PACKAGE)],
                model_config={"base_model": None, "precision": None, "compute_dtype": None},
                signature=signature,
                input_example=example,
                pip_requirements=requirements,
                metadata={METADATA_KEY: json.dumps({k: v for k, v in card.items() if k != "sample"})},
            )

        return log_saved(run, checkpoint, name, digest_of(checkpoint, next(iter(instead or {}), "adapter")), save)
