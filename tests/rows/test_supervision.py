"""What the loss sees: the completion and its EOS, by position; long rows dropped, never cut."""

from finetune import InputError
from finetune.models.bases.loading import load_tokenizer
from finetune.models.prompts import Prompt
from finetune.rows.sql.encoding import encode_rows, prompt_token_ids
from finetune.rows.supervision import IGNORED, audit, format_audit

import pytest
from conftest import TOKENIZERS, demo_rows
from transformers import DataCollatorForSeq2Seq

PROMPT = Prompt.load("text_to_sql")


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request, tmp_path):
    TOKENIZERS[request.param]().save_pretrained(tmp_path)
    return load_tokenizer(str(tmp_path))


def test_completion_and_eos_are_supervised_and_nothing_else(tokenizer):
    rows = demo_rows("train")[:20]
    split = encode_rows(rows, PROMPT, tokenizer, 2048)
    for row, example in zip(rows, split.dataset, strict=True):
        boundary = len(prompt_token_ids(tokenizer, PROMPT, row))
        assert example["labels"][:boundary] == [IGNORED] * boundary
        assert example["labels"][boundary:] == example["input_ids"][boundary:]
        assert example["labels"][-1] == tokenizer.eos_token_id
        assert tokenizer.decode(example["labels"][boundary:-1]).strip() == row["answer"]
        assert example["length"] == len(example["input_ids"])


def test_eos_stays_supervised_where_it_is_also_the_pad_token(tokenizer):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    split = encode_rows(demo_rows("train")[:4], PROMPT, tokenizer, 2048)
    examples = [{key: row[key] for key in ("input_ids", "labels")} for row in split.dataset]
    batch = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)(examples)
    for labels, example in zip(batch["labels"].tolist(), examples, strict=True):
        assert labels.count(tokenizer.eos_token_id) == 1
        assert labels[len(example["labels"]) :] == [IGNORED] * (len(labels) - len(example["labels"]))


def test_rows_that_do_not_fit_are_dropped_and_counted(tokenizer):
    rows = [*demo_rows("train")[:10], {"question": "q", "context": " ", "answer": "SELECT 1"}]
    limit = encode_rows(rows, PROMPT, tokenizer, 2048).dataset["length"][0]
    split = encode_rows(rows, PROMPT, tokenizer, limit)
    assert max(split.dataset["length"]) == limit
    assert len(split.rows) + sum(split.dropped.values()) == 11
    assert split.dropped["a column is empty"] == 1
    assert split.dropped[f"longer than {limit} tokens"] > 0
    with pytest.raises(InputError, match=r"raise --max-length to .*, or give --max-length auto"):
        encode_rows(rows, PROMPT, tokenizer, 5)


def test_the_audit_counts_what_is_there(tokenizer):
    split = encode_rows(demo_rows("train")[:10], PROMPT, tokenizer, 2048)
    report = audit({"train": split}, tokenizer)
    train = report["train"]
    assert train["rows_without_supervised_eos"] == 0
    assert train["supervised_share"] == round(train["supervised_tokens"] / train["tokens"], 4)
    assert 0 < train["supervised_share"] < 0.5
    assert train["bos_tokens_per_row"] == ({"1": 10} if tokenizer.bos_token else {})
    assert len(report["examples"]) == 3
    assert report["examples"][0].startswith("[masked]")
    text = format_audit(report)
    assert "rows without supervised EOS: 0" in text
    assert split.rows[0]["answer"] in text


def test_the_audit_sees_a_missing_eos(tokenizer):
    split = encode_rows(demo_rows("train")[:3], PROMPT, tokenizer, 2048)
    split.dataset = split.dataset.map(lambda row: {"labels": [*row["labels"][:-1], IGNORED]})
    assert audit({"train": split}, tokenizer)["train"]["rows_without_supervised_eos"] == 3
