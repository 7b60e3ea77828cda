"""`log_model.py --from`: a model that was not trained here gets a run of its own, and is logged in it."""

import logging
import os
from pathlib import Path

from finetune import InputError
from finetune.logged_models.checkpoint_files import TASK_TAG
from finetune.logged_models.writing.full_models import describe, log_full_model
from finetune.logged_models.writing.weights.base_files import base_folder
from finetune.logged_models.writing.weights.persisting import persist
from finetune.models.card import CHECKPOINT, REFERENCE
from finetune.models.prompts import Prompt
from finetune.runs.sending import delivery

import mlflow

logger = logging.getLogger(__name__)
PROMPT = "text_to_sql"


def log_full(source: str, form: str, name: str, persisted: bool) -> str:
    """Log a model of a folder or the Hub in a run of its own, and return its URI.

    Args:
        form: `checkpoint` or `reference`.
        persisted: with the weights that a reference needs.

    Raises:
        InputError: there is no such model, or no room; no run is left then.
    """
    if persisted and form == CHECKPOINT:
        raise InputError("--persist: a model of --mode checkpoint has its weights; leave the flag out.")
    card, client = describe(source, form, Prompt.load(PROMPT)), mlflow.MlflowClient()
    experiment = delivery.find_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "sql-generator")
    run = client.create_run(experiment, run_name=Path(card.base_model).name, tags={TASK_TAG: card.task})
    try:
        model_id = log_full_model(run, card, name)
        if persisted:
            persist(model_id, base_folder(card), lambda: True)
        client.set_terminated(run.info.run_id)
    except BaseException:
        client.delete_run(run.info.run_id)
        raise
    weights = "no weights" if form == REFERENCE and not persisted else "its weights"
    logger.info(f"{source} is model {model_id} with {weights}, asked with prompts/{PROMPT}.txt")
    return f"runs:/{run.info.run_id}/{name}"
