"""The base that a logged model refers to, put into the model: file by file, and only then named by it.

MLflow's own `persist_pretrained_model` saves the layers of a PEFT model under its wrappers' names, which loading fills
with random weights in silence. Here the files of the base are copied as they are. MLmodel, which names them with their
digests, is the last file to be sent: until then the model is what it was, however often this was cut off.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from finetune import InputError
from finetune.logged_models.entries import write_digests
from finetune.logged_models.mlmodel import read_model
from finetune.logged_models.writing.code_models import METADATA_KEY
from finetune.logged_models.writing.sql_models import refer_to_own
from finetune.logged_models.writing.weights.base_files import base_folder, files_of, tokenizer_files
from finetune.logged_models.writing.weights.disk_space import check_places, shown
from finetune.models.files import own_base
from finetune.models.files.digests import digest_file, read_digests
from finetune.models.files.own_base import IN_CODE, IN_FLAVOR, with_own_base

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.transformers import FLAVOR_NAME
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

logger = logging.getLogger(__name__)
KNOWS_OWN_BASE = Path(own_base.__file__).name
TOKENIZER = "components/tokenizer"


def persist(model_id: str, checkpoint: Path, check: Callable[[], bool]) -> bool:
    """Put the base of a logged model into it, and return what a check of it then says.

    Where that is no, or the check ends in an error, the model refers to its base outside again.

    Args:
        checkpoint: what was logged; its tokenizer goes with a base of the Hub.

    Raises:
        InputError: the base is gone or another one, there is no room for it, or the model's code would not look there.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = fetch(model_id, MLMODEL_FILE_NAME, scratch)
        before, (model, card, _) = file.read_bytes(), read_model(file.parent, METADATA_KEY, f"models:/{model_id}")
        digests = read_digests(model, file)
        is_plain = FLAVOR_NAME in model.flavors
        if not is_plain:
            check_code(model_id, digests)
        if with_own_base(card, file.parent, digests) is not card:
            logger.info(f"model {model_id} has its base in itself already; nothing is sent again")
            return _check_again(model_id, check)
        sent = {f"{IN_FLAVOR if is_plain else IN_CODE}/{path.name}": path for path in files_of(base_folder(card))}
        if is_plain:
            sent |= {f"{TOKENIZER}/{path.name}": path for path in tokenizer_files(checkpoint)}
        digests |= send(model_id, {name: path for name, path in sent.items() if name not in digests})
        if is_plain:
            refer_to_own(file.parent)
        write_digests(file.parent, digests)
        mlflow.MlflowClient().log_model_artifact(model_id, str(file))
    passed = False
    try:
        passed = check()
    finally:
        if not passed:
            _put_back(model_id, before)
    if passed:
        logger.info(f"model {model_id} has its base in itself now: it needs no other folder and no Hub")
    return passed


def check_code(model_id: str, digests: dict[str, str]) -> None:
    """Raise InputError where the code that travels with a model knows no base in it, as that of older versions.

    The reload check, which runs the code that is here, would pass all the same.
    """
    if not any(name.startswith("code/") and name.endswith(f"/{KNOWS_OWN_BASE}") for name in digests):
        raise InputError(
            f"--persist: model {model_id} was logged by an older version, whose code goes with it and would look for"
            " the base outside as before. Log it anew with --persist under another --name."
        )


def _check_again(model_id: str, check: Callable[[], bool]) -> bool:
    """Return what a check says of a model that has its base; a --persist that was killed may have left it unchecked."""
    passed = check()
    if not passed:
        logger.warning(
            f"model {model_id} has its base in itself since an earlier --persist, and stays so; where that was cut off,"
            " the model was never checked. Log it anew under another --name."
        )
    return passed


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


def _put_back(model_id: str, before: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / MLMODEL_FILE_NAME
        file.write_bytes(before)
        mlflow.MlflowClient().log_model_artifact(model_id, str(file))
    logger.warning(f"model {model_id} refers to its base outside, as before")
