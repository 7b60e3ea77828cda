"""What each field of a card can be: what training writes, and nothing else."""

from string import Template

from finetune.models.files.schemas import (
    ANY,
    FLAG,
    MODULE,
    NULL,
    NUMBER,
    either,
    fields,
    listed,
    mapped,
    matching,
    number,
    one_of,
    text,
    whole,
)


def _is_prompt(value: object) -> bool:
    template = Template(value) if isinstance(value, str) and len(value) < 10**6 else Template("$")
    return template.is_valid() and bool(template.get_identifiers())


def _is_place(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) < 4096 or not value.isprintable():
        return False
    return all(len(part.encode()) <= 255 for part in value.split("/"))


DTYPE = one_of("bfloat16", "float16", "float32")
STORAGE = one_of("bfloat16", "float16", "float32", "uint8")
PROMPT = ("a text with a $variable", _is_prompt)
QUANTIZATION = fields(
    {},
    {
        "quant_method": one_of("bitsandbytes"), "_load_in_8bit": FLAG, "_load_in_4bit": FLAG, "load_in_4bit": FLAG,
        "load_in_8bit": FLAG, "llm_int8_threshold": number(0, 1e6),
        "llm_int8_skip_modules": either(NULL, listed(MODULE)), "llm_int8_enable_fp32_cpu_offload": FLAG,
        "llm_int8_has_fp16_weight": FLAG, "bnb_4bit_quant_type": one_of("nf4", "fp4"),
        "bnb_4bit_use_double_quant": FLAG, "bnb_4bit_compute_dtype": DTYPE, "bnb_4bit_quant_storage": STORAGE,
    },
)  # fmt: skip
# Of generation: as in `generation.DEFAULTS`, and what a summarizer adds.
GENERATED = {
    "max_new_tokens": whole(1, 10**6), "num_beams": whole(1, 1000), "no_repeat_ngram_size": whole(0, 10**4),
    "do_sample": FLAG, "temperature": number(0, 1e6), "top_p": number(0, 1), "repetition_penalty": number(0, 1e6),
}  # fmt: skip
GENERATION = fields({}, GENERATED, strict=True)
LONG = one_of("truncate", "window")
EVERY = {
    "base_model": ("a folder or a Hub id", _is_place),
    "base_revision": either(NULL, matching(r"[A-Za-z0-9_-][A-Za-z0-9_./-]{0,199}", "a commit")),
    "quantization": either(NULL, QUANTIZATION),
    "max_length": whole(1, 10**7),
    "base_fingerprint": either(NULL, matching(r"[0-9a-f]{16,64}", "a digest")),
    "compute_dtype": one_of("bf16", "fp16", "fp32"),
    "form": one_of("merged", "checkpoint", "reference"),
    "quantized_fingerprint": matching(r"[0-9a-f]{16,64}", "a digest"),
    "base_config": either(NULL, mapped(ANY)),
    "columns": mapped(text(least=1)),
    "metrics": mapped(NUMBER),
    "generation": GENERATION,
    "run_id": either(NULL, matching(r"[A-Za-z0-9_-]{1,256}", "the id of a run")),
    "epoch": either(NULL, number(0, 1e9)),
    "step": whole(0, 2**62),
}
SQL = {
    "prompt": PROMPT,
    "dialect": matching(r"[a-z0-9_]{0,40}", "the name of a dialect"),
    "sample_values": whole(1, 1000),
    "sample": listed(fields({"prompt_ids": listed(whole(0, 2**31), 1)}), 1),
}
CLASSIFIER = {
    "labels": fields({"task": one_of("multilabel", "binary", "multiclass"), "names": listed(text(), 1, 10**5)}),
    "pooling": one_of("mean", "cls", "last"),
    "long_texts": LONG,
    "thresholds": either(NULL, listed(number(0, 1), 1)),
    "tfidf": fields({"share": number(0, 1e3), "digest": matching(r"[0-9a-f]{64}", "a SHA-256 digest")}, strict=True),
    # A text was a row by itself, once.
    "sample": listed(either(fields({"text": text()}), text()), 1),
}
SUMMARIZER = {
    "prompt": PROMPT,
    "columns": fields({"article": text(least=1), "summary": text(least=1)}),
    "long_texts": LONG,
    "sample": listed(fields({"article": text()}), 1),
}
