"""Flags of a training on rows about a database of the user's own."""

from dataclasses import dataclass, field

from finetune import InputError
from finetune.databases.candidates import CANDIDATES, check_candidates
from finetune.databases.database import Database, open_database
from finetune.databases.roles import check_role
from finetune.databases.schema.samples import check_values

from mlflow.entities import Run

DISTRACTORS = 4  # foreign columns a table, where rows bring schemas of their own
TABLES = "tables of --database to tell the model of; all by default; auto: those that the words of a question name"
VALUES = "values of each column but numbers in the schema's text; prompts, run and model hold them: mind what they tell"
TRUST_ROLE = "run SQL though the database role may do harm"


@dataclass
class DatabaseFlags:
    """Where the schema of rows without a `context` comes from."""

    database: str | None = field(
        default=None,
        metadata={"help": "URL or file of the database that the rows are about: their context, its tables, is its own"},
    )
    tables: list[str] | None = field(default=None, metadata={"help": TABLES})
    values: int = field(default=0, metadata={"help": VALUES})
    candidates: int | None = field(default=None, metadata={"help": f"{CANDIDATES} [1]"})
    trust_role: bool = field(default=False, metadata={"help": TRUST_ROLE})
    distractor_columns: int | None = field(
        default=None,
        metadata={
            "help": "columns of other tables added to each, in half of the training rows and in a second held-out set;"
            f" 0: none [{DISTRACTORS}; 0 with --database, which is one schema]"
        },
    )

    def __post_init__(self):
        """Take no columns of other tables into the one schema of a database, unless told so."""
        super().__post_init__()  # type: ignore[misc]  # of SharedFlags, which stands behind this class
        self.distractor_columns = distractors(self)


def distractors(flags) -> int:
    """Return how many foreign columns a table gets, where that was not said: none in a database's one schema."""
    default = 0 if flags.database else DISTRACTORS
    return default if flags.distractor_columns is None else flags.distractor_columns


def read_database(flags, values: int = 0, begun: Run | None = None) -> Database | None:
    """Return the database of the flags, or None.

    Args:
        flags: of a script with those of `DatabaseFlags` and --no-rows.
        values: of each column, where --values does not say it.
        begun: the run that goes on.

    Raises:
        InputError: it cannot be read, its role may do too much for SQL of a model, it is not the one that a run began
            with, or flags that are about it without it.
    """
    if not flags.database:
        given = [name for name in ("tables", "values", "candidates", "trust_role") if getattr(flags, name)]
        if given := [f"--{name.replace('_', '-')}" for name in given] + ([] if flags.rows else ["--no-rows"]):
            raise InputError(f"{given[0]} needs --database with the URL or file of a database.")
    check_values(flags.values)
    check_candidates(flags.candidates)
    if not flags.database:
        return None
    database = open_database(flags.database, flags.tables, values if flags.values is None else flags.values)
    check_role(database, flags.trust_role)
    database.dialect = flags.dialect or database.dialect
    known = begun.data.params.get("data.schema_sha256", database.digest) if begun else database.digest
    if begun and known != database.digest:
        raise InputError(
            f"run {begun.info.run_id} cannot be resumed: the tables of --database are not those that it was trained on"
            f" (digest {known[:12]}, now {database.digest[:12]}; the run has them as schema.sql); give the database"
            " that it began with."
        )
    return database
