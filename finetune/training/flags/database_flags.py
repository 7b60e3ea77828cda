"""Flags of a training on rows about a database of the user's own."""

from dataclasses import dataclass, field

from finetune import InputError
from finetune.databases.database import Database, open_database


@dataclass
class DatabaseFlags:
    """Where the schema of rows without a `context` comes from."""

    database: str | None = field(
        default=None,
        metadata={"help": "URL or file of the database that the rows are about: their context, its tables, is its own"},
    )
    tables: list[str] | None = field(
        default=None, metadata={"help": "tables of --database to tell the model of; all by default"}
    )


def read_database(flags: DatabaseFlags) -> Database | None:
    """Return the database of the flags, or None.

    Raises:
        InputError: it cannot be read, or --tables without it.
    """
    if flags.tables and not flags.database:
        raise InputError("--tables needs --database with the URL or file of a database.")
    return open_database(flags.database, flags.tables) if flags.database else None
