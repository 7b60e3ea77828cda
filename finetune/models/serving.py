"""What served models do alike: what is no text, and a parameter that cannot be, is refused, as predict.py does.

MLflow itself drops parameters that it does not know, and with a signature of strings it makes texts of null and of
numbers (`inputs` and `instances` of its server).
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune import InputError
from finetune.models.files.own_base import read_served
from finetune.models.parameters import check_parameters
from finetune.models.restoring import Loading

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

IN_PYTHON = {
    "--base-model": 'model_config={"base_model": FOLDER}',
    "--precision": 'model_config={"precision": TYPE}',
    "--compute-dtype": 'model_config={"compute_dtype": TYPE}',
}


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what is wrong with the input as MLflow does: INVALID_PARAMETER_VALUE, status 400 when served.

    What a message says in flags of the scripts is said as Python says it.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        for flag, way in IN_PYTHON.items():
            message = message.replace(flag, way)
        raise MlflowException(message, error_code=INVALID_PARAMETER_VALUE) from error


def restore(kind, context):
    """Return the model of a class that MLflow's context has the files of, as its `model_config` says."""
    config = context.model_config or {}
    computed = config.get("compute_dtype") or "recorded"
    with refusals():
        loading = Loading(config.get("base_model"), config.get("precision"), computed)
        checkpoint = Path(context.artifacts["checkpoint"])
        return kind.load(checkpoint, loading, read_served(checkpoint))


def refuse_no_texts(values: list, what: str) -> list[str]:
    """Return the texts that were given; raise InputError for one that is empty, or is none."""
    values = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
    for number, value in enumerate(values, start=1):
        if isinstance(value, str) and value.strip():
            continue
        is_missing = pd.api.types.is_scalar(value) and pd.isna(value)
        found = "empty" if isinstance(value, str) else "null" if is_missing else f"{str(value)[:80]}, no text"
        raise InputError(f"{what} {number} is {found}; expected a text.")
    return values


def check_width() -> None:
    """Raise InputError where a list of the call has rows of several values: MLflow passes on the first one alone."""
    data = _call().get("data")
    rows = data.tolist() if isinstance(data, np.ndarray) else data if isinstance(data, list) else []
    for number, row in enumerate(rows if isinstance(rows, list) else [], start=1):
        if isinstance(row, list) and len(row) > 1:
            raise InputError(f"row {number} has {len(row)} values; expected one text a row.")


def known_parameters(params: dict | None) -> dict:
    """Return the parameters that have a value; raise InputError for one that is unknown, or cannot be what it is.

    Args:
        params: as MLflow passes them to a model: those of its signature, all of them.
    """
    known = params or {}
    given = {name: value for name, value in (_call().get("params") or {}).items() if name not in known}
    check_parameters(given, known)
    # A threshold that is not given is None: each label has its own.
    has_value = {name: value for name, value in known.items() if name != "threshold" or value is not None}
    check_parameters(has_value, known)
    return has_value


def _call() -> dict:
    """Return `data` and `params` of the call that is under way, with what MLflow drops of them on the way here."""
    frame = inspect.currentframe()
    while frame and frame.f_code is not mlflow.pyfunc.PyFuncModel.predict.__code__:
        frame = frame.f_back
    return frame.f_locals if frame else {}
