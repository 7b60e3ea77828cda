"""One model on its way into the registry: what has to hold first, the version, and the alias last."""

import logging
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune import console
from finetune.logged_models.entries import ready_models
from finetune.models.card import Card
from finetune.registering.flags import parse_tags
from finetune.registering.versions import find_holder, has_own_weights, is_version_of, make_version, move_alias

from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion

if TYPE_CHECKING:
    from finetune.registering.gate import Gate

logger = logging.getLogger(__name__)


@dataclass
class Registration:
    """What --register asks for.

    Attributes:
        base: what the checkpoint was trained on.
        holder: the version that has the alias when this begins.
        gate: None without --if-better.
    """

    name: str
    alias: str | None
    tags: dict[str, str]
    base: str
    run: Run
    holder: ModelVersion | None
    gate: "Gate | None"

    def carry_out(self, model_name: str, is_as_trained: bool) -> bool:
        """Register the newest model of a name of the run, and move the alias; print its URI; False where refused.

        Args:
            is_as_trained: it passed the reload check.
        """
        if not is_as_trained:
            return self._refuse("the reload check failed: the logged model does not answer as the trained one (above)")
        model = ready_models(self.run, model_name)[0]
        if self.gate and not self._is_holder(model):
            is_taken, why = self.gate.judge(model.model_id)
            if not is_taken:
                return self._refuse(why)
            logger.info(f"accepted: {why}.")
            self.tags |= {"finetune.gate": why}
            if (moved := self._moved_meanwhile()) is not None:
                return self._refuse(moved)
        self._register(model)
        return True

    def _is_holder(self, model: LoggedModel) -> bool:
        return self.holder is not None and is_version_of(self.holder, model.model_id)

    def _moved_meanwhile(self) -> str | None:
        """Return a sentence where another version has the alias by now than the one that was compared with."""
        now, before = find_holder(self.name, str(self.alias)), self.holder
        if (now and now.version) == (before and before.version):
            return None
        self.holder = now
        return "another version got the alias meanwhile; start again, to be compared with that one"

    def _refuse(self, why: str) -> bool:
        holder = f"version {self.holder.version}" if self.holder else "nothing"
        stays = f"; the alias {self.alias} stays at {holder}" if self.alias else ""
        logger.error(f"refused: {why}. No version of {self.name} was made{stays}.")
        return False

    def _register(self, model: LoggedModel) -> None:
        after = f" The model is logged as models:/{model.model_id}; nothing of {self.name} was changed."
        version = make_version(self.name, model, self.tags, after)
        logger.info(f"version {version.version} of {self.name} is model {model.model_id}")
        if not has_own_weights(model.model_id):
            logger.warning(
                f"version {version.version} of {self.name} needs its base, which is not in it: {self.base}. Who loads"
                " it needs that too; log_model.py with --persist puts it into the model."
            )
        uri = f"models:/{self.name}/{version.version}"
        if self.alias:
            self._move(self.alias, version, model)
            uri = f"models:/{self.name}@{self.alias}"
        console.print_result(uri)

    def _move(self, alias: str, version: ModelVersion, model: LoggedModel) -> None:
        if self.holder and self._is_holder(model):
            logger.info(f"the alias {alias} is at version {self.holder.version}, this model, already")
            return
        move_alias(self.name, alias, version)
        before = f"from version {self.holder.version} " if self.holder else ""
        logger.info(f"the alias {alias} moves {before}to version {version.version}")


def begin(flags: Namespace, run: Run, checkpoint: Path) -> Registration | None:
    """Return what --register asks for, None without it; what can be known to be wrong with it is refused now.

    Raises:
        InputError: the registry does not answer, or --if-better cannot be had.
    """
    if flags.register is None:
        return None
    card, holder = Card.read(checkpoint), find_holder(flags.register, flags.alias) if flags.alias else None
    tags = {"finetune.task": card.task} | parse_tags(flags.tag)
    uri = f"models:/{flags.register}/{holder.version}" if holder else None
    gate = None
    if flags.if_better is not None:
        from finetune.registering.gate import set_up  # What scores models takes a second to import.

        gate = set_up(flags, run, checkpoint, uri)
    base = f"{card.base_model}@{card.base_revision}" if card.base_revision else card.base_model
    return Registration(flags.register, flags.alias, tags, base, run, holder, gate)


def check_rows(flags: Namespace, checkpoint: Path) -> None:
    """Raise InputError for rows of --dataset that an adapter of --from cannot be scored on, before it has a run."""
    if flags.dataset is not None:
        from finetune.registering import gate

        gate.check_rows(flags, checkpoint)
