"""Write an SQLite database of 200 tables, the library's among them. Run: python demo/build/build_large.py large.db

`--database postgresql://USER@HOST/NAME` writes it into an empty database of a server. The other tables are those of a
town's departments, made by rule: every department has every kind of table, so that many names are nearly the same.
"""

from argparse import ArgumentParser
from datetime import date, timedelta
from pathlib import Path
from random import Random

from build_library import engine_of, library, rows, write
from sqlalchemy import Column, Date, ForeignKey, Integer, MetaData, Table, Text

TABLES, LIBRARY_TABLES = 200, 6
DEPARTMENTS = (
    "Parks Museum Theatre Pool School Kindergarten Archive Housing Tax Water Waste Road Bus Tram Market Cemetery Fire"
    " Health Youth Sports"
).split()
# Kind of table: the columns beside its key; a column of a kind's name points to that table of the same department.
KINDS = {
    "Employee": ("FirstName", "LastName", "Phone", "HiredOn"),
    "Building": ("Name", "Street", "City", "Floors"),
    "Room": ("Building", "RoomNumber", "Seats"),
    "Supplier": ("Name", "Country", "Phone"),
    "Invoice": ("Supplier", "InvoiceDate", "Amount"),
    "Visitor": ("FirstName", "LastName", "City", "BirthDate"),
    "Ticket": ("Visitor", "SoldOn", "Amount"),
    "Complaint": ("Visitor", "Text", "ReceivedOn"),
    "Meeting": ("Room", "Title", "MeetingDate"),
    "Budget": ("Year", "Amount"),
}
TEXTS = {
    "FirstName": ["Anna", "Boris", "Clara", "David", "Elena", "Felix"],
    "LastName": ["Adler", "Byrne", "Costa", "Dahl", "Evans", "O'Hara"],
    "Name": ["North", "South", "East", "West", "Old Town"],
    "Street": ["1 High Street", "2 Station Road", "5 Mill Lane"],
    "City": ["Ashford", "Milton", "Kings Langley"],
    "Country": ["Ireland", "France", "Norway"],
    "Phone": ["555-0101", "555-0102", "555-0103"],
    "Title": ["Planning", "Budget", "Safety"],
    "Text": ["Too loud", "Closed too early", "No lift"],
}
ROWS = 5


def others(metadata: MetaData) -> None:
    """Describe the tables of the other departments, as many as there are to be."""
    for name, kind, columns in names():
        own = [column_of(name.removesuffix(kind), column) for column in columns]
        Table(name, metadata, Column(f"{name}Id", Integer, primary_key=True, autoincrement=False), *own)


def names() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return name, kind and columns of each of the other tables."""
    made = [(f"{each}{kind}", kind, columns) for each in DEPARTMENTS for kind, columns in KINDS.items()]
    return made[: TABLES - LIBRARY_TABLES]


def column_of(department: str, name: str) -> Column:
    """Return a column: a key where a kind of table has its name, else of the type that its name says."""
    if name in KINDS:
        other = f"{department}{name}"
        return Column(f"{other}Id", Integer, ForeignKey(f"{other}.{other}Id"))
    return Column(name, Date if name.endswith(("Date", "On")) else Text if name in TEXTS else Integer)


def rows_of(table: Table, random: Random) -> list[dict]:
    """Return a few rows of a table of another department."""
    return [{column.name: i if column.primary_key else value_of(column, random) for column in table.columns}
            for i in range(1, ROWS + 1)]  # fmt: skip


def value_of(column: Column, random: Random) -> str | int | date:
    """Draw a value of a column."""
    if column.name in TEXTS:
        return random.choice(TEXTS[column.name])
    if isinstance(column.type, Date):
        return date(2023, 1, 1) + timedelta(days=random.randint(0, 900))
    if column.foreign_keys:
        return random.randint(1, ROWS)
    return random.randint(2019, 2025) if column.name == "Year" else random.randint(1, 900)


def build(file: Path | None = None, url: str | None = None) -> None:
    """Write the tables of the library and of the other departments."""
    metadata = MetaData()
    library(metadata)
    content, random = rows(), Random("large")
    others(metadata)
    content |= {name: rows_of(metadata.tables[name], random) for name, *_ in names()}
    write(engine_of(file, url), metadata, content)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("file", nargs="?", type=Path, help="SQLite file to write")
    target.add_argument("--database", help="URL of an empty database to write to in its place")
    given = parser.parse_args()
    build(given.file, given.database)
    print(given.database or given.file)
