"""Rows about one schema: what their prompts begin with alike is computed once, and loss and gradients stay the same."""

import itertools

from finetune.models.bases.attention import PACKED_SDPA, can_share, packed_sdpa
from finetune.rows.packing import IGNORED, Block, PackingCollator, blocks_of
from finetune.training.checks.trial_steps import computed_share, one_step
from finetune.training.packs import PackTrainer, choose_collator
from train_sql_generator import Flags, SqlTrainingArguments

import pytest
import torch
from conftest import TOKENIZERS
from datasets import Dataset
from packed import CONFIGS, completion_logits, made_rows, make
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments


def test_rows_that_begin_alike_are_one_block_and_others_stay_alone():
    rows = made_rows()
    blocks = blocks_of(rows, 10_000)
    assert [(block.indices, block.shared) for block in blocks] == [([0, 2, 4, 6, 8], 100), ([1, 3, 5, 7], 90), ([9], 0)]
    lengths = [len(row["input_ids"]) for row in rows]
    assert blocks[0].tokens(lengths) == sum(lengths[0:9:2]) - 4 * 100
    assert blocks_of(rows, 1) == [Block([index]) for index in range(10)]
    assert all(block.tokens(lengths) <= 150 for block in blocks_of(rows, 150))


def test_what_is_supervised_and_the_token_before_it_are_never_shared():
    same = {"input_ids": [*range(80)], "labels": [IGNORED] * 70 + [*range(70, 80)]}
    (block,) = blocks_of([same, same, same], 1000)
    assert block == Block([0, 1, 2], 69)
    assert blocks_of([{"input_ids": [1] * 80, "labels": [1] * 80}] * 2, 1000) == [Block([0]), Block([1])]


@pytest.mark.parametrize("name", sorted(CONFIGS))
@torch.inference_mode()
def test_logits_after_a_shared_beginning_are_those_of_whole_rows(name):
    model, rows = make(CONFIGS[name]), made_rows()
    assert can_share(model)
    (pack,) = PackingCollator(10_000, shares_prompts=True)(rows)["packs"]
    assert pack["input_ids"].numel() < sum(len(row["input_ids"]) for row in rows) / 2
    order = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
    expected = torch.cat([completion_logits(model, rows[index]) for index in order])
    torch.testing.assert_close(model(**pack).logits[0], expected, atol=1e-5, rtol=0)
    # A row does not see what others in its block have of their own.
    changed = pack | {"input_ids": pack["input_ids"].clone()}
    changed["input_ids"][0, 100] += 1
    first = sum(label != IGNORED for label in rows[0]["labels"])
    assert torch.equal(model(**changed).logits[0, first:], model(**pack).logits[0, first:])
    # On a GPU the keys of each sequence are gathered: they are the tokens of the whole row.
    edges = pack["cu_seq_lens_k"].tolist()
    keys = pack["input_ids"][0, pack["key_index"]]
    whole = [keys[begin:end].tolist() for begin, end in itertools.pairwise(edges)]
    assert whole == [rows[index]["input_ids"] for index in order]
    assert pack["max_length_k"] == max(map(len, whole))


@pytest.mark.parametrize("max_tokens", [200, 5000])
def test_loss_and_gradients_are_those_of_whole_rows(max_tokens, tmp_path):
    rows, found = made_rows(), {}
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], label_names=["labels"])
    for shares in (False, True):
        model, collator = make(CONFIGS["llama"]), PackingCollator(max_tokens, shares)
        trainer = PackTrainer(model, args, data_collator=collator)
        (batch,), items = trainer.get_batch_samples(iter([collator(rows)]), 1, args.device)
        loss = trainer.training_step(model, batch, items)
        found[shares] = loss, [weight.grad for weight in model.parameters()]
    torch.testing.assert_close(found[True], found[False], atol=1e-6, rtol=1e-4)


def test_an_attention_that_reads_other_keys_is_found_out_and_nothing_is_shared(monkeypatch, tmp_path):
    model, tokenizer = make(CONFIGS["mistral"]), TOKENIZERS["byte-level"]()
    settings = {"report_to": [], "eval_strategy": "no", "load_best_model_at_end": False}
    args = SqlTrainingArguments(output_dir=str(tmp_path), **settings)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    assert choose_collator(adapted, tokenizer, Flags(), args).shares_prompts

    def forgetful(module, query, key, value, attention_mask, position_ids=None, **options):
        """Reads each sequence for itself, as attention that knows of no shared beginnings does."""
        starts = torch.nonzero(torch.diff(position_ids[0]) != 1)[:, 0] + 1
        lengths = torch.diff(torch.tensor([0, *starts, position_ids.shape[1]])).tolist()
        apart = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)
        return packed_sdpa(module, query, key, value, attention_mask, apart, **options)

    functions = __import__("transformers").modeling_utils.ALL_ATTENTION_FUNCTIONS
    monkeypatch.setitem(functions._global_mapping, PACKED_SDPA, forgetful)
    assert not can_share(model)
    assert not choose_collator(adapted, tokenizer, Flags(), args).shares_prompts
    model.set_attn_implementation("sdpa")
    assert not can_share(model)


def test_an_adapter_with_dropout_and_an_effect_is_packed_and_shares(tmp_path):
    """Dropout in a trial would make each forward another one, and rows would be padded."""
    model, tokenizer = make(CONFIGS["mistral"]).train(), TOKENIZERS["byte-level"]()
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", lora_dropout=0.5))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    settings = {"report_to": [], "eval_strategy": "no", "load_best_model_at_end": False}
    args = SqlTrainingArguments(output_dir=str(tmp_path), **settings)
    collator = choose_collator(adapted.train(), tokenizer, Flags(max_length=512), args)
    assert isinstance(collator, PackingCollator)
    assert collator.shares_prompts
    assert adapted.training


def test_the_preflight_tries_whole_rows_and_counts_what_is_computed(trainer_of_made_rows):
    trainer, rows = trainer_of_made_rows, made_rows()
    whole = one_step(trainer, rows).tokens
    assert whole == sum(len(row["input_ids"]) for row in rows)
    share = computed_share(trainer)
    assert 0.2 < share < 0.5
    trainer.data_collator.shares_prompts = False
    assert computed_share(trainer) == 1


@pytest.fixture
def trainer_of_made_rows(tmp_path) -> Trainer:
    args = TrainingArguments(
        str(tmp_path), use_cpu=True, report_to=[], label_names=["labels"], per_device_train_batch_size=10
    )
    rows = [row | {"length": len(row["input_ids"])} for row in made_rows(39)]
    return PackTrainer(
        make(CONFIGS["llama"]), args, train_dataset=Dataset.from_list(rows), data_collator=PackingCollator(10_000, True)
    )
