"""Files sent into a model that is logged already, each compared by its digest with what arrived."""

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

from finetune import InputError
from finetune.logged_models.writing.weights.disk_space import check_places, shown
from finetune.models.files.digests import digest_file

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

logger = logging.getLogger(__name__)


def send(model_id: str, files: dict[str, Path]) -> dict[str, str]:
    """Send files into a logged model, those that are not there yet; return their digests, compared with what arrived.

    Args:
        files: by their path in the model.
    """
    client, digests = mlflow.MlflowClient(), {}
    place = client.get_logged_model(model_id).artifact_location
    local = Path(local_file_uri_to_path(place)) if is_local_uri(place) else None
    there = {name: size for folder in {_folder(name) for name in files} for name, size in _listed(model_id, folder)}
    missing = {name: path for name, path in files.items() if there.get(name) != path.stat().st_size}
    if local:
        _clear_cut_off(local, files)
        check_places(sum(path.stat().st_size for path in missing.values()), [local], "the base in the model")
    for name, path in files.items():
        digests[name] = digest_file(path)
        if name not in missing and _digest_there(model_id, name, local) == digests[name]:
            logger.info(f"{name} is there already")
            continue
        logger.info(f"sending {name}, {shown(path.stat().st_size)}")
        client.log_model_artifact(model_id, str(path), _folder(name))
        if _digest_there(model_id, name, local) != digests[name]:
            raise InputError(
                f"{name} has not arrived in model {model_id} as it was sent; run the same command again. Until then"
                " the model refers to its base as before."
            )
    return digests


def _clear_cut_off(place: Path, files: Iterable[str]) -> None:
    """Delete what a killed process has left of a file that it was copying, under the name that MLflow gives it."""
    for folder in {_folder(name) for name in files}:
        for path in (place / folder).glob(".artifact.uploading.*"):
            path.unlink(missing_ok=True)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _listed(model_id: str, folder: str) -> list[tuple[str, int]]:
    try:
        found = mlflow.MlflowClient().list_logged_model_artifacts(model_id, folder)
    except (MlflowException, OSError):  # Nothing was sent there yet.
        return []
    return [(info.path, info.file_size) for info in found if not info.is_dir]


def _digest_there(model_id: str, name: str, local: Path | None) -> str:
    """Return the digest of a file of a logged model; one elsewhere is fetched to be read."""
    if local:
        return digest_file(local / name)
    with tempfile.TemporaryDirectory() as scratch:
        return digest_file(fetch(model_id, name, scratch))


def fetch(model_id: str, name: str, folder: str) -> Path:
    """Return a copy of a file of a logged model."""
    place = mlflow.MlflowClient().get_logged_model(model_id).artifact_location
    return Path(mlflow.artifacts.download_artifacts(f"{place}/{name}", dst_path=folder))
