"""The first sentences of an article as its summary: how many, and what is said where the adapter is not better."""

from finetune.models.generation import Generation
from finetune.reports import summary_scorecard
from finetune.reports.summaries.lead import Lead, choose_lead
from finetune.reports.summary_scorecard import SummaryScorecard

import pytest

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
FIRST = Lead(1)
ROWS = [
    {"article": f"The {name} storm hit Kelso. {name.title()} houses fell. Nobody was hurt there.",
     "summary": f"The {name} storm hit Kelso."}
    for name in NUMBERS
]  # fmt: skip


def card_of(base: list[str], adapter: list[str], lead: Lead | None = FIRST) -> SummaryScorecard:
    sides = ([Generation(text, [1], True) for text in texts] for texts in (base, adapter))
    return SummaryScorecard(ROWS, *sides, lead)


@pytest.mark.parametrize(("sentences", "count"), [(1, 1), (2, 2), (3, 3)])
def test_as_many_sentences_are_taken_as_the_summaries_are_long(sentences, count):
    rows = [row | {"summary": Lead(sentences).of(row["article"])} for row in ROWS]
    assert choose_lead(rows) == Lead(count)
    assert Lead(2).of(ROWS[0]["article"]) == "The one storm hit Kelso. One houses fell."
    assert Lead(9).of("no end") == "no end"


def test_an_adapter_below_the_first_sentence_is_told_so_plainly():
    card = card_of(["nothing"] * 12, ["A storm."] * 12)
    found = card.metrics
    assert found["lead_rougeL"] == pytest.approx(1)
    assert found["lead_rougeL_difference"] == pytest.approx(found["rougeL"] - 1)
    low, high = found["lead_rougeL_low"], found["lead_rougeL_high"]
    assert low - 1e-9 <= found["lead_rougeL_difference"] <= high + 1e-9 < 0
    assert found["lead_rougeL_p"] < 0.01
    (said,) = card.not_better  # It is better than the base.
    assert "rougeL is below that of the first sentence of the article, for which no model is needed: 0." in said
    assert "worse than the first sentence" in card.headline("validation")
    assert "the first sentence: rouge1 1.000" in card.format("validation")
    assert card.table[0]["lead"] == ROWS[0]["summary"]


def test_an_adapter_that_cannot_be_told_from_base_or_lead_is_not_called_better():
    same = [row["summary"] for row in ROWS]
    said = card_of(same, same).not_better
    assert ["not better than" in line for line in said] == [True, True]
    assert "that of the base" in said[0]
    assert "that of the first sentence" in said[1]


def test_few_rows_are_not_called_no_better():
    def said(good: int) -> str:
        adapter = [row["summary"] if place < good else "nothing" for place, row in enumerate(ROWS)]
        return card_of(["nothing"] * 12, adapter, None).not_better[0]

    assert "rougeL cannot be told to be better, on 12 rows, than that of the base: 0.417 and 0.000" in said(5)
    assert "rougeL is not better than that of the base" in said(0)


def test_the_first_sentences_are_in_the_figure(monkeypatch):
    drawn = {}
    monkeypatch.setattr(summary_scorecard.tracking, "log_metrics", lambda *_: None)
    monkeypatch.setattr(summary_scorecard.figures, "log_table", lambda *_: None)
    monkeypatch.setattr(summary_scorecard.figures, "log_figure", lambda figure, name, _: drawn.update({name: figure}))
    card_of(["nothing"] * 12, ["A storm."] * 12).log("validation", "run", 1, None)
    legend = drawn["validation_rouge"].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["the first sentence", "base", "adapter"]


def test_without_training_rows_there_is_no_lead():
    card = card_of(["nothing"] * 12, [row["summary"] for row in ROWS], None)
    assert not any(name.startswith("lead") for name in card.metrics)
    assert card.not_better == []
    assert "lead" not in card.table[0]
