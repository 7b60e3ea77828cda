"""Packed rows: nothing of one reaches another, and the loss is that of the padded batch."""

from finetune.models.bases.attention import PACKED_SDPA, can_pack, packed_sdpa
from finetune.models.bases.loading import load_decoder, load_tokenizer
from finetune.rows.packing import CompletionCollator, PackingCollator, best_fit
from finetune.rows.supervision import IGNORED
from finetune.training.packs import PackTrainer, choose_collator
from train_sql_generator import Flags, SqlTrainingArguments

import pytest
import torch
from conftest import DEMO_BASE, TOKENIZERS
from packed import CONFIGS, SIZES, completion_logits, make, rows  # noqa: F401 (a fixture)
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    GPT2Config,
    MistralConfig,
    Trainer,
    TrainingArguments,
)


def test_best_fit_takes_each_row_once_and_fills_packs():
    lengths = [7, 3, 5, 12, 1, 4, 6]
    packs = best_fit(lengths, 10)
    assert sorted(index for pack in packs for index in pack) == list(range(len(lengths)))
    assert [sum(lengths[index] for index in pack) for pack in packs] == [12, 10, 10, 6]


@pytest.mark.parametrize("name", sorted(CONFIGS))
@torch.inference_mode()
def test_packed_logits_are_those_of_separate_rows(name, rows):
    model = make(CONFIGS[name])
    assert can_pack(model, 512)
    batch = PackingCollator(max_tokens=700)(rows)
    order = best_fit([len(row["input_ids"]) for row in rows], 700)
    assert len(batch["packs"]) == len(order) > 1
    for pack, indices in zip(batch["packs"], order, strict=True):
        expected = torch.cat([completion_logits(model, rows[index]) for index in indices])
        torch.testing.assert_close(model(**pack).logits[0], expected, atol=1e-5, rtol=0)
        supervised = [token for index in indices for token in rows[index]["labels"] if token != IGNORED]
        assert pack["labels"][0].tolist() == pack["shift_labels"][0].tolist() == supervised


@torch.inference_mode()
def test_a_mask_or_a_cache_would_mix_the_rows(rows):
    """What the test above would not see: the model is given neither, and either would show."""
    model, pack = make(CONFIGS["mistral"]), PackingCollator(max_tokens=2000)(rows[:4])["packs"][0]
    assert "attention_mask" not in pack
    assert pack["use_cache"] is False
    seen = []
    model.model.layers[0].self_attn.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((kwargs["attention_mask"], kwargs["past_key_values"])),
        with_kwargs=True,
    )
    alone = model(**pack).logits
    assert seen == [(None, None)]
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(model(**pack).logits, alone, atol=1e-5, rtol=0)
    mixed = model(**pack, attention_mask=torch.ones_like(pack["input_ids"])).logits
    cached = model(**pack | {"use_cache": True}).logits
    assert (mixed - alone).abs().max() > 1e-3
    assert (cached - alone).abs().max() > 1e-3


def test_a_model_that_cannot_keep_rows_apart_is_found_out(monkeypatch):
    windows = MistralConfig(**SIZES, sliding_window=64)
    assert can_pack(make(windows), 64)
    assert not can_pack(make(windows), 65)
    model = make(CONFIGS["mistral"])

    def blind(module, query, key, value, attention_mask, position_ids=None, **options):
        return packed_sdpa(module, query, key, value, attention_mask, None, **options)

    monkeypatch.setitem(
        __import__("transformers").modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping, PACKED_SDPA, blind
    )
    assert not can_pack(model, 512)


def test_a_decoder_without_position_ids_in_its_attention_is_not_packed_or_stays_apart():
    config = GPT2Config(vocab_size=900, n_embd=64, n_layer=2, n_head=4)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.set_attn_implementation(PACKED_SDPA)
    rows = [{"input_ids": list(range(5, 25)), "labels": list(range(5, 25))} for _ in range(2)]
    pack = PackingCollator(max_tokens=100)(rows)["packs"][0]
    with torch.inference_mode():
        first, second = model(**pack).logits[0].chunk(2)
    assert can_pack(model, 512) == torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("max_tokens", [300, 5000])
def test_gradients_of_packs_are_those_of_the_padded_batch(rows, max_tokens, tmp_path):
    tokenizer, found = TOKENIZERS["byte-level"](), {}
    tokenizer.pad_token = tokenizer.eos_token
    for name, collator in (("packed", PackingCollator(max_tokens)), ("padded", CompletionCollator(tokenizer))):
        model = make(CONFIGS["llama"])
        args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], label_names=["labels"])
        trainer = PackTrainer(model, args, data_collator=collator)
        batches, items = trainer.get_batch_samples(iter([collator(rows)]), 1, args.device)
        loss = trainer.training_step(model, batches[0], items)
        found[name] = (loss, model.model.layers[0].self_attn.q_proj.weight.grad)
        evaluated, _, _ = trainer.prediction_step(model, batches[0], prediction_loss_only=True)
        torch.testing.assert_close(evaluated, loss)
    whole = Trainer(make(CONFIGS["llama"]), args)
    supervised = sum(label != IGNORED for row in rows for label in row["labels"])
    separate = sum(
        whole.model(
            input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]]), use_cache=False
        ).loss.item()
        * sum(label != IGNORED for label in row["labels"])
        for row in rows
    )
    assert found["packed"][0].item() == pytest.approx(separate / supervised, abs=1e-5)
    torch.testing.assert_close(found["packed"], found["padded"], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_quantised_base_reads_packed_and_left_padded_rows_alike():
    base, tokenizer = load_decoder(DEMO_BASE, None, None, torch.float32), load_tokenizer(DEMO_BASE)
    assert base.config._attn_implementation == PACKED_SDPA
    texts = ["SELECT COUNT(*) FROM head", "SELECT age FROM head WHERE name = 'a' AND age > 56"]
    batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    padded = base(**batch).logits
    for text, row in zip(texts, padded, strict=True):
        alone = base(input_ids=tokenizer(text, return_tensors="pt")["input_ids"]).logits[0]
        torch.testing.assert_close(row[-len(alone) :], alone, atol=1e-4, rtol=0)


def test_label_smoothing_is_given_whole_rows(rows, tmp_path):
    """The Trainer's smoother shifts the labels itself: shifted ones would be learned one token late."""
    tokenizer, model = TOKENIZERS["byte-level"](), make(CONFIGS["llama"])
    tokenizer.pad_token = tokenizer.eos_token
    args = SqlTrainingArguments(output_dir=str(tmp_path), report_to=[], label_smoothing_factor=0.1, eval_strategy="no",
                                load_best_model_at_end=False)  # fmt: skip
    collator = choose_collator(model, tokenizer, Flags(), args)
    assert isinstance(collator, DataCollatorForSeq2Seq)
    assert args.train_sampling_strategy == "group_by_length"
    trainer = PackTrainer(model, args, data_collator=collator, processing_class=tokenizer)
    (batch,), items = trainer.get_batch_samples(iter([collator(rows)]), 1, args.device)
    loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=items)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:].flatten(), label_smoothing=0.1)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=0)
