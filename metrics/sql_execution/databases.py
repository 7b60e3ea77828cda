"""Small databases that tell a query from its neighbours, drawn from its schema and its conditions."""

from random import Random

from sqlglot import exp

from .conditions import (
    MOST,
    ORDERINGS,
    WORDS,
    Link,
    Place,
    Value,
    holds,
    near_miss,
    neighbours,
    number_neighbours,
    sort_key,
    text_neighbours,
    wishes,
)
from .dates import random_date
from .profiles import Profile
from .references import keep_references
from .schemas import Database, Table

ORPHANS = 0.15  # share of join keys that the other table does not have
GROUP_WEIGHTS = (8, 5, 2, 1)
MAX_ROWS = 219  # for HAVING COUNT(*) > 100
FEW = 4  # rows of a table that only foreign keys lead to
MAX_TABLES = 40  # foreign keys are followed no further
MAX_VALUES = 8_000  # a table
NULLS = (0.1, 0.3, 0.6)  # shares of a column's values, where NULLs are asked for
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
        self.nullable = set().union(*(p.nullable for p in profiles))
        self.dated = (predicted.dated if predicted else {}) | gold.dated
        self.extremes = sorted(gold.extremes - gold.ordered)
        self.literals: dict[Column, list[Value]] = {}
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
                for value in (text_neighbours if isinstance(literal, str) else number_neighbours)(literal, random)
            ]
        return self.met[column,]

    def passing(self, column: Column, tests: list, random: Random) -> list[Value]:
        """Return values around the boundaries that pass all tests."""
        key = (column, *sorted((repr(atom.operator), repr(atom.values), wanted) for atom, wanted in tests))
        if key not in self.met:
            chosen = tests if len(tests) <= MOST else random.sample(tests, MOST)
            candidates = [value for atom, _ in chosen for _ in range(3) for value in neighbours(atom, random)]
            self.met[key] = [v for v in candidates if all(holds(atom, v) == wanted for atom, wanted in tests)]
        return self.met[key]

    def draw(self, random: Random, size: int, barren: bool = False, nulls: bool = False) -> Database:
        """Return one database of about `size` rows a table.

        Args:
            barren: no row meets all conditions of gold, as far as single rows can be made so.
            nulls: some values are NULL, where the schema allows it.
        """
        widest = max(len(table.columns) for table in self.tables.values())
        size = random.randint(1, 4) if barren else max(size, self.rows_wanted)
        draw = _Draw(self, random, max(1, min(MAX_ROWS, size, MAX_VALUES // widest)))
        return draw.make(barren, nulls)


class _Draw:
    """One database in the making."""

    def __init__(self, generator: Generator, random: Random, size: int):
        self.generator, self.random, self.size = generator, random, size
        self.rows: dict[str, list[dict]] = {name: [] for name in generator.tables}
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
            return random.randint(1, self.numbers_from)
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
        tuples = max(3, round(0.75 * self.size / rows_a_tuple))
        for number in range(tuples):
            profile = generator.gold
            # Two witnesses first; then near misses and witnesses of gold, with some of the prediction's.
            near = barren or (number >= 2 and random.random() < 0.55)
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
        for name, column in generator.extremes:
            if random.random() < 0.6:
                self.meet_extreme(name, column)
        for count in sorted(generator.gold.counts):
            if random.random() < 0.6:
                self.meet_count(count)
        for name, column in generator.averaged:
            if random.random() < 0.4:
                self.meet_average(name, column)
        if nulls:
            self.put_nulls()
        keep_references(self.rows, generator.tables, self.add_parent)
        for rows in self.rows.values():
            random.shuffle(rows)
        return Database(generator.schema, self.rows)

    def put_nulls(self) -> None:
        """Make some values NULL; of an ordered column one at most, or the order would be open."""
        for name, rows in self.rows.items():
            table = self.generator.tables[name]
            for column in table.columns:
                share = self.random.choice(NULLS)
                if column in table.required:
                    continue
                few = (name, column) in self.generator.ordered
                for row in self.random.sample(rows, min(len(rows), 1)) if few else rows:
                    if self.random.random() < share:
                        row[column] = None

    def add_parent(self, name: str, key: dict[str, Value]) -> None:
        """Add a row that a foreign key refers to, where there are not many rows yet."""
        if len(self.rows[name]) < 3 * self.size + 10:
            table = self.generator.tables[name]
            self.add(table, {column: self.value((name, column)) for column in table.columns} | key)

    def meet_extreme(self, name: str, column: str) -> None:
        """Give two rows the least or the greatest value: a LIMIT 1 finds only one of them."""
        rows = self.rows[name]
        if len(rows) < 3 or any((name, column) == (table, key[0]) for table, key in self.unique if len(key) == 1):
            return
        choose = self.random.choice((min, max))
        first = choose(range(len(rows)), key=lambda i: sort_key(rows[i][column]))
        rows[first - 1] = rows[first - 1] | {column: rows[first][column]}

    def meet_count(self, count: int) -> None:
        """Make groups of just so many rows, of one less and of one more."""
        unique = {(table, key[0]) for table, key in self.unique if len(key) == 1}
        grouped = self.generator.gold.grouped
        # GROUP BY of a table with one row a key: the rows of the other table count.
        grouped = grouped | {key for key in unique for table, _ in grouped if key[0] == table}
        columns = sorted({c for g in grouped for c in self.generator.classes.get(g, {g})} - unique)
        columns = [column for column in columns if self.rows.get(column[0])]
        if not columns:
            return
        name, column = self.random.choice(columns)
        values = list(dict.fromkeys(row[column] for row in self.rows[name] if row[column] is not None))
        start = 0
        for size, value in zip(self.random.sample([count, count + 1, max(1, count - 1)], 3), values, strict=False):
            for row in self.rows[name][start : start + size]:
                row[column] = value
            start += size

    def meet_average(self, name: str, column: str) -> None:
        """Give one row exactly the column's average, so that > and >= AVG differ."""
        rows = self.rows[name]
        if len(rows) < 3 or not all(isinstance(row[column], int) for row in rows):
            return
        first, _, *others = (row[column] for row in rows)
        total = first + sum(others)
        rows[0] = rows[0] | {column: first - total % (len(rows) - 1)}
        grouped = [
            c for c in rows[1] if (name, c) in self.generator.grouped and (name, c) not in self.generator.classes
        ]
        rows[1] = rows[1] | {c: self.orphan((name, c)) for c in grouped}  # Else others of its group may hide it.
        rows[1] = rows[1] | {column: (total - total % (len(rows) - 1)) // (len(rows) - 1)}

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
                wanted += (
                    wishes(tree, True, self.random) if self.random.random() < 0.5 else near_miss(tree, self.random)
                )
        # A near miss beside a witness with the same keys may not show.
        values = self.assign(profile, wanted + linked, broken is not None and self.random.random() < 0.35)
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
        everything = {source[0] for source in profile.tables}
        if profile.set_sides is None:
            return everything, []
        kind, left, right = profile.set_sides
        both = self.random.random() < (0.2 if kind is exp.Union else 0.4 if kind is exp.Except else 0.7)
        if both:
            pairs = []
            for (one, table), (two, other) in [(a, b) for a in profile.tables.items() for b in profile.tables.items()]:
                if one[0] in left and two[0] in right:
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
