"""The same prompts answered by a trained model, and by its export in the library that the export is for."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from finetune import InputError
from finetune.logged_models.exports import replay
from finetune.models.bases.memory import clear_memory
from finetune.models.card import Card, SummarizerCard
from finetune.models.generation import BATCH_SIZE, DEFAULTS, generate_all
from finetune.models.prompts import Prompt
from finetune.models.restoring import Loading
from finetune.models.summarizer.articles import split_article
from finetune.models.trained import kind_of

LOADERS = {"decoder": "AutoModelForCausalLM", "encoder-decoder": "AutoModelForSeq2SeqLM"}


@dataclass
class Questions:
    """Prompts with what the trained model answers.

    Attributes:
        owners: of each prompt the index of its row: a long article may have several.
        prompt_ids: token ids of each prompt.
    """

    prompts: list[str]
    owners: list[int]
    prompt_ids: list[list[int]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def joined(self, answers: list[str]) -> list[str]:
        """Return one answer a row from one a prompt."""
        found: dict[int, list[str]] = {}
        for owner, answer in zip(self.owners, answers, strict=True):
            found.setdefault(owner, []).append(answer.strip())
        return [" ".join(parts) for parts in found.values()]


def ask_trained(checkpoint: Path, rows: list[dict]) -> Questions:
    """Return the prompts of rows, and what the model of a checkpoint answers, computed as in training."""
    card = Card.read(checkpoint)
    model = kind_of(card.task).load(checkpoint, Loading(compute_dtype="recorded"), card)
    asked = _prompts(card, model.tokenizer, rows)
    asked.prompt_ids = [model.tokenizer(text, verbose=False)["input_ids"] for text in asked.prompts]
    found = generate_all(model.model, model.tokenizer, asked.prompt_ids, **DEFAULTS | card.generation)
    asked.answers = [one.text for one in found]
    del model
    clear_memory()  # The export gets it, in another process.
    return asked


def _prompts(card: Card, tokenizer, rows: list[dict]) -> Questions:
    prompt = Prompt(card.prompt)  # type: ignore[attr-defined]  # Of every model that writes.
    if not isinstance(card, SummarizerCard):
        return Questions([prompt.render(row) for row in rows], list(range(len(rows))))
    found = Questions([], [])
    for owner, row in enumerate(rows):
        pieces = split_article(tokenizer, prompt, row["article"], card.max_length)
        for piece in pieces if card.long_texts == "window" else pieces[:1]:
            found.prompts.append(prompt.render({"article": piece}))
            found.owners.append(owner)
    return found


def ask_exported(library: str, folder: Path, card: Card, asked: Questions, **others) -> dict:
    """Return what an export answers to prompts, {"answers": texts, "prompt_ids": their token ids}, in another process.

    Args:
        library: `peft`, `transformers` or `llama-cpp-python`.
        others: for `replay.py`.

    Raises:
        InputError: the library does not load it.
    """
    # As a merged folder says by itself how it generates.
    parameters = {} if library == "transformers" else DEFAULTS | card.generation
    request = {
        "library": library, "folder": str(folder.resolve()), "loader": LOADERS[card.base_kind],
        "prompts": asked.prompts, "quantization": card.quantization, "dtype": _type_of(card),
        "generation": parameters, "batch_size": BATCH_SIZE,
    } | others  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        questions, answers = Path(scratch) / "questions.json", Path(scratch) / "answers.json"
        questions.write_text(json.dumps(request), encoding="utf-8")
        run_in_process(questions, answers)
        if not answers.is_file():
            raise InputError(f"{library} could not load the export (see above); nothing is left of it.")
        return json.loads(answers.read_text(encoding="utf-8"))


def run_in_process(questions: Path, answers: Path) -> None:
    """Run `replay.py` in a process of its own, from another folder; what it says goes to stderr."""
    # -P: not the folder of `replay.py` first, where `gguf.py` would be taken for the package of that name.
    command = [sys.executable, "-P", "-W", "ignore", replay.__file__, str(questions), str(answers)]
    quiet = os.environ | {"TQDM_DISABLE": "1"}  # Bars of loading.
    subprocess.run(command, stdout=subprocess.DEVNULL, cwd=questions.parent, env=quiet, check=False)


def _type_of(card: Card) -> str:
    """Return the type that what is not in 4 bits has in training, as transformers names it."""
    if card.base_kind == "encoder-decoder":
        return "float32"
    return {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[card.trained_in]
