"""ROUGE by Google's rouge-score library, and how long and repetitive summaries are; a local `evaluate` module.

    metric = evaluate.load("metrics/rouge")
    metric.compute(predictions=["the cat sat"], references=["a cat sat down"])

F-measures from 0 to 1, means over the rows, words stemmed (Lin 2004; the settings of transformers' examples).
`rougeLsum` compares sentence by sentence; rouge-score takes sentences to be separated by newlines, so texts are
split here first. rouge-score knows the letters a to z and digits only: other scripts score 0.
"""

from functools import cache

import datasets
import evaluate
import nupunkt
from rouge_score import rouge_scorer

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@cache
def _scorer() -> rouge_scorer.RougeScorer:
    return rouge_scorer.RougeScorer(list(ROUGE), use_stemmer=True)


def split_lines(text: str) -> str:
    """Return a text with its sentences on lines of their own."""
    lines = (line for line in text.splitlines() if line.strip())
    return "\n".join(sentence.strip() for line in lines for sentence in nupunkt.sent_tokenize(line))


def score_row(prediction: str, reference: str) -> dict[str, float]:
    """Return the four F-measures of one summary."""
    found = _scorer().score(split_lines(reference), split_lines(prediction))
    return {name: found[name].fmeasure for name in ROUGE}


def repetition_rate(text: str, n: int = 3) -> float:
    """Return the share of a text's word n-grams that repeat an earlier one (seq-rep-n, Welleck et al. 2020)."""
    words = text.lower().split()
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def score(predictions: list[str], references: list[str]) -> dict[str, float]:
    """Return the means over the rows: the four of ROUGE, and `repetition_rate` of the predictions.

    Raises:
        ValueError: for no rows, or another number of references.
    """
    if not predictions or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} references; expected as many, not 0")
    rows = [score_row(*pair) for pair in zip(predictions, references, strict=True)]
    found = {name: sum(row[name] for row in rows) / len(rows) for name in ROUGE}
    return found | {"repetition_rate": sum(map(repetition_rate, predictions)) / len(predictions)}


class Rouge(evaluate.Metric):
    """`compute(predictions, references)` takes texts; see `score`."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description=type(self).__doc__,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return score(predictions, references)
