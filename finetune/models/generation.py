"""Greedy or sampled generation over many prompts, in padded batches of like lengths."""

from collections.abc import Iterator
from dataclasses import dataclass

from finetune import InputError, stopping
from finetune.models.bases.tokenizers import check_ids
from finetune.progress_line import advance

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Greedy, and no repetition penalty: SQL has to repeat the names of the schema.
DEFAULTS = {
    "max_new_tokens": 256,
    "do_sample": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
}
LOOKED_UP_TOKENS = 8
# A CPU's batches are held up by their longest answer; a GPU has room for many (benchmarks/LOG.md).
BATCH_SIZE = 128 if torch.cuda.is_available() else 32


@dataclass(frozen=True)
class Generation:
    """One completion: its text, its token ids without EOS, and whether the model ended it itself."""

    text: str
    token_ids: list[int]
    ended: bool


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    batch_size: int = BATCH_SIZE,
    **parameters,
) -> Iterator[tuple[int, Generation]]:
    """Yield (index of the prompt, its completion), longest prompts first; decoders and encoder-decoders alike.

    A batch that a GPU has no memory for is halved, and so are those that follow.

    Args:
        prompts: token ids of each rendered prompt, special tokens included.
        parameters: over `DEFAULTS`, as for `GenerationMixin.generate`.

    Raises:
        InputError: for parameters that generation refuses.
    """
    for name in ("max_new_tokens", "num_beams"):
        if parameters.get(name, 1) < 1:
            raise InputError(f"{name} {parameters[name]} must be at least 1.")
    check_ids(prompts, model)
    was_training, encodes, options = model.training, model.config.is_encoder_decoder, DEFAULTS | parameters
    model.eval()
    # Batches of like lengths pad little; the longest first, so that too large a batch fails at once.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    while order:
        stopping.check_evaluation()
        indices = order[:batch_size]
        # Pad left: a decoder continues from the last position. An encoder-decoder starts afresh.
        side = "right" if encodes else "left"
        batch = tokenizer.pad(
            {"input_ids": [prompts[index] for index in indices]}, padding_side=side, return_tensors="pt"
        ).to(model.device)
        special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        try:
            output = model.generate(**batch, **special, **lookup(model, len(prompts), options), **options)
        except ValueError as error:
            raise InputError(f"generation refuses its parameters: {' '.join(str(error).split())[:300]}") from error
        except torch.OutOfMemoryError:
            if len(indices) == 1:
                raise
            output, batch_size = None, len(indices) // 2
        if output is None:  # Here the traceback is gone, and with it what the batch held.
            torch.cuda.empty_cache()
            continue
        order = order[len(indices) :]
        start_of_answer = 1 if encodes else batch["input_ids"].shape[1]
        given = [index for index in indices for _ in range(len(output) // len(indices))]  # Beams give several.
        for index, ids in zip(given, output[:, start_of_answer:].tolist(), strict=True):
            ended = tokenizer.eos_token_id in ids
            ids = ids[: ids.index(tokenizer.eos_token_id)] if ended else ids
            yield index, Generation(tokenizer.decode(ids, skip_special_tokens=True), ids, ended)
        advance(len(indices))
    model.train(was_training)


@torch.inference_mode()
def candidates(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], count: int, **parameters
) -> list[Generation]:
    """Return the likeliest completions of a decoder to one prompt by beam search, each text once.

    Args:
        prompt: token ids of the rendered prompt.
        count: of beams, and of completions at most; at least 2.
        parameters: over `DEFAULTS`; `do_sample` and `num_beams` are not among them.
    """
    beams = {"do_sample": False, "num_beams": count, "num_return_sequences": count, "length_penalty": 0.0}
    found = [one for _, one in generate(model, tokenizer, [prompt], **parameters | beams | {"early_stopping": True})]
    return list({one.text: one for one in found}.values())


@torch.inference_mode()
def margins(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> list[float]:
    """Return by what share of itself a decoder's best logit leads the second, at each token of an answer and its end.

    Where that is about the precision of its type, other kernels for the same arithmetic may choose the other token.
    """
    ids = torch.tensor([prompt + answer], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
    best, second = logits.topk(2).values.unbind(dim=1)
    return ((best - second) / best.abs()).tolist()


def parts_at_near_tie(expected: list[int], actual: list[int], lead: list[float], dtype: torch.dtype) -> bool:
    """Say whether two answers go apart where the best token led by no more than the type can tell.

    Args:
        expected, actual: token ids without EOS, not the same.
        lead: of `expected`, from `margins`.
    """
    pairs = zip(expected, actual, strict=False)
    position = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(expected), len(actual)))
    return lead[position] <= 2 * torch.finfo(dtype).eps


def lookup(model: PreTrainedModel, prompts: int, options: dict) -> dict:
    """Return what lets a single question's answer be guessed from its prompt, several tokens at a time.

    SQL copies names out of the schema. The model checks each guess, so that greedy decoding stays what it is (prompt
    lookup, a kind of assisted generation; Saxena 2023) - in float32: in bfloat16, tokens that are checked together
    and one after the other differ in near ties, in one answer of 300 (benchmarks/LOG.md).
    """
    exact = model.get_input_embeddings().weight.dtype == torch.float32 and not model.config.is_encoder_decoder
    greedy = all(options[name] == DEFAULTS[name] for name in ("do_sample", "num_beams", "repetition_penalty"))
    return {"prompt_lookup_num_tokens": LOOKED_UP_TOKENS} if exact and greedy and prompts == 1 else {}


def generate_all(model, tokenizer, prompts: list[list[int]], **options) -> list[Generation]:
    """Return the completions in the order of the prompts; see `generate`."""
    return [completion for _, completion in sorted(generate(model, tokenizer, prompts, **options), key=lambda x: x[0])]
