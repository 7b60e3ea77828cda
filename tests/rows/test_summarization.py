"""Articles as pieces, summaries as labels, and what a Seq2SeqTrainer's evaluation makes of generated ids."""

from types import SimpleNamespace

from finetune import InputError
from finetune.models.prompts import Prompt
from finetune.models.summarizer.articles import encode_articles, split_article
from finetune.reports.summary_scorecard import RougeEvaluation
from finetune.rows.article_rows import encode_summaries, longest_first
from finetune.rows.supervision import IGNORED, audit
from finetune.training.callbacks import LossGuardCallback

import numpy as np
import pytest
from transformers import AutoTokenizer, EvalPrediction

PROMPT = Prompt("summarize: $article")
SENTENCES = ["A storm has hit Kelso.", "The alarm was raised on Sunday.", "In all, 12 houses were hit."]


@pytest.fixture(scope="module")
def tokenizer(tiny_t5):
    return AutoTokenizer.from_pretrained(tiny_t5)


def test_a_short_article_is_one_piece_as_it_is(tokenizer):
    assert split_article(tokenizer, PROMPT, " A\n\nB ", 64) == [" A\n\nB "]


def test_pieces_fit_and_hold_whole_sentences_and_all_of_them(tokenizer):
    article = "\n".join(SENTENCES * 6)
    pieces = split_article(tokenizer, PROMPT, article, 40)
    assert len(pieces) > 3
    assert "\n".join(pieces) == article
    for piece in pieces:
        assert len(tokenizer(f"summarize: {piece}")["input_ids"]) <= 40
        assert all(line in SENTENCES for line in piece.splitlines())


def test_a_sentence_that_does_not_fit_is_cut_between_words(tokenizer):
    words = [f"word{number}" for number in range(80)]
    pieces = split_article(tokenizer, PROMPT, " ".join(words), 40)
    assert " ".join(pieces).split() == words
    assert all(len(tokenizer(f"summarize: {piece}")["input_ids"]) <= 40 for piece in pieces)
    assert "".join(split_article(tokenizer, PROMPT, "x" * 400, 40)) == "x" * 400


def test_a_prompt_without_room_is_refused(tokenizer):
    with pytest.raises(InputError, match="the prompt alone is longer"):
        split_article(tokenizer, Prompt("summarize this long and winding report: $article"), "A storm.", 5)


def test_windows_are_all_of_an_article_and_truncation_its_beginning(tokenizer):
    articles = ["A storm.", " ".join(SENTENCES * 6)]
    cut, windows = (encode_articles(tokenizer, PROMPT, articles, 40, window) for window in (False, True))
    assert cut.owners == [0, 1]
    assert cut.long_articles == windows.long_articles == 1
    assert windows.owners == [0] + [1] * (len(windows.owners) - 1)
    assert windows.prompts[:2] == cut.prompts
    assert all(ids[-1] == tokenizer.eos_token_id for ids in windows.prompts)


ROWS = [
    {"article": "A storm has hit Kelso.", "summary": " A storm in Kelso. "},
    {"article": "The alarm was raised on Sunday. " * 9, "summary": "An alarm."},
    {"article": "A flood.", "summary": None},
    {"article": "A fire.", "summary": "word " * 60},
]


def test_summaries_are_labels_with_eos_and_are_never_cut(tokenizer):
    split, long_articles = encode_summaries(ROWS, PROMPT, tokenizer, 40, 30, "rows")
    assert long_articles == 1
    assert dict(split.dropped) == {"a column is empty": 1, "summary longer than 30 tokens": 1}
    split = longest_first(split)
    assert [row["summary"] for row in split.rows] == ["An alarm.", " A storm in Kelso. "]
    assert split.dataset["length"][0] > split.dataset["length"][1]
    for row, labels in zip(split.rows, split.dataset["labels"], strict=True):
        assert labels[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(labels, skip_special_tokens=True) == row["summary"].strip()
    report = audit({"train": split}, tokenizer)
    assert report["train"]["rows_without_supervised_eos"] == 0
    assert report["train"]["supervised_tokens"] == sum(map(len, split.dataset["labels"]))
    assert "[/masked][supervised]An alarm.</s>" in report["examples"][0]


def predicted(tokenizer, texts: list[str], width: int) -> np.ndarray:
    """Return ids as Seq2SeqTrainer gives them: a start token, the summary, EOS, then padding of both kinds."""
    rows = []
    for text in texts:
        ids = [tokenizer.pad_token_id, *tokenizer(text)["input_ids"], tokenizer.pad_token_id]
        rows.append(ids + [IGNORED] * (width - len(ids)))
    return np.array(rows)


def test_evaluation_takes_padding_of_minus_100_and_rows_that_fill_up_a_batch(tokenizer):
    split, _ = encode_summaries(ROWS, PROMPT, tokenizer, 40, 30, "rows")
    split = longest_first(split)
    evaluation = RougeEvaluation(tokenizer, split)
    labels = [[*ids, *[IGNORED] * (30 - len(ids))] for ids in split.dataset["labels"]]
    given = predicted(tokenizer, ["An alarm.", "A storm in Kelso.", "more than there are"], 30)
    scores = evaluation(EvalPrediction(given, np.array([*labels, labels[0]])))
    assert scores["rougeL"] == scores["rouge1"] == 1
    assert scores["ended"] == 1
    assert scores["gen_len"] == np.mean([len(ids) - 1 for ids in split.dataset["labels"]])
    assert [row["summary"] for row in evaluation.table] == ["An alarm.", "A storm in Kelso."]
    with pytest.raises(AssertionError, match="another order"):
        evaluation(EvalPrediction(given[:2], np.array(labels[::-1])))


@pytest.mark.parametrize(
    ("logs", "part"),
    [
        ({"loss": float("nan")}, "loss is nan"),
        ({"eval_loss": float("inf")}, "eval_loss is inf"),
        ({"loss": 1.0, "grad_norm": float("nan")}, "grad_norm is nan"),
        ({"loss": 0.0, "grad_norm": 1.0}, "loss is exactly 0"),
        ({"loss": 1.0, "grad_norm": 0.0}, "grad_norm is exactly 0"),
    ],
)
def test_a_loss_that_cannot_be_learned_from_stops_training(logs, part):
    args = SimpleNamespace(learning_rate=1.0, output_dir="out", fp16=False)
    state = SimpleNamespace(global_step=7)
    with pytest.raises(InputError, match=f"stopped at step 7: {part}"):
        LossGuardCallback().on_log(args, state, None, logs=logs)
    LossGuardCallback().on_log(args, state, None, logs={"loss": 0.3, "grad_norm": 1.0, "eval_loss": 0.0})


def test_an_overflow_that_loss_scaling_gets_over_ends_nothing():
    args, guard = SimpleNamespace(learning_rate=1.0, output_dir="out", fp16=True), LossGuardCallback()

    def log(step: int, norm: float, loss: float = 0.3):
        guard.on_log(args, SimpleNamespace(global_step=step), None, logs={"loss": loss, "grad_norm": norm})

    for step in range(1, 18):  # The scaler begins at 2^16 and halves it each time.
        log(step, float("inf"))
    log(18, 1.0)
    for step in (20, 1000):
        log(step, float("nan"))
    log(1010, 1.0)
    for step in (1020, 1030):
        log(step, float("inf"))
    log(1040, float("inf"))
    with pytest.raises(InputError, match=r"step 1050: grad_norm is inf.*--compute-dtype fp32"):
        log(1050, float("inf"))
    with pytest.raises(InputError, match="loss is nan"):
        log(1060, 1.0, loss=float("nan"))
