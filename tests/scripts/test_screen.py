"""What a script says on stderr: a line a message and one of progress, on a terminal, in a file, and in full."""

import io
import logging
import os
import pty
import subprocess
import sys
import warnings
from types import SimpleNamespace

from finetune import console, progress_line, screen
from finetune.console import Parser
from finetune.progress_line import Progress, advance, duration
from finetune.screen import DETAIL, Screen, in_full
from finetune.training.training_line import LineCallback

import pytest
from conftest import ROOT

own, library = logging.getLogger("finetune.test"), logging.getLogger("transformers.test")
WORK = """
import logging, sys, time
from finetune import screen
from finetune.progress_line import Progress, advance
screen.install(logging.INFO, is_shown=True)
with Progress("rows", 40, "read"):
    for number in range(40):
        time.sleep(0.02)
        advance(1)
        if number == 20:
            logging.getLogger("finetune.x").warning("row 20 is odd")
"""


class Stream(io.StringIO):
    """A stderr that is, or is not, a terminal."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture(params=[False, True], ids=["file", "terminal"])
def shown(request, monkeypatch):
    """A screen of its own, as `console.run` installs it, on a file and on a terminal; put back afterwards."""
    root, logged = logging.getLogger(), logging.getLogger("transformers")
    kept = (
        root.handlers[:],
        root.level,
        warnings.showwarning,
        logged.handlers[:],
        logged.propagate,
        screen._state.copy(),
    )
    monkeypatch.setattr(sys, "stderr", Stream(request.param))
    screen._kept.clear()
    screen.install(logging.INFO, is_shown=True)
    yield sys.stderr
    root.handlers, root.level, warnings.showwarning, logged.handlers, logged.propagate, state = kept
    screen._state.update(state)
    screen._kept.clear()


def test_messages_are_shown_short_and_kept_in_full(shown):
    own.info("3 rows kept", extra=in_full("rows\n  kept 3\n  of 5"))
    own.info("the first examples", extra=DETAIL)
    own.warning("2 rows are left out")
    assert shown.getvalue() == "3 rows kept\n2 rows are left out\n"
    assert "of 5" in screen.kept()
    assert "info the first examples" in screen.kept()
    assert "warning 2 rows are left out" in screen.kept()


def test_verbose_shows_all(shown):
    Parser().parse_args(["--verbose"])
    own.info("3 rows kept", extra=in_full("rows\n  kept 3\n  of 5"))
    own.info("the first examples", extra=DETAIL)
    library.warning("a\nlong warning")
    assert shown.getvalue() == "rows\n  kept 3\n  of 5\nthe first examples\na\nlong warning\n"
    Parser().parse_args([])
    own.info("hidden", extra=DETAIL)
    assert "hidden" not in shown.getvalue()


def test_a_library_warns_once_and_in_a_line(shown, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", screen._show_warning)  # pytest puts back its own.
    for _ in range(3):
        library.warning("the driver is too old:\n  " + "x" * 500)
        library.info("nobody asked")
        warnings.warn_explicit("out of memory soon", UserWarning, "/env/site-packages/torch/cuda.py", 7, registry={})
    lines = shown.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("transformers: the driver is too old: xxx")
    assert len(lines[0]) < 220
    assert lines[1] == "torch: out of memory soon"
    assert "x" * 500 in screen.kept()


def test_secrets_and_control_characters_are_in_no_message(shown):
    own.info("short", extra=in_full("at postgresql://u:hunter2@host/x"))
    own.info("\x1b[2J at mysql://u:hunter2@host/x")
    assert "hunter2" not in screen.kept() + shown.getvalue()
    assert "\x1b[2J" not in shown.getvalue() or not shown.isatty()


def test_a_message_and_a_result_stand_beside_the_progress_line(shown, monkeypatch):
    monkeypatch.setattr(progress_line, "QUICK", 0)
    out = io.StringIO()
    monkeypatch.setattr(console, "_results", out)
    with Progress("rows", 4, "read"):
        advance(2)
        own.warning("odd")
        console.print_result("a row")
        advance(2)
    said = shown.getvalue()
    assert out.getvalue() == "a row\n"
    if not shown.isatty():
        assert said == "odd\nrows: 4 read in 0 s\n"
        return
    line = "rows: 2 of 4 read, 0 s, about 0 s left"
    clear = screen.CLEAR
    assert f"{clear}{line}{clear}odd\n{clear}{line}{clear}{clear}{line}" in said  # Taken off, and put back, twice.
    assert said.endswith(f"{clear}rows: 4 read in 0 s\n")


def test_nothing_is_counted_without_a_line_and_a_quiet_one_is_not_shown(shown):
    advance(1)
    with Progress("rows", 1, "read", quiet=True):
        advance(1)
    assert shown.getvalue() == ""


def test_a_line_that_ends_in_an_error_says_no_success(shown):
    with pytest.raises(ZeroDivisionError), Progress("rows", 4, "read"):
        raise ZeroDivisionError
    assert "rows" not in shown.getvalue()
    assert Progress.open is None


def run_work(**options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WORK], cwd=ROOT, **options)


def test_a_file_gets_lines_and_a_terminal_one_line_that_is_rewritten():
    with run_work(stderr=subprocess.PIPE, text=True) as process:
        written = process.stderr.read()
    assert [line.split(" in ")[0] for line in written.splitlines()] == ["row 20 is odd", "rows: 40 read"]
    ours, theirs = pty.openpty()
    process = run_work(stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # So a terminal ends on Linux.
        pass
    assert process.wait() == 0
    assert seen.count(b"\n") == 2
    assert seen.count(b"\r\x1b[Krows: ") >= 3
    assert b"row 20 is odd\r\n" in seen


def test_work_goes_on_where_nobody_reads_its_progress(shown, monkeypatch):
    def full(text: str):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress_line, "QUICK", 0)
    shown.write = full
    with Progress("rows", 2, "read"):
        advance(1)
        advance(1)


def test_long_lines_are_cut_to_the_width_of_the_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Stream(True))
    monkeypatch.setenv("COLUMNS", "20")
    Screen().rewrite("x" * 100)
    assert sys.stderr.getvalue() == screen.CLEAR + "x" * 19


def test_a_training_has_one_line_with_both_losses(shown, monkeypatch):
    monkeypatch.setattr(progress_line, "QUICK", 0)
    monkeypatch.setattr(progress_line, "SLOW", 0)
    args, control, state = None, None, SimpleNamespace(max_steps=10, global_step=4)
    callback = LineCallback()
    callback.on_train_begin(args, state, control)
    state.global_step = 6
    callback.on_step_end(args, state, control)
    callback.on_log(args, state, control, logs={"loss": 0.51234})
    callback.on_prediction_step(args, state, control)
    callback.on_prediction_step(args, state, control)
    assert callback.line.text().startswith("training: 6 of 10 steps, loss 0.512, evaluating: batch 2")
    callback.on_log(args, state, control, logs={"eval_loss": 0.25})
    assert "training: 6 of 10 steps, loss 0.512, held-out loss 0.25, 0 s, about 0 s left" in shown.getvalue()
    state.global_step = 10
    callback.on_step_end(args, state, control)
    callback.on_train_end(args, state, control)
    assert shown.getvalue().endswith("training: 10 steps in 0 s, loss 0.512, held-out loss 0.25\n")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min"), (100, "1 min 40 s"), (7300, "2 h 1 min")])
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text
