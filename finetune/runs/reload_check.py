"""The reload check of log_model.py: held-out prompts replayed through the logged model, in a process of its own."""

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from finetune import InputError, screen
from finetune.models.bases.quantization import recorded_dtype
from finetune.models.card import Card
from finetune.models.files.schemas import NUMBER, check, listed, whole
from finetune.models.generation import parts_at_near_tie
from finetune.models.trained import kind_of
from finetune.runs import tracking

import mlflow
import numpy as np
import torch

logger = logging.getLogger(__name__)
RECORD = "reload_check.json"
EXACT, MERGED = 1e-5, 1e-3  # differences of scores: the same weights, and weights merged in full precision


def recorded_answers(run_id: str) -> dict | None:
    """Return what the trained model answered at the end of training, None where it did not come to that.

    Raises:
        InputError: the artifact is not as training writes it.
    """
    found = tracking.load_artifact_json(run_id, RECORD)
    where, mend = f"{RECORD} of run {run_id}", "delete that artifact, and the checkpoint is asked instead"
    each = {"token_ids": listed(listed(whole(0, 2**31)), 1), "scores": listed(listed(NUMBER), 1)}
    if found is None:
        return None
    check(found, {"step": whole(0, 2**62)}, where, mend, each | {"margins": listed(listed(NUMBER))})
    answers = found.get("token_ids") or found.get("scores") or []
    # Of each token and of the end.
    if not answers or ("margins" in found and list(map(len, found["margins"])) != [len(row) + 1 for row in answers]):
        raise InputError(f"{where} is damaged: its answers and their margins do not go together; {mend}.")
    return found


def tolerance_of(card: Card, is_merged: bool) -> float:
    """Return by how much scores may differ: of a merged model, by the rounding of what training computed in.

    A base in 4 bits computes in the type of training; merged, or as ONNX, the classifier is in float32.
    """
    if not is_merged:
        return EXACT
    return max(MERGED, 4 * torch.finfo(recorded_dtype(card)).eps) if card.quantization else MERGED


def reload_check(run_id: str, checkpoint: Path, uri: str, tolerance: float, shown: str = "") -> bool:
    """Replay the sample through the logged model, tag the run with the result and return it.

    Args:
        tolerance: by how much the score of a classifier may differ; tokens are the same or not.
        shown: which model that is.
    """
    card = Card.read(checkpoint)
    recorded, lead = recorded_answers(run_id), None
    if recorded and checkpoint.name == f"checkpoint-{recorded['step']}":
        expected, lead = recorded["token_ids" if "token_ids" in recorded else "scores"], recorded.get("margins")
    else:  # Training ended with another checkpoint in memory, or did not end.
        expected = replay(str(checkpoint), card)
    actual = replay(uri, card)
    if len(expected) != len(actual):
        raise InputError(
            f"{RECORD} of run {run_id} is damaged: it has {len(expected)} answers, and the card {len(actual)} rows to"
            " ask; delete that artifact, and the checkpoint is asked instead."
        )
    if kind_of(card.task).checked_by == "scores":
        pairs = zip(expected, actual, strict=True)
        same = sum(len(a) == len(b) and np.allclose(a, b, rtol=0, atol=tolerance) for a, b in pairs)
        what = f"texts have the trained model's scores to {tolerance:g}"
    else:
        same = sum(a == b for a, b in zip(expected, actual, strict=True))
        what = "answers have the trained model's tokens"
        # Training may have answered with other kernels, such as Liger's, in the same arithmetic.
        triples = zip(expected, actual, lead or [], strict=lead is not None)
        near = sum(a != b and parts_at_near_tie(a, b, leads, recorded_dtype(card)) for a, b, leads in triples)
        if near:
            same, what = same + near, f"{what}, {near} of them up to a near tie"
    parity = "pass" if same == len(expected) else "fail"
    tag = "onnx_parity" if uri.endswith("-onnx") else "reload_parity"
    mlflow.MlflowClient().set_tag(run_id, tag, parity)
    logger.info(f"reload check{shown}: {same} of {len(expected)} {what}: {parity}")
    return parity == "pass"


def replay(model: str, card: Card) -> list[list]:
    """Return greedy token ids, or scores, for the card's sample, from predict.py in a process of its own."""
    kind = kind_of(card.task)
    options = ["--token-ids"] if kind.checked_by == "token_ids" else []
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in card.inputs))
        file.flush()
        script = str(Path(__file__).parents[2] / "predict.py")
        # As in training: in another type near ties may fall otherwise.
        options += ["--compute-dtype", "recorded", *["--verbose"] * screen.is_verbose()]
        command = [sys.executable, script, model, "--input", file.name, "--json", *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"the reload check could not load {model} (see above); where the base does not fit here, use"
            " --no-reload-check."
        )
    found = [json.loads(line)[kind.checked_by] for line in done.stdout.splitlines()]
    return [list(answer.values()) if isinstance(answer, dict) else answer for answer in found]
