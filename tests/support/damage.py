"""Checkpoints made by hand, files damaged at seeded places, and a guard over what is written meanwhile."""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace

from finetune.logged_models.opening import open_model
from finetune.models.bases.loading import load_decoder, load_encoder, load_encoder_decoder, load_tokenizer
from finetune.models.card import CLASSIFICATION, SUMMARIZATION, TEXT_TO_SQL, Card
from finetune.models.classifier.encoder import EncoderClassifier
from finetune.models.prompts import Prompt
from finetune.rows.sql.encoding import prompt_token_ids
from finetune.runs.checkpoints import start_card
from finetune.training.adapters import add_adapter

import torch
import yaml
from peft import LoraConfig

PATHS = ["/etc/passwd", "../../../x", "a/../../b", "", ".", "~", "a\0b", "x" * 5000, "\ud800", "files/1/../../../x"]
VALUES = [
    None, True, False, 0, -1, 10**6, 10**30, 1e308, float("nan"), float("-inf"), [], {}, [[]], [None] * 3, {"a": {}},
    "0", "x", "(a+)+$", ["x"] * 10**5, [[0, 100000]], *PATHS,
]  # fmt: skip
FIELDS = ["layer_replication", "rank_pattern", "auto_mapping", "op", "file", "folder", "run_id", "prompt", "r"]
SECONDS = 5


def make_checkpoint(task: str, base: Path, folder: Path) -> Path:
    """Save an untrained adapter of a task with all that a checkpoint of training has, but the Trainer's own state."""
    flags = SimpleNamespace(base_model=str(base), max_length=64, compute_dtype="fp32")
    kind = {TEXT_TO_SQL: "decoder", CLASSIFICATION: "encoder", SUMMARIZATION: "encoder-decoder"}[task]
    tokenizer, name = load_tokenizer(str(base), kind=kind), {TEXT_TO_SQL: "CAUSAL_LM", CLASSIFICATION: "SEQ_CLS"}
    model = _base(task, base)
    lora = LoraConfig(task_type=name.get(task, "SEQ_2_SEQ_LM"), r=4, lora_alpha=8, target_modules="all-linear")
    torch.manual_seed(0)
    add_adapter(model, lora).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = (
        start_card(flags, None, None) | {"task": task, "run_id": "0" * 32, "epoch": 1.0} | _task_card(task, tokenizer)
    )
    Card.parse(card, folder).write(folder)
    state = {"best_global_step": 5, "best_model_checkpoint": str(folder), "global_step": 5, "log_history": []}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def _base(task: str, base: Path) -> torch.nn.Module:
    if task == TEXT_TO_SQL:
        return load_decoder(str(base), None, None, torch.float32)
    if task == SUMMARIZATION:
        return load_encoder_decoder(str(base), None, None)
    return EncoderClassifier(load_encoder(str(base), None, None), 2, "mean")


def _task_card(task: str, tokenizer) -> dict:
    if task == CLASSIFICATION:
        labels = {"task": "multilabel", "names": ["one", "two"]}
        known = {"pooling": "mean", "long_texts": "truncate", "thresholds": [0.4, 0.5], "metrics": {"f1": 0.5}}
        return {"labels": labels, **known, "sample": [{"text": "our site"}]}
    if task == SUMMARIZATION:
        known = {"generation": {"max_new_tokens": 4, "num_beams": 1, "no_repeat_ngram_size": 0}, "long_texts": "window"}
        columns = {"article": "article", "summary": "summary"}
        return {"prompt": "summarize: $article", "columns": columns, **known, "sample": [{"article": "It rained."}]}
    prompt, row = Prompt("$context $question"), {"context": "CREATE TABLE a (b TEXT)", "question": "How many?"}
    sample = row | {"prompt_ids": prompt_token_ids(tokenizer, prompt, row)}
    return {"prompt": prompt.text, "dialect": "sqlite", "sample": [sample]}


def answer(folder: Path) -> None:
    """Open a checkpoint or a logged model, load it and predict once."""
    logged = open_model(str(folder))
    row = {"text": "read our page with care", "article": "It rained all day.", "question": "How many?"}
    row["context"] = "CREATE TABLE a (b TEXT)"
    model = logged.load()
    model.answer(model.encode([row]), **({} if model.checked_by == "scores" else {"max_new_tokens": 2}))


def damage(path: Path, random: Random) -> str:
    """Damage a file at one place and return how."""
    ways = {".json": damage_json, ".jsonl": damage_line, ".safetensors": damage_tensors}
    known = damage_yaml if path.name == "MLmodel" else ways.get(path.suffix, damage_bytes)
    way = known if random.random() < 0.7 else damage_bytes
    return way(path, random)


def damage_bytes(path: Path, random: Random) -> str:
    """Flip, cut off, take out or put in bytes."""
    data, place = bytearray(path.read_bytes()), random.randrange(path.stat().st_size)
    how = random.choice(["flipped", "cut off", "taken out", "put in", "zeroed"])
    if how == "flipped":
        data[place] ^= 1 << random.randrange(8)
    elif how == "cut off":
        del data[place:]
    elif how == "taken out":
        del data[place : place + random.randrange(1, 40)]
    elif how == "put in":
        data[place:place] = random.randbytes(random.randrange(1, 9))
    else:
        data[place : place + 512] = bytes(len(data[place : place + 512]))
    path.write_bytes(data)
    return f"{how} at {place}"


def change(value: object, random: Random) -> tuple[object, str]:
    """Return JSON with one node taken away, made anew or put in, and how."""
    nodes = list(_nodes(value))
    holder, key = random.choice(nodes)
    if isinstance(holder, dict) and random.random() < 0.15:
        del holder[key]
        return value, f"{key} removed"
    if isinstance(holder, dict) and random.random() < 0.2:
        key = random.choice(FIELDS)
    new = random.choice(VALUES)
    if random.random() < 0.1:
        new = holder[key] if isinstance(holder, list) else dict(holder)
        for _ in range(300):
            new = [new]
    holder[key] = new
    return value, f"{key} = {str(new)[:40]!r}"


def _nodes(value: object):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _nodes(inner)


def damage_json(path: Path, random: Random) -> str:
    """Change one node of a JSON file."""
    value, how = change(json.loads(path.read_text()), random)
    path.write_text(json.dumps(value))
    return how


def damage_line(path: Path, random: Random) -> str:
    """Change one node of one of some JSON lines."""
    lines = path.read_text().splitlines()
    index = random.randrange(len(lines))
    value, how = change(json.loads(lines[index]), random)
    lines[index] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")
    return f"line {index}, {how}"


def damage_tensors(path: Path, random: Random) -> str:
    """Change the header of a safetensors file, which stays as long as it says."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    value, how = change(json.loads(data[8 : 8 + size]), random)
    header = json.dumps(value).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
    return how


def damage_yaml(path: Path, random: Random) -> str:
    """Change one node of an MLmodel file, or of the card in it."""
    value = yaml.safe_load(path.read_text())
    if random.random() < 0.5:
        card, how = change(json.loads(value["metadata"]["finetune"]), random)
        value["metadata"]["finetune"] = json.dumps(card)
    else:
        value, how = change(value, random)
    path.write_text(yaml.safe_dump(value))
    return how


WRITES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
_watch: SimpleNamespace | None = None


def _hook(event: str, arguments: tuple) -> None:
    if _watch is None or (event != "open" and event not in WRITES):
        return
    paths = (
        arguments[:2]
        if event in ("os.rename", "os.link")
        else arguments[1:2]
        if event == "os.symlink"
        else arguments[:1]
    )
    if event == "open" and not (
        isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        return
    if arguments and isinstance(arguments[-1], int) and event != "open" and arguments[-1] >= 0 and event != "os.mkdir":
        folder = os.readlink(f"/proc/self/fd/{arguments[-1]}")  # A name within an open folder.
        paths = [os.path.join(folder, os.fsdecode(path)) for path in paths]
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith(_watch.allowed) and "__pycache__" not in real and real != os.devnull:
                _watch.found.append(f"{event} {real}")


sys.addaudithook(_hook)


class Hang(BaseException):
    """More than `SECONDS` have passed."""


@contextmanager
def guarded(scratch: Path, *allowed: Path):
    """Fail where the block takes more than 5 seconds, or writes or deletes outside some folders."""
    global _watch

    def stop(*_):
        raise Hang

    before, tempfile.tempdir = tempfile.tempdir, str(scratch)
    handler = signal.signal(signal.SIGALRM, stop)
    _watch = SimpleNamespace(allowed=tuple(os.path.realpath(path) for path in (scratch, *allowed)), found=[])
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    start = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        found, _watch, tempfile.tempdir = _watch.found, None, before
        signal.signal(signal.SIGALRM, handler)
        assert not found, found
        assert time.monotonic() - start < SECONDS


def copy(folder: Path, to: Path) -> Path:
    """Return a fresh copy of a folder."""
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(folder, to)
