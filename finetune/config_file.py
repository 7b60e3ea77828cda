"""Flags from a YAML file: `--config FILE` stands for the flags in it, as they would stand on the command line.

A value is the text that the command line would have, so `no`, `1e-4` and `2026-01-01` mean what they mean there.
Flags that the command line gives are left out: it wins.
"""

import argparse
import difflib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from finetune import InputError
from finetune.config_values import Value
from finetune.redaction import HIDDEN, is_secret_name, redact

import yaml

FLAG = "--config"
HELP = "YAML file of flags; the command line wins"
# A scalar of these tags is taken as it is written. Others would be made into something.
PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")}
MAX_BYTES, MAX_NODES = 2**20, 10_000
# Not a flag's business in a file: they end the script, or stand for the file itself.
NOT_IN_FILES = {"config", "help", "help_all", "print_completion"}


def expand(
    arguments: Sequence[str], actions: Collection[argparse.Action], objects: Collection[str] = ()
) -> tuple[list[str], str | None]:
    """Return arguments with the flags of the file that `--config` names in its place, and its text without secrets.

    Args:
        actions: of the parser of the arguments.
        objects: names of flags that take a JSON object, which may be a mapping in the file.

    Raises:
        InputError: two files, one that cannot be read, or something in it that is no flag or no value of it.
    """
    rest, path = _take(arguments)
    if path is None:
        return rest, None
    text = read(path)
    entries = read_entries(text, path)
    flags = {option.lstrip("-").replace("_", "-"): action for action in actions for option in action.option_strings}
    given = {_name(argument.partition("=")[0]) for argument in rest if argument.startswith("--")}
    given_dests = {flags[name].dest for name in given if name in flags}
    found: list[str] = []
    seen: dict[str, str] = {}
    for key, node in entries.items():
        action = _action_of(key, flags, actions, path)
        if action.dest in seen:
            raise InputError(f"--config {path}: {seen[action.dest]} and {key} are the same flag; leave one out.")
        seen[action.dest] = key
        words = Value(path, key, action).words(node, _name(key) in map(_name, objects))
        found += words if action.dest not in given_dests else []
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *found, *rest[end:]], without_secrets(text)


def _take(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the arguments without `--config FILE`, and the file."""
    rest, found, expects = [], [], False
    for argument in arguments:
        if expects:
            found.append("" if argument.startswith("--") else argument)
            expects = False
        elif argument == FLAG:
            expects = True
        elif argument.startswith(FLAG + "="):
            found.append(argument.partition("=")[2])
        else:
            rest.append(argument)
    if expects or "" in found:
        raise InputError(f"{FLAG} needs a file, such as {FLAG} flags.yaml.")
    if len(found) > 1:
        raise InputError(f"{FLAG} is given {len(found)} times, as {', '.join(found)}; put all flags into one file.")
    return rest, found[0] if found else None


def read(path: str) -> str:
    """Return the text of a file of flags."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"--config {path} has more than {MAX_BYTES // 2**20} MB; expected some lines of flags.")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"--config {path} is no text in UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--config {path} cannot be read: {reason}; expected a YAML file of flags.") from error


def read_entries(text: str, path: str) -> dict[str, yaml.Node]:
    """Return the keys of a file of flags as they are written, with their values as YAML nodes.

    Raises:
        InputError: no YAML, no mapping of names to values, a name twice, or a tag that makes objects.
    """
    try:
        top = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_tags(top, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" in line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context
        raise InputError(f"--config {path} is not YAML{line}: {problem}; expected lines `flag: value`.") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"--config {path} is not YAML: {reason}; expected lines `flag: value`.") from error
    if top is None or (isinstance(top, yaml.MappingNode) and not top.value):
        raise InputError(f"--config {path} has no flags in it; expected lines `flag: value`.")
    if not isinstance(top, yaml.MappingNode):
        kind = "a list" if isinstance(top, yaml.SequenceNode) else "one text"
        raise InputError(f"--config {path} is {kind}; expected lines `flag: value`.")
    found: dict[str, yaml.Node] = {}
    lines: dict[str, int] = {}
    for key, value in top.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"--config {path}, line {_line(key)}: the name of a flag must be a word.")
        name = key.value
        if _name(name) in lines:
            raise InputError(
                f"--config {path} gives {name} twice, in lines {lines[_name(name)]} and {_line(key)}; leave one out."
            )
        found[name], lines[_name(name)] = value, _line(key)
    return found


def _check_tags(top: yaml.Node | None, path: str) -> None:
    """Refuse what YAML would make into objects, and more values than flags can have; aliases count each time."""
    waiting, count = [top] if top else [], 0
    while waiting:
        node, count = waiting.pop(), count + 1
        if count > MAX_NODES:
            raise InputError(f"--config {path} holds too many values, or one within itself; give flags only.")
        if isinstance(node, yaml.ScalarNode):
            is_plain = node.tag in PLAIN
        else:
            is_plain = node.tag.removeprefix("tag:yaml.org,2002:") in ("map", "seq")
            pairs = isinstance(node, yaml.MappingNode)
            waiting += [part for pair in node.value for part in pair] if pairs else node.value
        if not is_plain:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise InputError(f"--config {path}, line {_line(node)}: the tag {tag} is not taken; give plain values.")


def _action_of(key: str, flags: dict, actions: Collection[argparse.Action], path: str) -> argparse.Action:
    """Return the flag that a key names; it may have dashes or underscores."""
    action = flags.get(_name(key))
    if _name(key) == "config":
        raise InputError(f"--config {path}: a file of flags cannot name another; leave config out.")
    if action is not None and action.dest not in NOT_IN_FILES:
        return action
    if any(not action.option_strings and action.dest == key for action in actions):
        raise InputError(f"--config {path}: {key} is no flag; it stands on the command line, behind the script.")
    near = difflib.get_close_matches(_name(key), [name for name in flags if flags[name].dest not in NOT_IN_FILES], 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise InputError(f"--config {path}: {key[:80]} is no flag of this script{hint} --help lists them.")


def without_secrets(text: str) -> str:
    """Return a file of flags as it is written, with `***` for each secret."""
    spans: dict[int, int] = {}
    waiting = [yaml.compose(text, Loader=yaml.SafeLoader)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and is_secret_name(key.value, weak=False):
                spans[value.start_mark.index] = value.end_mark.index
            else:
                waiting.append(value)
    shown, done = "", 0
    for start, end in sorted(spans.items()):
        if start >= done:
            end -= text[start:end].endswith("\n")  # of a block
            shown, done = shown + text[done:start] + HIDDEN, end
    return redact(shown + text[done:])


def _name(key: str) -> str:
    """Return a flag's name with dashes, without those before it."""
    return re.sub("^--", "", key).replace("_", "-")


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
