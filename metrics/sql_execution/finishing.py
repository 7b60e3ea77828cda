"""What a whole table has to show: ties of an extreme, groups of just so many rows, a row on the average, NULLs."""

from collections import Counter
from typing import TYPE_CHECKING

from .conditions import sort_key

if TYPE_CHECKING:
    from .drawing import Draw

NULLS = (0.1, 0.3, 0.6)  # shares of a column's values, where NULLs are asked for


def finish(draw: "Draw", nulls: bool) -> None:
    """Change some rows of a database in the making, in place."""
    generator, random = draw.generator, draw.random
    for name, column in generator.extremes:
        if random.random() < 0.6:
            _meet_extreme(draw, name, column)
    for count in sorted(generator.gold.counts):
        if random.random() < 0.6:
            _meet_count(draw, count)
    for name, column in generator.averaged:
        if random.random() < 0.4:
            _meet_average(draw, name, column)
    if nulls:
        _put_nulls(draw)


def _put_nulls(draw: "Draw") -> None:
    """Make some values NULL; of an ordered column one at most, or the order would be open."""
    for name, rows in draw.rows.items():
        table, few = draw.generator.tables[name], rows[:1]
        largest = _largest_group(draw, name) if draw.random.random() < 0.5 else rows
        share = draw.random.choice(NULLS) if largest is rows else 0.9
        for column in table.columns:
            if column in table.required:
                continue
            for row in few if (name, column) in draw.generator.ordered else largest:
                if draw.random.random() < share:
                    row[column] = None


def _largest_group(draw: "Draw", name: str) -> list[dict]:
    """Return the rows of one group, which with NULLs no longer counts most; all rows where none is grouped."""
    rows = draw.rows[name]
    for column in draw.generator.tables[name].columns:
        if (name, column) in draw.generator.gold.grouped and rows:
            common = Counter(row[column] for row in rows).most_common(1)[0][0]
            return [row for row in rows if row[column] == common]
    return rows


def _meet_extreme(draw: "Draw", name: str, column: str) -> None:
    """Give two rows the least or the greatest value: a LIMIT 1 finds only one of them."""
    rows = draw.rows[name]
    if len(rows) < 3 or any((name, column) == (table, key[0]) for table, key in draw.unique if len(key) == 1):
        return
    choose = draw.random.choice((min, max))
    first = choose(range(len(rows)), key=lambda i: sort_key(rows[i][column]))
    rows[first - 1] = rows[first - 1] | {column: rows[first][column]}


def _meet_count(draw: "Draw", count: int) -> None:
    """Make groups of just so many rows, of one less and of one more."""
    unique = {(table, key[0]) for table, key in draw.unique if len(key) == 1}
    grouped = draw.generator.gold.grouped
    # GROUP BY of a table with one row a key: the rows of the other table count.
    grouped = grouped | {key for key in unique for table, _ in grouped if key[0] == table}
    columns = sorted({c for g in grouped for c in draw.generator.classes.get(g, {g})} - unique)
    columns = [column for column in columns if draw.rows.get(column[0])]
    if not columns:
        return
    name, column = draw.random.choice(columns)
    values = list(dict.fromkeys(row[column] for row in draw.rows[name] if row[column] is not None))
    start = 0
    for size, value in zip(draw.random.sample([count, count + 1, max(1, count - 1)], 3), values, strict=False):
        for row in draw.rows[name][start : start + size]:
            row[column] = value
        start += size


def _meet_average(draw: "Draw", name: str, column: str) -> None:
    """Give one row exactly the column's average, so that > and >= AVG differ."""
    rows = draw.rows[name]
    if len(rows) < 3 or not all(isinstance(row[column], int) for row in rows):
        return
    first, _, *others = (row[column] for row in rows)
    total = first + sum(others)
    rows[0] = rows[0] | {column: first - total % (len(rows) - 1)}
    grouped = [c for c in rows[1] if (name, c) in draw.generator.grouped and (name, c) not in draw.generator.classes]
    rows[1] = rows[1] | {c: draw.orphan((name, c)) for c in grouped}  # Else others of its group may hide it.
    rows[1] = rows[1] | {column: (total - total % (len(rows) - 1)) // (len(rows) - 1)}
