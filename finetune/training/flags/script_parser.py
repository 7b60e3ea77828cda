"""The parser of a training script: its own flags, and all of the Trainer's."""

import dataclasses
import sys
from argparse import SUPPRESS, Action, ArgumentDefaultsHelpFormatter
from collections.abc import Iterable, Sequence

from finetune import InputError, completion, config_file, screen
from finetune.console import PrintCompletion, print_result
from finetune.training.flags import trainer_flags
from finetune.training.flags.shared_flags import SharedFlags

from transformers import HfArgumentParser

HELPS = {"-h", "--help", "--help-all"}
# Of the Trainer's, and of the parser itself: `--help` shows them too.
SHOWN = {"num_train_epochs", "max_steps", "output_dir", "seed", "config", "print_completion", "help", "help_all"}


class ScriptParser(HfArgumentParser):
    """HfArgumentParser over a script's own flags and a TrainingArguments subclass.

    `--help` shows the own flags on one screen, under the headings of their `groups`, with those of the Trainer that
    stand there too; `--help-all` every flag. An unknown flag, and an abbreviated one, is an error.

    Args:
        own: dataclass of the script's own flags; one without a help text has that of the class it is inherited from.
        others: further dataclasses.
    """

    def __init__(self, own: type[SharedFlags], *others: type, description: str):
        super().__init__(
            [own, *others],
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=ArgumentDefaultsHelpFormatter,
        )
        self.own = own
        # A script whose default is the last checkpoint takes the spelling of the others too, and of its runs of before.
        if "--no-load-best-model-at-end" not in self._option_string_actions:
            spellings = ("--no_load_best_model_at_end", "--no-load-best-model-at-end")
            self.add_argument(
                *spellings, dest="load_best_model_at_end", action="store_false", default=SUPPRESS, help=SUPPRESS
            )
        for action in self.actions:
            action.help = action.help or inherited_help(own, action.dest)
        self.add_argument("--help", "-h", action="store_true", default=SUPPRESS, help="show these flags and exit")
        self.add_argument(config_file.FLAG, metavar="FILE", default=SUPPRESS, help=config_file.HELP)
        self.add_argument(completion.FLAG, action=PrintCompletion, help=completion.HELP)
        self.add_argument("--help-all", action="store_true", default=SUPPRESS, help="show every flag and exit")

    @property
    def actions(self) -> list[Action]:
        """Return all flags."""
        return self._actions

    def expand(self, arguments: list[str]) -> tuple[list[str], str | None]:
        """Return arguments with the flags of the file of --config in its place, and its text without secrets."""
        if HELPS & set(arguments):
            return arguments, None
        return config_file.expand(arguments, self.actions, trainer_flags.OBJECTS + trainer_flags.OBJECTS_OR_FILES)

    def parse(self, arguments: list[str] | None, kept: Sequence[str] = ()) -> tuple:
        """Return one instance of each dataclass; the last has what cannot be of its flags in `refused`.

        Args:
            kept: further arguments, which a run was begun with.

        Raises:
            InputError: for an unknown flag or a value of the wrong type.
            SystemExit: after printing a help text.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        if HELPS & set(arguments):
            print_result(self.format_help() if "--help-all" in arguments else self.format_own_help())
            raise SystemExit(0)
        arguments, _ = self.expand(arguments)
        namespace, unknown = self.parse_known_args([*arguments, *kept])
        if unknown:
            raise InputError(f"unknown flag {unknown[0]}; --help lists the flags, --help-all also the Trainer's.")
        screen.set_verbose(namespace.verbose)
        values, given = vars(namespace), trainer_flags.given_names(arguments)
        refused = trainer_flags.settle(values, self.defaults(), given, trainer_flags.given_names(kept))
        try:
            parsed = self.parse_dict(values)
        except (ValueError, TypeError, KeyError, OSError, ImportError, RuntimeError, NotImplementedError) as error:
            # TrainingArguments refuses settings that do not go together.
            reason = " ".join(str(error).split())
            raise InputError("; ".join([*refused, f"the Trainer refuses its flags: {reason}"])) from error
        parsed[-1].refused = refused
        return tuple(parsed)

    def defaults(self) -> dict:
        """Return the default of each flag by its name."""
        return {
            field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            for dataclass in self.dataclass_types
            for field in dataclasses.fields(dataclass)
        }

    def format_own_help(self) -> str:
        """Return the help of the script's own flags, by groups."""
        lines = [f"usage: {self.prog} [flags, also spelled with underscores]", *self.description.strip().splitlines()]
        actions = {action.dest: action for action in reversed(self.actions)}  # --flag, not its --no-flag
        shown = {field.name for field in dataclasses.fields(self.own)} | SHOWN
        grouped = {title: [name for name in names if name in shown] for title, names in self.own.groups.items()}
        rest = sorted(shown - {name for names in grouped.values() for name in names})
        for title, names in (grouped | ({"more": rest} if rest else {})).items():
            lines += ["", f"{title}:", *self._help_lines(actions[name] for name in names)]
        return "\n".join(lines)

    def _help_lines(self, actions: Iterable[Action]) -> list[str]:
        """Return a line or two for each flag."""
        lines = []
        for action in actions:
            flag = "--" + action.dest.replace("_", "-")
            text = (action.help or "").replace("%%", "%").splitlines()[0]
            value = " ".join(map(str, action.default)) if isinstance(action.default, list) else action.default
            if value not in (None, SUPPRESS, ""):
                text += f" [{value}]"
            if value is True and "--no-" + flag[2:] in self._option_string_actions:
                flag = f"{flag} / --no-{flag[2:]}"
            lines.append(f"  {flag:<26} {text}" if len(flag) <= 26 else f"  {flag}\n  {'':<26} {text}")
        return lines

    def error(self, message: str):
        """Raise InputError instead of printing the usage of two hundred flags."""
        raise InputError(f"{message}; --help lists the flags.")


def inherited_help(own: type, name: str) -> str | None:
    """Return the help of a flag from the nearest class above that says what it is."""
    fields = [getattr(above, "__dataclass_fields__", {}).get(name) for above in own.__mro__]
    return next((field.metadata["help"] for field in fields if field and "help" in field.metadata), None)
