"""Schemas of everyday things, for plain questions. None has a table of demo/shop.db.

A line of plain_schemas.txt is a schema: tables with their columns after a colon; `-> other` points to another table. A
text column that is not a name has its values in braces. What kind a column is of follows from its name.
"""

import re
from dataclasses import replace
from pathlib import Path
from random import Random

from finetune.making_questions.schemas import TEXTS, Column, Table
from finetune.making_questions.words import plural

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


def lines_of(split: str) -> list[str]:
    """Return the schemas of a part, a line each."""
    text = (Path(__file__).parent / "plain_schemas.txt").read_text(encoding="utf-8")
    return text.partition(f"[{split}]\n")[2].partition("\n\n")[0].splitlines()


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
