"""Lines that are answered as they come, and what becomes of them where a stream is closed."""

import io
import json
import os
import queue
import subprocess
import sys
import threading
import time

import predict
from finetune import console
from finetune.console import InputError
from finetune.stdin_lines import Lines

import pytest
from conftest import CONTEXT, QUESTIONS, ROOT, call

WAIT = 60  # seconds for an answer that comes at once; without it, it comes when stdin is closed, which is never


@pytest.fixture
def pipe(monkeypatch):
    """A stdin that another program writes to: the end it writes to, unbuffered."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as other:
        monkeypatch.setattr("sys.stdin", stdin)
        yield other


def test_what_is_there_is_had_without_waiting(pipe):
    lines = Lines()
    rows = iter(lines)
    assert lines.ready()  # Nobody has asked for a line yet.
    pipe.write(b"one\n\n \r\ntwo\r\nthr")
    assert next(rows) == (1, "one")
    assert lines.ready()
    assert next(rows) == (4, "two")
    assert not lines.ready()
    pipe.write(b"ee")
    assert not lines.ready()
    pipe.write(b"\n\n")
    assert lines.ready()
    assert next(rows) == (5, "three")
    assert not lines.ready()  # An empty line is not one to wait for.
    pipe.write("last ü".encode())
    pipe.close()
    assert list(rows) == [(7, "last ü")]
    assert lines.ready()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_lines_have_the_encoding_that_is_named(pipe, encoding):
    content = "ein\nüber\n" + "x" * 30000 + "\nende"
    pipe.write(content.encode(encoding)[:9])
    threading.Thread(target=lambda: (pipe.write(content.encode(encoding)[9:]), pipe.close())).start()
    assert [line for _, line in Lines(encoding.removesuffix("-sig"))] == content.split("\n")


def test_bytes_that_are_no_text_are_refused(pipe):
    pipe.write(b"one\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"stdin, after line 0: not utf-8 text .* name its encoding with --encoding"):
        list(Lines())


@pytest.mark.parametrize(
    "text", ['{"text": "\\ud800"}', '{"text": }', '{"a": ' + "[" * 99999, "{} {}", '[{"text": "x"}]']
)
def test_json_on_stdin_is_read_as_json_in_files(logged_classifier, monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert "stdin, line" in call(predict.main, logged_classifier["uri"], "--json")


@pytest.mark.parametrize("stdin", [None, io.StringIO("")])
def test_a_closed_stdin_is_said_and_an_empty_one_has_no_answers(logged_classifier, monkeypatch, capsys, stdin):
    monkeypatch.setattr("sys.stdin", stdin)
    message = call(predict.main, logged_classifier["uri"])
    assert message is None if stdin else "stdin is closed" in message
    assert capsys.readouterr().out == ""


def conversation(main_arguments: tuple, pipe, monkeypatch, lines: list[str]) -> list[str]:
    """Return the answers to lines, each sent when the one before it is answered."""
    answers = queue.Queue()
    monkeypatch.setattr(console, "print_result", answers.put)
    predicting = threading.Thread(target=predict.main, args=([str(a) for a in main_arguments],), daemon=True)
    predicting.start()
    found = []
    for line in lines:
        pipe.write(line.encode() + b"\n")
        found.append(answers.get(timeout=WAIT))
    pipe.close()
    predicting.join(WAIT)
    assert answers.empty()
    return found


def test_each_line_is_answered_when_it_comes(logged_classifier, pipe, monkeypatch):
    texts = ["any dispute shall be resolved by binding arbitration", "welcome to our site", "read this page with care"]
    lines = [texts[0], json.dumps({"text": texts[1], "id": 2}), texts[2]]
    found = conversation((logged_classifier["uri"], "--json"), pipe, monkeypatch, lines)
    assert [json.loads(line)["text"] for line in found] == texts
    assert json.loads(found[1])["id"] == 2


def test_each_question_is_answered_when_it_comes(logged_model, pipe, monkeypatch):
    flags = (logged_model["uri"], "--context", CONTEXT, "--json", "--param", "max_new_tokens=3")
    found = conversation(flags, pipe, monkeypatch, QUESTIONS)
    assert [json.loads(line)["question"] for line in found] == QUESTIONS


def test_each_article_is_answered_when_it_comes(logged_summarizer, pipe, monkeypatch):
    flags = (logged_summarizer["uri"], "--param", "max_new_tokens=3")
    assert len(conversation(flags, pipe, monkeypatch, ["A storm hit Kelso.", "Nobody was hurt."])) == 2


def test_many_lines_are_answered_in_batches_and_in_order(logged_classifier, tmp_path, monkeypatch, capsys):
    path, sizes = tmp_path / "lines.txt", []
    path.write_text("".join(f"number {number}{' and more' * (number % 7)}\n" for number in range(1100)))
    chunks = predict.chunks
    monkeypatch.setattr(predict, "chunks", lambda *given: (sizes.append(len(c)) or c for c in chunks(*given)))
    with path.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert call(predict.main, logged_classifier["uri"], "--json", "--batch-size", 32) is None
    shown = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert shown == path.read_text().splitlines()
    assert sizes == [512, 512, 76]


SCRIPT = """
import os, sys
from finetune import console

def main():
    print("a library prints")
    for number in range(20000):
        console.print_result(f"{console.stdout_is_closed()} {number}")

def forked(name, out, err):
    # In a child with these as its descriptors 1 and 2, as a shell gives them; None is a closed one.
    if os.fork() == 0:
        for number, given in ((1, out), (2, err)):
            os.close(number) if given is None else os.dup2(given, number)
        sys.stdout, sys.stderr = out and sys.stdout, err and sys.stderr
        os.closerange(3, 100)
        console.run(main)
        sys.exit(0)
    return f"{name} {os.waitstatus_to_exitcode(os.wait()[1])}"

def opened(name):
    return os.open(name, os.O_WRONLY | os.O_CREAT)

reading, writing = os.pipe()
os.close(reading)
results = [forked(name, out and opened(out), err and opened(err)) for name, out, err in [
    ("none", None, "none.err"), ("full", "/dev/full", "full.err"), ("silent", "silent.out", None),
    ("neither", None, None),
]]
results.append(forked("head", writing, opened("head.err")))
print(*results, sep="\\n")
"""


def test_streams_that_are_closed_end_without_a_traceback(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == ["none 0", "full 2", "silent 0", "neither 0", "head 141"]
    errors = {path.stem: path.read_text() for path in tmp_path.glob("*.err")}
    assert not [name for name, text in errors.items() if "Traceback" in text or "Exception ignored" in text], errors
    assert set(errors) == {"none", "full", "head"}
    assert all(text.startswith("a library prints\n") for text in errors.values())
    assert "stdout cannot be written: No space left on device" in errors["full"]
    assert (tmp_path / "silent.out").read_text().splitlines()[-1] == "False 19999"


def test_a_name_that_is_too_long_for_a_file_is_said():
    code = "from pathlib import Path; from finetune import console; console.run(Path('x' * 5000).stat)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: xxx")
    assert "too long for the name of a file" in done.stderr
    assert len(done.stderr) < 200


def test_answers_for_a_closed_stdout_are_refused_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(console, "_is_closed", True)
    assert "stdout is closed" in call(predict.main, "runs:/x/model", "--text", "a")
    assert "no model" in call(predict.main, "runs:/x/model", "--text", "a", "--output", tmp_path / "out.jsonl")


def test_a_reader_that_goes_ends_the_prediction(logged_classifier, monkeypatch, pipe):
    """`| head -1`: what is still on its way is not waited for."""

    def gone(line):
        raise BrokenPipeError

    monkeypatch.setattr(console, "print_result", gone)
    pipe.write(b"one\n")
    start = time.monotonic()
    with pytest.raises(BrokenPipeError):
        predict.main([logged_classifier["uri"]])
    assert time.monotonic() - start < WAIT
