"""Checkpoints in MLflow: the full state for resuming, as the artifacts `checkpoints/checkpoint-N` of a run."""

import atexit
import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path

from finetune.permissions import share_files

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

logger = logging.getLogger(__name__)
FOLDER = "checkpoints"
MANIFEST = "manifest.json"  # Uploaded last and deleted first: what has none is not complete.


def upload(run_id: str, folder: Path) -> int:
    """Upload a checkpoint, its manifest last; return its bytes."""
    share_files(folder)
    files = {name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in _files(folder).items()}
    client, target = mlflow.MlflowClient(), f"{FOLDER}/{folder.name}"
    client.log_artifacts(run_id, str(folder), target)
    client.log_dict(run_id, {"files": files}, f"{target}/{MANIFEST}")
    return sum(file["bytes"] for file in files.values())


def uploaded_steps(run_id: str) -> list[int]:
    """Return the steps of the complete checkpoints of a run, in order."""
    client, steps = mlflow.MlflowClient(), []
    for found in client.list_artifacts(run_id, FOLDER):
        step = found.path.rpartition("-")[2]
        if step.isdigit() and f"{found.path}/{MANIFEST}" in {f.path for f in client.list_artifacts(run_id, found.path)}:
            steps.append(int(step))
    return sorted(steps)


def download(run_id: str, step: int, folder: Path) -> bool:
    """Download a checkpoint into a folder, as checkpoint-N; return False where it is not what was uploaded."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as scratch:
        try:
            name = f"{FOLDER}/checkpoint-{step}"
            found = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=scratch))
            files = json.loads((found / MANIFEST).read_text(encoding="utf-8"))["files"]
            (found / MANIFEST).unlink()
            digests = {name: _digest(path) for name, path in _files(found).items()}
        except (MlflowException, OSError, ValueError) as error:
            logger.warning(f"checkpoint-{step} could not be downloaded: {error}")
            return False
        if digests != {name: known["sha256"] for name, known in files.items()}:
            logger.warning(f"checkpoint-{step} in MLflow is damaged; an earlier one is used.")
            return False
        shutil.rmtree(folder / f"checkpoint-{step}", ignore_errors=True)  # One that was cut off while it was saved.
        shutil.move(found, folder / f"checkpoint-{step}")
    return True


def download_all(run_id: str) -> Path:
    """Return a folder with the complete checkpoints of a run, which goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="checkpoints-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for step in uploaded_steps(run_id):
        download(run_id, step, folder)
    return folder


def delete(run_id: str, step: int) -> None:
    """Delete an uploaded checkpoint; a store that cannot delete keeps it."""
    repository = get_artifact_repository(mlflow.get_run(run_id).info.artifact_uri)
    name = f"{FOLDER}/checkpoint-{step}"
    try:
        repository.delete_artifacts(f"{name}/{MANIFEST}")
        repository.delete_artifacts(name)
    except (MlflowException, NotImplementedError) as error:
        logger.warning(f"{name} could not be deleted from MLflow: {error}")


def _files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
