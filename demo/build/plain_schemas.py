"""Schemas of everyday things, for plain questions. None has a table of demo/shop.db.

A line of plain_schemas.txt is a schema: tables with their columns after a colon; `-> other` points to another table. A
text column that is not a name has its values in braces. What kind a column is of follows from its name.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

PEOPLE = "Ada Bruno Carla Dieter Emma Frank Gina Henry Ida Jack Kim Laura Max Nina Otto Paula Rosa Simon Tina Victor"
PEOPLE_NAMED = set(
    "member student doctor patient guest director player employee owner agent walker engineer teacher runner operator"
    " gardener driver gamer shepherd pupil nurse baker keeper reader".split()
)
VALUES = {
    "city": "Paris Rome Madrid Prague Dublin Athens Warsaw Cairo Lima Boston",
    "town": "Bath Siena Bruges Salem Aspen Toledo",
    "country": "France Spain Japan Brazil Canada Kenya India Norway",
    "author painter artist holder": PEOPLE,
    "street": "Mill High Park Station Garden",
    "maker brand label publisher operator agency flag": "Acme Nordic Orion Delta Apex Vega",
    "river": "Rhine Loire Nile Tagus",
    "model number": "A1 B2 C3 D4 X5",
}
THINGS = "Aurora Central Falcon Golden Harbor Iris Jasper Lotus Meadow Nova Pearl Quartz Silver Summit Willow Zenith"
YEARS = {"year", "founded", "built", "planted"}
TEXTS = {"name", "title"}


@dataclass(frozen=True)
class Column:
    """A column: its name, the kind of its values (id, key, text, number, year, date), and some of them."""

    name: str
    kind: str
    values: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What people call it."""
        return spaced(self.name)


@dataclass(frozen=True)
class Table:
    """A table with its columns; `points` says which column points to which table."""

    name: str
    columns: tuple[Column, ...]
    points: tuple[tuple[str, str], ...] = ()

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
        texts = [column for column in self.columns if column.kind == "text"]
        return next((c for c in texts if c.name.lower() in TEXTS), texts[0] if texts else None)

    def create_statement(self) -> str:
        """Return the CREATE TABLE statement."""
        types = {"id": "INTEGER", "key": "INTEGER", "number": "INTEGER", "year": "INTEGER"}
        columns = ", ".join(f"{c.name} {types.get(c.kind, c.kind.upper())}" for c in self.columns)
        return f"CREATE TABLE {self.name} ({columns})"


def lines_of(split: str) -> list[str]:
    """Return the schemas of a part, a line each."""
    text = (Path(__file__).parent / "plain_schemas.txt").read_text(encoding="utf-8")
    return text.partition(f"[{split}]\n")[2].partition("\n\n")[0].splitlines()


def spaced(name: str) -> str:
    """Return a name of a table or column as words: `OrderLine` and `order_line` as `order line`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()


def singular(words: str) -> str:
    """Return the singular of English words."""
    if words.endswith("ies"):
        return words[:-3] + "y"
    return re.sub(r"(?<=ss|us|ch|sh)es$|(?<=x)es$|(?<![su])s$", "", words)


def plural(words: str) -> str:
    """Return the plural of English words."""
    if re.search(r"(?<![aeiou])y$", words):
        return words[:-1] + "ies"
    if re.search(r"(ss|us|x|ch|sh)$", words):
        return words + "es"
    return words if words.endswith("s") else words + "s"


def read(line: str, random: Random) -> list[Table]:
    """Return the tables of a line, spelled in one of the ways in which databases are."""
    style = random.choice(("snake", "snake", "snake", "Camel", "plural"))
    id_style = random.choice(("{}_id", "{}_id", "id"))
    tables = []
    for part in line.split(" | "):
        head, columns = part.split(": ", 1)
        name, *others = head.split(" -> ")
        key = Column("id" if id_style == "id" else f"{name}_id", "id")
        keys = [Column(f"{other}_id", "key") for other in others]
        own = [make_column(text, name) for text in re.split(r", ", columns)]
        points = tuple((column.name, other) for column, other in zip(keys, others, strict=True))
        tables.append(Table(name, (key, *keys, *own), points))
    return [spell(table, style) for table in tables]


def make_column(text: str, table: str) -> Column:
    """Return a column of its name, with values after it in braces."""
    name, _, listed = text.partition("{")
    if listed:
        return Column(name, "text", tuple(listed.rstrip("}").split()))
    if name in TEXTS:
        return Column(name, "text", tuple((PEOPLE if table in PEOPLE_NAMED else THINGS).split()))
    for names, values in VALUES.items():
        if name in names.split():
            return Column(name, "text", tuple(values.split()))
    return Column(name, "year" if name in YEARS else "date" if name == "date" else "number")


def spell(table: Table, style: str) -> Table:
    """Return a table with its names in another style."""
    if style == "snake":
        return table
    if style == "plural":
        points = tuple((column, plural(other)) for column, other in table.points)
        return replace(table, name=plural(table.name), points=points)
    columns = tuple(replace(column, name=camel(column.name)) for column in table.columns)
    points = tuple((camel(column), camel(other)) for column, other in table.points)
    return Table(camel(table.name), columns, points)


def camel(name: str) -> str:
    """Return `order_line` as `OrderLine`."""
    return "".join(word[:1].upper() + word[1:] for word in name.replace("_id", "_Id").split("_"))
