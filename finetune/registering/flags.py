"""Flags of log_model.py for the registry."""

import re
from argparse import Namespace

from finetune import InputError
from finetune.redaction import redact

from mlflow.utils.validation import MAX_MODEL_REGISTRY_TAG_KEY_LENGTH, MAX_MODEL_REGISTRY_TAG_VALUE_LENGTH

FORBIDDEN = "/:@'\"\\"
KEY = re.compile(r"[\w./ -]+")
ALIAS = re.compile(r"[\w-]{1,255}", re.ASCII)


def add_flags(parser) -> None:
    """Declare the flags of the registry."""
    group = parser.add_argument_group("registry")
    group.add_argument("--register", metavar="NAME", help="make the model a version of NAME in the model registry")
    group.add_argument("--alias", help="move this alias, such as champion, to the version; needs --register")
    group.add_argument(
        "--tag", nargs="+", action="extend", metavar="KEY=VALUE", help="tag of the version; needs --register"
    )


def check_flags(flags: Namespace) -> None:
    """Raise InputError for flags of the registry that do not go together, or that it cannot take."""
    name, alias = flags.register, flags.alias
    if name is None:
        given = [f"--{flag}" for flag in ("alias", "tag") if getattr(flags, flag)]
        if given:
            raise InputError(f"{given[0]} needs --register NAME, the registered model that it is about.")
        return
    if flags.sync:
        raise InputError("--sync only sends what training logged; give --register to the command that logs the model.")
    if name != name.strip() or not 0 < len(name) <= 250 or set(name) & set(FORBIDDEN) or not name.isprintable():
        raise InputError(
            f"--register {name[:80]!r} cannot be the name of a registered model: it must not be empty, begin or end"
            f" with a space, have more than 250 characters or contain {FORBIDDEN}."
        )
    if alias is not None and (
        not ALIAS.fullmatch(alias) or alias.lower() == "latest" or re.fullmatch("[vV][0-9]+", alias)
    ):
        raise InputError(
            f"--alias {alias[:80]!r} cannot be an alias: expected letters, digits, _ and -, such as champion; latest and"
            " v1, v2 and so on mean something else in MLflow."
        )
    parse_tags(flags.tag)


def parse_tags(given: list[str] | None) -> dict[str, str]:
    """Return tags by key, their values without secrets.

    Raises:
        InputError: one is not KEY=VALUE, cannot be a tag, or is given twice.
    """
    tags: dict[str, str] = {}
    for item in given or ():
        key, equals, value = item.partition("=")
        if not equals or not KEY.fullmatch(key) or key != key.strip() or len(key) > MAX_MODEL_REGISTRY_TAG_KEY_LENGTH:
            raise InputError(f"--tag {redact(item)[:80]!r} is no tag; expected KEY=VALUE, such as --tag stage=trial.")
        if key.startswith(("mlflow.", "finetune.")):
            raise InputError(f"--tag {key[:80]}: tags that begin with mlflow. or finetune. are not yours to set.")
        if len(value) > MAX_MODEL_REGISTRY_TAG_VALUE_LENGTH:
            raise InputError(f"--tag {key}: the value has {len(value)} characters; the registry takes 100,000.")
        if tags.setdefault(key, redact(value)) != redact(value):
            raise InputError(f"--tag {key} is given with two values; give one.")
    return tags
