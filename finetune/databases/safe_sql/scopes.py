"""Which table, WITH entry, column or alias a name means: by the scopes of SQL, among what is there."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.fragments import Fragment, word

from sqlglot import exp

DOT = word(".")


@dataclass
class Output:
    """A column of a table, a subquery or a WITH entry.

    Attributes:
        name: by which the query refers to it; None for an expression without alias.
        heading: what stands over it in a result.
        written: its name as it is written: a name of the database, or a generated alias.
        size, text: of the expression behind it, see fragments.MAX_SIZE.
        value: the expression, as it is written in SELECT.
        source: the expression, as the query has it.
    """

    name: str | None
    heading: str
    written: Fragment
    size: int = 1
    text: int = 1
    value: Fragment | None = None
    source: str = ""


@dataclass
class Relation:
    """What can stand in FROM: a table of the database (`written` is its full name) or a WITH entry.

    Attributes:
        tables: how many tables are read where it is put in place.
    """

    written: Fragment
    outputs: list[Output]
    size: int = 1
    tables: int = 1


@dataclass
class Source:
    """An entry of one FROM clause: `alias` as it is written; `name`, by which the query refers to its columns."""

    name: str
    alias: Fragment
    outputs: list[Output]

    def column(self, output: Output) -> Fragment:
        """Return a reference to one of its columns."""
        return Fragment((*self.alias.tokens, DOT, *output.written.tokens), output.size, output.text)


@dataclass
class Scope:
    """The names that one query can use.

    Attributes:
        outer: the scope of the query around it, for correlated subqueries.
        relations: WITH entries by lower-case name, those of the queries around included.
        number: of the query, in the order of writing.
        depth: of nesting, 1 for the outermost query.
        sources: the entries of FROM.
        merged: columns that USING or NATURAL made one, by lower-case name.
        hidden: (id of a source, lower-case name) of the columns that a star shows merged only.
        aliases: expressions of the SELECT list by lower-case alias.
        keys: lower-case names in GROUP BY.
        prefers_aliases: a name means an alias before a column, unless it is a key: HAVING of MySQL and DuckDB.
    """

    outer: "Scope | None"
    relations: dict[str, Relation]
    number: int
    depth: int
    sources: list[Source] = field(default_factory=list)
    merged: dict[str, Fragment] = field(default_factory=dict)
    hidden: set[tuple[int, str]] = field(default_factory=set)
    aliases: dict[str, exp.Expression] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    prefers_aliases: bool = False

    def column(self, qualifier: str, name: str) -> Fragment | None:
        """Return a reference to a column of this query's sources, None where there is none.

        Raises:
            Refused: more than one column is meant.
        """
        if not qualifier and name.lower() in self.merged:
            return self.merged[name.lower()]
        sources = [source for source in self.sources if not qualifier or source.name.lower() == qualifier.lower()]
        found = [(source, output) for source in sources for output in named(source.outputs, name)]
        if len(found) > 1:
            shown = " or ".join(f"{source.name}.{output.name}" for source, output in found[:4])
            raise Refused(
                f"the column {f'{qualifier}.' if qualifier else ''}{name}"[:90] + f" is ambiguous: {shown[:200]}"
            )
        return found[0][0].column(found[0][1]) if found else None


def named(outputs: list[Output], name: str) -> list[Output]:
    """Return the columns of a name: those spelled so, otherwise those that differ in letter case only.

    Of a subquery's columns of one name the first one is meant, as in SQLite.
    """
    exact = [output for output in outputs if output.name == name]
    found = exact or [output for output in outputs if output.name is not None and output.name.lower() == name.lower()]
    return found[:1] if found and found[0].written.tokens[0].kind == "alias" else found


def find_table(tables: Iterable[str], name: str) -> str | None:
    """Return the table of a name in the database's spelling, None where there is none.

    Raises:
        Refused: two tables differ from the name in letter case only.
    """
    if name in tables:
        return name
    found = [table for table in tables if table.lower() == name.lower()]
    if len(found) > 1:
        raise Refused(f"the table {name[:80]} may be {' or '.join(found)}")
    return found[0] if found else None
