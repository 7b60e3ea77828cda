"""The prompt of a model in MLflow's prompt registry: one version a text, linked to run and model."""

import logging

from finetune.logged_models.refusals import why_refused
from finetune.models.card import Card
from finetune.models.prompts import Prompt

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import PromptVersion
from mlflow.exceptions import MlflowException

logger = logging.getLogger(__name__)


def prompt_name(task: str) -> str:
    """Return the name that the prompts of a task have there: TASK-prompt."""
    return f"{task}-prompt"  # A model and a prompt cannot have one name.


def record_prompt(run: Run, card: Card, model_id: str) -> PromptVersion | None:
    """Register a model's prompt where its text is new, and link it to run and model; None where there is none.

    What the store refuses is said and fails nothing.
    """
    text = getattr(card, "prompt", None)
    if text is None:
        return None
    name = prompt_name(card.task)
    try:
        template = template_of(Prompt(text))
        if (version := _find(name, template)) is None:
            version = mlflow.genai.register_prompt(name, template)
            logger.info(f"the prompt is new in the prompt registry: {version.uri}")
        _link(version, run.info.run_id, model_id)
    except (MlflowException, OSError, ValueError) as error:
        logger.warning(
            f"the prompt is not in the prompt registry: {why_refused(error)}. The model has it all the same."
        )
        return None
    return version


def template_of(prompt: Prompt) -> str:
    """Return the text that MLflow's prompt registry has for a prompt.

    Raises:
        ValueError: its own text has what MLflow takes for a variable or for Jinja.
    """
    template, row = prompt.registry_template, {name: f"<{name}>" for name in prompt.variables}
    read = PromptVersion("prompt", 1, template)
    if "{%" in template or read.variables != set(row) or read.format(**row) != prompt.render(row):
        raise ValueError("its own text has braces that MLflow takes for a variable")
    return template


def _find(name: str, template: str) -> PromptVersion | None:
    """Return the newest version that has a text."""
    client, found, token = mlflow.MlflowClient(), [], None
    try:
        while True:
            page = client.search_prompt_versions(name, page_token=token)
            found += [version for version in page if version.template == template]
            token = page.token
            if not token:
                return max(found, key=lambda version: version.version, default=None)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            return None
        raise


def _link(version: PromptVersion, run_id: str, model_id: str) -> None:
    client = mlflow.MlflowClient()
    client.link_prompt_version_to_run(run_id, version)
    client.link_prompt_version_to_model(version.name, str(version.version), model_id)
