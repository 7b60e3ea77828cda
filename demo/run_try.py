"""Open the page on the newest text-to-SQL model, about a shop. Run: make try

Where there is none yet, the demo's is trained and logged first, as `make demo` does it.
"""

import logging
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER / "build")]

import build_shop
import try_model
from finetune import console
from finetune.models.card import TEXT_TO_SQL
from finetune.page.choosing import ready_models
from finetune.runs import tracking
from run_demo import BASE, DATA, TRAINING
from steps import Steps, script

logger = logging.getLogger(__name__)


def main() -> None:
    """Find the model, or make it, and serve the page until Ctrl-C."""
    if not build_shop.FILE.is_file():
        build_shop.build()
    try_model.main([newest() or make(), "--database", str(build_shop.FILE), "--execute", "--open", *sys.argv[1:]])


def newest() -> str | None:
    """Return the newest text-to-SQL model of the store, None where there is none."""
    tracking.connect()
    found = [one["uri"] for one in ready_models() if one["task"] == TEXT_TO_SQL and one["name"] == "model"]
    return found[0] if found else None


def make() -> str:
    """Train and log the demo's model; return its URI."""
    steps = Steps(2)
    steps.begin("Train", "3 to 6 min", "There is no model yet: the demo's learns from 1,800 questions.")
    run_id = script("train_sql_generator.py", "--base-model", BASE, "--dataset", DATA, *TRAINING)[-1]
    steps.begin("Log", "30 s", "The adapter becomes a model in MLflow.")
    return script("log_model.py", run_id)[-1]


if __name__ == "__main__":
    console.run(main)
