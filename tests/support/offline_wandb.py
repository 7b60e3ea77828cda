"""Reads what W&B has written in offline mode: records of protobuf in LevelDB's log format."""

import json
import struct
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER, FULL, FIRST, LAST = 32_768, 7, 1, 2, 4


def records(file: Path):
    """Yield the records of a run-*.wandb file."""
    content, position, parts = file.read_bytes(), HEADER, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:  # The rest of a block is padding.
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        data = content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        parts = data if kind in (FULL, FIRST) else parts + data
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


def read_run(folder: Path, run_id: str) -> dict:
    """Return a run below a folder: `id`, `config`, and `last`, the last value of each thing that was logged."""
    (file,) = folder.glob(f"wandb/offline-run-*/run-{run_id}.wandb")
    found: dict = {"id": None, "config": {}, "last": {}}
    for record in records(file):
        if record.HasField("run"):
            found["id"] = record.run.run_id
        for update in (*record.run.config.update, *record.config.update):
            found["config"][update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
        for item in (*record.history.item, *record.summary.update):
            found["last"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return found
