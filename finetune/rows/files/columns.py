"""Columns under other names: those of --column, of another letter case, of well-known data sets and chat rows."""

import logging
import re

from finetune import InputError
from finetune.rows.files.chat_rows import as_questions, shape_of

logger = logging.getLogger(__name__)
QUESTIONS, TEXTS, SUMMARIES = ("question", "context", "answer"), ("text",), ("article", "summary")
# What a row may have besides.
OPTIONAL = {(): ("split",), QUESTIONS: ("split",), TEXTS: ("label", "labels", "split"), SUMMARIES: ("split",)}
# Names in well-known data sets, taken where the task's own are not there; the first that fits.
KNOWN = {
    QUESTIONS: (
        ("questions with their SQL", {"question": "question", "context": "context", "answer": "sql"}),
        ("questions with their SQL", {"question": "question", "context": "context", "answer": "sql_query"}),
        ("questions with their SQL", {"question": "question", "context": "context", "answer": "gold_sql"}),
        ("Gretel's synthetic_text_to_sql", {"question": "sql_prompt", "context": "sql_context", "answer": "sql"}),
        ("Spider", {"question": "question", "context": "context", "answer": "query"}),
    ),
    SUMMARIES: (
        ("dialogues such as SAMSum", {"article": "dialogue", "summary": "summary"}),
        ("documents such as XSum", {"article": "document", "summary": "summary"}),
        ("texts such as BillSum", {"article": "text", "summary": "summary"}),
        ("CNN/DailyMail", {"article": "article", "summary": "highlights"}),
        ("arXiv and PubMed", {"article": "article", "summary": "abstract"}),
    ),
    TEXTS: (),
}  # fmt: skip
# What tells that rows name a database and do not bring its tables, and where those are.
WITHOUT_TABLES = (
    ("BIRD", ("db_id", "question", "SQL", "evidence"), "DB_ID/DB_ID.sqlite (sqlite3 FILE .schema)"),
    ("Spider", ("db_id", "question", "query"), "database/DB_ID/schema.sql"),
)


def parse_columns(given: list[str] | None, required: tuple[str, ...], **others: str | None) -> dict[str, str]:
    """Return `NAME=COLUMN` as a dict.

    Args:
        others: column by name that flags of their own give.

    Raises:
        InputError: another form, a name that the task does not have, or one twice.
    """
    known = (*required, *OPTIONAL[required])
    found: dict[str, str] = {}
    example = " ".join(f"{name}=COLUMN" for name in required)
    for item in [*(given or ()), *(f"{name}={column}" for name, column in others.items() if column is not None)]:
        name, equals, column = item.partition("=")
        if not equals or not column:
            raise InputError(f"--column {item}: expected NAME=COLUMN, for example --column {example}.")
        if name not in known:
            raise InputError(f"--column {item}: there is no {name}; expected {', '.join(known)}.")
        if found.setdefault(name, column) != column:
            raise InputError(f"--column names {name} twice: {found[name]} and {column}.")
    if twice := [column for column in found.values() if list(found.values()).count(column) > 1]:
        raise InputError(f"--column gives the column {twice[0]} two meanings; expected a column for each.")
    return found


def read_columns(
    rows: list[dict],
    required: tuple[str, ...],
    given: dict[str, str],
    what: str,
    trained: dict[str, str] | None = None,
    needed: tuple[str, ...] | None = None,
) -> tuple[list[dict], dict[str, str]]:
    """Return rows under the names that the task has for its columns, and what each was called.

    A column is, in this order, the one that `given` names, the one of its own name in any letter case, the one that
    `trained` names, or that of a well-known data set. For text-to-SQL, rows of a chat, of a prompt or of an
    instruction are taken apart: see chat_rows.py. Other columns stay as they are.

    Args:
        given: column by name, of --column; each must be there.
        trained: column by name, as in the model's training; taken where it is there.
        needed: those of `required` that must be there; all if not given.

    Raises:
        InputError: a column is missing, two could be meant, or the rows name their tables elsewhere.
    """
    if required and not rows:
        raise InputError(f"{what}: there are none; expected rows with {', '.join(required)}.")
    present = list(dict.fromkeys(name for row in rows for name in row))
    shape = shape_of(present) if required == QUESTIONS and not given else None
    if shape and not all(_same(name, present, what) for name in required):
        return _read_shape(rows, shape, present, what)
    found = find_columns(present, required, given, what, trained, needed)
    if required == QUESTIONS and "evidence" in present:
        logger.warning(f"{what}: the column evidence is not read; what it says belongs into the question.")
    return _rename(rows, found), found


def _read_shape(rows: list[dict], shape: str, present: list[str], what: str) -> tuple[list[dict], dict[str, str]]:
    questions = as_questions(rows, shape, what)
    first = {name: " ".join(questions[0][name].split())[:80] for name in QUESTIONS}
    logger.info(f"{what} are read as {shape} rows; the first: {first}")
    split = _same("split", present, what)
    return _rename(questions, {"split": split} if split else {}), {}


def find_columns(
    present: list[str],
    required: tuple[str, ...],
    given: dict[str, str],
    what: str,
    trained: dict[str, str] | None = None,
    needed: tuple[str, ...] | None = None,
) -> dict[str, str]:
    """Return what rows call the columns of a task.

    Args:
        present: the names that the rows have.
        needed: those of `required` that must be there; all if not given.

    Raises:
        InputError: see `read_columns`.
    """
    found = {name: _find(column, present, f"--column {name}={column}", what) for name, column in given.items()}
    for name in (*required, *OPTIONAL.get(required, ())):
        if name not in found and (column := _same(name, present, what)) and column not in found.values():
            found[name] = column
    for name, column in (trained or {}).items():
        if name not in found and column in present:
            found[name] = column
    if missing := [name for name in needed or required if name not in found]:
        found |= _well_known(present, required, missing, found, what)
    return found


class Names:
    """What rows call the columns that a model reads, found anew for rows with other names.

    Args:
        needed: those of the task's columns that must be there.
        given, trained: as `read_columns` takes them.
    """

    def __init__(
        self, required: tuple[str, ...], needed: tuple[str, ...], given: dict[str, str], trained: dict[str, str] | None
    ):
        self.required, self.needed, self.given, self.trained = required, needed, given, trained
        self.known: dict[tuple, dict[str, str]] = {}

    def read(self, row: dict, what: str = "the rows") -> dict:
        """Return what a row has in the columns of the task.

        Raises:
            InputError: see `read_columns`.
        """
        if (names := tuple(row)) not in self.known:
            self.known[names] = find_columns(list(names), self.required, self.given, what, self.trained, self.needed)
        return {name: row[column] for name, column in self.known[names].items()}


def say_columns(columns: dict[str, str], what: str) -> None:
    """Log which columns have other names than the task's."""
    if other := [f"{name} is {column}" for name, column in columns.items() if name != column]:
        logger.info(f"{what}: {', '.join(other)}")


def _find(column: str, present: list[str], flag: str, what: str) -> str:
    found = column if column in present else _same(column, present, what)
    if found is None:
        raise InputError(f"{flag}: {what} have no column {column}; found {', '.join(present)}.")
    return found


def _same(name: str, present: list[str], what: str, ours: str = "") -> str | None:
    """Return the column of a name, in whatever letter case, with spaces or hyphens for underscores.

    Args:
        ours: the task's name for it, where it is another.
    """
    alike = [column for column in present if _folded(column) == _folded(name)]
    if name in alike:
        return name
    if len(alike) > 1:
        flag = f"--column {ours or name}=COLUMN"
        raise InputError(f"{what} have the columns {' and '.join(alike)}; say which is meant: {flag}.")
    return alike[0] if alike else None


def _folded(column: str) -> str:
    return re.sub(r"[\s_-]+", "_", column.strip().lower())


def _well_known(
    present: list[str], required: tuple[str, ...], missing: list[str], found: dict[str, str], what: str
) -> dict[str, str]:
    """Return the columns that are missing, as a well-known data set calls them."""
    for name, columns in KNOWN.get(required, ()):
        theirs = {ours: same for ours in missing if (same := _same(columns[ours], present, what, ours))}
        if len(theirs) == len(missing) and not set(theirs.values()) & set(found.values()):
            logger.info(f"{what} are named as {'' if name.startswith('questions') else 'in '}{name}.")
            return theirs
    for name, needed, place in WITHOUT_TABLES:
        if "context" in missing and all(_same(column, present, what) for column in needed):
            raise InputError(
                f"{what} are named as in {name}, whose rows have no column context: they name a database, db_id, whose"
                f" CREATE TABLE statements are in {place}. Put these into each row as context; found"
                f" {', '.join(present)}, expected {', '.join(required)}."
            )
    how = " ".join(f"{name}=COLUMN" for name in missing)
    raise InputError(
        f"{what} have no column {', '.join(missing)}; found {', '.join(present)}, expected {', '.join(required)}."
        f" Where they are called otherwise: --column {how}."
    )


def _rename(rows: list[dict], columns: dict[str, str]) -> list[dict]:
    if all(name == column for name, column in columns.items()):
        return rows
    taken = set(columns) | set(columns.values())
    return [
        {name: row.get(column) for name, column in columns.items() if column in row}
        | {name: value for name, value in row.items() if name not in taken}
        for row in rows
    ]
