"""Checkpoints in MLflow: the full state for resuming, as the artifacts `checkpoints/checkpoint-N` of a run."""

import atexit
import hashlib
import logging
import shutil
import tempfile
from pathlib import Path

from finetune import InputError
from finetune.models.files.inside import inside, is_numbered, refuse_links
from finetune.models.files.schemas import ANY, check, mapped, matching, read_json, whole
from finetune.permissions import share_files

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

logger = logging.getLogger(__name__)
FOLDER = "checkpoints"
PICKLES = ("adapter_model.bin", "pytorch_model.bin", "training_args.bin")  # Training uploads none of them.
MANIFEST = "manifest.json"  # Uploaded last and deleted first: what has none is not complete.


def upload(run_id: str, folder: Path) -> int:
    """Upload a checkpoint, its manifest last; return its bytes."""
    share_files(folder)
    files: dict[str, dict] = {
        name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in _files(folder).items()
    }
    client, target = mlflow.MlflowClient(), f"{FOLDER}/{folder.name}"
    client.log_artifacts(run_id, str(folder), target)
    client.log_dict(run_id, {"files": files}, f"{target}/{MANIFEST}")
    return sum(file["bytes"] for file in files.values())


def uploaded_steps(run_id: str) -> list[int]:
    """Return the steps of the complete checkpoints of a run, in order."""
    client, steps = mlflow.MlflowClient(), []
    for found in client.list_artifacts(run_id, FOLDER):
        step = found.path.rpartition("-")[2]
        inner = {file.path for file in client.list_artifacts(run_id, found.path)} if is_numbered(step) else ()
        if f"{found.path}/{MANIFEST}" in inner:
            steps.append(int(step))
    return sorted(steps)


def download(run_id: str, step: int, folder: Path) -> bool:
    """Download a checkpoint into a folder, as checkpoint-N; return False where it is not what was uploaded."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as scratch:
        try:
            name = f"{FOLDER}/checkpoint-{step}"
            found = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=scratch))
            files = read_manifest(found / MANIFEST)
            (found / MANIFEST).unlink()
            digests = {name: _digest(path) for name, path in _files(found).items()}
        except (MlflowException, OSError, ValueError, InputError) as error:
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


def read_manifest(path: Path) -> dict[str, dict]:
    """Return what a manifest says of the files beside it.

    Raises:
        InputError: it is damaged, or one of the files is or lies behind a link or is none that training uploads.
    """
    mend = "an earlier checkpoint is used, where there is one"
    file = {"bytes": whole(0, 2**60), "sha256": matching(r"[0-9a-f]{64}", "a digest")}
    files = check(read_json(path, mend), {"files": mapped(ANY)}, path, mend)["files"]
    for name, known in files.items():
        check(known, file, f"{path}, {name[:80]},", mend)
        inside(path.parent, name, str(path))
    refuse_links(path.parent)
    if pickled := [name for name in files if name in PICKLES]:
        raise InputError(f"{path} names {pickled[0]}, which may run code; {mend}.")
    return files


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
