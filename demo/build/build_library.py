"""Write demo/library.db, a library of six tables to put questions to. Run: python demo/build/build_library.py

`--database postgresql://USER@HOST/NAME` writes the same tables into an empty database of PostgreSQL, MariaDB or MySQL.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune.databases.urls import DRIVER_OF

import sqlalchemy
from library_rows import rows
from sqlalchemy import REAL, Column, Date, Engine, ForeignKey, Integer, MetaData, Table, Text
from sqlalchemy.engine import make_url

FILE = Path(__file__).parents[1] / "library.db"


def key(table: str) -> Column:
    """Return the column that names a row of a table."""
    return Column(f"{table}Id", Integer, primary_key=True, autoincrement=False)


def to(table: str) -> Column:
    """Return a column that points to a row of another table."""
    return Column(f"{table}Id", Integer, ForeignKey(f"{table}.{table}Id"), nullable=False)


def library(metadata: MetaData) -> None:
    """Describe the tables of the library."""
    Table("Branch", metadata, key("Branch"), Column("Name", Text, nullable=False), Column("Street", Text),
          Column("OpenedOn", Date), Column("Seats", Integer))  # fmt: skip
    Table("Author", metadata, key("Author"), Column("FirstName", Text), Column("LastName", Text, nullable=False),
          Column("Country", Text), Column("BirthDate", Date))  # fmt: skip
    Table("Book", metadata, key("Book"), Column("Title", Text, nullable=False), to("Author"), Column("Genre", Text),
          Column("Language", Text), Column("PublishedYear", Integer), Column("Pages", Integer))  # fmt: skip
    Table("BookCopy", metadata, key("BookCopy"), to("Book"), to("Branch"), Column("AcquiredOn", Date),
          Column("Condition", Text), Column("Price", Integer))  # fmt: skip
    Table("Member", metadata, key("Member"), Column("FirstName", Text), Column("LastName", Text, nullable=False),
          Column("City", Text), Column("Email", Text), Column("BirthDate", Date), Column("JoinedOn", Date))  # fmt: skip
    Table("Loan", metadata, key("Loan"), to("BookCopy"), to("Member"), Column("LoanDate", Date, nullable=False),
          Column("DueDate", Date), Column("ReturnDate", Date), Column("Fine", REAL))  # fmt: skip


def write(engine: Engine, metadata: MetaData, content: dict[str, list[dict]]) -> None:
    """Make the tables in an empty database and fill them."""
    with engine.begin() as connection:
        metadata.create_all(connection)
        for table in metadata.sorted_tables:
            connection.execute(table.insert(), content[table.name])
    engine.dispose()


def engine_of(file: Path | None, url: str | None) -> Engine:
    """Return the engine of a new SQLite file, or of the database of a URL."""
    if url:
        parts = make_url(url)
        return sqlalchemy.create_engine(parts.set(drivername=DRIVER_OF[parts.get_backend_name()]))
    file.unlink(missing_ok=True)
    return sqlalchemy.create_engine(f"sqlite:///{file}")


def build(file: Path | None = FILE, url: str | None = None) -> None:
    """Write the library: 4 branches, 16 authors, 40 books, their copies, 30 members, 160 loans."""
    metadata = MetaData()
    library(metadata)
    write(engine_of(file, url), metadata, rows())


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", help="URL of an empty database to write to in the place of the file")
    given = parser.parse_args()
    build(url=given.database)
    print(given.database or FILE)
