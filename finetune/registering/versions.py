"""Versions of registered models in MLflow: found, made once for each logged model, and the alias of one moved."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from finetune import InputError
from finetune.logged_models.refusals import why_refused
from finetune.logged_models.writing.weights.sending import fetch
from finetune.models.files.digests import read_digests

import mlflow
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

WEIGHTS = (".safetensors", ".onnx", ".bin")
MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")  # the last of an alias


@contextmanager
def registry_of(name: str, after: str = "") -> Iterator[mlflow.MlflowClient]:
    """Turn what the registry refuses into one sentence.

    Args:
        after: what holds where it refuses.

    Raises:
        InputError: with the reason.
    """
    try:
        yield mlflow.MlflowClient()
    except (MlflowException, OSError) as error:
        where = f"the model registry of {mlflow.get_registry_uri()}"
        raise InputError(f"--register {name}: {where} refuses: {why_refused(error)}.{after}") from error


def find_holder(name: str, alias: str) -> ModelVersion | None:
    """Return the version that has an alias now, None where none has it or there is no such model.

    Raises:
        InputError: the registry does not answer.
    """
    with registry_of(name) as client:
        try:
            return client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in MISSING:
                return None
            raise


def version_of(name: str, model_id: str) -> ModelVersion | None:
    """Return the newest version that is a logged model, if there is one."""
    with registry_of(name) as client:
        versions = [] if _is_missing(client, name) else client.search_model_versions(f"name = '{name}'")
    found = [version for version in versions if is_version_of(version, model_id)]
    return max(found, key=lambda version: int(version.version), default=None)


def is_version_of(version: ModelVersion, model_id: str) -> bool:
    """Say whether a version is a logged model; not every store keeps its id."""
    return model_id in (version.model_id, (version.source or "").removeprefix("models:/"))


def make_version(name: str, model: LoggedModel, tags: dict[str, str], after: str = "") -> ModelVersion:
    """Return the version that a logged model is, made where there is none, with tags.

    Raises:
        InputError: the registry refuses.
    """
    found = version_of(name, model.model_id)
    with registry_of(name, after) as client:
        if found:
            for key, value in tags.items():
                client.set_model_version_tag(name, found.version, key, value)
            return found
        _make_name(client, name)
        made = client.create_model_version(
            name, f"models:/{model.model_id}", model.source_run_id, tags, model_id=model.model_id
        )
    with registry_of(name, f" Version {made.version} is made; no alias was moved.") as client:
        known = json.loads(model.tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
        entry = {"name": name, "version": made.version}
        client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([*known, entry])})
    return made


def _make_name(client: mlflow.MlflowClient, name: str) -> None:
    """Make a registered model of a name that is not there."""
    if _is_missing(client, name):
        try:
            client.create_registered_model(name)
        except MlflowException:
            if _is_missing(client, name):  # Refused, or a prompt's; otherwise another process was first.
                raise


def _is_missing(client: mlflow.MlflowClient, name: str) -> bool:
    try:
        client.get_registered_model(name)
    except MlflowException:
        return True
    return False


def move_alias(name: str, alias: str, version: ModelVersion) -> None:
    """Give a version an alias, in one step of the registry.

    Raises:
        InputError: the registry refuses.
    """
    with registry_of(name, f" Version {version.version} is made; the alias {alias} is where it was.") as client:
        client.set_registered_model_alias(name, alias, version.version)


def has_own_weights(model_id: str) -> bool:
    """Say whether a logged model holds more weights than an adapter's: those of its base, or of both in one.

    What counts is what MLmodel names: a --persist that was cut off, or taken back, leaves files that nothing loads.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = fetch(model_id, MLMODEL_FILE_NAME, scratch)
        names = read_digests(Model.load(str(file)), file) or _files(model_id)  # An older version has no digests.
    paths = map(PurePosixPath, names)
    return any(path.suffix in WEIGHTS and not path.name.startswith("adapter_model") for path in paths)


def _files(model_id: str, folder: str | None = None) -> Iterator[str]:
    """Yield the files of a logged model."""
    for file in mlflow.MlflowClient().list_logged_model_artifacts(model_id, folder):
        if file.is_dir:
            yield from _files(model_id, file.path)
        else:
            yield file.path
