"""Tables as a question sees them: what people call them, and of what kind their columns are."""

from dataclasses import dataclass

from finetune.databases.schema.words import written
from finetune.making_questions.words import plural, singular, spaced, text

TEXTS = {"name", "title"}


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        kind: of its values: id, key, text, number, year, date; of a live table also time, or other: not asked about.
        values: some of them; of a live table their spelling in the database, numbers and years too.
        repeats: whether rows share values, so that groups of them are worth a question.
        gaps: whether it has NULLs.
        said: what people call it, where that is not its name as words.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    repeats: bool = True
    gaps: bool = False
    said: str = ""

    @property
    def words(self) -> str:
        """What people call it."""
        return self.said or spaced(self.name)

    @property
    def plural(self) -> str:
        """What people call several of its values."""
        return plural(self.words)

    def at(self, prefix: str = "") -> str:
        """Return it as SQL has it, behind a prefix such as `T1.`."""
        return prefix + written(self.name)

    def literal(self, value: str) -> str:
        """Return a value as SQL has it."""
        return value if self.kind in ("number", "year") else text(value)

    def equals(self, value: str, prefix: str = "") -> str:
        """Return the condition that it has a value."""
        return f"{self.at(prefix)} = {self.literal(value)}"


@dataclass(frozen=True)
class FullName(Column):
    """Two columns that name a person together; a value is both names with a space between, `parts` has it in two."""

    both: tuple[Column, ...] = ()
    parts: tuple[tuple[str, ...], ...] = ()

    @property
    def words(self) -> str:
        """What people call it."""
        return " and ".join(column.words for column in self.both)

    @property
    def plural(self) -> str:
        """What people call several of its values."""
        return " and ".join(column.plural for column in self.both)

    def at(self, prefix: str = "") -> str:
        """Return both columns."""
        return ", ".join(column.at(prefix) for column in self.both)

    def equals(self, value: str, prefix: str = "") -> str:
        """Return the condition that both have their part of a value."""
        parts = self.parts[self.values.index(value)]
        return " AND ".join(column.equals(part, prefix) for column, part in zip(self.both, parts, strict=True))


@dataclass(frozen=True)
class Table:
    """A table with its columns; `points` says which column points to the key of which table.

    Attributes:
        labels: the column that names a row, or none; where this is None, a column of texts does.
        distinct: whether no two rows have the same name.
    """

    name: str
    columns: tuple[Column, ...]
    points: tuple[tuple[str, str], ...] = ()
    labels: tuple[Column, ...] | None = None
    distinct: bool = True

    @property
    def sql(self) -> str:
        """Its name as SQL has it."""
        return written(self.name)

    @property
    def singular(self) -> str:
        """What people call one of its rows."""
        return singular(spaced(self.name))

    @property
    def plural(self) -> str:
        """What people call its rows."""
        return plural(self.singular)

    @property
    def key(self) -> Column:
        """Return the column that other tables point to."""
        return next(column for column in self.columns if column.kind == "id")

    @property
    def label(self) -> Column | None:
        """Return the column that names a row, if it has one."""
        if self.labels is not None:
            return self.labels[0] if self.labels else None
        texts = [column for column in self.columns if column.kind == "text"]
        return next((c for c in texts if c.name.lower() in TEXTS), texts[0] if texts else None)

    def create_statement(self) -> str:
        """Return the CREATE TABLE statement."""
        types = {"id": "INTEGER", "key": "INTEGER", "number": "INTEGER", "year": "INTEGER"}
        columns = ", ".join(f"{c.name} {types.get(c.kind, c.kind.upper())}" for c in self.columns)
        return f"CREATE TABLE {self.name} ({columns})"
