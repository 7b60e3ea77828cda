"""Questions with their SQL over a generated schema: one function a shape of query.

Each function takes a `Scene` and returns the question and the SQL, or None where the schema has not
the columns the shape needs. The wording fixes the SQL: which columns, in which order, counted how.
"""

from dataclasses import dataclass, field
from random import Random

from phrases import (
    AFTER,
    AGGREGATES,
    AT_LEAST,
    AT_MOST,
    BEFORE,
    EQUALS,
    GREATER,
    IMPLICIT,
    LESS,
    NOT,
    SELECT_ONE,
    YEAR_AGGREGATES,
)
from vocabulary import Column, Table, Vocabulary


@dataclass
class Scene:
    """What a question is asked about, and how its text is to look."""

    vocabulary: Vocabulary
    tables: list[Table]
    quote: str = "'"
    fold_case: bool = False  # literals in lower case whatever the question has, as in scraped tables
    leaky: bool = False  # conditions may leave out the column, as where a schema has nothing else
    random: Random = field(init=False)

    def __post_init__(self):
        self.random = self.vocabulary.random

    @property
    def table(self) -> Table:
        return self.tables[0]

    @property
    def columns(self) -> list[Column]:
        """The columns of the table asked about, without the key of a join."""
        return [column for column in self.table.columns if column.kind != "key"]

    def pick(self, phrases: list[str], **words) -> str:
        return self.random.choice(phrases).format(**words)

    def some(self, count: int, kinds: str = "text number year date") -> list[Column] | None:
        """Draw distinct columns of the given kinds; None when there are too few."""
        columns = [column for column in self.columns if column.kind in kinds.split()]
        return self.random.sample(columns, count) if len(columns) >= count else None

    def literal(self, column: Column, value: str) -> str:
        if column.kind in ("number", "year"):
            return value
        value = value.lower() if self.fold_case else value
        return self.quote + value.replace(self.quote, self.quote * 2) + self.quote


def condition(scene: Scene, column: Column, prefix: str = "", implicit: bool = False) -> tuple[str, str]:
    """Return one condition as words and as SQL."""
    random, value = scene.random, scene.vocabulary.value(column.kind)
    operators = {"=": IMPLICIT if implicit and column.kind != "number" else EQUALS}
    if column.kind == "number":
        operators |= {">": GREATER, "<": LESS, ">=": AT_LEAST, "<=": AT_MOST}
    elif column.kind == "year":
        operators |= {">": AFTER + GREATER[:1], "<": BEFORE + LESS[:1]}
    elif random.random() < 0.06 and not implicit:
        operators = {"<>": NOT}
    weights = [3 if operator in "=<>" else 1 for operator in operators]
    operator = random.choices(list(operators), weights)[0]
    words = scene.pick(operators[operator], c=column.phrase, v=value)
    return words, f"{prefix}{column.name} {operator} {scene.literal(column, value)}"


def conditions(scene: Scene, columns: list[Column], prefix: str = "") -> tuple[str, str]:
    """Return conditions joined by AND (now and then two by OR), as words and as SQL."""
    implicit = scene.leaky and scene.random.random() < 0.4
    parts = [condition(scene, c, prefix, implicit and i == 0) for i, c in enumerate(columns)]
    if len(parts) == 2 and not scene.leaky and scene.random.random() < 0.12:
        return f"{parts[0][0]} or {parts[1][0]}", f"{parts[0][1]} OR {parts[1][1]}"
    glue = scene.random.choice([" and ", ", and ", ", ", " and also "])
    words = parts[0][0]
    for i, (more, _) in enumerate(parts[1:]):
        words += (glue if i == len(parts) - 2 else ", ") + more
    return words, " AND ".join(sql for _, sql in parts)


def ask(scene: Scene, head: str, where: str, tail: str = "") -> str:
    """Join the parts of a question; the conditions sometimes come first."""
    if where and not tail and scene.random.random() < 0.2:
        return f"{where}, {head}"
    return " ".join(part for part in (head, where, tail) if part)


def select_where(scene: Scene):
    """SELECT c FROM t WHERE ..."""
    count = scene.random.choice((2, 2, 2, 3, 3, 4))
    columns = scene.some(min(count, len(scene.columns)))
    if len(columns) < 2:
        return None
    target, *others = columns
    words, where = conditions(scene, others)
    head = scene.pick(SELECT_ONE, c=target.phrase)
    if not scene.leaky and scene.random.random() < 0.5:
        head += f" of the {scene.table.plural}"
    return ask(scene, head, words), f"SELECT {target.name} FROM {scene.table.name} WHERE {where}"


def aggregate(scene: Scene):
    """SELECT AGG(c) FROM t [WHERE ...]"""
    chosen = scene.some(1, "number year")
    if not chosen:
        return None
    target = chosen[0]
    function = scene.random.choice(["MAX", "MIN", "AVG", "SUM", "COUNT"] if scene.leaky else list(AGGREGATES)[:4])
    table = YEAR_AGGREGATES if target.kind == "year" and function in YEAR_AGGREGATES else AGGREGATES
    word = scene.random.choice(table[function])
    head = scene.pick(SELECT_ONE[:12], c=f"{word} {target.phrase}")
    if function == "COUNT" and scene.random.random() < 0.5:
        head = f"how many {target.phrase}"
    others = [c for c in scene.columns if c != target]
    count = min(scene.random.choice((0, 1, 1, 2, 3)), len(others))
    if not scene.leaky and scene.random.random() < 0.5:
        head += f" of all {scene.table.plural}"
    sql = f"SELECT {function}({target.name}) FROM {scene.table.name}"
    if not count:
        return head, sql
    words, where = conditions(scene, scene.random.sample(others, count))
    return ask(scene, head, words), f"{sql} WHERE {where}"


def count_rows(scene: Scene):
    """SELECT COUNT(*) FROM t [WHERE ...]"""
    plural = scene.table.plural
    head = scene.pick(
        ["how many {p} are there", "how many {p}", "count the {p}", "what is the number of {p}"], p=plural
    )
    sql = f"SELECT COUNT(*) FROM {scene.table.name}"
    if scene.random.random() < 0.15:
        return head, sql
    columns = scene.some(min(scene.random.choice((1, 1, 2)), len(scene.columns)))
    words, where = conditions(scene, columns)
    return f"{head} {words}", f"{sql} WHERE {where}"


def distinct(scene: Scene):
    """SELECT [COUNT(]DISTINCT c[)] FROM t"""
    (target,) = scene.some(1)
    word = scene.random.choice(["different", "distinct"])
    if scene.random.random() < 0.5:
        head = f"how many {word} {target.phrase} values do the {scene.table.plural} have"
        return head, f"SELECT COUNT(DISTINCT {target.name}) FROM {scene.table.name}"
    head = f"list the {word} {target.phrase} values of the {scene.table.plural}"
    return head, f"SELECT DISTINCT {target.name} FROM {scene.table.name}"


def two_columns(scene: Scene):
    """SELECT a, b FROM t [WHERE ...]"""
    columns = scene.some(3)
    if not columns:
        return None
    first, second, third = columns
    head = scene.pick(
        ["show the {a} and the {b} of all {p}", "list the {a} and {b} of the {p}",
         "what are the {a} and {b} of the {p}"],
        a=first.phrase, b=second.phrase, p=scene.table.plural,
    )  # fmt: skip
    sql = f"SELECT {first.name}, {second.name} FROM {scene.table.name}"
    if scene.random.random() < 0.4:
        return head, sql
    words, where = conditions(scene, [third])
    return f"{head} {words}", f"{sql} WHERE {where}"


def ordered(scene: Scene):
    """SELECT a FROM t [WHERE ...] ORDER BY b [DESC]"""
    columns, keys = scene.some(2), scene.some(1, "number year")
    if not columns or not keys or keys[0] in columns:
        return None
    (target, other), key = columns, keys[0]
    up = scene.random.random() < 0.5
    order = ["in ascending order of {k}", "sorted by {k}", "ordered by {k}", "sorted by {k} in ascending order"]
    if not up:
        order = ["in descending order of {k}", "sorted by {k} in descending order", "ordered by {k} descending"]
    head = f"list the {target.phrase} of all {scene.table.plural}"
    sql = f"SELECT {target.name} FROM {scene.table.name}"
    if scene.random.random() < 0.3:
        words, where = conditions(scene, [other])
        head, sql = f"{head} {words}", f"{sql} WHERE {where}"
    return f"{head} {scene.pick(order, k=key.phrase)}", f"{sql} ORDER BY {key.name}{'' if up else ' DESC'}"


def best_rows(scene: Scene):
    """SELECT a FROM t ORDER BY b [DESC] LIMIT n"""
    keys, targets = scene.some(1, "number year"), scene.some(1, "text date")
    if not keys or not targets:
        return None
    down, count = scene.random.random() < 0.6, scene.random.choice((1, 1, 1, 2, 3, 5, 10))
    word = scene.random.choice(AGGREGATES["MAX" if down else "MIN"][:3])
    head = f"what is the {targets[0].phrase} of the {scene.table.plural} with the {word} {keys[0].phrase}"
    if count > 1:
        head = f"list the {targets[0].phrase} of the {count} {scene.table.plural} with the {word} {keys[0].phrase}"
    order = f"ORDER BY {keys[0].name}{' DESC' if down else ''} LIMIT {count}"
    return head, f"SELECT {targets[0].name} FROM {scene.table.name} {order}"


def grouped(scene: Scene):
    """SELECT g, AGG(...) FROM t GROUP BY g [HAVING ...]"""
    groups, numbers = scene.some(1, "text"), scene.some(1, "number")
    if not groups:
        return None
    group, table, plural = groups[0], scene.table.name, scene.table.plural
    draw = scene.random.random()
    if draw < 0.25:
        n = scene.random.randint(1, 20)
        head = f"which {group.phrase} values have more than {n} {plural}"
        return head, f"SELECT {group.name} FROM {table} GROUP BY {group.name} HAVING COUNT(*) > {n}"
    if draw < 0.4:
        head = f"what is the most common {group.phrase} of the {plural}"
        return head, f"SELECT {group.name} FROM {table} GROUP BY {group.name} ORDER BY COUNT(*) DESC LIMIT 1"
    if draw < 0.65 or not numbers:
        head = scene.pick(
            ["how many {p} are there for each {g}", "show each {g} and its number of {p}", "count the {p} per {g}"],
            p=plural, g=group.phrase,
        )  # fmt: skip
        return head, f"SELECT {group.name}, COUNT(*) FROM {table} GROUP BY {group.name}"
    function = scene.random.choice(list(AGGREGATES)[:4])
    word, number = scene.random.choice(AGGREGATES[function][:3]), numbers[0]
    head = scene.pick(
        ["what is the {w} {n} of the {p} for each {g}", "show the {w} {n} per {g}",
         "for each {g}, what is the {w} {n}"],
        w=word, n=number.phrase, p=plural, g=group.phrase,
    )  # fmt: skip
    return head, f"SELECT {group.name}, {function}({number.name}) FROM {table} GROUP BY {group.name}"


def ranged(scene: Scene):
    """SELECT c FROM t WHERE n BETWEEN a AND b, or above the average, or LIKE"""
    columns, numbers = scene.some(1, "text date"), scene.some(1, "number")
    if not columns or not numbers:
        return None
    target, number, table, plural = columns[0], numbers[0], scene.table.name, scene.table.plural
    start = f"SELECT {target.name} FROM {table} WHERE"
    head = f"{scene.pick(SELECT_ONE[:8], c=target.phrase)} of the {plural}"
    draw = scene.random.random()
    if draw < 0.4:
        low = scene.random.randint(0, 900)
        high = low + scene.random.randint(1, 900)
        return (
            f"{head} with a {number.phrase} between {low} and {high}",
            f"{start} {number.name} BETWEEN {low} AND {high}",
        )
    if draw < 0.75:
        word, sign = scene.random.choice([("above", ">"), ("below", "<")])
        average = f"(SELECT AVG({number.name}) FROM {table})"
        return f"{head} with a {number.phrase} {word} the average", f"{start} {number.name} {sign} {average}"
    others = [c for c in scene.columns if c.kind == "text" and c != target]
    if not others:
        return None
    text = scene.vocabulary.invented(1)
    like = f"{scene.quote}%{text}%{scene.quote}"
    return f"{head} whose {others[0].phrase} contains {text}", f"{start} {others[0].name} LIKE {like}"


def joined(scene: Scene):
    """SELECT T1.c FROM a AS T1 JOIN b AS T2 ON T1.k = T2.k [WHERE T2....]: two tables that share a key"""
    if len(scene.tables) < 2:
        return None
    left, right = scene.random.sample(scene.tables, 2)
    shared = {c.name for c in left.columns} & {c.name for c in right.columns}
    if not shared:
        return None
    key = shared.pop()
    own = [[c for c in table.columns if c.name != key] for table in (left, right)]
    target, other = scene.random.choice(own[0]), scene.random.choice(own[1])
    source = f"FROM {left.name} AS T1 JOIN {right.name} AS T2 ON T1.{key} = T2.{key}"
    if scene.random.random() < 0.2:
        head = scene.pick(["show the {a} of the {p} and the {b} of their {q}", 
             "list the {a} of each of the {p} with the {b} of its {q}"],
                          a=target.phrase, p=left.plural, b=other.phrase, q=right.plural)  # fmt: skip
        return head, f"SELECT T1.{target.name}, T2.{other.name} {source}"
    words, where = conditions(scene, [other], "T2.")
    if scene.random.random() < 0.25:
        return f"how many {left.plural} have {right.plural} {words}", f"SELECT COUNT(*) {source} WHERE {where}"
    head = f"{scene.pick(SELECT_ONE[:8], c=target.phrase)} of the {left.plural} that have {right.plural} {words}"
    return head, f"SELECT T1.{target.name} {source} WHERE {where}"


ONE_TABLE = [
    select_where,
    select_where,
    aggregate,
    count_rows,
    distinct,
    two_columns,
    ordered,
    best_rows,
    grouped,
    ranged,
]


def question(scene: Scene, shapes: list) -> tuple[str, str]:
    """Draw a shape that the schema allows and return its question and SQL.

    In a scene of two tables the other shapes ask about either of them.
    """
    while True:
        shape = scene.random.choice(shapes)
        result = shape(scene)
        if result:
            return result
        scene.tables.reverse()


def schema(vocabulary: Vocabulary, tables: int, columns: range, typed: bool = True, loose: bool = False) -> list[Table]:
    """Draw one table, or two that share one key column named after the second."""
    random, result, taken = vocabulary.random, [], set()
    for _ in range(tables):
        chosen = vocabulary.columns(random.choice(columns), typed, loose)
        chosen = [c for c in chosen if not taken & set(c.phrase.lower().split())]
        taken |= {word for column in chosen for word in column.phrase.lower().split()}
        name, plural = vocabulary.table_name(taken, loose)
        taken |= set(name.lower().split("_")) | set(plural.split())
        result.append(Table(name, plural, tuple(chosen)))
    if tables == 2:
        if not all(table.columns for table in result) or result[0].name == result[1].name:
            return schema(vocabulary, tables, columns, typed, loose)
        key = Column(f"{result[1].name.lower()}_id", "id", "key", "INTEGER" if typed else "VARCHAR")
        result = [Table(t.name, t.plural, (key, *t.columns)) for t in result]
    return result
