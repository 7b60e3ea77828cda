"""What the card of a model says, whatever its task and whichever version wrote it."""

from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import NamedTuple

from finetune import InputError
from finetune.models.files.schemas import (
    ANY,
    FLAG,
    MODULE,
    NULL,
    NUMBER,
    Kind,
    check,
    either,
    fields,
    listed,
    mapped,
    matching,
    number,
    one_of,
    read_json,
    shown,
    text,
    whole,
)

CARD = "finetune.json"
MEND = "take another checkpoint, or one that was logged (`log_model.py RUN --checkpoint STEP`)"
# The tasks of model cards.
TASKS = TEXT_TO_SQL, CLASSIFICATION, SUMMARIZATION = "text-to-sql", "classification", "summarization"
DTYPE = one_of("bfloat16", "float16", "float32", "uint8")


def _is_prompt(value: object) -> bool:
    template = Template(value) if isinstance(value, str) and len(value) < 10**6 else Template("$")
    return template.is_valid() and bool(template.get_identifiers())


def _is_place(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) < 4096 or not value.isprintable():
        return False
    return all(len(part.encode()) <= 255 for part in value.split("/"))


PROMPT = ("a text with a $variable", _is_prompt)
QUANTIZATION = fields(
    {},
    {
        "quant_method": one_of("bitsandbytes"), "_load_in_8bit": FLAG, "_load_in_4bit": FLAG, "load_in_4bit": FLAG,
        "load_in_8bit": FLAG, "llm_int8_threshold": number(0, 1e6),
        "llm_int8_skip_modules": either(NULL, listed(MODULE)), "llm_int8_enable_fp32_cpu_offload": FLAG,
        "llm_int8_has_fp16_weight": FLAG, "bnb_4bit_quant_type": one_of("nf4", "fp4"),
        "bnb_4bit_use_double_quant": FLAG, "bnb_4bit_compute_dtype": DTYPE, "bnb_4bit_quant_storage": DTYPE,
    },
)  # fmt: skip
EVERY = {
    "task": one_of(*TASKS),
    "base_model": ("a folder or a Hub id", _is_place),
    "base_revision": either(NULL, matching(r"[A-Za-z0-9_-][A-Za-z0-9_./-]{0,199}", "a commit")),
    "quantization": either(NULL, QUANTIZATION),
    "max_length": whole(1, 10**7),
}
LONG = one_of("truncate", "window")
# Of generation: as in `generation.DEFAULTS`, and what a summarizer adds.
GENERATED = {
    "max_new_tokens": whole(1, 10**6), "num_beams": whole(1, 1000), "no_repeat_ngram_size": whole(0, 10**4),
    "do_sample": FLAG, "temperature": number(0, 1e6), "top_p": number(0, 1), "repetition_penalty": number(0, 1e6),
}  # fmt: skip
GENERATION = fields({}, GENERATED, strict=True)
LABELS = fields({"task": one_of("multilabel", "binary", "multiclass"), "names": listed(text(), 1, 10**5)})


def _check_labels(card: dict, where: Path | str) -> None:
    labels, thresholds = card["labels"], card["thresholds"]
    names, binary = labels["names"], labels["task"] == "binary"
    if len(set(names)) != len(names) or (binary and len(names) != 2):
        raise InputError(f"{where} is damaged: the names of its labels are {shown(names)}; {MEND}.")
    if thresholds is not None and len(thresholds) != (1 if binary else len(names)):
        raise InputError(f"{where} is damaged: {len(thresholds)} thresholds for {len(names)} labels; {MEND}.")


def _check_questions(card: dict, where: Path | str) -> None:
    for row in card.get("sample", ()):
        check(row, {name: text() for name in Template(card["prompt"]).get_identifiers()}, f"{where}, sample,", MEND,
              others=lambda *_: True)  # fmt: skip


class OfTask(NamedTuple):
    """What the card of a task has besides: its fields, the kind of its sample's rows, and how they go together."""

    fields: dict[str, Kind]
    sample: Kind
    check: Callable[[dict, Path | str], None]


OF_TASK = {
    "text-to-sql": OfTask({"prompt": PROMPT}, fields({"prompt_ids": listed(whole(0, 2**31), 1)}), _check_questions),
    "classification": OfTask(
        {
            "labels": LABELS, "pooling": one_of("mean", "cls"), "long_texts": LONG,
            "thresholds": either(NULL, listed(number(0, 1), 1)),
        },
        text(),
        _check_labels,
    ),
    "summarization": OfTask(
        {
            "prompt": PROMPT, "long_texts": LONG, "generation": GENERATION,
            "columns": fields({"article": text(least=1), "summary": text(least=1)}),
        },
        fields({"article": text()}),
        lambda card, where: None,
    ),
}  # fmt: skip
# Not in the cards of every version, or not of every model.
OPTIONAL = {
    "base_fingerprint": either(NULL, matching(r"[0-9a-f]{16,64}", "a digest")),
    "compute_dtype": one_of("bf16", "fp16", "fp32"),
    "base_config": either(NULL, mapped(ANY)),
    "columns": mapped(text(least=1)),
    "dialect": matching(r"[a-z0-9_]{0,40}", "the name of a dialect"),
    "metrics": mapped(NUMBER),
    "generation": GENERATION,
    "run_id": either(NULL, matching(r"[A-Za-z0-9_-]{1,256}", "the id of a run")),
    "epoch": either(NULL, number(0, 1e9)),
    "step": whole(0, 2**62),
}


def check_card(card: object, where: Path | str) -> dict:
    """Return a card as it was read.

    Raises:
        InputError: it is none, or a field has a value that training does not write.
    """
    card = check(card, {"task": EVERY["task"]}, where, MEND, others=lambda *_: True)
    task = OF_TASK[card["task"]]
    known = OPTIONAL | {"sample": listed(task.sample, 1)}
    known = {name: kind for name, kind in known.items() if name not in task.fields}
    check(card, EVERY | task.fields, where, MEND, known, others=lambda *_: True)
    task.check(card, where)
    return card


def load_card(folder: Path) -> dict:
    """Return the model card of a checkpoint or of a logged model's folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    return check_card(read_json(folder / CARD, MEND), folder / CARD)
