"""Tokenizers that do not fit what is trained: an EOS of their own behind a prompt, ids that the base has no row for."""

import json
import logging
from collections.abc import Iterable

from finetune import InputError
from finetune.models.card import MEND
from finetune.models.files.schemas import reason, shown

from tokenizers import Tokenizer
from transformers import PretrainedConfig, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Raise InputError for a tokenizer that was loaded from damaged files and cannot tokenize or pad."""
    try:
        ids = tokenizer("a")["input_ids"]
        if tokenizer.pad_token_id is not None:
            tokenizer.pad({"input_ids": [ids, ids + ids]})
        if not isinstance(tokenizer.model_max_length, int | float):
            raise TypeError(f"model_max_length is {shown(tokenizer.model_max_length)}")
    except Exception as error:  # Of whatever class transformers or a library below it raises.
        raise InputError(
            f"the tokenizer in {source} is damaged: it does not turn a text into tokens ({reason(error)}); {MEND}."
        ) from error


def check_ids(ids: Iterable[list[int]], model) -> None:
    """Raise InputError for token ids that a model has no row for: its tokenizer is not the one it was trained with."""
    config = getattr(model, "config", None)
    rows = getattr(config.get_text_config(), "vocab_size", None) if config is not None else None
    largest = max((max(own, default=0) for own in ids), default=0)
    if rows is not None and largest >= rows:
        raise InputError(
            f"the tokenizer has a token of the id {largest}, and the base knows the ids below {rows} only: they do not"
            f" belong together, or tokenizer.json is damaged; {MEND}."
        )


def end_openly(tokenizer: PreTrainedTokenizerBase, source: str) -> bool:
    """Make a decoder's tokenizer leave EOS away from the end of a text, in place; say whether that was needed.

    A prompt that ends with EOS has ended: the answer would be trained, and asked for, behind the end of a text. What
    is saved with a checkpoint and logged is the tokenizer as it is then, so that its prompts are the same everywhere.

    Raises:
        InputError: when it cannot be taken away.
    """
    if not _ends_with_eos(tokenizer):
        return False
    if tokenizer.is_fast:
        backend = tokenizer.backend_tokenizer
        state = json.loads(backend.to_str())
        state["post_processor"] = _without_end(state["post_processor"], tokenizer.eos_token)
        backend.post_processor = Tokenizer.from_str(json.dumps(state)).post_processor
    if _ends_with_eos(tokenizer) and hasattr(tokenizer, "add_eos_token"):
        tokenizer.add_eos_token = False
    if "add_eos_token" in tokenizer.init_kwargs:  # It is saved, and could bring the EOS back.
        tokenizer.init_kwargs["add_eos_token"] = False
    if _ends_with_eos(tokenizer):
        raise InputError(
            f"the tokenizer of {source} puts EOS ({tokenizer.eos_token}) behind every text, between prompt and answer"
            " too, and that cannot be turned off here; give a base whose tokenizer does not."
        )
    logger.warning(
        f"the tokenizer of {source} puts EOS ({tokenizer.eos_token}) behind every text; that is turned off for this"
        " run and its models, where prompt and answer follow each other."
    )
    return True


def _ends_with_eos(tokenizer: PreTrainedTokenizerBase) -> bool:
    plain, full = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    return full[-1:] == [tokenizer.eos_token_id] and full != plain


def _without_end(processor: dict | None, eos: str) -> dict | None:
    """Return a post-processor, as tokenizer.json has it, that adds no EOS behind a text."""
    if processor is None:
        return None
    kind = processor.get("type")
    if kind == "Sequence":
        return processor | {"processors": [_without_end(part, eos) for part in processor["processors"]]}
    if kind in ("RobertaProcessing", "BertProcessing") and processor["sep"][0] == eos:
        (token, token_id), first = processor["cls"], {"SpecialToken": {"id": processor["cls"][0], "type_id": 0}}
        texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
        known = {token: {"id": token, "ids": [token_id], "tokens": [token]}}
        return {"type": "TemplateProcessing", "single": [first, texts[0]], "pair": [first, *texts],
                "special_tokens": known}  # fmt: skip
    if kind != "TemplateProcessing":
        return processor
    kept = {}
    for form in ("single", "pair"):
        # BOS may be the same token: what stands before the text stays.
        text = next(index for index, part in enumerate(processor[form]) if "Sequence" in part)
        kept[form] = [
            part
            for index, part in enumerate(processor[form])
            if index < text or part.get("SpecialToken", {}).get("id") != eos
        ]
    return processor | kept


def fit_to_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, source: str) -> None:
    """Pad with a token that the base has an embedding for, in place: EOS, or another special one.

    Padding is masked, so that any token will do; one without a row ends in an index error.

    Raises:
        InputError: when no token will do, or the tokens around each text, or the EOS, have no row either.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if rows is None:
        return
    around = {token_id for token_id in tokenizer("a")["input_ids"] if token_id in tokenizer.all_special_ids}
    around |= {tokenizer.eos_token_id} - {None}
    if beyond := sorted(token_id for token_id in around if token_id >= rows):
        token = tokenizer.convert_ids_to_tokens(beyond[0])[:60]
        raise InputError(
            f"the tokenizer of {source} has the id {beyond[0]} for {token}, and"
            f" the base knows the ids below {rows} only; give a base and a tokenizer that belong together."
        )
    pad, pad_id = str(tokenizer.pad_token)[:60], tokenizer.pad_token_id
    if pad_id is None or pad_id < rows:
        return
    for name in ("eos_token", "unk_token", "sep_token", "cls_token"):
        other = getattr(tokenizer, f"{name}_id", None)
        if other is not None and other < rows:
            tokenizer.pad_token = getattr(tokenizer, name)
            logger.warning(
                f"the pad token of {source}, {pad}, has the id {pad_id}, and the base knows the ids below {rows} only;"
                f" {tokenizer.pad_token} pads in its place."
            )
            return
    raise InputError(
        f"the pad token of {source}, {pad}, has the id {pad_id}, and the base knows the ids below {rows} only; its"
        " tokenizer has no EOS or unknown token to pad with. Give it a pad token of the base's vocabulary."
    )
