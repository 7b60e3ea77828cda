"""Checkpoints on disk: the model card that travels in each, and how one is found again from its run."""

import json
from pathlib import Path

from finetune.console import InputError

from mlflow.entities import Run
from transformers import TrainerCallback

CARD = "finetune.json"
FOLDER_TAG = "finetune.checkpoints"


class CardCallback(TrainerCallback):
    """Writes the model card into every checkpoint: base, revision, quantisation, prompt, run id.

    With it a checkpoint alone is enough to restore the model it came from.
    """

    def __init__(self, card: dict):
        self.card = card

    def on_save(self, args, state, control, **kwargs):
        """Write the card of the checkpoint that has just been saved."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / CARD).write_text(json.dumps(self.card, indent=2), encoding="utf-8")


def find_checkpoint(run: Run, which: str) -> Path:
    """Return the folder of a run's checkpoint.

    Args:
        which: `best` (by the metric training selected on; the last one where nothing was evaluated),
            `last`, or a step.

    Raises:
        InputError: the run has no checkpoint, or not that one.
    """
    folder = run.data.tags.get(FOLDER_TAG)
    if folder is None:
        raise InputError(f"run {run.info.run_id} has no checkpoint; it was not made by a training script here.")
    steps = {int(path.name.split("-")[1]): path for path in Path(folder).glob("checkpoint-*") if _is_complete(path)}
    if not steps:
        raise InputError(
            f"run {run.info.run_id} has no checkpoint in {folder}: training ended before the first save, or the"
            " folder was moved or deleted."
        )
    last = steps[max(steps)]
    if which == "last":
        return last
    if which == "best":
        best = json.loads((last / "trainer_state.json").read_text(encoding="utf-8")).get("best_global_step")
        return steps.get(best, last)
    if not which.isdigit() or int(which) not in steps:
        raise InputError(
            f"run {run.info.run_id} has no checkpoint {which}; expected best, last or one of the steps"
            f" {', '.join(map(str, sorted(steps)))}."
        )
    return steps[int(which)]


def _is_complete(path: Path) -> bool:
    return all((path / name).is_file() for name in ("adapter_model.safetensors", "trainer_state.json", CARD))


def load_card(folder: Path) -> dict:
    """Return the model card of a checkpoint or of a logged model's folder."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))
