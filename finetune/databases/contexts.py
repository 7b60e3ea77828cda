"""Questions without a schema, about a database: it brings the CREATE TABLE statements.

With `--tables auto` a question's text has the tables that are chosen for it. Rows first get the text of all tables, so
that they are split and cleaned as rows of one schema, and then, by `choose_contexts`, that of their own.
"""

import logging
from random import Random

from finetune.databases.database import Database
from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.scopes import find_table
from finetune.databases.schema.choosing import LIMIT
from metrics.sql_execution.queries import QueryError, parse

from sqlglot import exp

logger = logging.getLogger(__name__)
MORE = 2  # tables drawn at random that a training row may have beside those that are chosen
# The column of a row with the schema that its SQL is judged on, where that is more than its context.
JUDGED_ON = "context with the tables of gold"


def fill_contexts(rows: list[dict], database: Database) -> list[dict]:
    """Return the rows, those without a `context` with the tables of the database: the text that predict.py gives.

    Of a database of `--tables auto` that is all tables, until `choose_contexts`.
    """
    statements = database.statements
    return [row if str(row.get("context") or "").strip() else row | {"context": statements} for row in rows]


def choose_contexts(rows: list[dict], database: Database | None, part: str, seed: int | None = None) -> list[dict]:
    """Return the rows, those that `fill_contexts` gave all tables with those for their question; say what is missed.

    Without a seed these are the ones that prediction gives. A row whose gold asks for another table has the schema to
    judge its SQL on as JUDGED_ON: it stays among the rows, and is answered without that table.

    Args:
        part: what messages call the rows.
        seed: of training rows, which have all tables of their gold, and some at random beside those that are chosen.
    """
    if database is None or not database.chooses:
        return rows
    whole, found, lacking = database.statements, [], []
    about = sum(row.get("context") == whole for row in rows)
    for row in rows:
        if row.get("context") != whole:
            found.append(row)
            continue
        chosen = database.choose(str(row["question"]))
        gold = tables_of(str(row.get("answer") or ""), database)
        missed = [table for table in gold if table not in chosen.tables]
        lacking += missed[:1]
        if seed is not None:
            tables = _for_training(gold, chosen.ranked, database, Random(f"{seed} {row['question']}"))
            found.append(row | {"context": database.text(tables)})
        else:
            judged = {JUDGED_ON: database.text([*chosen.tables, *missed])} if missed else {}
            found.append(row | {"context": database.text(chosen.tables)} | judged)
    means = ", which they are given in training" if seed is not None else ": these are answered without it"
    tell = logger.warning if len(lacking) > about / 10 else logger.info
    tell(
        f"--tables auto, {part}: for {about - len(lacking)} of {about} questions all tables of their SQL are chosen;"
        f" {len(lacking)} lack one" + (f" (such as {lacking[0]}){means}." if lacking else ".")
    )
    return found


def tables_of(sql: str, database: Database) -> list[str]:
    """Return the tables of the database that a query reads; none where it cannot be read."""
    try:
        tree = parse(sql, database.dialect)
    except QueryError:
        return []
    inner = {entry.alias.lower() for entry in tree.find_all(exp.CTE)}
    found: dict[str, None] = {}
    for table in tree.find_all(exp.Table):
        try:
            name = find_table(database.columns, table.name)
        except Refused:
            continue
        if name is not None and table.name.lower() not in inner:
            found[name] = None
    return list(found)


def _for_training(gold: list[str], ranked: tuple[str, ...], database: Database, random: Random) -> list[str]:
    """Return the tables of gold, those that are chosen first, and up to MORE others at random: at most LIMIT."""
    wanted = list(dict.fromkeys([*gold, *ranked]))[: max(LIMIT, len(gold))]
    others = [table for table in database.columns if table not in wanted]
    room = max(0, min(MORE, LIMIT - len(wanted), len(others)))
    return [*wanted, *random.sample(others, random.randint(0, room))]
