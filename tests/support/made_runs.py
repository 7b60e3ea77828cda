"""A run with checkpoints that were never trained, made in a moment: what is logged and found again needs no more."""

import json
import re
import shutil
from pathlib import Path

from finetune.models.bases.loading import load_tokenizer
from finetune.models.card import SqlCard
from finetune.models.prompts import Prompt
from finetune.rows.sql.encoding import prompt_token_ids

import mlflow
from conftest import ROOT, byte_level_tokenizer, demo_rows, make_base
from mlflow.entities import Run
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

PROMPT = Prompt.load("text_to_sql")


def make_checkpoint(folder: Path, base: Path, **fields) -> SqlCard:
    """Save an adapter, the tokenizer and a card, as a training checkpoint has them."""
    tokenizer = load_tokenizer(str(base))
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sample = [{key: row[key] for key in PROMPT.variables} for row in demo_rows("validation")[:4]]
    card = SqlCard(
        base_model=str(base),
        base_revision=None,
        compute_dtype="bf16",
        quantization=None,
        max_length=512,
        prompt=PROMPT.text,
        sample=[row | {"prompt_ids": prompt_token_ids(tokenizer, PROMPT, row)} for row in sample],
        **fields,
    )
    card.write(folder)
    return card


def make_run(folder: Path, losses: dict[int, float], experiment: str = "0", **params) -> Run:
    """Make a run with a checkpoint a step, the best by its loss.

    Args:
        losses: `eval_loss` by step.
        params: of the run, over `metric_for_best_model` and `greater_is_better`.
    """
    client = mlflow.MlflowClient()
    run_id = client.create_run(experiment, tags={"finetune.checkpoints": str(folder)}).info.run_id
    for name, value in ({"metric_for_best_model": "eval_loss", "greater_is_better": False} | params).items():
        client.log_param(run_id, name, value)
    base = make_base(folder / "base", byte_level_tokenizer())
    first = folder / f"checkpoint-{min(losses)}"
    make_checkpoint(first, base, run_id=run_id)
    best = min(losses, key=lambda step: (losses[step], step)) if all(losses.values()) else None
    for step, loss in losses.items():
        place = folder / f"checkpoint-{step}"
        if place != first:
            shutil.copytree(first, place)
            config = json.loads((place / "adapter_config.json").read_text())  # Another one than the first.
            (place / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 8 + step}))
        if loss:
            client.log_metric(run_id, "eval_loss", loss, step=step)
    for step in losses:
        state = {"best_global_step": best, "global_step": step}
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
    return client.get_run(run_id)


def best_by_the_docs(run_id: str):
    """Run the documented search for the best checkpoint of a run; return the model that it finds."""
    page = (ROOT / "docs" / "runs_and_resuming.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (code,) = [block for block in blocks if "search_logged_models" in block]
    names: dict = {}
    exec(code.replace("RUN_ID", run_id), names)
    return names["best"]
