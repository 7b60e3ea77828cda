"""Generation in left-padded batches gives what one prompt at a time gives."""

from finetune.models.bases.loading import load_decoder, load_tokenizer
from finetune.models.generation import LOOKED_UP_TOKENS, candidates, generate, generate_all, margins, parts_at_near_tie
from finetune.models.prompts import Prompt
from finetune.models.sql_writer import SqlWriter

import pytest
import torch
from conftest import DEMO_BASE, demo_rows


def load():
    # float32: in lower precision a tie between two tokens may fall otherwise in another batch.
    tokenizer = load_tokenizer(str(DEMO_BASE))
    prompt = Prompt.load("text_to_sql")
    prompts = [tokenizer(prompt.render(row))["input_ids"] for row in demo_rows("validation")[:9]]
    return load_decoder(str(DEMO_BASE), None, None, torch.float32), tokenizer, prompts


def test_batches_give_what_single_prompts_give_in_the_order_of_the_prompts():
    model, tokenizer, prompts = load()
    one_by_one = [generate_all(model, tokenizer, [ids], max_new_tokens=24)[0] for ids in prompts]
    assert generate_all(model, tokenizer, prompts, batch_size=4, max_new_tokens=24) == one_by_one
    assert generate_all(model, tokenizer, prompts, batch_size=1, max_new_tokens=24) == one_by_one
    assert len({completion.text for completion in one_by_one}) > 1
    assert all(len(completion.token_ids) == 24 for completion in one_by_one if not completion.ended)


def test_the_longest_prompts_come_first_and_the_mode_is_restored():
    model, tokenizer, prompts = load()
    model.train()
    order = [index for index, _ in generate(model, tokenizer, prompts, batch_size=2, max_new_tokens=1)]
    assert order == sorted(order, key=lambda index: -len(prompts[index]))
    assert model.training


def test_only_a_single_question_decoded_greedily_in_float32_is_guessed_from_its_prompt(monkeypatch):
    model, tokenizer, prompts = load()
    given, generate_one = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **options: given.append(options) or generate_one(**options))
    for batch, options in ((prompts[:1], {}), (prompts[:2], {}), (prompts[:1], {"num_beams": 2})):
        generate_all(model, tokenizer, batch, max_new_tokens=2, **options)
    generate_all(model.bfloat16(), tokenizer, prompts[:1], max_new_tokens=2)
    assert [options.get("prompt_lookup_num_tokens") for options in given] == [LOOKED_UP_TOKENS, None, None, None]


def test_answers_that_part_where_the_best_token_hardly_led():
    lead = [0.5, 0.01, 0.3]  # of two tokens and the end
    assert parts_at_near_tie([7, 8], [7, 9], lead, torch.bfloat16)
    assert not parts_at_near_tie([7, 8], [7, 9], lead, torch.float32)
    assert not parts_at_near_tie([7, 8], [6, 8], lead, torch.bfloat16)
    assert not parts_at_near_tie([7, 8], [7, 8, 9], lead, torch.bfloat16)
    assert parts_at_near_tie([7, 8], [7, 8, 9], [0.5, 0.5, 0.0], torch.float32)


def test_margins_are_those_of_the_greedy_answer():
    model, tokenizer = load_decoder(DEMO_BASE, None, None, torch.float32), load_tokenizer(DEMO_BASE)
    prompt = tokenizer("CREATE TABLE head (age INTEGER)")["input_ids"]
    (answer,) = generate_all(model, tokenizer, [prompt], max_new_tokens=6)
    lead = margins(model, prompt, answer.token_ids)
    assert len(lead) == len(answer.token_ids) + 1
    assert min(lead) >= 0
    scores = model(torch.tensor([prompt])).logits[0, -1].topk(2)
    assert scores.indices[0] == answer.token_ids[0]
    assert lead[0] == pytest.approx(float((scores.values[0] - scores.values[1]) / scores.values[0].abs()), abs=1e-4)


def test_a_batch_without_memory_is_halved(monkeypatch):
    model, tokenizer, prompts = load()
    expected = generate_all(model, tokenizer, prompts, max_new_tokens=8)
    whole, sizes = model.generate, []

    def short_of_memory(input_ids, **options):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("pretended")
        return whole(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "generate", short_of_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert generate_all(model, tokenizer, prompts, batch_size=9, max_new_tokens=8) == expected
    assert sizes == [9, 4, 2, 2, 2, 2, 1]
    monkeypatch.setattr(model, "generate", lambda **options: (_ for _ in ()).throw(torch.OutOfMemoryError("pretended")))
    with pytest.raises(torch.OutOfMemoryError):
        generate_all(model, tokenizer, prompts[:1], max_new_tokens=8)


def test_candidates_are_the_likeliest_texts_each_once_and_in_order():
    model, tokenizer, prompts = load()
    found = candidates(model, tokenizer, prompts[0], 4, max_new_tokens=12)
    assert 2 <= len(found) <= 4
    assert len({one.text for one in found}) == len(found)
    sums = []
    for one in found:
        ids = torch.tensor([prompts[0] + one.token_ids + [tokenizer.eos_token_id] * one.ended])
        with torch.inference_mode():
            steps = model(ids).logits[0, len(prompts[0]) - 1 : -1].log_softmax(-1)
        sums.append(float(steps.gather(1, ids[0, len(prompts[0]) :, None]).sum()))
    assert sums == sorted(sums, reverse=True)
    writer = SqlWriter(model, tokenizer, None)
    assert writer.others(prompts[0], 4, found[0].text, max_new_tokens=12) == found[1:]
    assert writer.others(prompts[0], 1, "", max_new_tokens=12) == []
