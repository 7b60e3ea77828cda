"""`log_model.py --from`: a model that was not trained here gets a run of its own, and is logged in it."""

import logging
import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from finetune import InputError
from finetune.logged_models.checkpoint_files import TASK_TAG
from finetune.logged_models.refusals import logging_into, why_refused
from finetune.logged_models.writing.full_models import describe, log_full_model
from finetune.logged_models.writing.weights.base_files import base_folder
from finetune.logged_models.writing.weights.persisting import persist
from finetune.models.card import CHECKPOINT, REFERENCE
from finetune.models.prompts import Prompt
from finetune.rows.sql.cleaning import check_dialect
from finetune.runs.sending import delivery

import mlflow
from mlflow.exceptions import MlflowException

logger = logging.getLogger(__name__)
PROMPT = "text_to_sql"


def log_full(flags: Namespace) -> str:
    """Log the model of --from in a run of its own, and return its URI.

    Args:
        flags: of log_model.py; --mode is `checkpoint` or `reference`, with --persist the weights that it needs go too.

    Raises:
        InputError: there is no such model, no room, or the store refuses it; no run is left then.
    """
    source, form = str(flags.source), flags.mode
    if flags.persist and form == CHECKPOINT:
        raise InputError("--persist: a model of --mode checkpoint has its weights; leave the flag out.")
    card, client = describe(source, form, Prompt.load(PROMPT)), mlflow.MlflowClient()
    if flags.dialect:
        check_dialect(flags.dialect)
        card = replace(card, dialect=flags.dialect)
    experiment = flags.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "sql-generator"
    try:
        tags = {TASK_TAG: card.task}
        run = client.create_run(delivery.find_experiment(experiment), run_name=Path(card.base_model).name, tags=tags)
    except MlflowException as error:
        raise InputError(f"no run can be made in {mlflow.get_tracking_uri()}: {why_refused(error)}.") from error
    with logging_into(run):
        try:
            model_id = log_full_model(run, card, flags.name)
            if flags.persist:
                persist(model_id, base_folder(card), lambda: True)
            client.set_terminated(run.info.run_id)
        except BaseException:
            client.delete_run(run.info.run_id)
            raise
    weights = "no weights" if form == REFERENCE and not flags.persist else "its weights"
    logger.info(f"{source} is model {model_id} with {weights}, asked with prompts/{PROMPT}.txt")
    return f"runs:/{run.info.run_id}/{flags.name}"
