"""Tables of a live database as a question sees them: their columns' kinds and values, and the keys between them."""

import re
from dataclasses import replace

from finetune.databases.database import Database
from finetune.databases.schema.words import written
from finetune.making_questions.live.answers import Answers
from finetune.making_questions.live.kinds import LONGEST, can_be_said, has_no_words, kind_of, spelled
from finetune.making_questions.schemas import Column, FullName, Table
from finetune.making_questions.words import spaced

# Types of texts of any length, with the affinity of texts in SQLite.
LONG_TEXT = re.compile("CHAR|TEXT|CLOB", re.IGNORECASE)
VALUES = 500  # different ones of a column that are looked at
FIRST, LAST = ("first name", "forename", "given name"), ("last name", "surname", "family name")
NAMING = set("name title".split())  # last words of columns that name a row


def read_tables(database: Database, ask: Answers, progress=lambda done: None) -> tuple[list[Table], dict[str, str]]:
    """Return the tables that have rows; and those that have none, or cannot be read, with the reason or "".

    Args:
        progress: called with the number of tables that were looked at.

    Raises:
        NoAnswer: the database does not answer any more.
    """
    found, left_out = {}, {}
    for done, (name, columns) in enumerate(database.columns.items(), start=1):
        query = f"SELECT COUNT(*) FROM {written(name)}"
        counted = ask([query])[0]
        rows = counted[0][0] if counted else 0
        if rows:
            found[name] = read_table(name, columns, rows, ask)
        else:
            left_out[name] = ask.why.get(query, "")
        progress(done)
    return connect(found, database), left_out


def read_table(name: str, declared: dict[str, str], rows: int, ask: Answers) -> Table:
    """Return a table with the kinds of its columns and some of their values; no column is a key to another yet."""
    looked_at = [column for column, kind in declared.items() if not has_no_words(kind)]
    answers = iter(ask([query for column in looked_at for query in queries_of(column, declared[column], name)]))
    columns = []
    for column, kind in declared.items():
        counts, values = (next(answers), next(answers)) if column in looked_at else ([[0, 0]], [])
        if counts and values is not None:
            columns.append(read_column(column, kind, rows, counts[0], [value for (value,) in values]))
        else:
            columns.append(Column(column, "other"))
    table = Table(name, tuple(columns))
    label, is_distinct = find_label(table, rows, ask)
    return replace(table, labels=(label,) if label else (), distinct=is_distinct)


def queries_of(column: str, declared: str, table: str) -> tuple[str, str]:
    """Return the query for counts of a column's values, and for values: of a long text its beginning."""
    at, source = written(column), f"FROM {written(table)}"
    value = f"SUBSTR({at}, 1, {LONGEST + 1})" if LONG_TEXT.search(declared) else at
    return (
        f"SELECT COUNT({at}), COUNT(DISTINCT {at}) {source}",
        f"SELECT DISTINCT {value} {source} WHERE {at} IS NOT NULL LIMIT {VALUES}",
    )


def read_column(name: str, declared: str, rows: int, counts: list, values: list) -> Column:
    """Return a column of its counts (of values, of different ones) and of different values."""
    kind = kind_of(name, declared, values)
    filled, different = counts
    said = sorted({spelled(value, kind) for value in values})
    if kind in ("number", "year"):
        said.sort(key=float)
    elif kind == "text":
        said = [text for text in said if can_be_said(text)]
    # `joined_on` is "joined date" to people.
    words = re.sub(" (on|at)$", " date", spaced(name)) if kind in ("date", "time") else ""
    return Column(name, kind, tuple(said), different * 4 <= filled * 3, 0 < filled < rows, words)


def find_label(table: Table, rows: int, ask: Answers) -> tuple[Column | None, bool]:
    """Return what names a row, if something does, and whether no two rows have the same: first and last name, a column
    called so, or texts of which no two are the same."""
    texts = [column for column in table.columns if column.kind == "text"]
    first = next((column for column in texts if column.words in FIRST), None)
    last = next((column for column in texts if column.words in LAST), None)
    if first and last:
        return full_name(table, first, last, rows, ask)
    named = [column for column in texts if column.words.split()[-1] in NAMING]
    named.sort(key=lambda column: column.words not in (*NAMING, *(f"{table.singular} {word}" for word in NAMING)))
    for column in [*named, *texts]:
        (counted,) = ask([f"SELECT COUNT(DISTINCT {column.at()}) FROM {table.sql}"])
        is_distinct = counted == [[rows]]
        if column in named or is_distinct:
            return column, is_distinct
    return None, False


def full_name(table: Table, first: Column, last: Column, rows: int, ask: Answers) -> tuple[Column, bool]:
    """Return the name of people in two columns, and whether no two of them have the same."""
    pairs = ask([f"SELECT DISTINCT {first.at()}, {last.at()} FROM {table.sql} LIMIT {VALUES}"])[0] or []
    parts = sorted((one, two) for one, two in pairs if one and two and can_be_said(one) and can_be_said(two))
    if not parts:
        return last, False
    names = tuple(f"{one} {two}" for one, two in parts)
    column = FullName(f"{first.name} {last.name}", "text", names, False, both=(first, last), parts=tuple(parts))
    return column, len(pairs) == rows


def connect(tables: dict[str, Table], database: Database) -> list[Table]:
    """Return the tables, with the keys between them: of one column, to one column of another table.

    Two keys from one table to the same other are left out: no plain words say which of them is meant.
    """
    single = [key for key in database.keys if len(key.columns) == 1 and {key.table, key.other} <= {*tables}]
    ids: dict[str, str] = {}
    for key in single:
        ids.setdefault(key.other, key.other_columns[0])
    inner = {(key.table, column) for key in database.keys for column in key.columns}
    usable = [
        key
        for key in single
        if key.table != key.other
        and ids[key.other] == key.other_columns[0]
        and sum((key.table, key.other) == (one.table, one.other) for one in single) == 1
    ]
    return [
        replace(
            table,
            columns=tuple(_as_key(column, table.name, ids, inner) for column in table.columns),
            points=tuple((key.columns[0], key.other) for key in usable if key.table == table.name),
        )
        for table in tables.values()
    ]


def _as_key(column: Column, table: str, ids: dict[str, str], inner: set[tuple[str, str]]) -> Column:
    if ids.get(table) == column.name:
        return replace(column, kind="id")
    return replace(column, kind="key") if (table, column.name) in inner else column
