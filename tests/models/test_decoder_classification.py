"""Decoders that classify: a text is read the same whatever stands beside it; bases that do not read so are refused."""

from types import SimpleNamespace

from finetune import InputError
from finetune.models.bases.loading import load_config, load_encoder
from finetune.models.classifier.encoder import EncoderClassifier, check_reading, choose_pooling, open_classifier_base

import pytest
import torch
from conftest import DEMO_BASE
from encoders import DECODERS, FAIR, labelled_rows, make_decoder, make_encoder
from transformers import BertConfig, BertLMHeadModel, BitsAndBytesConfig, Gemma3Config, LlamaConfig, LlamaModel

CAUSAL = sorted(DECODERS.keys() - {"xlnet"})
TEXTS = [*FAIR[:2], *(row["text"] for row in labelled_rows(3, 5))]


@pytest.fixture(scope="module", params=CAUSAL)
def decoder(request, tmp_path_factory):
    """The folder of a decoder whose tokenizer has no pad token and pads before a text."""
    return make_decoder(tmp_path_factory.mktemp("decoders") / request.param, request.param)


def flags(base, pooling: str = "auto"):
    return SimpleNamespace(
        base_model=str(base), base_revision=None, max_length=64, compute_dtype="fp32", pooling=pooling
    )


@torch.no_grad()
def logits(model, tokenizer, texts: list[str], side: str = "right", width: int | None = None) -> torch.Tensor:
    options = {"padding": "max_length", "max_length": width} if width else {"padding": True}
    return model(**tokenizer(texts, return_tensors="pt", padding_side=side, **options)).logits


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_text_has_the_same_score_alone_in_a_batch_and_with_padding_on_either_side(decoder, pooling):
    _, tokenizer = open_classifier_base(flags(decoder, pooling))
    assert (tokenizer.pad_token, tokenizer.padding_side) == (tokenizer.eos_token, "right")
    model = EncoderClassifier(load_encoder(str(decoder), None, None), 3, pooling).eval()
    check_reading(model, str(decoder))
    alone = torch.cat([logits(model, tokenizer, [text]) for text in TEXTS])
    assert alone.std(0).min() > 0.01  # Texts are told apart.
    for side in ("left", "right"):
        for width in (None, 100):
            torch.testing.assert_close(logits(model, tokenizer, TEXTS, side, width), alone, atol=1e-5, rtol=0)


def test_the_last_token_is_read_and_none_sees_those_behind_it(decoder):
    _, tokenizer = open_classifier_base(flags(decoder))
    model = EncoderClassifier(load_encoder(str(decoder), None, None), 3, "last").eval()
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        states = model.encoder(ids).last_hidden_state
        expected = model.classifier(model.normalize(states[:, -1]))
        short = model.encoder(ids[:, :-1]).last_hidden_state
    torch.testing.assert_close(logits(model, tokenizer, TEXTS[:1]), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(short, states[:, :-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_encoder_reads_a_text_behind_padding_as_it_is_alone(tiny_roberta, side):
    _, tokenizer = open_classifier_base(flags(tiny_roberta))
    model = EncoderClassifier(load_encoder(str(tiny_roberta), None, None), 3, "cls").eval()
    alone = torch.cat([logits(model, tokenizer, [text]) for text in TEXTS])
    torch.testing.assert_close(logits(model, tokenizer, TEXTS, side), alone, atol=1e-5, rtol=0)


def test_a_decoder_in_4_bits_keeps_no_cache_and_reads_as_it_should(decoder):
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = EncoderClassifier(load_encoder(str(decoder), None, nf4), 3, "last")
    assert model.is_loaded_in_4bit
    check_reading(model, str(decoder))
    assert model.training
    found = model.encoder(torch.tensor([[5, 6, 7]]))
    assert getattr(found, "past_key_values", None) is None


def test_the_pooling_by_the_kind_of_base(tiny_roberta, decoder):
    chosen = {}
    for base in (tiny_roberta, decoder):
        given = flags(base)
        open_classifier_base(given)
        chosen[base] = given.pooling
    assert chosen == {tiny_roberta: "mean", decoder: "last"}
    for base, pooling, sentence in ((tiny_roberta, "last", "is an encoder"), (decoder, "cls", "is a decoder")):
        with pytest.raises(InputError, match=f"--pooling {pooling}.*{sentence}.*take mean"):
            choose_pooling(pooling, load_config(str(base), kind="encoder"), str(base))


def test_a_decoder_whose_tokens_see_those_behind_them_is_read_by_its_mean_alone(tmp_path):
    base = make_decoder(tmp_path / "xlnet", "xlnet")
    model = EncoderClassifier(load_encoder(str(base), None, None), 3, "last")
    with pytest.raises(InputError, match=r"--pooling last: the tokens of .* see those behind.*take --pooling mean"):
        check_reading(model, str(base))
    model.pooling = "mean"
    check_reading(model, str(base))


def test_a_decoder_that_reads_its_padding_is_refused():
    model = EncoderClassifier(load_encoder(str(DEMO_BASE), None, None), 3, "mean")
    forward = model.encoder.forward
    model.encoder.forward = lambda ids, attention_mask: forward(ids.flip(1), attention_mask=attention_mask)
    with pytest.raises(InputError, match="padding behind a text changes its states; take another"):
        check_reading(model, "base")


def test_a_decoder_whose_states_overflow_is_refused_for_that():
    model = EncoderClassifier(load_encoder(str(DEMO_BASE), None, None), 3, "last")
    forward = model.encoder.forward

    def overflowing(ids, attention_mask):
        found = forward(ids, attention_mask=attention_mask)
        found.last_hidden_state[0, 3] = float("nan")
        return found

    model.encoder.forward = overflowing
    with pytest.raises(InputError, match=r"as it is computed here: its states are not finite.*take --compute-dtype"):
        check_reading(model, "base")


def test_a_decoder_without_its_head_and_what_is_no_decoder_of_text(tmp_path):
    LlamaModel(LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                           num_attention_heads=2)).save_pretrained(tmp_path / "body")  # fmt: skip
    config = load_config(str(tmp_path / "body"), kind="encoder")
    assert choose_pooling("auto", config, "body") == "last"
    with pytest.raises(InputError, match="LlamaModel, not a decoder"):
        load_config(str(tmp_path / "body"))
    BertLMHeadModel(BertConfig(vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                               num_attention_heads=2)).save_pretrained(tmp_path / "bert")  # fmt: skip
    Gemma3Config(architectures=["Gemma3ForConditionalGeneration"]).save_pretrained(tmp_path / "images")
    for name in ("bert", "images"):
        with pytest.raises(InputError, match="neither an encoder nor a decoder of text alone"):
            load_config(str(tmp_path / name), kind="encoder")


def test_bases_of_before_are_still_read(tmp_path):
    for kind in ("bert", "deberta"):
        base = make_encoder(tmp_path / kind, kind)
        model = EncoderClassifier(load_encoder(str(base), None, None), 2, "mean")
        assert model.knows_types
        check_reading(model, str(base))
