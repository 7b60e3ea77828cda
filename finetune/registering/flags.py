"""Flags of log_model.py for the registry."""

import re
from argparse import Namespace

from finetune import InputError
from finetune.redaction import redact
from finetune.reports.scorecards.flags import add_row_flags
from finetune.runs.adopting.adopting import was_given

from mlflow.utils.validation import MAX_MODEL_REGISTRY_TAG_KEY_LENGTH, MAX_MODEL_REGISTRY_TAG_VALUE_LENGTH

FORBIDDEN = "/:@'\"\\"
KEY = re.compile(r"[\w./ -]+")
ALIAS = re.compile(r"[\w-]{1,255}", re.ASCII)


def add_flags(parser) -> None:
    """Declare the flags of the registry."""
    group = parser.add_argument_group("registry")
    group.add_argument("--register", metavar="NAME", help="make it a version of NAME in the model registry")
    group.add_argument("--alias", help="move this alias to it, such as champion")
    group.add_argument("--tag", nargs="+", action="extend", metavar="KEY=VALUE", help="tag of the version")
    group.add_argument(
        "--if-better",
        metavar="METRIC",
        help="only if better than the alias's by exec_accuracy, macro_f1, rougeL, ... (p < 0.05), else exit status 1",
    )
    add_row_flags(parser.add_argument_group("rows of --if-better, and of --from"), required=False)


def check_flags(flags: Namespace) -> None:
    """Raise InputError for flags of the registry that do not go together, or that it cannot take."""
    _check_gate(flags)
    name, alias = flags.register, flags.alias
    if name is None:
        given = [f"--{flag}" for flag in ("alias", "tag", "if-better") if getattr(flags, flag.replace("-", "_"))]
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
            f"--alias {alias[:80]!r} cannot be an alias: expected letters, digits, _ and -, such as champion; latest"
            " and v1, v2 and so on mean something else in MLflow."
        )
    parse_tags(flags.tag)


def _check_gate(flags: Namespace) -> None:
    """Raise InputError where --if-better and the flags that are about it do not go together."""
    if flags.max_rows is not None and flags.max_rows < 1:
        raise InputError(f"--max-rows {flags.max_rows} must be at least 1.")
    if flags.if_better is None:
        if flags.source and flags.dataset:  # On which its adapter is scored.
            return
        names = ["column", "max_rows", "database", "tables", "values", "trust_role", "dataset"]
        names += [] if flags.source else ["dialect"]
        if given := [name for name in names if was_given(flags, name)]:
            raise InputError(
                f"--{given[0].replace('_', '-')} is about the rows of --if-better METRIC, or of those that an adapter"
                " of --from is scored on (--dataset); give one of these too."
            )
        return
    if missing := [name for name in ("register", "alias", "dataset") if getattr(flags, name) is None]:
        raise InputError(f"--if-better {flags.if_better} needs --{missing[0]}: whom to be better than, on which rows.")
    if not flags.reload_check:
        raise InputError("--if-better takes no model without the reload check; leave --no-reload-check out.")


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
