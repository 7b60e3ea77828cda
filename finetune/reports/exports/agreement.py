"""How the answers of an export compare with those of the trained model, on the same prompts."""

from dataclasses import dataclass

from finetune.models.card import Card
from metrics.rouge.rouge import score as rouge
from metrics.sql_execution.sql_execution import judge_all, summarize


@dataclass
class Agreement:
    """Answers to the same rows, by the trained model and by an export in a library.

    Attributes:
        asked_in: the library that answered.
        prompts_equal: of the prompts, how many have the same token ids in both.
        score: name of the score, and what both have of it on the rows whose right answer is known; None without such.
        scored: how many rows these are.
    """

    asked_in: str
    rows: list[dict]
    trained: list[str]
    exported: list[str]
    prompts: int
    prompts_equal: int
    tolerance: float
    score: tuple[str, float, float] | None = None
    scored: int = 0

    @property
    def equal(self) -> int:
        """How many answers are the same text."""
        return sum(one == other for one, other in zip(self.trained, self.exported, strict=True))

    @property
    def share(self) -> float:
        """The share of answers that are the same text."""
        return self.equal / len(self.rows)

    @property
    def passed(self) -> bool:
        """Whether no more answers differ than may."""
        return len(self.rows) - self.equal <= self.tolerance * len(self.rows) + 1e-9

    def metrics(self, form: str) -> dict[str, float]:
        """Return what is logged into the run."""
        found = {f"export_{form}_equal": self.share, f"export_{form}_rows": float(len(self.rows))}
        if self.score:
            name, before, after = self.score
            found |= {f"export_{form}_{name}": after, f"export_{form}_{name}_delta": after - before}
        return found

    def sentence(self) -> str:
        """Return it in words."""
        text = f"In {self.asked_in}, {self.equal} of {len(self.rows)} held-out answers are the trained model's"
        if self.score:
            name, before, after = self.score
            text += f"; {name} on {self.scored} rows is {after:.3f}, the trained model's {before:.3f}"
            text += f" ({after - before:+.3f})"
        if self.prompts_equal < self.prompts:
            text += f"; its tokenizer reads {self.prompts - self.prompts_equal} of {self.prompts} prompts otherwise"
        return text + "."

    @property
    def table(self) -> list[dict]:
        """One row a row, with both answers."""
        pairs = zip(self.rows, self.trained, self.exported, strict=True)
        return [row | {"trained": one, "exported": other, "equal": one == other} for row, one, other in pairs]


def score(card: Card, rows: list[dict], *sides: list[str]) -> tuple[str, list[float], int] | None:
    """Return the name of a task's score, what each side has of it, and on how many rows; None without right answers."""
    known = [index for index, row in enumerate(rows) if row.get("answer", row.get("summary"))]
    if not known:
        return None
    if card.base_kind == "decoder":
        dialect = card.dialect  # type: ignore[attr-defined]
        judged = [
            summarize(judge_all([(s[i], rows[i]["answer"], rows[i]["context"]) for i in known], dialect=dialect))
            for s in sides
        ]
        if not judged[0]["rows_scored"]:
            return None
        return "exec_accuracy", [one["exec_accuracy"] for one in judged], judged[0]["rows_scored"]
    references = [rows[index]["summary"] for index in known]
    return "rougeL", [rouge([side[index] for index in known], references)["rougeL"] for side in sides], len(known)
