"""The command line's edges: flags and help, results on stdout, everything else on stderr, exit statuses."""

import errno
import logging
import os
import sys
import threading
import traceback
import warnings
from argparse import SUPPRESS, Action, ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from finetune import InputError, completion, config_file, screen, stopping
from finetune.redaction import redact, redact_arguments
from finetune.screen import for_stream

import transformers

logger = logging.getLogger(__name__)
_results, _is_closed = None, False


class _Formatter(ArgumentDefaultsHelpFormatter):
    """Shows defaults that say something: not None, True or False, or an empty list."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28)

    def _get_help_string(self, action):
        is_telling = action.default and action.default is not True
        return super()._get_help_string(action) if is_telling else action.help


class PrintCompletion(Action):
    """Prints the completion of a parser's flags and exits."""

    def __init__(self, option_strings, dest=SUPPRESS, help=None):
        super().__init__(
            option_strings, dest, choices=completion.SHELLS, default=SUPPRESS, metavar="SHELL", help=help
        )  # fmt: skip

    def __call__(self, parser, namespace, values, option_string=None):
        """Print it as a result."""
        print_result(completion.completion(parser, parser.actions, values))
        parser.exit()


class Parser(ArgumentParser):
    """ArgumentParser whose errors are InputErrors, without abbreviated flags."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, add_help=False, **options)
        group = self.add_argument_group("this command")
        group.add_argument("-h", "--help", action="help", help="show these flags and exit")
        group.add_argument("--verbose", action="store_true", help="say all on stderr, in full")
        group.add_argument(config_file.FLAG, metavar="FILE", default=SUPPRESS, help=config_file.HELP)
        group.add_argument(completion.FLAG, action=PrintCompletion, help=completion.HELP)

    @property
    def actions(self) -> list[Action]:
        """Return all arguments."""
        return self._actions

    def parse_args(self, arguments=None, namespace=None):
        """Return the flags, those of the file of --config among them; none is unknown."""
        arguments = sys.argv[1:] if arguments is None else arguments
        if not {"-h", "--help"} & set(arguments):
            arguments, _ = config_file.expand(arguments, self.actions)
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
        print_result(self.format_help().rstrip())


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


@contextmanager
def without_results() -> Iterator[None]:
    """Let what is meant for stdout go nowhere: it is no result of the command that was given."""
    global _results
    before = _results
    with _nowhere() as _results:
        try:
            yield
        finally:
            _results = before


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
    os.dup2(os.open(os.devnull, os.O_WRONLY), (_results or sys.stdout).fileno())


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
    threading.excepthook = lambda given: _show_traceback(*given[:3])
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
    except OSError as error:  # Of whichever flag: any look at such a path ends so.
        if error.errno != errno.ENAMETOOLONG:
            raise
        shown = for_stream(redact(str(error.filename)[:80]), sys.stderr)
        print(f"error: {shown}... is too long for the name of a file; give a shorter one.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        screen.clear()
        print("error: stopped by a signal.", file=sys.stderr)
        sys.exit(stopping.exit_status())
