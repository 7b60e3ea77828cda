"""The command line's edges: flags and help, results on stdout, everything else on stderr, exit statuses."""

import dataclasses
import inspect
import logging
import os
import sys
import traceback
import warnings
from argparse import SUPPRESS, ArgumentDefaultsHelpFormatter, ArgumentParser
from typing import TextIO

from finetune import screen, stopping, trainer_flags
from finetune.redaction import redact, redact_arguments
from finetune.screen import for_stream

import transformers
from transformers import HfArgumentParser

logger = logging.getLogger(__name__)
_results, _is_closed = None, False


class InputError(Exception):
    """Something the user gave cannot be used; the message says what, what was expected, what to do, and no secret."""

    def __init__(self, message: str):
        super().__init__(redact(message))


class _Formatter(ArgumentDefaultsHelpFormatter):
    """Shows defaults that say something: not None, False or an empty list."""

    def _get_help_string(self, action):
        return super()._get_help_string(action) if action.default else action.help


class Parser(ArgumentParser):
    """ArgumentParser whose errors are InputErrors, without abbreviated flags."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)
        self.add_argument("--verbose", action="store_true", help="say all on stderr, in full")

    def parse_args(self, arguments=None, namespace=None):
        """Return the flags; none is unknown."""
        found, unknown = self.parse_known_args(arguments, namespace)
        screen.set_verbose(found.verbose)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(redact_arguments(unknown))}")
        return found

    def error(self, message: str):
        """Raise InputError instead of printing the usage."""
        raise InputError(f"{message}; --help lists the flags.")

    def print_help(self, file=None):
        """Print the help as a result."""
        print_result(self.format_help())


class ScriptParser(HfArgumentParser):
    """HfArgumentParser over a script's own flags and a TrainingArguments subclass.

    `--help` shows the own flags on one screen, `--help-all` every flag. An unknown flag, and an
    abbreviated one, is an error.

    Args:
        own: dataclass of the script's own flags.
        others: further dataclasses; `shown` names those of their flags that `--help` shows too.
    """

    def __init__(self, own: type, *others: type, description: str, shown: tuple[str, ...] = ()):
        super().__init__(
            [own, *others],
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=ArgumentDefaultsHelpFormatter,
        )
        # The flags that the script itself declares come first, those it shares with others after them.
        names = [field.name for field in dataclasses.fields(own)]
        names.sort(key=lambda name: name not in inspect.get_annotations(own))
        self.shown = [*names, *shown, "help", "help_all"]
        self.add_argument("--help", "-h", action="store_true", default=SUPPRESS, help="show these flags and exit")
        self.add_argument("--help-all", action="store_true", default=SUPPRESS, help="show every flag and exit")

    def parse(self, arguments: list[str] | None, kept: list[str] = ()) -> tuple:
        """Return one instance of each dataclass; the last has what cannot be of its flags in `refused`.

        Args:
            kept: further arguments, which a run was begun with.

        Raises:
            InputError: for an unknown flag or a value of the wrong type.
            SystemExit: after printing a help text.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        if "--help" in arguments or "-h" in arguments or "--help-all" in arguments:
            print_result(self.format_help() if "--help-all" in arguments else self.format_own_help())
            raise SystemExit(0)
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
        """Return the help of the script's own flags."""
        lines = [
            f"usage: {self.prog} [flags]",
            "",
            self.description.strip(),
            "",
            "flags (also spelled with underscores):",
        ]
        actions = {action.dest: action for action in reversed(self._actions)}  # --flag, not its --no-flag
        for action in (actions[name] for name in self.shown):
            flag = "--" + action.dest.replace("_", "-")
            text = (action.help or "").replace("%%", "%").splitlines()[0]
            value = " ".join(map(str, action.default)) if isinstance(action.default, list) else action.default
            if value not in (None, SUPPRESS, ""):
                text += f" [{value}]"
            if value is True and "--no-" + flag[2:] in self._option_string_actions:
                flag = f"{flag} / --no-{flag[2:]}"
            lines.append(f"  {flag:<26} {text}" if len(flag) <= 26 else f"  {flag}\n  {'':<26} {text}")
        return "\n".join(lines)

    def error(self, message: str):
        """Raise InputError instead of printing the usage of two hundred flags."""
        raise InputError(f"{message}; --help lists the flags.")


def print_result(text: str) -> None:
    """Write a result line to the real stdout (of the first process only).

    Raises:
        InputError: it cannot be written, as where the disk of its file is full.
    """
    if not is_main_process():
        return
    stream, line = _results or sys.stdout, screen.clear()
    try:
        print(for_stream(text, stream), file=stream, flush=True)
        screen.restore(line)
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_results()
        raise InputError(f"stdout cannot be written: {error.strerror}.") from error


def stdout_is_closed() -> bool:
    """Say whether the script was started without a stdout (`>&-`)."""
    return _is_closed


def _take_stdout() -> TextIO:
    """Return the real stdout; what libraries print goes to stderr from now on."""
    global _is_closed
    if sys.stderr is None:  # closed, as by `2>&-`
        sys.stderr = _nowhere()
    if sys.stdout is None:
        _is_closed, sys.stdout = True, sys.stderr
        return _nowhere()
    results = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), 1)
    return results


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def _drop_results() -> None:
    """Let what is still to be written to stdout go nowhere, at the end of the process too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _results.fileno())


def _show_traceback(*error) -> None:
    """Print what nobody expected, without secrets."""
    screen.clear()
    print(for_stream(redact("".join(traceback.format_exception(*error))), sys.stderr), end="", file=sys.stderr)


def is_main_process() -> bool:
    """Say whether this process is the only one or rank 0 of several."""
    return os.environ.get("RANK", "0") == "0"


def quiet_libraries() -> None:
    """Leave out what libraries say that says nothing to the user."""
    # The pinned libraries' own deprecations and progress bars say nothing to the user.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted")
    transformers.logging.disable_progress_bar()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for noisy in (
        "httpx", "alembic", "mlflow", "accelerate", "fsspec", "urllib3", "matplotlib", "datasets", "onnx_ir", "absl",
        "onnxscript",
    ):  # fmt: skip
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Its warnings of each attempt would bury the one sentence that says the server is away.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def run(main) -> None:
    """Run a script's main(): results alone on stdout, one sentence and status 2 for bad input.

    File descriptor 1 is pointed at stderr, so that nothing a library prints, from C or from
    Python, mixes with the results. Ctrl-C exits with 130 and SIGTERM with 143.
    """
    global _results
    _results = _take_stdout()
    level = logging.INFO if is_main_process() else logging.ERROR
    screen.install(level, is_main_process())
    quiet_libraries()
    sys.excepthook = _show_traceback
    stopping.install()
    try:
        main()
        _results.flush()
    except InputError as error:
        screen.clear()
        if is_main_process():
            print(for_stream(f"error: {error}", sys.stderr), file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # The reader of stdout has gone, as `| head` does.
        _drop_results()
        sys.exit(141)
    except KeyboardInterrupt:
        screen.clear()
        print("error: stopped by a signal.", file=sys.stderr)
        sys.exit(stopping.exit_status())
