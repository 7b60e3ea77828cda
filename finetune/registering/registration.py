"""One model on its way into the registry: what has to hold first, the version, and the alias last."""

import logging
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from finetune import console
from finetune.logged_models.entries import ready_models
from finetune.models.card import Card
from finetune.registering.flags import parse_tags
from finetune.registering.versions import find_holder, is_version_of, make_version, move_alias

from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)


@dataclass
class Registration:
    """What --register asks for.

    Attributes:
        card: of the checkpoint.
        holder: the version that has the alias when this begins.
    """

    name: str
    alias: str | None
    tags: dict[str, str]
    card: Card
    run: Run
    holder: ModelVersion | None

    def carry_out(self, model_name: str, is_as_trained: bool) -> bool:
        """Register the newest model of a name of the run, and move the alias; print its URI; False where refused.

        Args:
            is_as_trained: it passed the reload check.
        """
        if not is_as_trained:
            return self._refuse("the reload check failed: the logged model does not answer as the trained one (above)")
        model = ready_models(self.run, model_name)[0]
        self._register(model)
        return True

    def _refuse(self, why: str) -> bool:
        holder = f"version {self.holder.version}" if self.holder else "nothing"
        stays = f"; the alias {self.alias} stays at {holder}" if self.alias else ""
        logger.error(f"refused: {why}. No version of {self.name} was made{stays}.")
        return False

    def _register(self, model: LoggedModel) -> None:
        after = f" The model is logged as models:/{model.model_id}; nothing of {self.name} was changed."
        version = make_version(self.name, model, self.tags, after)
        logger.info(f"version {version.version} of {self.name} is model {model.model_id}")
        uri = f"models:/{self.name}/{version.version}"
        if self.alias:
            self._move(self.alias, version, model)
            uri = f"models:/{self.name}@{self.alias}"
        console.print_result(uri)

    def _move(self, alias: str, version: ModelVersion, model: LoggedModel) -> None:
        if self.holder and is_version_of(self.holder, model.model_id):
            logger.info(f"the alias {alias} is at version {self.holder.version}, this model, already")
            return
        move_alias(self.name, alias, version)
        before = f"from version {self.holder.version} " if self.holder else ""
        logger.info(f"the alias {alias} moves {before}to version {version.version}")


def begin(flags: Namespace, run: Run, checkpoint: Path) -> Registration | None:
    """Return what --register asks for, None without it; what can be known to be wrong with it is refused now.

    Raises:
        InputError: the registry does not answer.
    """
    if flags.register is None:
        return None
    card, holder = Card.read(checkpoint), find_holder(flags.register, flags.alias) if flags.alias else None
    tags = {"finetune.task": card.task} | parse_tags(flags.tag)
    return Registration(flags.register, flags.alias, tags, card, run, holder)
