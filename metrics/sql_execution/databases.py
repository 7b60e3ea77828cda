"""Small databases that tell a query from its neighbours, drawn from its schema and its conditions."""

from itertools import cycle
from random import Random

from .conditions import MOST, Value, holds, joined, neighbours, number_neighbours, text_neighbours
from .drawing import Draw
from .profiles import Profile
from .schemas import Database, Table

MAX_ROWS = 219  # for HAVING COUNT(*) > 100
MAX_TABLES = 40  # foreign keys are followed no further
MAX_VALUES = 8_000  # a table
Column = tuple[str, str]  # (table, column)


class Generator:
    """Draws databases for a gold query and, where it could be read, a predicted one; `keys`: declared ones hold."""

    def __init__(self, schema: dict[str, Table], gold: Profile, predicted: Profile | None, keys: bool = True):
        self.schema, self.gold, self.predicted = schema, gold, predicted
        profiles = [gold, predicted] if predicted else [gold]
        self.tables = {table.name: table for p in profiles for table in p.tables.values()}
        self.keys, self.used = keys, set(self.tables)
        self._add_parents()
        self.rows_wanted = max(p.rows for p in profiles)
        self.grouped = set().union(*(p.grouped for p in profiles))
        self.ordered = gold.ordered  # A prediction's own ORDER BY does not take away its ties.
        self.nullable = set().union(*(p.nullable for p in profiles)) | (gold.replaced - gold.ordered)
        rounded = set().union(*(p.rounded for p in profiles))
        self.fractional = {(t, c) for t, c in rounded if c not in self.tables[t].whole}
        self.dated = (predicted.dated if predicted else {}) | gold.dated
        self.extremes = sorted(gold.extremes - gold.ordered)
        self.literals: dict[Column, list[float | str]] = {}
        for profile in profiles:
            for column, values in profile.literals.items():
                known = self.literals.setdefault(column, [])
                known += [value for value in values if value not in known]
        self.numeric = {
            (table.name, name): self._is_numeric(table, name, profiles)
            for table in self.tables.values()
            for name in table.columns
        }
        self.classes = self._key_classes(profiles)
        self.children = {(t.name, c) for t in self.tables.values() for c, (other, _) in t.references.items()
                         if other in self.tables}  # fmt: skip
        # In one order in every process: the order of a set of strings is not.
        self.key_groups = sorted({tuple(sorted(members)) for members in self.classes.values()})
        self.averaged = sorted(set().union(*(p.averaged for p in profiles)) & {c for c, n in self.numeric.items() if n})
        # In barren databases: to "is there one" one row is an answer, to "are there more than 5" six are.
        counts = [number for count in sorted(gold.counts) for number in (count, count + 1)]
        self.witnesses = cycle([0, 1, *counts] if gold.yes_no else [0])
        self.alone = cycle([True, False, False])  # One row a table: an extreme, an average and everything at once.
        self.met: dict[tuple, list[Value]] = {}  # values found for a set of conditions, over all databases

    @property
    def has_keys(self) -> bool:
        """Say whether a table of the query has a declared key."""
        return any(table.unique for table in self.tables.values())

    def _add_parents(self) -> None:
        """Add the tables that foreign keys refer to: an inner join with one of them loses no row."""
        waiting = list(self.tables.values())
        while waiting and len(self.tables) < MAX_TABLES:
            for other in sorted({name for _, name, _ in waiting.pop().foreign} - set(self.tables)):
                self.tables[other] = self.schema[other]
                waiting.append(self.schema[other])

    def _is_numeric(self, table: Table, name: str, profiles: list[Profile]) -> bool:
        values = self.literals.get((table.name, name))
        if (table.name, name) in self.dated:
            return False
        if values:
            return all(not isinstance(value, str) for value in values)
        return table.columns[name] or any((table.name, name) in profile.numeric for profile in profiles)

    def _key_classes(self, profiles: list[Profile]) -> dict[Column, set[Column]]:
        """Return columns that are compared with each other, each with its whole class."""
        pairs = [link for profile in profiles for link in profile.links]
        for table in self.tables.values():
            pairs += [((table.name, column), other) for column, other in table.references.items()]
        classes: dict[Column, set[Column]] = {}
        for left, right in pairs:
            if left[0] in self.tables and right[0] in self.tables:
                merged = classes.get(left, {left}) | classes.get(right, {right})
                for column in merged:
                    classes[column] = merged
        return classes

    def near(self, column: Column, random: Random) -> list[Value]:
        """Return values around the literals that a column is compared with."""
        if (column,) not in self.met:
            literals = [value for value in self.literals[column] for _ in range(2)]
            self.met[column,] = [
                value
                for literal in literals
                for value in (
                    text_neighbours(literal, random) if isinstance(literal, str) else number_neighbours(literal, random)
                )
            ]
        return self.met[column,]

    def passing(self, column: Column, tests: list, random: Random) -> list[Value]:
        """Return values around the boundaries that pass all tests."""
        key = (column, *sorted((repr(atom.operator), repr(atom.values), wanted) for atom, wanted in tests))
        if key not in self.met:
            chosen = tests if len(tests) <= MOST else random.sample(tests, MOST)
            candidates = [value for atom in joined(chosen) for _ in range(3) for value in neighbours(atom, random)]
            self.met[key] = [v for v in candidates if all(holds(atom, v) == wanted for atom, wanted in tests)]
        return self.met[key]

    def draw(self, random: Random, size: int, barren: bool = False, nulls: bool = False) -> Database:
        """Return one database of about `size` rows a table.

        Args:
            barren: no row, or just so many, meet all conditions of gold, as far as single rows can be made so.
            nulls: some values are NULL, where the schema allows it.
        """
        widest = max(len(table.columns) for table in self.tables.values())
        size = random.randint(1, 4) if barren else max(size, self.rows_wanted)
        draw = Draw(self, random, max(1, min(MAX_ROWS, size, MAX_VALUES // widest)))
        return draw.make(barren, nulls)
