"""The values of a file of flags, as words of the command line."""

import argparse
import json
from dataclasses import dataclass
from typing import NoReturn

from finetune import InputError
from finetune.redaction import HIDDEN, is_secret_name

import yaml

EXPECTED = {"int": "a whole number", "float": "a number"}
NOTHING = ("", "~", "null", "Null", "NULL")


@dataclass
class Value:
    """The value of a key, as a word of the command line or several."""

    path: str
    key: str
    action: argparse.Action

    def words(self, node: yaml.Node, takes_object: bool) -> list[str]:
        """Return the flag with its value, as the command line would have them.

        Raises:
            InputError: no value, one of another type, or none of the flag's choices.
        """
        flag = self._option()
        if self.action.nargs == 0:
            return [flag] if self._switch(node) else []
        if takes_object and isinstance(node, yaml.MappingNode):
            return [f"{flag}={json.dumps(_plain(node))}"]
        if isinstance(node, yaml.SequenceNode) and self._takes_list():
            texts = [self._text(item) for item in node.value]
        else:
            texts = [self._text(node)]
        if not texts:
            self._refuse("an empty list", "a value")
        if self.action.nargs == "+" and len(texts) > 1:
            if dashed := [text for text in texts if text.startswith("-")]:
                self._refuse(dashed[0], "values that do not begin with a dash")
            return [flag, *texts]
        return [f"{flag}={text}" for text in texts]

    def _takes_list(self) -> bool:
        return self.action.nargs == "+" or isinstance(self.action.default, list)

    def _option(self) -> str:
        """Return the flag that the key means, with dashes where the parser knows it so."""
        option = "--" + self.key.removeprefix("--").replace("_", "-")
        return option if option in self.action.option_strings else "--" + self.key.removeprefix("--")

    def _switch(self, node: yaml.Node) -> bool:
        text = node.value.lower() if isinstance(node, yaml.ScalarNode) else ""
        if text not in ("true", "false", "yes", "no"):
            self._refuse(_shown(node), "true or false")
        return text in ("true", "yes")

    def _text(self, node: yaml.Node) -> str:
        """Return a scalar as it is written, once the flag has taken it."""
        expected = self._expected()
        if not isinstance(node, yaml.ScalarNode):
            self._refuse(_shown(node), expected)
        if node.style is None and node.value in NOTHING:
            self._refuse("nothing", f"{expected}; or leave the line out")
        try:
            value = self.action.type(node.value) if callable(self.action.type) else node.value
        except (ValueError, TypeError, argparse.ArgumentTypeError):
            self._refuse(node.value, expected)
        if self.action.choices is not None and value not in self.action.choices:
            self._refuse(node.value, f"one of {', '.join(map(str, self.action.choices))}")
        return node.value

    def _expected(self) -> str:
        kind = getattr(self.action.type, "__name__", "")
        if "bool" in kind:
            return "true or false"
        return EXPECTED.get(kind, "a list" if self._takes_list() else "one value")

    def _refuse(self, given: str, expected: str) -> NoReturn:
        shown = HIDDEN if is_secret_name(self.key, weak=False) else given[:80]
        raise InputError(f"--config {self.path}: {self.key} is {shown}; expected {expected}.")


def _plain(node: yaml.Node):
    """Return the JSON value of a node."""
    if isinstance(node, yaml.MappingNode):
        return {str(_plain(key)): _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if node.style is None:
        try:
            return json.loads(node.value)
        except ValueError:
            pass
    return node.value


def _shown(node: yaml.Node) -> str:
    kinds = {yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
    return kinds.get(type(node)) or str(node.value)
