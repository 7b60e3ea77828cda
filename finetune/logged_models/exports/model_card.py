"""The README.md of an export: what it is, how it is loaded, and by how much it answers otherwise."""

from pathlib import Path

from finetune.logged_models.exports.adapter_folder import VLLM_RANKS, largest_rank, refused_by_vllm, settings_of
from finetune.logged_models.exports.folders import MARK, MODEL_CARD
from finetune.logged_models.exports.replaying import LOADERS
from finetune.models.card import Card

LIBRARIES = {"peft": "peft", "safetensors": "transformers", "gguf": "llama.cpp"}


def write_card(folder: Path, form: str, card: Card, about: str, agreement: str) -> None:
    """Write the card of an export.

    Args:
        form: `peft`, `safetensors` or `gguf`.
        about: which checkpoint of which run it is.
        agreement: how its answers compare with those of the trained model.
    """
    on_hub = not Path(card.base_model).is_absolute()
    header = ["---", f"library_name: {LIBRARIES[form]}", *([f"base_model: {card.base_model}"] if on_hub else [])]
    usage = {"peft": _use_peft, "safetensors": _use_merged, "gguf": _use_gguf}[form]
    body = [
        f"# {card.task}: {about}",
        f"Written by `{MARK} {form}` from an adapter for `{card.base_model}`"
        + (f" (commit `{card.base_revision}`)." if card.base_revision else "."),
        f"## Weights\n\n{_weights(form, card)}",
        f"## Answers\n\n{agreement}",
        f"## Use\n\n{usage(folder, card)}",
        f"## Prompt\n\n{_prompt(card)}",
    ]
    (folder / MODEL_CARD).write_text("\n".join([*header, "---", ""]) + "\n\n".join(body) + "\n", encoding="utf-8")


def _weights(form: str, card: Card) -> str:
    trained = "base in 4 bits (NF4)" if card.quantization else f"unquantised base, in {card.trained_in}"
    if form == "peft":
        return f"The adapter alone, as it was trained: on the {trained}. On another one it answers otherwise."
    kind = "fp32" if card.base_kind == "encoder-decoder" else card.trained_in
    what = "what the 4 bits of training stand for" if card.quantization else "the base's own weights"
    return (
        f"Base and adapter in one: the adapter, trained on the {trained}, is added in float32 to {what}, and the sum"
        f" is stored in {kind}. It is not the published base plus the adapter."
    )


def _prompt(card: Card) -> str:
    # A fence longer than any in the prompt.
    text = card.prompt  # type: ignore[attr-defined]  # Of every model that writes.
    fence = "`" * max(3, 1 + max((len(run) for run in text.split() if set(run) == {"`"}), default=0))
    end = " It ends with a line break." if text.endswith("\n") else " No line break is at its end."
    return f"Fill in what begins with a dollar sign; `$$` means one.{end}\n\n{fence}text\n{text.rstrip()}\n{fence}"


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


def _generate(card: Card) -> list[str]:
    return [
        'ids = tokenizer(prompt, return_tensors="pt").to(model.device)',
        "output = model.generate(**ids, max_new_tokens=256, do_sample=False)",
        f"print(tokenizer.decode(output[0]{'[ids.input_ids.shape[1]:]' if card.base_kind == 'decoder' else ''},"
        " skip_special_tokens=True))",
    ]


def _use_peft(folder: Path, card: Card) -> str:
    settings, rank = settings_of(folder), largest_rank(folder)
    loader, quantization = LOADERS[card.base_kind], card.quantization
    dtype = "float32" if card.base_kind == "encoder-decoder" or card.trained_in == "fp32" else card.trained_in
    dtype = {"bf16": "bfloat16", "fp16": "float16"}.get(dtype, dtype)
    options = [f'    "{card.base_model}",', f'    dtype="{dtype}",']
    if card.base_revision:
        options.append(f'    revision="{card.base_revision}",')
    if quantization:
        options.append("    quantization_config=quantization,")
    shown = {k: v for k, v in (quantization or {}).items() if k == "load_in_4bit" or k.startswith("bnb_4bit_")}
    config = f"quantization = BitsAndBytesConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
    code = _python(
        "from peft import PeftModel",
        f"from transformers import AutoTokenizer, {loader}{', BitsAndBytesConfig' if quantization else ''}",
        "",
        *([config] if quantization else []),
        f"base = {loader}.from_pretrained(",
        *options,
        ")",
        'model = PeftModel.from_pretrained(base, "THIS_FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")',
        *_generate(card),
    )
    layers = ", ".join(f"`{name}`" for name in sorted(settings["target_modules"])[:20])
    facts = f"Rank {rank}, alpha {settings['lora_alpha']:g}, on {layers}."
    return "\n\n".join([code, facts, _vllm(folder, card, rank)])


def _vllm(folder: Path, card: Card, rank: int) -> str:
    if card.base_kind != "decoder":
        return "vLLM does not run encoder-decoders."
    if refused := refused_by_vllm(folder):
        return f"vLLM does not take this adapter: it has {', '.join(refused)}."
    size = next(known for known in VLLM_RANKS if known >= rank)
    return (
        "With vLLM (it was not run with it):\n\n"
        f"```sh\nvllm serve {card.base_model} --enable-lora --max-lora-rank {size}"
        f"{' --quantization bitsandbytes' if card.quantization else ''} --lora-modules sql=THIS_FOLDER\n```"
    )


def _use_merged(folder: Path, card: Card) -> str:
    loader = LOADERS[card.base_kind]
    return _python(
        f"from transformers import AutoTokenizer, {loader}",
        "",
        f'model = {loader}.from_pretrained("THIS_FOLDER", dtype="auto")',
        'tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")',
        *_generate(card),
    )


def _use_gguf(folder: Path, card: Card) -> str:
    (model,) = folder.glob("model-*.gguf")
    lines = [f"llama-completion -m {model.name} --temp 0 --repeat-penalty 1 -no-cnv -f PROMPT_FILE"]
    if (folder / "adapter-f32.gguf").is_file():
        lines.append("# the adapter alone, on a GGUF file of the base: its answers were not compared")
        lines.append("llama-completion -m BASE.gguf --lora adapter-f32.gguf --temp 0 -no-cnv -f PROMPT_FILE")
    return "\n".join(["```sh", *lines, "```"])
