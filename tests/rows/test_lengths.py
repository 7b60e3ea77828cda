"""--max-length of text-to-SQL: settled by the data and the base, and what is said of rows that are longer."""

import train_sql_generator
from finetune import InputError
from finetune.models.prompts import Prompt
from finetune.rows.sql.encoding import encode_parts

import pytest
from conftest import DEMO_BASE, TOKENIZERS, call, demo_rows

PROMPT = Prompt.load("text_to_sql")
LONG = {
    "question": "Which of all of these?",
    "context": f"CREATE TABLE t ({'a TEXT, ' * 300}b TEXT)",
    "answer": "SELECT b FROM t",
}


@pytest.fixture(scope="module")
def tokenizer():
    return TOKENIZERS["byte-level"]()


def parts_of() -> dict[str, list[dict]]:
    return {"train": demo_rows("train")[:5], "validation": [*demo_rows("validation")[:3], LONG]}


@pytest.mark.parametrize("limit", [None, 10**5])
def test_auto_takes_all_rows_that_the_base_can_read(tokenizer, limit, caplog):
    caplog.set_level("INFO")
    splits, length = encode_parts(parts_of(), PROMPT, tokenizer, "auto", limit)
    assert [len(split.rows) for split in splits.values()] == [5, 4]
    assert length == max(splits["validation"].dataset["length"])
    assert f"--max-length auto: {length} tokens, as the longest row has" in caplog.text
    assert set(splits["train"].dataset.column_names) == {"input_ids", "labels", "length"}
    again, same = encode_parts(parts_of(), PROMPT, tokenizer, length, limit)
    assert (same, again["train"].dataset[0]) == (length, splits["train"].dataset[0])


def test_auto_leaves_out_what_the_base_cannot_read_and_says_which(tokenizer, caplog):
    splits, length = encode_parts(parts_of(), PROMPT, tokenizer, "auto", 600)
    assert (length, len(splits["validation"].rows)) == (600, 3)
    assert splits["validation"].dropped == {"longer than 600 tokens": 1}
    for words in (
        "validation: 1 of 4 rows are longer than 600 tokens",
        "The longest validation row ('Which of all of these?') has",
        "the base reads 600 tokens: shorten its schema",
    ):  # fmt: skip
        assert words in caplog.text
    assert "raise --max-length" not in caplog.text


@pytest.mark.parametrize(
    ("given", "limit", "advice"),
    [
        (20, 100_000, "raise --max-length to"), (20, 30, "raise --max-length to 30, or give --max-length auto"),
        (20, None, "the base names no limit"), (20, 20, "the base reads 20 tokens: shorten its schema"),
    ],
)  # fmt: skip
def test_a_part_without_rows_names_the_longest_one_and_what_to_do(tokenizer, given, limit, advice):
    with pytest.raises(InputError) as found:
        encode_parts({"train": parts_of()["validation"]}, PROMPT, tokenizer, given, limit)
    assert "no train row is left (4 rows: longer than 20 tokens)" in str(found.value)
    assert "The longest train row ('Which of all of these?') has" in str(found.value)
    assert advice in str(found.value)


def test_rows_that_are_empty_are_counted_and_the_longest_is_named_by_its_question(tokenizer):
    rows = [LONG | {"question": " "}, demo_rows("train")[0], LONG]
    with pytest.raises(
        InputError, match=r"1 rows: a column is empty; 2 rows: longer than 9 .*longest train row \('Which"
    ):
        encode_parts({"train": rows}, PROMPT, tokenizer, 9, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("banana", "--max-length banana is neither auto nor a number"), ("0", "--max-length 0 must be at least 1"),
        ("-5", "neither auto nor a number"), ("1.5", "neither auto nor a number"),
    ],
)  # fmt: skip
def test_other_words_are_no_length(given, said, tmp_path):
    flags = ("--base-model", DEMO_BASE, "--output-dir", tmp_path, "--lora-r", 0, f"--max-length={given}")
    error = call(train_sql_generator.main, *flags)
    assert said in error
    assert "--lora-r 0" in error
