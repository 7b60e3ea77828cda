"""One small database in the making: rows for the conditions of a query, rows that just miss one, random rows."""

from random import Random
from typing import TYPE_CHECKING

from sqlglot import exp

from .conditions import Link, Value, near_miss, wishes
from .finishing import finish
from .profiles import Profile
from .references import keep_references
from .schemas import Database, Table
from .values import Column, Values

if TYPE_CHECKING:
    from .databases import Generator

FEW = 4  # rows of a table that only foreign keys lead to


class Draw(Values):
    """One database in the making."""

    def __init__(self, generator: "Generator", random: Random, size: int):
        super().__init__(generator, random, size)
        self.rows: dict[str, list[dict]] = {name: [] for name in generator.tables}
        self.unique = self._unique_columns()
        self.taken: dict[tuple, set[tuple]] = {key: set() for key in self.unique}  # values of each key
        self.met_share = 0.5  # of conditions that need not hold
        self.is_alone = False  # one row a table

    def _unique_columns(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return declared keys and, most of the time, one side of each join as the side with one row a key."""
        tables = self.generator.tables.values() if self.generator.keys else ()
        unique = [(table.name, key) for table in tables for key in table.unique]
        for members in self.generator.key_groups:
            if len({table for table, _ in members}) < 2 or self.random.random() < 0.25:
                continue
            likely = [c for c in members if c[1] == "id" or c[1].removesuffix("_id") in (c[0], c[0].rstrip("s"))]
            name, column = self.random.choice(likely if likely and self.random.random() < 0.7 else members)
            unique.append((name, (column,)))
        return unique

    def make(self, barren: bool = False, nulls: bool = False) -> Database:
        """Return the database: tuples for the conditions, random rows, one duplicate."""
        generator, random = self.generator, self.random
        rows_a_tuple = max(1, _most_uses(generator.gold))
        self.is_alone = barren and next(generator.alone)
        tuples = 1 if self.is_alone else max(3, round(0.75 * self.size / rows_a_tuple))
        witnesses = next(generator.witnesses) if barren else 2
        self.met_share = random.choice((0, 0.5)) if barren else 0.5
        for number in range(max(tuples, witnesses)):
            profile = generator.gold
            # Witnesses first; then near misses and witnesses of gold, with some of the prediction's.
            near = number >= witnesses and (barren or random.random() < 0.55)
            if generator.predicted and number >= 3 and random.random() < 0.25 and not barren:
                profile = generator.predicted
            self.add_tuple(profile, near)
        for name, table in generator.tables.items():
            wanted = self.size if name in generator.used else FEW
            for _ in range(0 if barren and self.rows[name] else wanted - len(self.rows[name]) - 1):
                self.add(table, {column: self.value((name, column)) for column in table.columns})
        if not generator.gold.has_limit and not barren:
            name = random.choice(sorted(name for name in self.rows if self.rows[name]))
            # The first rows are witnesses: a duplicate of one shows in the result.
            self.add(generator.tables[name], dict(self.rows[name][random.randrange(min(2, len(self.rows[name])))]))
        finish(self, nulls)
        keep_references(self.rows, generator.tables, self.add_parent)
        for rows in self.rows.values():
            random.shuffle(rows)
        return Database(generator.schema, self.rows)

    def add_parent(self, name: str, key: dict[str, Value]) -> None:
        """Add a row that a foreign key refers to, where there are not many rows yet."""
        if len(self.rows[name]) < 3 * self.size + 10:
            table = self.generator.tables[name]
            self.add(table, {column: self.value((name, column)) for column in table.columns} | key)

    def add_tuple(self, profile: Profile, near: bool) -> None:
        """Add one row for each source of a query, bound together by its conditions."""
        selects, linked = self.chosen_selects(profile)
        trees = {select: tree for select, tree in profile.conditions.items() if select in selects}
        broken = self.random.choice(list(trees)) if near and trees else None
        wanted = []
        for select, tree in trees.items():
            wanted += near_miss(tree, self.random) if select == broken else wishes(tree, True, self.random)
        for optional in (profile.optional[select] for select in sorted(profile.optional) if select in selects):
            for tree in self.random.sample(optional, min(2, len(optional))):
                is_met = self.random.random() < self.met_share
                wanted += wishes(tree, True, self.random) if is_met else near_miss(tree, self.random)
        # A near miss beside a witness with the same keys may not show.
        fresh = broken is not None and (bool(linked) or self.random.random() < 0.35)
        values = self.assign(profile, wanted + linked, fresh)
        if broken is not None and self.random.random() < 0.6:
            # Of its own: beside another row of the same group this one would not show.
            for link, _ in linked:
                value = self.orphan((profile.tables[link.left[0]].name, link.left[1]))
                values |= dict.fromkeys((link.left, link.right), value)
        for source, table in profile.tables.items():
            if source[0] in selects and not (self.is_alone and self.rows[table.name]):
                row = {name: values[source, name] if (source, name) in values
                       else self.value((table.name, name), outlier=broken is not None)
                       for name in table.columns}  # fmt: skip
                self.add(table, row)

    def chosen_selects(self, profile: Profile) -> tuple[set[int], list]:
        """Return the Selects that take part in a tuple: all, or for a set operation one side or both."""
        everything = {source[0] for source in profile.tables} | set(profile.optional)
        if profile.set_sides is None:
            return everything, []
        kind, left, right = profile.set_sides
        both = self.random.random() < (0.2 if kind is exp.Union else 0.4 if kind is exp.Except else 0.7)
        if both:
            pairs = []
            sources = profile.tables.items()
            for one, table in ((source, table) for source, table in sources if source[0] in left):
                for two, other in ((source, table) for source, table in sources if source[0] in right):
                    pairs += [(Link((one, c[1]), (two, d[1])), True) for c, d in _set_columns(profile, table, other)]
            return everything, pairs
        one_side = left if kind is exp.Except and self.random.random() < 0.8 else self.random.choice([left, right])
        return everything & one_side, []

    def add(self, table: Table, row: dict[str, Value]) -> None:
        """Add a row; one that repeats a key is left out, or gets a new key where nothing refers to it."""
        rows, generator = self.rows[table.name], self.generator
        for name in table.required:
            if row[name] is None:
                row = row | {name: self.orphan((table.name, name))}
        for name, key in self.unique:
            if name == table.name and tuple([row[c] for c in key]) in self.taken[name, key]:
                if any((name, column) in generator.classes for column in key):
                    return
                row = row | {key[0]: self.orphan((name, key[0]))}
                if (name, key[0]) in generator.gold.returned:
                    # No longer a duplicate: it may not tie with the row it was made from.
                    row |= {c: self.distinct((name, c), row[c]) for c in row
                            if (name, c) in generator.ordered and c not in key and row[c] is not None}  # fmt: skip
        rows.append(row)
        for name, key in self.unique:
            if name == table.name:
                self.taken[name, key].add(tuple([row[c] for c in key]))


def _most_uses(profile: Profile) -> int:
    names = [table.name for table in profile.tables.values()]
    return max((names.count(name) for name in names), default=1)


def _set_columns(profile: Profile, left: Table, right: Table) -> list[tuple[Column, Column]]:
    """Return the pairs of output columns of both sides of a set operation."""
    if left.name == right.name:
        return [(column, column) for column in sorted(profile.grouped) if column[0] == left.name]
    return [(a, b) for a, b in profile.links if a[0] == left.name and b[0] == right.name]
