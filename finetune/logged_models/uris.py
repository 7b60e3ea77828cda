"""Which model a URI or a folder names, and where its files are on this disk, or why they are not."""

import logging
import re
from datetime import UTC, datetime
from pathlib import Path

from finetune import InputError
from finetune.logged_models.entries import is_being_logged, logged_models
from finetune.logged_models.files import EXPECTED, check_folder, fetch, on_this_disk
from finetune.logged_models.last_run import find_last, is_last
from finetune.logged_models.refusals import is_refused, why_deleted, why_refused

import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.utils.uri import is_local_uri

logger = logging.getLogger(__name__)


def find_files(uri: str) -> Path:
    """Return the folder of a model's files: where they are on this disk, or a copy that goes with this process.

    Raises:
        InputError: there is no such model, or its files cannot be had; with the reason.
    """
    uri = uri.strip()
    is_run = re.fullmatch("[0-9a-f]{32}(/[^/]*)?/?", uri)
    if is_run and not Path(uri).is_dir():
        uri = f"runs:/{uri}"
    elif model_id := re.fullmatch("(?:(?:models|runs):/*)?(m-[0-9a-f]{32})/?", uri):
        uri = f"models:/{model_id[1]}"
    elif not uri:
        raise InputError(f"no model is named; {EXPECTED}.")
    elif re.match("https?:", uri, re.IGNORECASE):
        run_id = re.search("runs/([0-9a-f]{32})", uri)
        hint = f"the run of that page is runs:/{run_id[1]}" if run_id else EXPECTED
        raise InputError(f"{uri} is the address of a page, not a model; {hint}.")
    if uri.startswith("runs:"):
        return _find_in_run(uri)
    if uri.startswith("models:/m-"):
        return _find_logged(uri.rstrip("/"))
    if uri.startswith("models:"):
        return _find_registered(uri.rstrip("/"))
    if ":/" in uri:
        return fetch(uri, uri, uri)
    return check_folder(Path(uri))


def name_last(uri: str) -> str:
    """Return a URI with a run's id in the place of `last`: of the newest run that has a model of that name.

    Raises:
        InputError: no run has one.
    """
    if not is_last(uri) or Path(uri).is_dir():
        return uri
    name = "/".join(uri.removeprefix("runs:").strip("/").split("/")[1:])
    needed = f"has a model {name} that was logged to its end" if name else "has a model that was logged to its end"
    run = find_last(lambda run: any(m.status == LoggedModelStatus.READY for m in _models(run, name)), needed)
    return f"runs:/{run.info.run_id}{f'/{name}' if name else ''}"


def _models(run: Run, name: str) -> list[LoggedModel]:
    """Return the models of a run and a name, the newest first; of all names for an empty one."""
    return logged_models(run, name or None) or _of_epoch(run, name)


def _find_in_run(uri: str) -> Path:
    """Return the files of `runs:/<id>/<name>`: of its newest model that was logged to its end."""
    run_id, *names = [part for part in uri.removeprefix("runs:").split("/") if part] or [""]
    if not run_id:
        raise InputError(f"{uri} names no run; {EXPECTED}.")
    run = _find_run(run_id, uri)
    if len(names) > 1:
        raise InputError(f"there is no model {uri}: a model's name is one word, as in runs:/{run_id}/{names[0]}.")
    name = names[0] if names else _only_name(run, uri)
    models = _models(run, name)
    ready = [model for model in models if model.status == LoggedModelStatus.READY]
    if ready:
        return _files_of(ready[0], uri)
    if models:
        raise InputError(_half_logged(models[0], uri))
    try:  # Logged as plain artifacts of the run, as older MLflow did.
        return fetch(f"runs:/{run_id}/{name}", uri, run.info.artifact_uri)
    except InputError as error:
        raise InputError(f"there is no model {uri} in {mlflow.get_tracking_uri()}; {_names_of(run)}.") from error


def _find_run(run_id: str, uri: str) -> Run:
    store = mlflow.get_tracking_uri()
    try:
        run = mlflow.get_run(run_id)
        deleted = why_deleted(run)
    except MlflowException as error:
        if is_refused(error):
            raise InputError(f"the model {uri} of {store} cannot be read: {why_refused(error)}.") from error
        raise InputError(
            f"there is no model {uri} in {store}, which has no run {run_id}; {EXPECTED}. Set"
            " MLFLOW_TRACKING_URI where it was tracked elsewhere."
        ) from error
    if deleted:
        raise InputError(f"the model {uri} is not there: {deleted}")
    return run


def _only_name(run: Run, uri: str) -> str:
    """Return the name of a run's models where it is one alone."""
    names = {model.name for model in logged_models(run) if model.status == LoggedModelStatus.READY}
    if len(names) != 1:
        raise InputError(f"{uri} names a run and not one of its models; {_names_of(run)}.")
    (name,) = names
    logger.info(f"{uri} has one model: runs:/{run.info.run_id}/{name}")
    return name


def _names_of(run: Run) -> str:
    names = {model.name for model in logged_models(run) if model.status == LoggedModelStatus.READY}
    if not names:
        return f"the run has no model: `python log_model.py {run.info.run_id}` logs one"
    # What log_model.py logs first; checkpoint-5 before checkpoint-10.
    ordered = sorted(names, key=lambda name: (name.startswith("checkpoint-"), len(name), name))
    return f"give one of the run's models: {', '.join(f'runs:/{run.info.run_id}/{name}' for name in ordered)}"


def _of_epoch(run: Run, name: str) -> list[LoggedModel]:
    """Return the models of `checkpoint-N` where N is an epoch and not a step."""
    epoch = name.removeprefix("checkpoint-")
    models = logged_models(run) if epoch != name else []
    return [model for model in models if model.name.startswith("checkpoint-") and model.tags.get("epoch") == epoch]


def _half_logged(model: LoggedModel, uri: str) -> str:
    begun = datetime.fromtimestamp(model.creation_timestamp / 1000, UTC)
    when = f"model {model.model_id}, begun {begun:%Y-%m-%d %H:%M} UTC"
    if is_being_logged(model):
        return f"the model {uri} is still being logged ({when}); try again when that has ended."
    step = model.name.removeprefix("checkpoint-")
    which = f" --checkpoint {step}" if step != model.name else "" if model.name == "model" else f" --name {model.name}"
    return (
        f"the model {uri} was not logged to its end ({when}): `python log_model.py {model.source_run_id}{which}` logs"
        " it again."
    )


def _find_logged(uri: str) -> Path:
    """Return the files of `models:/m-...`."""
    model_id = uri.removeprefix("models:/")
    try:
        model = mlflow.MlflowClient().get_logged_model(model_id)
    except MlflowException as error:
        why = why_refused(error) if is_refused(error) else "it was deleted, or is in another store"
        raise InputError(f"there is no model {uri} in {mlflow.get_tracking_uri()}: {why}; {EXPECTED}.") from error
    if model.status != LoggedModelStatus.READY:
        raise InputError(_half_logged(model, uri))
    return _files_of(model, uri)


def _find_registered(uri: str) -> Path:
    """Return the files of `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""
    try:
        place = ModelsArtifactRepository.get_underlying_uri(uri)
    except MlflowException as error:
        raise InputError(
            f"there is no model {uri} in {mlflow.get_tracking_uri()}: {why_refused(error)}; {EXPECTED}."
        ) from error
    return on_this_disk(place, uri) if is_local_uri(place) else fetch(uri, uri, place)


def _files_of(model: LoggedModel, uri: str) -> Path:
    place = model.artifact_location
    return on_this_disk(place, uri) if is_local_uri(place) else fetch(f"models:/{model.model_id}", uri, place)
