"""Answer prompts with an exported model as its readers would, in a process of its own: nothing of this package is used.

Run as `python replay.py QUESTIONS ANSWERS`, two JSON files; the first is written by `replaying.py`.
"""

import json
import sys
from pathlib import Path


def load_with_transformers(asked: dict):
    """Return model and tokenizer of a merged folder."""
    import transformers

    loader = getattr(transformers, asked["loader"])
    model = loader.from_pretrained(asked["folder"], dtype="auto")
    return model, transformers.AutoTokenizer.from_pretrained(asked["folder"])


def load_with_peft(asked: dict):
    """Return model and tokenizer of an adapter's folder, on its base as it was in training."""
    import transformers
    from peft import PeftConfig, PeftModel

    config, quantization = PeftConfig.from_pretrained(asked["folder"]), asked["quantization"]
    base = getattr(transformers, asked["loader"]).from_pretrained(
        config.base_model_name_or_path,
        revision=config.revision,
        dtype=asked["dtype"],
        quantization_config=transformers.BitsAndBytesConfig.from_dict(quantization) if quantization else None,
    )
    model = PeftModel.from_pretrained(base, asked["folder"])
    return model, transformers.AutoTokenizer.from_pretrained(asked["folder"])


def generate(model, tokenizer, asked: dict) -> tuple[list[str], list[list[int]]]:
    """Return greedy answers to prompts, in batches of like lengths, and the token ids of the prompts."""
    import torch

    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    device, is_decoder = "cuda" if torch.cuda.is_available() else "cpu", not model.config.is_encoder_decoder
    model.to(device).eval()
    ids = [tokenizer(text)["input_ids"] for text in asked["prompts"]]
    order, found = sorted(range(len(ids)), key=lambda index: -len(ids[index])), {}
    for start in range(0, len(order), asked["batch_size"]):
        indices = order[start : start + asked["batch_size"]]
        rows = {"input_ids": [ids[index] for index in indices]}
        batch = tokenizer.pad(rows, padding_side="left" if is_decoder else "right", return_tensors="pt").to(device)
        with torch.inference_mode():
            output = model.generate(**batch, **asked["generation"])
        for index, own in zip(indices, output[:, batch["input_ids"].shape[1] if is_decoder else 1 :], strict=True):
            own = own.tolist()
            own = own[: own.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in own else own
            found[index] = tokenizer.decode(own, skip_special_tokens=True)
    return [found[index] for index in range(len(ids))], ids


def answer_with_llama_cpp(asked: dict) -> tuple[list[str], list[list[int]]]:
    """Return greedy answers of a GGUF file to prompts, one after the other, and the token ids of the prompts."""
    from llama_cpp import Llama

    model = Llama(asked["file"], n_ctx=asked["context"], lora_path=asked.get("adapter"), verbose=False)
    limit = asked["generation"]["max_new_tokens"]
    found = [
        model.create_completion(text, max_tokens=limit, temperature=0.0, repeat_penalty=1.0)["choices"][0]["text"]
        for text in asked["prompts"]
    ]
    return found, [model.tokenize(text.encode(), special=True) for text in asked["prompts"]]


def main(questions: str, answers: str) -> None:
    """Read the questions, write the answers."""
    asked = json.loads(Path(questions).read_text(encoding="utf-8"))
    if asked["library"] == "llama-cpp-python":
        found, ids = answer_with_llama_cpp(asked)
    else:
        load = load_with_peft if asked["library"] == "peft" else load_with_transformers
        model, tokenizer = load(asked)
        found, ids = generate(model, tokenizer, asked)
    Path(answers).write_text(json.dumps({"answers": found, "prompt_ids": ids}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
