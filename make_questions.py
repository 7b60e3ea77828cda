"""Write questions with their SQL about your own database, where there are none yet to train on.

The pairs are made by rule from tables, keys and values, and each query is run, for reading alone. A person reads and
mends them before training: go on with `python train_sql_generator.py --database URL --dataset pairs.csv`.
"""

import csv
import io
import json
import logging
from collections import Counter
from contextlib import suppress
from pathlib import Path

from finetune import InputError, console
from finetune.console import Parser
from finetune.databases.database import AUTO, Database, open_database
from finetune.making_questions.live.answers import Answers, NoAnswer, answering
from finetune.making_questions.live.making import Made, Maker
from finetune.making_questions.live.reading import read_tables
from finetune.making_questions.schemas import Table
from finetune.models.files.replacing import replace_file
from finetune.progress_line import Progress
from finetune.screen import DETAIL

logger = logging.getLogger(__name__)
FORMATS = (".csv", ".jsonl")
ORIGIN = "generated"
NOTICE = (
    "these pairs are made by rule: a person reads and mends them before training. Look at whether somebody would ask"
    " so, in the words of your house; whether the SQL answers just that; whether values in the questions may be shown"
    " to who trains; and at what is missing: what is asked most, and rules of your own, such as what counts as overdue."
)


def main(arguments: list[str] | None = None) -> None:
    """Read the database, make pairs, and write them; print the file's name."""
    flags = parse(arguments)
    database = open_database(flags.database, flags.tables or [AUTO])  # all, however many
    logger.info(NOTICE)
    with answering(database) as ask:
        tables = read(database, ask)
        with Progress("questions", flags.rows, "pairs") as line:
            made = Maker(tables, ask, flags.seed).make(flags.rows, line.update)
    tell_made(made, flags.rows)
    tell_failed(ask)
    if not made.pairs and not made.lost:
        raise InputError("no pairs: the tables have nothing that can be asked; columns of texts, numbers or dates can.")
    if made.pairs:
        save(flags.output, made)
    if made.lost:
        kept = f"; the {len(made.pairs)} pairs of before are in {flags.output}" if made.pairs else ""
        raise InputError(f"--database does not answer any more: {made.lost}{kept}.")
    console.print_result(str(flags.output))


def read(database: Database, ask: Answers) -> list[Table]:
    """Return the tables that can be asked about, and say what is left out.

    Raises:
        InputError: there are none, or the database does not answer any more.
    """
    try:
        with Progress("tables", len(database.columns), "looked at") as line:
            tables, left_out = read_tables(database, ask, line.update)
    except NoAnswer as error:
        raise InputError(f"--database does not answer any more: {error}.") from error
    tell_tables(len(tables), left_out, len(database.keys))
    if not tables:
        raise InputError(f"no pairs: none of the {len(left_out)} tables has rows that can be read.")
    return tables


def parse(arguments: list[str] | None):
    """Return the flags, checked before the database is looked at."""
    parser = Parser(usage="%(prog)s --database URL --output FILE [flags]", description=__doc__)
    database = parser.add_argument_group("database")
    pairs = parser.add_argument_group("pairs")
    output = parser.add_argument_group("output")
    database.add_argument(
        "--database", metavar="URL", required=True, help="URL or file of the database; it is read, never changed"
    )
    database.add_argument("--tables", nargs="+", metavar="T", help="tables to ask about; all by default")
    output.add_argument("--output", type=Path, metavar="FILE", required=True, help=".csv or .jsonl file to write")
    output.add_argument("--overwrite", action="store_true", help="replace the file where there is one")
    pairs.add_argument("--rows", type=int, default=500, help="how many pairs")
    pairs.add_argument("--seed", type=int, default=0, help="another number than 0 makes other pairs")
    flags = parser.parse_args(arguments)
    if flags.rows < 1:
        raise InputError(f"--rows {flags.rows} must be at least 1.")
    check_output(flags.output, flags.overwrite)
    return flags


def check_output(path: Path, overwrite: bool) -> None:
    """Look at the file that is to be written.

    Raises:
        InputError: another kind of file, no such folder, or it is there already.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"--output {path}: expected a name that ends with {' or '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}.")
    if path.is_dir():
        raise InputError(f"--output {path} is a folder; expected the name of a file.")
    if path.exists() and not overwrite:
        raise InputError(f"--output {path} is there already; --overwrite replaces it, or give another name.")


def tell_tables(found: int, left_out: dict[str, str], keys: int) -> None:
    """Say what the questions can be about; `left_out`: why a table cannot be read, "" where it has no rows."""
    logger.info(f"{found} tables with rows, {keys} keys between tables.")
    if empty := [name for name, reason in left_out.items() if not reason]:
        logger.warning(f"left out, without rows: {some(empty)}.")
    if unread := [f"{name} ({reason})" for name, reason in left_out.items() if reason]:
        logger.warning(f"left out, since they cannot be read: {some(unread)}.")
    if not keys and found > 1:
        logger.warning("the database declares no keys between its tables, so that no question is about two of them.")


def tell_made(made: Made, wanted: int) -> None:
    """Say how many pairs there are, how many were left out and why, and of which shapes they are."""
    left_out = sum(made.left_out.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in made.left_out.most_common())
    logger.info(f"left out {left_out:,}: {reasons}." if left_out else "none was left out.")
    if made.again:
        logger.info(f"a question that was drawn again ({made.again:,} times) is there once.", extra=DETAIL)
    logger.info(f"shapes: {dict(Counter(pair.shape for pair in made.pairs).most_common())}", extra=DETAIL)
    if 0 < len(made.pairs) < wanted and not made.lost:
        logger.warning(
            f"{len(made.pairs)} pairs in the place of {wanted}: these tables have no more that says something, and no"
            " shape takes more than a fifth; more tables, more rows or keys between tables give more."
        )


def tell_failed(ask: Answers) -> None:
    """Say how many queries failed, and why the first of them did."""
    if ask.failures:
        sql, reason = next(iter(ask.why.items()))
        logger.warning(f"{ask.failures:,} queries failed, the first for this reason: {reason} ({sql}).")


def some(names: list[str]) -> str:
    """Return the first ten of names, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def save(path: Path, made: Made) -> None:
    """Write the pairs at once, so that no half of a file is left behind.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [{"question": pair.question, "sql": pair.sql, "origin": ORIGIN} for pair in made.pairs]
    try:
        replace_file(path, as_csv(rows) if path.suffix.lower() == ".csv" else as_lines(rows))
    except OSError as error:
        with suppress(OSError):
            path.with_name(path.name + ".new").unlink(missing_ok=True)
        raise InputError(f"--output {path} cannot be written: {error.strerror}.") from error


def as_csv(rows: list[dict]) -> str:
    """Return rows as CSV with a line of headings."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_lines(rows: list[dict]) -> str:
    """Return rows as JSON, a line each."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    console.run(main)
