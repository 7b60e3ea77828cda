"""What becomes of an adopted adapter once it has its run: it is named where logging ends early, and scored."""

import logging
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune import InputError

from mlflow.entities import Run

logger = logging.getLogger(__name__)
VALUES = ("dataset", "column", "encoding", "split", "max_rows", "database", "tables", "values")


@contextmanager
def naming_run(flags: Namespace, run: Run) -> Iterator[None]:
    """Say in an InputError which run the adapter of --from has by then."""
    try:
        yield
    except InputError as error:
        if not flags.source:
            raise
        run_id = run.info.run_id
        raise InputError(
            f"{error} The adapter is run {run_id} by now; go on with: python log_model.py {run_id}"
        ) from error


def score_adopted(uri: str, flags: Namespace) -> bool:
    """Score a model as evaluate_model.py does, in a process of its own; say what went wrong, and whether nothing did.

    Args:
        flags: with those of rows.
    """
    script = str(Path(__file__).parents[3] / "evaluate_model.py")
    status = subprocess.run([sys.executable, script, uri, *row_flags(flags)], check=False).returncode
    if status:
        logger.error(
            f"error: {uri} is logged; scoring it on --dataset {flags.dataset} ended with status {status} (see above)."
            f" Go on with: python evaluate_model.py {uri} --dataset {flags.dataset}"
        )
    return not status


def row_flags(flags: Namespace) -> list[str]:
    """Return the flags of rows as they were given."""
    found = ["--trust-role"] * flags.trust_role
    for name in VALUES:
        value = getattr(flags, name)
        if value is not None:
            found += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return found
