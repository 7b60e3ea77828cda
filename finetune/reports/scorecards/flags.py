"""Flags of the scripts that score a logged model: its rows, and what of them counts."""

from argparse import Namespace
from pathlib import Path

from finetune import InputError
from finetune.databases.candidates import CANDIDATES
from finetune.models.generation import BATCH_SIZE
from finetune.rows.sql.cleaning import check_dialect
from finetune.training.flags.database_flags import TABLES, TRUST_ROLE, VALUES


def add_row_flags(group, required: bool = True) -> None:
    """Declare which rows are scored."""
    group.add_argument("--dataset", type=Path, required=required, help=".jsonl, .json, .csv or .parquet file")
    group.add_argument(
        "--column", nargs="+", action="extend", metavar="NAME=COLUMN", help="what the file calls the model's columns"
    )
    group.add_argument("--encoding", default="utf-8", help="encoding of the file")
    group.add_argument("--split", default="test", help="rows to take where the file has a column `split`")
    group.add_argument("--max-rows", type=int, help="score this many rows only, the first ones")
    group.add_argument("--database", metavar="URL", help="your own database, for rows without a context: URL or file")
    group.add_argument("--tables", nargs="+", metavar="T", help=TABLES)
    group.add_argument("--values", type=int, metavar="N", help=f"{VALUES}; default: as trained")
    group.add_argument("--trust-role", action="store_true", help=TRUST_ROLE)


def add_score_flags(group) -> None:
    """Declare what of the rows and answers counts."""
    group.add_argument(
        "--distractor-columns",
        type=int,
        help="foreign columns a table in a second scorecard [4; 0 with --database]; 0: none",
    )
    group.add_argument("--no-clean", dest="clean", action="store_false", help="keep rows whose right SQL is corrupt")
    group.add_argument("--dialect", help="SQL of rows and answers, such as postgres; default: as trained")
    group.add_argument(
        "--no-rows",
        dest="rows",
        action="store_false",
        help="log no rows of --database beside failing questions",
    )
    group.add_argument("--candidates", type=int, metavar="N", help=f"{CANDIDATES} [1]")
    group.add_argument("--unwrap", action="store_true", help="score the SQL in ``` fences and behind `SQL:`")


def add_reading_flags(group) -> None:
    """Declare how a model reads the rows."""
    group.add_argument(
        "--long-texts",
        choices=("truncate", "window"),
        help="read the beginning of a long text, or all of it in pieces (not of SQL)",
    )
    group.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="rows predicted together")


def check_score_flags(flags: Namespace) -> None:
    """Raise InputError for a number or a dialect that cannot be."""
    for name, least in (("max_rows", 1), ("distractor_columns", 0), ("batch_size", 1)):
        value = getattr(flags, name)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} {value} must be at least {least}.")
    if flags.dialect:
        check_dialect(flags.dialect)
