"""The base that a logged model refers to, put into the model: file by file, and only then named by it.

MLflow's own `persist_pretrained_model` saves the layers of a PEFT model under its wrappers' names, which loading fills
with random weights in silence. Here the files of the base are copied as they are. MLmodel, which names them with their
digests, is the last file to be sent: until then the model is what it was, however often this was cut off. It then says
that nothing was checked yet, and what it was before, until the check has passed.
"""

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from finetune import InputError
from finetune.logged_models.entries import this_process, write_digests
from finetune.logged_models.mlmodel import UNCHECKED, read_model, read_unchecked
from finetune.logged_models.writing.code_models import METADATA_KEY
from finetune.logged_models.writing.sql_models import refer_to_own
from finetune.logged_models.writing.weights.base_files import base_folder, files_of, tokenizer_files
from finetune.logged_models.writing.weights.sending import fetch, send
from finetune.models.files import own_base
from finetune.models.files.digests import read_digests
from finetune.models.files.own_base import IN_CODE, IN_FLAVOR, with_own_base

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.transformers import FLAVOR_NAME

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
        before = file.read_text(encoding="utf-8")
        model, card, _ = read_model(file.parent, METADATA_KEY, f"models:/{model_id}")
        digests, is_plain = read_digests(model, file), FLAVOR_NAME in model.flavors
        if not is_plain:
            check_code(model_id, digests)
        if unchecked := read_unchecked(model):
            logger.info(f"an earlier --persist of model {model_id} was cut off before its check, which is made now")
            return _refer_and_check(model_id, file, unchecked["before"], check)
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
        return _refer_and_check(model_id, file, before, check)


def is_unchecked(model_id: str) -> bool:
    """Say whether a logged model has its base in itself by a --persist that was cut off before its check."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            file = fetch(model_id, MLMODEL_FILE_NAME, scratch)
        except (MlflowException, OSError):  # The reload check says so.
            return False
        return read_unchecked(read_model(file.parent, METADATA_KEY, f"models:/{model_id}")[0]) is not None


def _mark(file: Path, unchecked: dict | None) -> None:
    """Write into MLmodel, or take out of it, that a model was not checked yet, by whom, and what MLmodel was before."""
    saved = Model.load(file.parent)
    saved.metadata = {name: value for name, value in (saved.metadata or {}).items() if name != UNCHECKED}
    saved.metadata |= {UNCHECKED: json.dumps(unchecked)} if unchecked else {}
    saved.save(str(file))


def _refer_and_check(model_id: str, file: Path, before: str, check: Callable[[], bool]) -> bool:
    """Make a model refer to the base that was sent, and return what a check of it then says.

    Args:
        file: its new MLmodel.
        before: its present one, put back where the check says no or ends in an error.
    """
    client, passed = mlflow.MlflowClient(), False
    _mark(file, {"by": this_process(), "before": before})
    client.log_model_artifact(model_id, str(file))
    try:
        passed = check()
    finally:
        if not passed:
            _put_back(model_id, before)
    if passed:
        _mark(file, None)
        client.log_model_artifact(model_id, str(file))
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
    """Return what a check says of a model that has had its base, checked, since an earlier --persist."""
    passed = check()
    if not passed:
        logger.warning(
            f"model {model_id} has its base in itself since an earlier --persist, and stays so. Log it anew under"
            " another --name."
        )
    return passed


def _put_back(model_id: str, before: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / MLMODEL_FILE_NAME
        file.write_text(before, encoding="utf-8")
        mlflow.MlflowClient().log_model_artifact(model_id, str(file))
    logger.warning(f"model {model_id} refers to its base outside, as before")
