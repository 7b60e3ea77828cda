"""Rows held out by label, and texts that are nearly equal."""

import json
from collections import Counter
from random import Random

from finetune import InputError
from finetune.rows.files.columns import SUMMARIES, TEXTS
from finetune.rows.loading import load_rows
from finetune.rows.splits.holdout import hold_out_by_label, hold_out_by_text
from finetune.rows.splits.leaks import text_leaks
from finetune.rows.splits.near_texts import near_copies, near_groups

import pytest

WORDS = "amber birch cedar delta ember fjord grove heath inlet jetty knoll larch marsh north ochre pines quill".split()


def texts(count, seed=0, length=8):
    random = Random(seed)
    return [" ".join(random.sample(WORDS, length)) + f" {i}" for i in range(count)]


@pytest.mark.parametrize(
    ("text", "copy", "near"),
    [
        ("My order 4711 has not arrived.", "my order 815 has NOT arrived!", True),
        ("We may end the service at any time", "We may end this service at any time", True),
        ("I love this movie", "I hate this movie", False),
        ("お客様の注文が届きません", "お客様の注文が届きました", True),
        ("今日は雨です", "明日は晴れでしょう", False),
        ("good", "bad", False),
        ("a " + " ".join(WORDS * 3), " ".join(WORDS * 2), True),
    ],
)
def test_what_nearly_equal_means(text, copy, near):
    assert near_copies([text], [copy]).tolist() == [near] == near_copies([copy], [text]).tolist()
    groups = near_groups([text, "something else entirely", copy])
    assert (groups[0] == groups[2]) == near
    assert groups[1] not in (groups[0], groups[2])


def test_copies_are_found_as_by_comparing_all():
    given = texts(300, length=5)
    words = [set(text.rsplit(" ", 1)[0].split()) | {"0"} for text in given]
    pairs = {(i, j) for i in range(300) for j in range(i) if len(words[i] & words[j]) >= 0.7 * len(words[i] | words[j])}
    assert pairs
    groups = near_groups(given)
    assert all(groups[i] == groups[j] for i, j in pairs)
    assert near_copies(given[200:], given[:200]).tolist() == [
        any((i, j) in pairs for j in range(200)) for i in range(200, 300)
    ]


def test_long_copies_are_found_and_long_strangers_are_not():
    vocabulary = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(676)]
    articles = [Random(i).choices(vocabulary, k=300) for i in range(40)]
    copies = [[*article[:290], "and", "more"] for article in articles]
    given = [" ".join(article) for article in articles]
    assert near_copies([" ".join(copy) for copy in copies], given).mean() == 1
    assert len(set(near_groups(given))) == 40


def test_rows_are_held_out_by_label_and_copies_stay_together():
    rows = [{"text": text, "label": "rare" if i % 10 == 0 else "often"} for i, text in enumerate(texts(200))]
    rows += [row | {"text": row["text"].upper() + " !"} for row in rows]
    train, validation = hold_out_by_label(rows, 0.1, 0)
    assert sorted(row["text"] for row in train + validation) == sorted(row["text"] for row in rows)
    counts = Counter(row["label"] for row in validation)
    assert 4 <= counts["rare"] <= 8
    assert 32 <= counts["often"] <= 48
    assert not near_copies([row["text"] for row in validation], [row["text"] for row in train]).any()
    assert hold_out_by_label(rows, 0.1, 0) == (train, validation) != hold_out_by_label(rows, 0.1, 1)


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        (lambda on: {"labels": ["a"] if on else []}, {}), (lambda on: {"labels": "a;b" if on else "b"}, {}),
        (lambda on: {"labels": [0, 1, 0] if on else [1, 0, 0]}, {"names": ["x", "y", "z"]}),
        (lambda on: {"x": "1" if on else "0", "y": "0"}, {"columns": ["x", "y"]}), (lambda on: {"label": on * 2}, {}),
    ],
)  # fmt: skip
def test_labels_in_every_form_are_held_out(row, flags):
    rows = [{"text": text} | row(i % 20 == 0) for i, text in enumerate(texts(200))]
    _, validation = hold_out_by_label(rows, 0.1, 0, **flags)
    rare = [each for each in validation if each == row(True) | {"text": each["text"]}]
    assert 1 <= len(rare) <= 2
    assert 15 <= len(validation) <= 30


def test_templates_are_said_or_refused(caplog):
    tickets = [{"text": f"Where is my order {i} please", "label": "order"} for i in range(50)]
    bills = [{"text": f"I was charged {i} times for it", "label": "bill"} for i in range(50)]
    with pytest.raises(InputError, match="the texts of each label are all nearly equal"):
        hold_out_by_label(tickets + bills, 0.1, 0)
    other = [{"text": text, "label": "bill"} for text in texts(20)]
    _, validation = hold_out_by_label(tickets + bills + other, 0.1, 0)
    assert {row["label"] for row in validation} == {"bill"}
    assert len(validation) < 50
    assert "no row of the label order is held out: their texts are all nearly equal" in caplog.text
    hold_out_by_label([*other, {"text": "What a nice day", "label": "fun"}, *tickets], 0.1, 0)
    assert "no row of the label fun is held out: it has one alone" in caplog.text


def test_articles_are_held_out(tmp_path):
    rows = [{"dialogue": text, "summary": f"s{i}"} for i, text in enumerate(texts(50))]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    found = load_rows(str(tmp_path / "rows.json"), SUMMARIES, 0.2, 0, hold_out=hold_out_by_text)
    assert (len(found.train), len(found.validation)) == (40, 10)
    assert found.split_by == "20% held out by text"
    with pytest.raises(InputError, match=r"--validation-fraction 0\.1, which holds out"):
        load_rows(str(tmp_path / "rows.json"), SUMMARIES, None, 0, hold_out=hold_out_by_text)


def test_the_leak_report_counts_copies_of_training_texts(tmp_path, caplog):
    parts = {"train": texts(40), "validation": [*texts(18, seed=9), texts(40)[3].upper(), texts(40)[4] + " so"]}
    rows = [{"text": text, "label": "a", "split": part} for part, found in parts.items() for text in found]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    report = text_leaks(load_rows(str(tmp_path / "rows.json"), TEXTS, None, 0), "text")
    assert report["validation"] == {"rows": 20, "equal": 1, "nearly_equal": 2, "share": 0.1}
    assert "2 (10.00%) one that is nearly equal. So far the scores measure memory" in caplog.text
