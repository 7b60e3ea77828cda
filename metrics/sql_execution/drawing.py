"""One small database in the making: rows for the conditions of a query, rows that just miss one, random rows."""

from random import Random
from typing import TYPE_CHECKING

from sqlglot import exp

from .conditions import ORDERINGS, WORDS, Link, Place, Value, holds, near_miss, sort_key, wishes
from .dates import random_date
from .execution import is_true
from .finishing import finish
from .pairs import first_parts, pair_neighbours
from .profiles import Profile
from .references import keep_references
from .schemas import Database, Table

if TYPE_CHECKING:
    from .databases import Generator

ORPHANS = 0.15  # share of join keys that the other table does not have
GROUP_WEIGHTS = (8, 5, 2, 1)
FRACTIONS = (0, 0.25, 0.5, 0.74)  # two places, for what is rounded to fewer
TRIES = 4  # values of one column for which another is looked for
FEW = 4  # rows of a table that only foreign keys lead to
Column = tuple[str, str]  # (table, column)


class Draw:
    """One database in the making."""

    def __init__(self, generator: "Generator", random: Random, size: int):
        self.generator, self.random, self.size = generator, random, size
        self.rows: dict[str, list[dict]] = {name: [] for name in generator.tables}
        self.fresh = 1000
        self.used: dict[Column, set] = {}
        self.met_share = 0.5  # of conditions that need not hold
        self.numbers_from = random.choice([10, 40, 200])
        self.pools: dict[Column, list[Value]] = {}
        for members in generator.key_groups:
            numeric = any(generator.numeric[column] for column in members)
            # Drawn with repeats: some keys are shared by many rows, so that joins fan out.
            dated = next((column for column in members if column in generator.dated), members[0])
            pool = [self.random_value(dated, numeric) for _ in range(max(3, size // 2))]
            pool += pool[: len(pool) // 3]
            pool += [value for column in members for value in generator.literals.get(column, [])]
            self.pools |= dict.fromkeys(members, pool)
        for column in sorted(generator.grouped - set(self.pools)):
            if column not in generator.numeric:
                continue
            numeric = generator.numeric[column]
            literals = generator.literals.get(column, [])
            values = [*literals, *(self.random_value(column, numeric) for _ in range(len(GROUP_WEIGHTS)))]
            weights = random.sample(GROUP_WEIGHTS, len(GROUP_WEIGHTS))
            self.pools[column] = [v for v, n in zip(values, weights, strict=False) for _ in range(n)]
        self.unique = self._unique_columns()

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

    def random_value(self, column: Column, numeric: bool) -> Value:
        """Draw a date, a number or a text that no condition asks for."""
        random = self.random
        if column in self.generator.dated:
            return random_date(random, self.generator.dated[column])
        if numeric:
            number = random.randint(1, self.numbers_from)
            return number + random.choice(FRACTIONS) if column in self.generator.fractional else number
        return f"{random.choice(WORDS)} {random.choice(WORDS)}"

    def value(self, column: Column, outlier: bool = False) -> Value:
        """Draw a value of a column that no condition binds.

        Args:
            outlier: below or above what other rows have, so that one row more or less shows in a MAX.
        """
        generator, random = self.generator, self.random
        if column in generator.classes and column not in generator.children and random.random() < ORPHANS:
            return self.orphan(column)
        if column in generator.grouped and outlier and random.random() < 0.5:
            return self.orphan(column)  # A row that should not count shows as a group of its own.
        if column in self.pools:
            return random.choice(self.pools[column])
        if column in generator.nullable and random.random() < 0.4:
            return None
        literals = generator.literals.get(column)
        numeric = generator.numeric[column]
        if literals and random.random() < 0.5:
            return random.choice(generator.near(column, random))
        if not outlier or column in generator.dated:
            value = self.random_value(column, numeric)
        elif numeric:
            value = random.choice([-1, 1]) * random.randint(self.numbers_from + 1, 3 * self.numbers_from)
        else:
            value = random.choice(["0 ", "zz "]) + self.random_value(column, False)
        return self.distinct(column, value) if column in generator.ordered else value

    def distinct(self, column: Column, value: Value) -> Value:
        """Return the value, moved where the column has it already: ties leave the order of rows open."""
        used = self.used.setdefault(column, set())
        while value in used:
            if column in self.generator.dated and self.random.random() < 0.98:
                value = self.random_value(column, False)
                continue
            value = value + self.random.randint(1, 7) if isinstance(value, int | float) else f"{value} {len(used)}"
        used.add(value)
        return value

    def orphan(self, column: Column) -> Value:
        """Return a value that no other row has."""
        self.fresh += 1
        if column in self.generator.dated:
            return self.distinct(column, self.random_value(column, False))
        return self.fresh if self.generator.numeric[column] else f"{WORDS[self.fresh % len(WORDS)]} {self.fresh}"

    def make(self, barren: bool = False, nulls: bool = False) -> Database:
        """Return the database: tuples for the conditions, random rows, one duplicate."""
        generator, random = self.generator, self.random
        rows_a_tuple = max(1, _most_uses(generator.gold))
        # One tuple: what is an extreme, an average and everything at once.
        tuples = 1 if barren and random.random() < 0.4 else max(3, round(0.75 * self.size / rows_a_tuple))
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
            if source[0] in selects:
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

    def assign(self, profile: Profile, wanted: list, fresh: bool = False) -> dict[Place, Value]:
        """Return values that meet the wishes, where single values can; `fresh`: with keys of their own."""
        random, generator = self.random, self.generator
        group: dict[Place, set[Place]] = {}
        for condition, outcome in wanted:
            if isinstance(condition, Link) and condition.operator == "=" and outcome:
                merged = group.get(condition.left, {condition.left}) | group.get(condition.right, {condition.right})
                group |= dict.fromkeys(merged, merged)
        tests: dict[Place, list] = {}
        for condition, outcome in wanted:
            if not isinstance(condition, Link):
                members = group.get(condition.place, {condition.place})
                tests.setdefault(min(members), []).append((condition, outcome))
        values: dict[Place, Value] = {}
        for place in [*dict.fromkeys(map(min, group.values())), *(place for place in tests if place not in group)]:
            members = group.get(place, {place})
            if place[0] not in profile.tables:
                continue
            column = (profile.tables[place[0]].name, place[1])
            is_free = fresh and not tests.get(place)
            value = self.orphan(column) if is_free else self.meet(column, tests.get(place, []))
            values |= dict.fromkeys(members, value)
        for condition, outcome in wanted:
            if not isinstance(condition, Link) or (condition.operator == "=" and outcome):
                continue
            left, right = (((profile.tables[p[0]].name, p[1]), p) for p in (condition.left, condition.right))
            if condition.operator == "=":
                if random.random() < 0.7:
                    values[left[1]] = self.orphan(left[0])
                continue
            if condition.operator == "sql":
                values |= self.meet_pair(condition, left, right, values, group, outcome)
                continue
            pair = [values.get(p, self.value(c)) for c, p in (left, right)]
            if random.random() < 0.4 and _in_order([pair[0]] * 2, condition.operator) == outcome:
                pair = [pair[0]] * 2  # On the boundary: < and <= differ here alone.
            elif _in_order(pair, condition.operator) != outcome:
                pair.reverse()
            values[left[1]], values[right[1]] = pair
        for place, value in values.items():
            column = (profile.tables[place[0]].name, place[1])
            if column in generator.ordered and place in tests and len(group.get(place, ())) < 2:
                self.used.setdefault(column, set()).add(value)
        return values

    def meet(self, column: Column, tests: list) -> Value:
        """Return a value that passes all tests; a random one where none is found."""
        random = self.random
        if not tests:
            return random.choice(self.pools[column]) if column in self.pools else self.value(column)
        passing = self.generator.passing(column, tests, random)
        if not passing:  # Conditions that no value near their literals meets, such as a NOT LIKE of much.
            drawn = [self.value(column) for _ in range(8)]
            return next((v for v in drawn if all(holds(atom, v) == wanted for atom, wanted in tests)), drawn[0])
        if column in self.generator.ordered:
            used = self.used.get(column, ())
            passing = [value for value in passing if value not in used] or passing
        return random.choice(passing)

    def meet_pair(self, link: Link, left: tuple, right: tuple, values: dict, keys: dict, outcome: bool) -> dict:
        """Return values of two (column, place) that make a condition on both true or false; {} where none is found."""
        orders = [(one, two) for one, two in ((left, right), (right, left)) if two[1] not in keys]
        for attempt in range(TRIES if orders else 0):
            (column, place), free = self.random.choice(orders)
            parts = first_parts(link.literals) if attempt % 2 == 0 else []
            value = values[place] if place in values else self.random.choice(parts or [self.value(column)])
            others = pair_neighbours(value, link.literals, self.random, self.generator.dated.get(free[0]))
            for other in self.random.sample(others, len(others)):
                pair = (value, other) if place == left[1] else (other, value)
                if other not in self.used.get(free[0], ()) and is_true(link.expression, *pair) == outcome:
                    return {place: value, free[1]: other}
        return {}

    def add(self, table: Table, row: dict[str, Value]) -> None:
        """Add a row; one that repeats a key is left out, or gets a new key where nothing refers to it."""
        rows, generator = self.rows[table.name], self.generator
        for name in table.required:
            if row[name] is None:
                row = row | {name: self.orphan((table.name, name))}
        for name, key in self.unique:
            if name == table.name and any(all(row[c] == other[c] for c in key) for other in rows):
                if any((name, column) in generator.classes for column in key):
                    return
                row = row | {key[0]: self.orphan((name, key[0]))}
                if (name, key[0]) in generator.gold.returned:
                    # No longer a duplicate: it may not tie with the row it was made from.
                    row |= {c: self.distinct((name, c), row[c]) for c in row
                            if (name, c) in generator.ordered and c not in key and row[c] is not None}  # fmt: skip
        rows.append(row)


def _most_uses(profile: Profile) -> int:
    names = [table.name for table in profile.tables.values()]
    return max((names.count(name) for name in names), default=1)


def _set_columns(profile: Profile, left: Table, right: Table) -> list[tuple[Column, Column]]:
    """Return the pairs of output columns of both sides of a set operation."""
    if left.name == right.name:
        return [(column, column) for column in sorted(profile.grouped) if column[0] == left.name]
    return [(a, b) for a, b in profile.links if a[0] == left.name and b[0] == right.name]


def _in_order(pair: list[Value], symbol: str) -> bool:
    return ORDERINGS[symbol](sort_key(pair[0]), sort_key(pair[1]))
