"""Patterns of tokenizers: those of known ones are taken, those that may never end are refused before they are tried."""

import json
import shutil

from finetune.base_models import load_tokenizer
from finetune.console import InputError
from finetune.tokenizer_patterns import may_never_end

import pytest

KNOWN = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)",
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
    r"[\p{Han}]+|[\p{Lu}\p{Lt}&&[^\p{Han}]]*[\p{Ll}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?",
    r" ?[^(\s|[.,!?…。，、।۔،])]+", r"(?<=\d)(?=(\d{3})+$)", r" {2,}", r"<\|startoftext\|>|[\p{L}]+", r"\s+$",
]  # fmt: skip
ENDLESS = [
    r"(a+)+$", r"(a*)*b", r"(a|aa)*b", r"((a)+)+", r"(\w+\s?)+$", r"(a+){2,}b", r"(a{1,1000}){1,1000}", r"(a+)+?b",
    r"(.*)(.*)(.*)(.*)(.*)(.*)x", r"a*a*a*a*a*a*a*b", r"(a)\1+", r"(?<n>a|b\g<n>c)", r"(?i:(a+))+", r"(?=(a+)+b)",
    r"(\[+)+", r"([a]+)+$", r"(?<x>a+)+", r"([[a]b]+|c)+",
]  # fmt: skip


@pytest.mark.parametrize("pattern", KNOWN)
def test_patterns_of_known_tokenizers_are_taken(pattern):
    assert not may_never_end(pattern)


@pytest.mark.parametrize("pattern", ENDLESS)
def test_patterns_that_may_never_end_are_found(pattern):
    assert may_never_end(pattern)


PLACES = {
    "pre_tokenizer": lambda regex: {"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False},
    "normalizer": lambda regex: {"type": "Replace", "pattern": regex, "content": "b"},
    "decoder": lambda regex: {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": regex, "content": "b"}]},
}


@pytest.mark.parametrize("kind", ["decoder", "encoder", "encoder-decoder"])
@pytest.mark.parametrize("place", PLACES)
def test_a_tokenizer_with_one_is_refused_before_it_is_loaded(place, kind, tmp_path, tiny_roberta):
    known = json.loads((tiny_roberta / "tokenizer.json").read_text())
    known[place] = PLACES[place]({"Regex": "(a+)+$"})
    known["added_tokens"].append(known["added_tokens"][0] | {"id": 9999, "content": "a" * 60 + "!", "normalized": True})
    shutil.copy(tiny_roberta / "tokenizer_config.json", tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(known))
    with pytest.raises(InputError, match="may take hours"):
        load_tokenizer(str(tmp_path), kind=kind)
