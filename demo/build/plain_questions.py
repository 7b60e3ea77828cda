"""Plain questions with their SQL, as people ask them: one function a shape of query.

Each function takes a `Scene` and returns the question and the SQL, or None where the schema has not what the shape
needs. A question that asks for rows ("which books ...") asks for the column that names them.
"""

from dataclasses import dataclass
from random import Random

from plain_schemas import Column, Table, plural

# By a word of the column's name: is more than, is less than, the most, the least; {v} is a value.
COMPARED = {
    "price": ("cost more than {v}", "cost less than {v}", "most expensive", "cheapest"),
    "cost": ("cost more than {v}", "cost less than {v}", "most expensive", "cheapest"),
    "fee": ("cost more than {v}", "cost less than {v}", "most expensive", "cheapest"),
    "age": ("are older than {v}", "are younger than {v}", "oldest", "youngest"),
    "height": ("are taller than {v}", "are shorter than {v}", "tallest", "shortest"),
    "weight": ("weigh more than {v}", "weigh less than {v}", "heaviest", "lightest"),
    "length": ("are longer than {v}", "are shorter than {v}", "longest", "shortest"),
    "minutes": ("take longer than {v} minutes", "take less than {v} minutes", "longest", "shortest"),
    "seconds": ("are longer than {v} seconds", "are shorter than {v} seconds", "longest", "shortest"),
    "hours": ("take more than {v} hours", "take less than {v} hours", "longest", "shortest"),
    "area": ("are larger than {v}", "are smaller than {v}", "largest", "smallest"),
    "speed": ("are faster than {v}", "are slower than {v}", "fastest", "slowest"),
    "depth": ("are deeper than {v}", "are less deep than {v}", "deepest", "least deep"),
    "salary": ("earn more than {v}", "earn less than {v}", "best paid", "worst paid"),
    "wage": ("earn more than {v}", "earn less than {v}", "best paid", "worst paid"),
    "rating": ("are rated higher than {v}", "are rated lower than {v}", "best rated", "worst rated"),
    "power": ("are stronger than {v}", "are weaker than {v}", "strongest", "weakest"),
    "capacity": ("hold more than {v}", "hold less than {v}", "largest", "smallest"),
}
YEARS = {
    "year": ("are from after {v}", "are from before {v}", "newest", "oldest"),
    "founded": ("were founded after {v}", "were founded before {v}", "newest", "oldest"),
    "built": ("were built after {v}", "were built before {v}", "newest", "oldest"),
    "planted": ("were planted after {v}", "were planted before {v}", "youngest", "oldest"),
}
COUNTED = "pages rooms seats stars goals songs followers visitors passengers fleet pupils members floors screens beds"
COUNTED += " moons acts shelves ovens platforms calories memory employees tickets points tons sheep days nights"
AVERAGE_OF = {  # "how ... are the {p} on average"
    "age": "how old are the {p} on average", "price": "how much do the {p} cost on average",
    "height": "how tall are the {p} on average", "weight": "how heavy are the {p} on average",
    "length": "how long are the {p} on average", "salary": "how much do the {p} earn on average",
    "minutes": "how many minutes do the {p} take on average",
}  # fmt: skip
LOOKED_UP = {
    "age": ["how old is {x}"], "price": ["how much does {x} cost", "what does {x} cost"],
    "height": ["how tall is {x}"], "weight": ["how heavy is {x}", "how much does {x} weigh"],
    "length": ["how long is {x}"], "salary": ["how much does {x} earn"],
    "city": ["where does {x} live", "in which city is {x}"],
    "country": ["where is {x} from", "which country is {x} from"], "area": ["how large is {x}"],
    "speed": ["how fast is {x}"], "depth": ["how deep is {x}"], "year": ["from which year is {x}"],
    "founded": ["when was {x} founded"], "built": ["when was {x} built"],
}  # fmt: skip
PLACES = set("city town country region continent".split())
SORTS = set("genre category kind type species breed color colour cuisine subject level topic season flour".split())
AMOUNTS = set("quantity tons amount".split())
# What is done to a thing in a row of such a table.
DONE = {
    "loan": "borrowed", "booking": "booked", "delivery": "delivered", "repair": "repaired", "harvest": "harvested",
    "order": "ordered", "order line": "ordered", "sale": "sold", "rental": "rented", "showing": "shown",
    "inspection": "inspected", "visit": "visited", "payment": "paid",
}  # fmt: skip
MOST = ["most", "highest number of", "largest number of"]


@dataclass
class Scene:
    """What a question is asked about."""

    random: Random
    tables: list[Table]
    table: Table

    def pick(self, phrases: list[str], **words) -> str:
        return self.random.choice(phrases).format(**words)

    def some(self, *kinds: str, of: Table | None = None) -> Column | None:
        """Draw a column of one of the kinds; None where there is none."""
        found = [column for column in (of or self.table).columns if column.kind in kinds]
        return self.random.choice(found) if found else None

    def value(self, column: Column) -> str:
        """Draw a value, as people say it."""
        if column.kind == "year":
            return str(self.random.randint(1950, 2025))
        if column.kind == "number":
            return str(self.random.choice([self.random.randint(1, 100), 10 * self.random.randint(1, 100)]))
        if column.kind == "date":
            return f"{self.random.randint(2018, 2025)}-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}"
        return self.random.choice(column.values)


def quoted(column: Column, value: str) -> str:
    """Return a value as SQL has it."""
    return value if column.kind in ("number", "year") else "'" + value.replace("'", "''") + "'"


def compared(column: Column) -> tuple[str, str, str, str]:
    """Return how people say that a row has more or less of the column, and the most or least."""
    last = column.words.split()[-1]
    if column.kind == "year":
        return YEARS.get(last, ("have a {c} after {v}", "have a {c} before {v}", "latest", "earliest"))
    if last in COMPARED:
        return COMPARED[last]
    if last in COUNTED.split():
        return ("have more than {v} {c}", "have fewer than {v} {c}", "", "")
    return ("have a {c} above {v}", "have a {c} below {v}", "", "")


def condition(scene: Scene, table: Table) -> tuple[str, str, Column] | None:
    """Return a condition on rows of a table: words that follow them, SQL without a prefix, the column."""
    column = scene.some("text", "text", "number", "number", "year", "date", of=table)
    if column is None:
        return None
    value, name = scene.value(column), column.words
    if column.kind == "text":
        forms = ["whose {c} is {v}", "with {c} {v}", "with the {c} {v}", "that have the {c} {v}"]
        if name in PLACES:
            forms = ["from {v}", "in {v}", "in {v}", "from {v}", "in the {c} of {v}"]
        elif name in SORTS:
            forms += ["in the {v} {c}", "of the {c} {v}", "in the {c} {v}"]
        return scene.pick(forms, c=name, v=value), f"{column.name} = {quoted(column, value)}", column
    if column.kind == "date":
        sign, word = scene.random.choice([(">", "after"), ("<", "before"), ("=", "on")])
        return f"{word} {value}", f"{column.name} {sign} '{value}'", column
    if column.kind == "year" and scene.random.random() < 0.5:
        forms = {"year": ["in {v}", "from {v}", "in the year {v}"]}.get(name, ["{c} in {v}"])
        return scene.pick(forms, c=name, v=value), f"{column.name} = {value}", column
    more, less, *_ = compared(column)
    above = scene.random.random() < 0.6
    words = (more if above else less).format(c=name, v=value)
    return f"that {words}", f"{column.name} {'>' if above else '<'} {value}", column


def count_all(scene: Scene):
    """SELECT COUNT(*) FROM t"""
    forms = ["how many {p} are there", "how many {p} do we have", "how many {p} are in the database",
             "what is the number of {p}", "how many {p} exist", "count all {p}", "what is the total number of {p}",
             "number of all {p}"]  # fmt: skip
    return scene.pick(forms, p=scene.table.plural), f"SELECT COUNT(*) FROM {scene.table.name}"


def count_some(scene: Scene):
    """SELECT COUNT(*) FROM t WHERE ..."""
    found = condition(scene, scene.table)
    if not found:
        return None
    words, where, column = found
    forms = [
        "how many {p} are there {w}",
        "how many {p} {w} are there",
        "count the {p} {w}",
        "how many {p} do we have {w}",
    ]
    if words.startswith("that "):
        forms += ["how many {p} {x}"] * 5
    elif column.words in PLACES:
        forms += [
            "how many {p} are {w}",
            "how many {p} come {w}" if words.startswith("from") else "how many {p} are {w}",
        ] * 3
        if words.startswith("in ") and scene.table.label and scene.table.label.values[:1] == ("Ada",):
            forms += ["how many {p} live {w}"] * 4
    elif words.startswith(("in ", "of ", "on ", "after ", "before ")):
        forms += ["how many {p} are {w}"] * 3
    elif column.words in SORTS:
        forms += ["how many {v} {p} are there", "how many {v} {p} do we have"]
    value = where.split(" = ")[-1].strip("'")
    text = scene.pick(forms, p=scene.table.plural, w=words, x=words.removeprefix("that "), v=value)
    return text, f"SELECT COUNT(*) FROM {scene.table.name} WHERE {where}"


def rows_where(scene: Scene):
    """SELECT name FROM t WHERE ..."""
    found, label = condition(scene, scene.table), scene.table.label
    if not found or not label or found[2] == label:
        return None
    words, where, column = found
    table = scene.table
    forms = ["what are the {l} of the {p} {w}", "list the {l} of all {p} {w}", "show the {l} of the {p} {w}",
             "which {p} are there {w}", "name all {p} {w}", "list all {p} {w}"]  # fmt: skip
    if words.startswith("that "):
        forms += ["which {p} {x}"] * 6
    elif column.words in PLACES or words.startswith(("in ", "of ", "from ")):
        forms += ["which {p} are {w}"] * 3
    text = scene.pick(forms, p=table.plural, l=plural(label.words), w=words, x=words.removeprefix("that "))
    return text, f"SELECT {label.name} FROM {table.name} WHERE {where}"


def column_where(scene: Scene):
    """SELECT c FROM t WHERE name = ..."""
    label, target = scene.table.label, scene.some("text", "number", "year", "date")
    if not label or target == label:
        return None
    value, word = scene.value(label), target.words.split()[-1]
    subject = scene.random.choice([value, f"the {scene.table.singular} {value}", value])
    forms = ["what is the {c} of {x}", "what {c} does {x} have", "give the {c} of {x}", "show the {c} of {x}"]
    forms += LOOKED_UP.get(word, []) * 3
    where = f"WHERE {label.name} = {quoted(label, value)}"
    return scene.pick(forms, c=target.words, x=subject), f"SELECT {target.name} FROM {scene.table.name} {where}"


def most(scene: Scene):
    """SELECT name FROM t ORDER BY c [DESC] LIMIT n"""
    label, column = scene.table.label, scene.some("number", "number", "year")
    if not label or not column:
        return None
    down, table = scene.random.random() < 0.65, scene.table
    adjective = compared(column)[2 if down else 3]
    downwards = down if column.kind != "year" or adjective not in ("newest", "latest", "youngest") else True
    forms = [f"which {{s}} has the {'highest' if down else 'lowest'} {{c}}",
             f"what is the {{l}} of the {{s}} with the {'highest' if down else 'lowest'} {{c}}"]  # fmt: skip
    if column.kind == "year":
        forms = ["what is the {a} {s}", "which is the {a} {s}"]
    elif column.words.split()[-1] in COUNTED.split():
        forms = [f"which {{s}} has the {'most' if down else 'fewest'} {{c}}"] * 2 + forms
    elif adjective:
        forms += ["what is the {a} {s}", "which {s} is the {a}", "what is the {l} of the {a} {s}",
                  "which is the {a} {s}", "name the {a} {s}"]  # fmt: skip
    count = scene.random.choice((2, 3, 5, 10)) if adjective and scene.random.random() < 0.25 else 1
    if count > 1:
        forms = ["what are the {n} {a} {p}", "list the {n} {a} {p}", "which are the {n} {a} {p}"]
    words = {"s": table.singular, "p": table.plural, "c": column.words, "l": label.words, "a": adjective, "n": count}
    order = f"ORDER BY {column.name}{' DESC' if downwards else ''} LIMIT {count}"
    return scene.pick(forms, **words), f"SELECT {label.name} FROM {table.name} {order}"


def aggregate(scene: Scene):
    """SELECT AGG(c) FROM t [WHERE ...]"""
    column = scene.some("number")
    if not column:
        return None
    table, function = scene.table, scene.random.choice(("AVG", "AVG", "SUM", "MAX", "MIN"))
    word = {"AVG": "average", "SUM": "total", "MAX": "highest", "MIN": "lowest"}[function]
    forms = ["what is the {w} {c} of all {p}", "what is the {w} {c} of the {p}", "show the {w} {c} of all {p}",
             "what is the {w} {c}"]  # fmt: skip
    if function == "AVG":
        forms += [AVERAGE_OF.get(column.words, "what {c} do the {p} have on average")] * 2
    if function == "SUM" and column.words in COUNTED.split():
        forms += ["how many {c} do all {p} have together", "how many {c} are there in all"]
    text = scene.pick(forms, w=word, c=column.words, p=table.plural)
    sql = f"SELECT {function}({column.name}) FROM {table.name}"
    found = condition(scene, table) if scene.random.random() < 0.45 and text.endswith(table.plural) else None
    if found and found[2] != column:
        return f"{text} {found[0]}", f"{sql} WHERE {found[1]}"
    return text, sql


def grouped(scene: Scene):
    """SELECT g, AGG FROM t GROUP BY g"""
    group = scene.some("text", "year")
    if not group or group == scene.table.label:
        return None
    table, number = scene.table, scene.some("number")
    words = {"p": table.plural, "g": group.words, "c": number.words if number else ""}
    draw = scene.random.random()
    if draw < 0.2:
        text = scene.pick(
            [f"which {{g}} has the {scene.random.choice(MOST)} {{p}}", "what is the most common {g} of the {p}"],
            **words,
        )
        return text, f"SELECT {group.name} FROM {table.name} GROUP BY {group.name} ORDER BY COUNT(*) DESC LIMIT 1"
    if draw < 0.7 or not number:
        forms = ["how many {p} are there in each {g}", "how many {p} are there for each {g}", "number of {p} per {g}",
                 "how many {p} does each {g} have", "show the number of {p} for each {g}",
                 "how many {p} are there by {g}", "count the {p} in each {g}"]  # fmt: skip
        return scene.pick(forms, **words), f"SELECT {group.name}, COUNT(*) FROM {table.name} GROUP BY {group.name}"
    function = scene.random.choice(("AVG", "AVG", "SUM", "MAX", "MIN"))
    word = {"AVG": "average", "SUM": "total", "MAX": "highest", "MIN": "lowest"}[function]
    forms = ["what is the {w} {c} of the {p} in each {g}", "what is the {w} {c} for each {g}",
             "{w} {c} of the {p} per {g}", "show the {w} {c} of the {p} by {g}"]  # fmt: skip
    select = f"SELECT {group.name}, {function}({number.name})"
    return scene.pick(forms, w=word, **words), f"{select} FROM {table.name} GROUP BY {group.name}"


def listed(scene: Scene):
    """SELECT [DISTINCT] c[, d] FROM t [ORDER BY]"""
    column, other = scene.some("text", "year"), scene.some("text", "number", "year", "date")
    label, table = scene.table.label, scene.table
    if not column or not label:
        return None
    draw = scene.random.random()
    words = {
        "p": table.plural,
        "c": column.words,
        "cs": plural(column.words),
        "l": plural(label.words),
        "o": other.words,
    }
    if draw < 0.3 and column != label:
        forms = ["which different {cs} are there among the {p}", "list all {cs} of the {p} without repeats",
                 "what {cs} do the {p} have, each once", "show the different {cs} of the {p}"]  # fmt: skip
        return scene.pick(forms, **words), f"SELECT DISTINCT {column.name} FROM {table.name}"
    if draw < 0.45 and column != label:
        forms = ["how many different {cs} are there among the {p}", "how many different {cs} do the {p} have"]
        return scene.pick(forms, **words), f"SELECT COUNT(DISTINCT {column.name}) FROM {table.name}"
    if draw < 0.6 or other == label:
        forms = ["list the {l} of all {p}", "what are the {l} of all {p}", "show all {l} of the {p}"]
        return scene.pick(forms, **words), f"SELECT {label.name} FROM {table.name}"
    if draw < 0.8 or other.kind == "text":
        forms = [
            "show {l} and {o} of all {p}",
            "list the {l} of all {p} with their {o}",
            "what are the {l} and the {o} of the {p}",
        ]
        return scene.pick(forms, **words), f"SELECT {label.name}, {other.name} FROM {table.name}"
    down = scene.random.random() < 0.5
    form = "list the {l} of all {p} by {o}, " + ("highest first" if down else "lowest first")
    if other.kind in ("year", "date"):
        form = "list the {l} of all {p} by {o}, " + ("latest first" if down else "earliest first")
    return form.format(**words), f"SELECT {label.name} FROM {table.name} ORDER BY {other.name}{' DESC' if down else ''}"


def joined(scene: Scene):
    """SELECT ... FROM child AS T1 JOIN parent AS T2 ON T1.key = T2.key [WHERE ...]"""
    children = [table for table in scene.tables if table.points]
    if not children:
        return None
    child = scene.random.choice(children)
    key, name = scene.random.choice(child.points)
    parent = next((table for table in scene.tables if table.name == name), None)
    if not parent or not parent.label:
        return None
    source = f"FROM {child.name} AS T1 JOIN {parent.name} AS T2 ON T1.{key} = T2.{parent.key.name}"
    shapes = [count_children, count_children, sum_of_children, parents_with, children_with_parent, count_per_parent,
              done_to, done_to]  # fmt: skip
    return scene.random.choice(shapes)(scene, child, parent, source)


def of_parent(scene: Scene, parent: Table) -> tuple[str, str] | None:
    """Return words for rows of the parent, and their condition: by name, or by another column."""
    if scene.random.random() < 0.5:
        value = scene.value(parent.label)
        named = scene.random.choice([f"the {parent.singular} {value}", value])
        return named, f"T2.{parent.label.name} = {quoted(parent.label, value)}"
    found = condition(scene, parent)
    return (f"{parent.plural} {found[0]}", f"T2.{found[1]}") if found and found[2] != parent.label else None


def count_children(scene: Scene, child: Table, parent: Table, source: str):
    """SELECT COUNT(*) FROM child JOIN parent WHERE parent..."""
    found = of_parent(scene, parent)
    if not found:
        return None
    one = found[0].startswith("the ") or " " not in found[0]
    forms = ["how many {p} of {w} are there", "count the {p} of {w}", "what is the number of {p} of {w}"]
    forms += (
        ["how many {p} does {w} have"] * 2 if one else ["how many {p} do {w} have", "how many {p} did {w} make"] * 2
    )
    return scene.pick(forms, p=child.plural, w=found[0]), f"SELECT COUNT(*) {source} WHERE {found[1]}"


def sum_of_children(scene: Scene, child: Table, parent: Table, source: str):
    """SELECT AGG(child.c) FROM child JOIN parent WHERE parent..."""
    number, found = scene.some("number", of=child), of_parent(scene, parent)
    if not number or not found:
        return None
    function, word = scene.random.choice([("SUM", "total"), ("SUM", "total"), ("AVG", "average"), ("MAX", "highest")])
    forms = ["what is the {w} {c} of the {p} of {x}", "what is the {w} {c} of all {p} of {x}"]
    text = scene.pick(forms, w=word, c=number.words, p=child.plural, x=found[0])
    return text, f"SELECT {function}(T1.{number.name}) {source} WHERE {found[1]}"


def parents_with(scene: Scene, child: Table, parent: Table, source: str):
    """SELECT DISTINCT parent.name FROM child JOIN parent WHERE child..."""
    found = condition(scene, child)
    if not found:
        return None
    forms = ["which {p} have {q} {w}", "list the different {l} of the {p} that have {q} {w}"]
    words = {"p": parent.plural, "q": child.plural, "w": found[0], "l": plural(parent.label.words)}
    return scene.pick(forms, **words), f"SELECT DISTINCT T2.{parent.label.name} {source} WHERE T1.{found[1]}"


def children_with_parent(scene: Scene, child: Table, parent: Table, source: str):
    """SELECT child.c, parent.name FROM child JOIN parent, or the child's column for one parent"""
    column = scene.some("text", "number", "year", "date", of=child)
    if not column:
        return None
    if scene.random.random() < 0.5:
        forms = ["show the {c} of each {s} and the {l} of its {t}", "list the {c} of all {p} with the {l} of the {t}"]
        words = {
            "c": column.words,
            "s": child.singular,
            "p": child.plural,
            "l": parent.label.words,
            "t": parent.singular,
        }
        return scene.pick(forms, **words), f"SELECT T1.{column.name}, T2.{parent.label.name} {source}"
    found = of_parent(scene, parent)
    if not found:
        return None
    text = scene.pick(["list the {c} of all {p} of {x}", "what are the {c} of the {p} of {x}"],
                      c=plural(column.words), p=child.plural, x=found[0])  # fmt: skip
    return text, f"SELECT T1.{column.name} {source} WHERE {found[1]}"


def count_per_parent(scene: Scene, child: Table, parent: Table, source: str):
    """SELECT parent.name, COUNT(*) ... GROUP BY parent.name, or the one with the most"""
    label, words = f"T2.{parent.label.name}", {"p": child.plural, "s": parent.singular, "l": parent.label.words}
    if scene.random.random() < 0.5:
        text = scene.pick(["which {s} has the " + scene.random.choice(MOST) + " {p}"], **words)
        return text, f"SELECT {label} {source} GROUP BY {label} ORDER BY COUNT(*) DESC LIMIT 1"
    forms = [
        "how many {p} does each {s} have",
        "show the {l} of each {s} and its number of {p}",
        "number of {p} per {s}",
    ]
    return scene.pick(forms, **words), f"SELECT {label}, COUNT(*) {source} GROUP BY {label}"


def done_to(scene: Scene, child: Table, parent: Table, source: str):
    """SELECT SUM(child.quantity) or COUNT(*) FROM child JOIN parent WHERE parent...: how often it was lent or sold"""
    if child.singular not in DONE:
        return None
    amount = next((column for column in child.columns if column.words in AMOUNTS), None)
    column = scene.random.choice([c for c in parent.columns if c.kind == "text"])
    value, done = scene.value(column), DONE[child.singular]
    where = f"WHERE T2.{column.name} = {quoted(column, value)}"
    if amount:
        things = plural(value.lower()) if column == parent.label else f"{value} {parent.plural}"
        text = scene.pick(["how many {x} were {d}", "how many {x} were {d} in all", "how many {x} have been {d}"],
                          x=things, d=done)  # fmt: skip
        return text, f"SELECT SUM(T1.{amount.name}) {source} WHERE T2.{column.name} = {quoted(column, value)}"
    if column != parent.label:
        return None
    text = scene.pick(["how often was {x} {d}", "how many times was {x} {d}"], x=value, d=done)
    return text, f"SELECT COUNT(*) {source} {where}"


SHAPES = [count_all, count_some, count_some, rows_where, rows_where, column_where, most, most, aggregate, aggregate,
          grouped, grouped, listed, joined, joined, joined, joined, joined]  # fmt: skip


def ask(random: Random, tables: list[Table]) -> tuple[str, str]:
    """Draw a question about the tables and return it with its SQL."""
    while True:
        scene = Scene(random, tables, random.choice(tables))
        found = random.choice(SHAPES)(scene)
        if found:
            text, sql = found
            requests = ("list", "show", "give", "name", "count", "number")
            end = "." if text.startswith(requests) else "?"
            return text[0].upper() + text[1:] + (end if random.random() < 0.95 else ""), sql
