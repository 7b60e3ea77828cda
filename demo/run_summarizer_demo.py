"""Train, log, score and predict with a summarizer, on the CPU. Run: make demo-summarizer

The base is a tiny T5 that build_t5.py has pretrained. Every step is one of the scripts.
"""

import logging
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from finetune import InputError
from finetune.runs import tracking
from steps import Steps, script, show_end

BASE, DATA = "demo/t5-base", "demo/summaries.jsonl"
# So small a base takes and needs larger steps than t5-small.
TRAINING = ["--learning-rate", "5e-3", "--num-train-epochs", "8", "--lora-r", "16", "--init-lora-weights", "loftq"]
REPORT = (
    "A storm has hit Kelso. Many people came to watch. The alarm was raised on Sunday. Coffee and cake were sold"
    " nearby. Damage was done to 48 houses. Paul Berg led the rescue team."
)


def main() -> None:
    """Run the scripts one after the other, then show three summaries."""
    steps = Steps(4)
    steps.begin("Train", "1 to 2 min", "A tiny T5 in 4 bits learns to say in a sentence what a report is about.")
    run_id = script("train_summarizer.py", "--base-model", BASE, "--dataset", DATA, *TRAINING)[-1]
    steps.begin(
        "Log",
        "20 s",
        "The adapter becomes a model in MLflow, is loaded anew and has to answer as before.",
    )
    uri = script("log_model.py", run_id)[-1]
    steps.begin("Score", "20 s", "Base and trained model summarise reports that are in no training row.")
    scorecard = script("evaluate_model.py", uri, "--dataset", DATA)
    print("\n" + "\n".join(scorecard))
    show_examples(tracking.load_artifact_json(run_id, "scorecard/test.json"))
    steps.begin("Use it", "10 s", "A report of your own.")
    print("\n".join(script("predict.py", uri, "--text", REPORT)))
    show_end(run_id, f"predict.py {uri} --input report.txt", steps.start)


def show_examples(table: dict) -> None:
    """Print the first three summaries of base and adapter."""
    print("\nThree held-out reports")
    for values in table["data"][:3]:
        row = dict(zip(table["columns"], values, strict=True))
        print(f"\n  article    {row['article']}\n  reference  {row['reference']}")
        print(f"  base       {row['base_summary'][:150]}\n  adapter    {row['summary']}")


if __name__ == "__main__":
    logging.disable(logging.INFO)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
