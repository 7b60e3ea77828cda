"""Values for one small database in the making: random ones, and those that meet the conditions of a query."""

from random import Random
from typing import TYPE_CHECKING

from .conditions import MOST, ORDERINGS, WORDS, Link, Place, Value, holds, sort_key
from .dates import random_date
from .execution import is_true
from .pairs import first_parts, pair_neighbours
from .profiles import Profile

if TYPE_CHECKING:
    from .databases import Generator

ORPHANS = 0.15  # share of join keys that the other table does not have
GROUP_WEIGHTS = (8, 5, 2, 1)
FRACTIONS = (0, 0.25, 0.5, 0.74)  # two places, for what is rounded to fewer
TEXTS = [f"{one} {two}" for one in WORDS for two in WORDS]
TRIES = 4  # values of one column for which another is looked for
Column = tuple[str, str]  # (table, column)


class Values:
    """Draws the values of one database."""

    def __init__(self, generator: "Generator", random: Random, size: int):
        self.generator, self.random, self.size = generator, random, size
        self.fresh = 1000
        self.used: dict[Column, set] = {}
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

    def random_value(self, column: Column, numeric: bool) -> Value:
        """Draw a date, a number or a text that no condition asks for."""
        random = self.random
        if column in self.generator.dated:
            return random_date(random, self.generator.dated[column])
        if numeric:
            number = random.randint(1, self.numbers_from)
            return number + random.choice(FRACTIONS) if column in self.generator.fractional else number
        return random.choice(TEXTS)

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
            value = f"{random.choice(['0 ', 'zz '])}{self.random_value(column, False)}"
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
        met = 0
        for condition, outcome in wanted:
            if not isinstance(condition, Link) or (condition.operator == "=" and outcome):
                continue
            left, right = (((profile.tables[p[0]].name, p[1]), p) for p in (condition.left, condition.right))
            if condition.operator == "=":
                if random.random() < 0.7:
                    values[left[1]] = self.orphan(left[0])
                continue
            if condition.operator == "sql":
                met += 1
                if met <= MOST:
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


def _in_order(pair: list[Value], symbol: str) -> bool:
    return ORDERINGS[symbol](sort_key(pair[0]), sort_key(pair[1]))
