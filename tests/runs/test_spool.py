"""What --sync sends and deletes: what a training has put into the spool, whatever its lines say."""

import json
import logging
import os
import shutil
from pathlib import Path

import log_model
from finetune import InputError
from finetune.models.files.inside import inside, refuse_links
from finetune.runs import lifecycle
from finetune.runs.sending import journal
from finetune.runs.sending.spool import read_entries

import mlflow
import pytest
from conftest import call
from spools import make_card, make_spool, new_run

KEY = "a key of somebody"


@pytest.fixture
def outside(tmp_path) -> Path:
    """A folder with what is no business of a run: a file, and what looks like a checkpoint."""
    folder = make_card(tmp_path / "outside" / "checkpoint-5", "other").parent
    (folder / "key.txt").write_text(KEY)
    return folder


@pytest.fixture
def unsent(tmp_path) -> Path:
    """The folder of a run with one line of each kind in its spool."""
    run_id = new_run().info.run_id
    return make_spool(tmp_path / run_id, run_id, make_card(tmp_path / "made" / "checkpoint-5", run_id))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def artifacts(run_id: str, path: str | None = None) -> list[str]:
    """Return the paths of all artifacts of a run."""
    found = mlflow.MlflowClient().list_artifacts(run_id, path)
    return [inner for file in found for inner in (artifacts(run_id, file.path) if file.is_dir else [file.path])]


def change(folder: Path, op: str, values: dict) -> None:
    """Change the line of a kind."""
    path = folder / "spool" / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | values if line["op"] == op else line) + "\n" for line in lines))


def test_all_kinds_of_lines_are_sent_and_the_spool_goes(unsent):
    assert lifecycle.sync(unsent.name, unsent) == unsent.name
    run = mlflow.get_run(unsent.name)
    assert (run.info.status, run.data.metrics["loss"], run.data.params) == ("FINISHED", 0.5, {"a": "1"})
    assert {"tables/values.json", "checkpoints/checkpoint-5/finetune.json"} <= set(artifacts(unsent.name))
    assert not (unsent / "spool").exists()


@pytest.mark.parametrize(
    ("op", "name", "value"),
    [
        ("file", "file", "{outside}/key.txt"),
        ("file", "file", "../../outside/key.txt"),
        ("file", "file", "files/1/../../../../outside/key.txt"),
        ("file", "file", "files/../run.json"),
        ("file", "file", "files/x/values.json"),
        ("file", "file", "checkpoints/2/checkpoint-5"),
        ("file", "file", "run.json"),
        ("file", "file", "files/1"),
        ("file", "file", "files/1/a\0b"),
        ("file", "file", "files/1/\ud800"),
        ("file", "file", ""),
        ("file", "file", None),
        ("file", "file", ["files/1/values.json"]),
        ("file", "folder", "../../x"),
        ("file", "folder", "/x"),
        ("file", "folder", "a/../b"),
        ("file", "table", "../x"),
        ("checkpoint", "folder", "{outside}/checkpoint-5"),
        ("checkpoint", "folder", "../../outside/checkpoint-5"),
        ("checkpoint", "folder", "checkpoints/2/../../../../outside/checkpoint-5"),
        ("checkpoint", "folder", "checkpoints/2"),
        ("checkpoint", "folder", "checkpoints"),
        ("checkpoint", "folder", "."),
        ("checkpoint", "folder", "files/1/values.json"),
        ("checkpoint", "keep", ["../../outside"]),
        ("tags", "op", "dir"),
        ("tags", "op", "artifacts"),
        ("tags", "op", "__class__"),
        ("tags", "values", "x"),
        ("metrics", "points", [["loss", "x", 0, 0]]),
        ("metrics", "points", {"loss": 1}),
        ("input", "dataset", "x"),
        ("end", "status", "DELETED"),
    ],
)
def test_a_line_that_no_training_writes_is_refused_before_anything_is_sent(unsent, outside, op, name, value):
    change(unsent, op, {name: value.format(outside=outside) if isinstance(value, str) else value})
    before, elsewhere = contents(unsent), contents(outside)
    with pytest.raises(InputError, match=r"journal.jsonl, line \d, is damaged: .*expected"):
        lifecycle.sync(unsent.name, unsent)
    assert contents(outside) == elsewhere
    assert contents(unsent) == before
    assert artifacts(unsent.name) == []
    # Without that line, as the sentence says, the rest goes.
    lines = read_valid(unsent)
    (unsent / "spool" / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert lifecycle.sync(unsent.name, unsent) == unsent.name
    assert contents(outside) == elsewhere


def read_valid(folder: Path) -> list[dict]:
    """Return the lines of a spool that can be read, one at a time."""
    path, found = folder / "spool" / "one.jsonl", []
    for line in (folder / "spool" / "journal.jsonl").read_text().splitlines():
        path.write_text(line)
        try:
            found += read_entries(path)
        except InputError:
            continue
    path.unlink()
    return found


LINKED = [
    "spool", "spool/files", "spool/files/1", "spool/files/1/values.json", "spool/checkpoints/2",
    "spool/checkpoints/2/checkpoint-5", "spool/checkpoints/2/checkpoint-5/finetune.json", "spool/journal.jsonl",
    "spool/sent", "spool/rejected.jsonl", "spool/run.json.new", "lock",
]  # fmt: skip


@pytest.mark.parametrize("place", LINKED)
def test_no_link_in_a_spool_is_followed(unsent, outside, place):
    path, target = unsent / place, outside / "elsewhere"
    if path.exists():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, target)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        target.write_text("0")
    path.symlink_to(target)
    elsewhere = contents(outside)
    with pytest.raises(InputError, match="link"):
        lifecycle.sync(unsent.name, unsent)
    assert contents(outside) == elsewhere
    assert artifacts(unsent.name) == []


def test_a_special_file_is_not_read(unsent):
    os.mkfifo(unsent / "spool" / "files" / "1" / "pipe")
    with pytest.raises(InputError, match="no plain file"):
        lifecycle.sync(unsent.name, unsent)


def test_only_numbered_folders_are_deleted(unsent):
    kept = {"notes.txt": b"mine", "files/mine/a.txt": b"mine", "checkpoints/best/a.txt": b"mine"}
    for name, text in kept.items():
        (unsent / "spool" / name).parent.mkdir(exist_ok=True)
        (unsent / "spool" / name).write_bytes(text)
    assert lifecycle.sync(unsent.name, unsent) == unsent.name
    assert contents(unsent / "spool") == kept


def test_a_checkpoint_behind_a_link_does_not_get_the_runs_id(unsent, outside, caplog):
    (unsent / "checkpoint-5").symlink_to(outside / "checkpoint-5")
    card = make_card(unsent / "checkpoint-6", "offline-0") / "finetune.json"
    card.with_name("finetune.json.new").symlink_to(outside / "key.txt")  # What a new card is written to first.
    elsewhere = contents(outside)
    lifecycle.sync(unsent.name, unsent)
    assert contents(outside) == elsewhere
    assert json.loads(card.read_text())["run_id"] == unsent.name
    assert "checkpoint-5/finetune.json does not get the run's id" in caplog.text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", "{}"), ("run.json", "[]"), ("run.json", "{"), ("run.json", '{"run_id": 7}'), ("run.json", "\xff"),
        ("run.json", '{"run_id": null}'), ("run.json", '{"run_id": "../x"}'), ("run.json", "[" * 10**5),
        ("journal.jsonl", '{"op": "tags", "values": {}}'), ("journal.jsonl", "7}"), ("journal.jsonl", "[{}]"),
        ("journal.jsonl", '{"op": "tags", "number": 1e400, "values": {}}'), ("journal.jsonl", '{"op": "tags" \xff}'),
        ("rejected.jsonl", '{"op": "file", "number": 1, "file": "/etc/passwd"}'), ("sent", "\xff"),
    ],
)  # fmt: skip
def test_a_damaged_spool_is_told_in_a_sentence(unsent, name, text, capsys):
    (unsent / "spool" / name).write_bytes(text.encode("latin-1"))
    sentence = call(log_model.main, unsent.name, "--sync", unsent)
    assert sentence
    assert str(unsent / "spool" / name) in sentence
    assert "damaged" in sentence
    assert contents(unsent)


def test_what_a_power_cut_leaves_is_passed_over(unsent, caplog):
    path = unsent / "spool" / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b"\0" * 512 + b'\n{"op": "metri')
    (unsent / "spool" / "sent").write_text("1" * 5000)
    assert lifecycle.sync(unsent.name, unsent) == unsent.name
    assert "cut off" in caplog.text


def test_a_damaged_card_in_the_spool_is_said_and_kept(unsent, caplog):
    (unsent / "spool" / "checkpoints" / "2" / "checkpoint-5" / "finetune.json").write_text("{}")
    with caplog.at_level(logging.WARNING), pytest.raises(InputError, match="2 of 9 entries are not in MLflow"):
        lifecycle.sync(unsent.name, unsent)
    assert "checkpoint cannot be sent (" in caplog.text
    assert "task is missing" in caplog.text
    assert (unsent / "spool" / "checkpoints" / "2" / "checkpoint-5").is_dir()


def test_a_training_does_not_begin_on_a_spool_that_leads_elsewhere(unsent, outside):
    change(unsent, "file", {"file": str(outside / "key.txt")})
    run = mlflow.get_run(unsent.name)
    with pytest.raises(InputError, match="is damaged"), lifecycle.run("classifier", unsent, resume=run):
        pass
    assert (outside / "key.txt").read_text() == KEY
    assert journal.active_journal() is None


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "/etc/passwd", "a/../..", "", ".", "a//b", "a/", "a\0", "\ud800", "x" * 300, "a\nb", None, 7, ["a"]],
)
def test_a_name_is_inside_its_folder_or_refused(tmp_path, name):
    with pytest.raises(InputError, match="expected the name of a place inside its own folder"):
        inside(tmp_path, name, "the tag")


def test_the_folder_itself_may_lie_behind_a_link(tmp_path):
    (tmp_path / "disk" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert inside(tmp_path / "link", "a/b.txt", "the tag") == tmp_path / "link" / "a" / "b.txt"
    refuse_links(tmp_path / "disk")
    with pytest.raises(InputError, match="symbolic link"):
        inside(tmp_path, "link/a", "the tag")
