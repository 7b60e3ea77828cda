"""Models from code: a checkpoint written into its run as a pyfunc, with the file of this package that serves it."""

import json
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

from finetune.base_models import fingerprint
from finetune.checkpoints import CARD, PROGRESS, load_card
from finetune.logged_models import METADATA_KEY, start_model

import mlflow
from mlflow.entities import Run
from mlflow.models import Model, ModelSignature

# What a checkpoint needs to predict; the optimiser's state stays behind.
SERVED_FILES = ("adapter_*", "*token*", "vocab*", "merges.txt", "*.model", "*.json")
STATE_FILES = ("trainer_state.json", PROGRESS)
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
    step = int(checkpoint.name.split("-")[1])
    card["step"] = step
    base = Path(card["base_model"])
    if base.is_dir():
        card["base_fingerprint"] = card.get("base_fingerprint") or fingerprint(base)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        folder.mkdir()
        for path in (path for pattern in SERVED_FILES for path in checkpoint.glob(pattern)):
            if path.name not in STATE_FILES and not (instead and path.match("adapter_*")):
                shutil.copy(path, folder)
        for file, source in (instead or {}).items():
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / file)
        (folder / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
        # mlflow.pyfunc.log_model is this without run_id: it would reopen a finished run.
        # MLflow would load the base to try the example out.
        with patch("mlflow.models.utils._validate_serving_input"):
            info = Model.log(
                artifact_path=None,
                name=name,
                flavor=mlflow.pyfunc,
                run_id=run.info.run_id,
                model_id=start_model(run, checkpoint, name),
                step=step,
                python_model=str(PACKAGE / code),
                artifacts={"checkpoint": str(folder)},
                code_paths=[str(PACKAGE)],
                model_config={"base_model": None, "precision": None, "compute_dtype": None},
                signature=signature,
                input_example=example,
                pip_requirements=requirements,
                metadata={METADATA_KEY: json.dumps({k: v for k, v in card.items() if k != "sample"})},
            )
    return info.model_id
