"""Answers that find nothing on the database, in whose place the likeliest other SQL that finds something is taken."""

from collections.abc import Callable

from finetune.databases.candidates import choose, finds
from finetune.databases.database import Outcome
from finetune.models.generation import Generation
from finetune.models.sql_writer import SqlWriter
from finetune.progress_line import Progress
from finetune.reports.scorecards.on_database import OnDatabase, asking
from finetune.rows.sql.running import is_about


def take_candidates(
    writer: SqlWriter,
    asked: list[tuple[dict, list[int], Generation]],
    on: OnDatabase,
    max_new_tokens: int,
    bare: Callable[[str], str] = str,
) -> list[Generation]:
    """Return the answers to some rows: others in the place of those that fail on the database or find nothing there.

    Answers to rows about other tables stay as they are.

    Args:
        asked: of each question its row, the token ids of its prompt and the first answer.
        bare: takes off what is round an answer's SQL.
    """
    ask, taken = asking(on.database), [first for *_, first in asked]
    known: dict[str, Outcome] = {}

    def run(sql: str) -> Outcome:
        return known[sql] if sql in known else known.setdefault(sql, ask(sql))

    about = [place for place, (row, *_) in enumerate(asked) if is_about(str(row["context"]), on.database)]
    poor = [place for place in about if not finds(run(bare(taken[place].text)))]
    with Progress("questions without a result", len(poor), "asked again", quiet=not poor):
        for place in poor:
            _, prompt, first = asked[place]
            tried = [first, *writer.others(prompt, on.candidates, first.text, max_new_tokens=max_new_tokens)]
            texts = [bare(one.text) for one in tried]
            taken[place] = tried[texts.index(choose(texts, run)[0])]
    return taken
