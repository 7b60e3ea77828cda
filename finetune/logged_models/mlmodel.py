"""The MLmodel file of a logged model: what is read of it."""

import json
from pathlib import Path

from finetune import InputError
from finetune.models.card import Card
from finetune.models.files.card_fields import GENERATED
from finetune.models.files.schemas import NULL, check, either, number, reason, text, whole

import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME

MAX_BYTES = 2 * 2**20
MEND = "log the model again with log_model.py"
UNCHECKED = "finetune_unchecked"  # among the metadata, while log_model.py --persist has not checked what it has sent
PARAMETERS = GENERATED | {"batch_size": whole(1, 10**6), "threshold": either(NULL, number(0, 1))}


def read_model(folder: Path, key: str, uri: str) -> tuple[Model, Card, dict]:
    """Return a logged model, its card, and its parameters with their defaults.

    Args:
        key: of the card among the model's metadata.

    Raises:
        InputError: it is damaged, or was logged by something else.
    """
    path = folder / MLMODEL_FILE_NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES // 2**20} MB")
        # libyaml: MLflow's own reading takes seconds for a few hundred kilobytes.
        model = Model.from_dict(
            yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        )
        metadata, specs = model.metadata or {}, model.signature.params.params if model.signature else []
        parameters = {spec.name: spec.default for spec in specs}
        given = metadata.get(key)
        if not model.flavors:
            raise ValueError("it names no kind of model")
    except (MlflowException, OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError,
            IndexError) as error:  # fmt: skip
        raise InputError(f"{path} is damaged: it cannot be read as a model ({reason(error)}); {MEND}.") from error
    if given is None:
        raise InputError(f"the model {uri} was not logged by log_model.py; load it with mlflow.pyfunc.load_model.")
    try:
        card = json.loads(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: its card is no JSON ({reason(error)}); {MEND}.") from error
    check(parameters, {}, f"{path}, signature,", MEND, PARAMETERS, lambda *_: True)
    if model.model_id is not None:
        check({"model_id": model.model_id}, {"model_id": text(256, 1)}, path, MEND)
    return model, Card.parse(card, path), parameters


def read_unchecked(model: Model) -> dict[str, str] | None:
    """Return who put the base into a model (`by`) and its MLmodel before that (`before`), None once that was checked.

    Raises:
        InputError: that is damaged.
    """
    given = (model.metadata or {}).get(UNCHECKED)
    if given is None:
        return None
    try:
        found = json.loads(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"MLmodel is damaged: {UNCHECKED} is no JSON ({reason(error)}); {MEND}.") from error
    check(found, {"by": text(), "before": text(MAX_BYTES)}, f"MLmodel, {UNCHECKED},", MEND)
    return found
