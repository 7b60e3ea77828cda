"""Log a run's adapter as an MLflow model in the same run, and check that it reloads to the same answers.

The model's URI is the last line on stdout. Go on with `python predict.py URI`.
"""

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from finetune import console, tracking
from finetune.checkpoints import find_checkpoint, load_card
from finetune.console import Parser
from finetune.logged_models import log_adapter
from finetune.prompts import Prompt

import mlflow
from mlflow.entities import Run

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Find the checkpoint, log it, replay held-out prompts through it; print its URI."""
    parser = Parser(description=__doc__)
    parser.add_argument("run", help="run id, or runs:/<id>")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a step")
    parser.add_argument("--name", default="model", help="name of the model in the run")
    parser.add_argument(
        "--reload-check",
        action="store_true",
        default=True,
        help="load the logged model in a fresh process and compare its greedy tokens with the trained model's",
    )
    parser.add_argument(
        "--no-reload-check", dest="reload_check", action="store_false", help="for a base that does not fit here"
    )
    flags = parser.parse_args(arguments)

    tracking.connect()
    run = tracking.find_run(flags.run)
    run_id = run.info.run_id
    checkpoint = find_checkpoint(run, flags.checkpoint)
    logger.info(f"logging {checkpoint}")
    model_id = log_adapter(run, checkpoint, flags.name)
    link_scores(run, checkpoint, model_id)
    uri = f"runs:/{run_id}/{flags.name}"
    parity = reload_check(run_id, checkpoint, uri) if flags.reload_check else True
    console.print_result(uri)
    if not parity:
        sys.exit(1)


def link_scores(run: Run, checkpoint: Path, model_id: str) -> None:
    """Attach the scorecard that training ended with to the model, where it is the same checkpoint's."""
    recorded = tracking.load_artifact_json(run.info.run_id, "reload_check.json")
    if not recorded or checkpoint.name != f"checkpoint-{recorded['step']}":
        return
    scores = {name: value for name, value in run.data.metrics.items() if name.startswith("validation_")}
    if scores:
        mlflow.log_metrics(scores, step=recorded["step"], run_id=run.info.run_id, model_id=model_id)


def reload_check(run_id: str, checkpoint: Path, uri: str) -> bool:
    """Replay the sample prompts through the logged model, tag the run with the result and return it."""
    card = load_card(checkpoint)
    recorded = tracking.load_artifact_json(run_id, "reload_check.json")
    if recorded and checkpoint.name == f"checkpoint-{recorded['step']}":
        expected = recorded["token_ids"]
    else:  # Training ended with another checkpoint in memory, or did not end.
        expected = replay(str(checkpoint), card)
    actual = replay(uri, card)
    same = sum(a == b for a, b in zip(expected, actual, strict=True))
    parity = "pass" if same == len(expected) else "fail"
    mlflow.MlflowClient().set_tag(run_id, "reload_parity", parity)
    logger.info(f"reload check: {same} of {len(expected)} answers have the trained model's tokens: {parity}")
    return parity == "pass"


def replay(model: str, card: dict) -> list[list[int]]:
    """Return the greedy token ids for the sample prompts, from predict.py in a process of its own."""
    rows = [{name: row[name] for name in Prompt(card["prompt"]).variables} for row in card["sample"]]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()
        script = str(Path(__file__).parent / "predict.py")
        command = [sys.executable, script, model, "--input", file.name, "--json", "--token-ids"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise console.InputError(
            f"the reload check could not load {model} (see above); where the base does not fit here, use"
            " --no-reload-check."
        )
    return [json.loads(line)["token_ids"] for line in done.stdout.splitlines()]


if __name__ == "__main__":
    console.run(main)
