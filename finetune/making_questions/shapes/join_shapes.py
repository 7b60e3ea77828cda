"""Questions over two tables and the key between them, or over three: one function a shape of query."""

from dataclasses import dataclass

from finetune.databases.schema.words import written
from finetune.making_questions.scenes import Scene
from finetune.making_questions.schemas import Table
from finetune.making_questions.wordings import AMOUNTS, DONE, MOST
from finetune.making_questions.words import plural


@dataclass
class Join:
    """Rows of a table, each with the one that it points to.

    Attributes:
        source: FROM and JOIN, with the child as T1.
        up: the parent's prefix there, such as `T2.`.
        by: the table that the child's key points to, where a join goes over two keys.
    """

    child: Table
    parent: Table
    source: str
    up: str = "T2."
    by: str = ""


def find_join(scene: Scene) -> Join | None:
    """Draw two tables with a key between them; None where there are none, or nothing names the parent's rows."""
    children = [table for table in scene.tables if table.points]
    if not children:
        return None
    child = scene.random.choice(children)
    key, name = scene.random.choice(child.points)
    parent = next((table for table in scene.tables if table.name == name), None)
    if not parent or not parent.label:
        return None
    source = f"FROM {child.sql} AS T1 JOIN {parent.sql} AS T2 ON T1.{written(key)} = {parent.key.at('T2.')}"
    return Join(child, parent, source)


def joined(scene: Scene):
    """SELECT ... FROM child AS T1 JOIN parent AS T2 ON T1.key = T2.key [WHERE ...]"""
    join = find_join(scene)
    if not join:
        return None
    shapes = [count_children, count_children, sum_of_children, parents_with, children_with_parent, count_per_parent,
              done_to, done_to]  # fmt: skip
    return scene.random.choice(shapes)(scene, join)


def of_parent(scene: Scene, join: Join) -> tuple[str, str, bool] | None:
    """Return words for rows of the parent, their condition, and whether it is one row, by its name."""
    parent, label = join.parent, join.parent.label
    assert label  # find_join
    if scene.random.random() < 0.5:
        value = scene.value(label)
        named = scene.random.choice([f"the {parent.singular} {value}", value])
        return named, label.equals(value, join.up), True
    found = scene.condition(parent, join.up)
    return (f"{parent.plural} {found.words}", found.sql, False) if found and found.column != label else None


def count_children(scene: Scene, join: Join):
    """SELECT COUNT(*) FROM child JOIN parent WHERE parent..."""
    found = of_parent(scene, join)
    if not found:
        return None
    words, where, is_one = found
    forms = ["how many {p} of {w} are there", "count the {p} of {w}", "what is the number of {p} of {w}"]
    forms += (
        ["how many {p} does {w} have"] * 2 if is_one else ["how many {p} do {w} have", "how many {p} did {w} make"] * 2
    )
    return scene.pick(forms, p=join.child.plural, w=words), f"SELECT COUNT(*) {join.source} WHERE {where}"


def sum_of_children(scene: Scene, join: Join):
    """SELECT AGG(child.c) FROM child JOIN parent WHERE parent..."""
    number, found = scene.some("number", of=join.child), of_parent(scene, join)
    if not number or not found:
        return None
    function, word = scene.random.choice([("SUM", "total"), ("SUM", "total"), ("AVG", "average"), ("MAX", "highest")])
    forms = ["what is the {w} {c} of the {p} of {x}", "what is the {w} {c} of all {p} of {x}"]
    text = scene.pick(forms, w=word, c=number.words, p=join.child.plural, x=found[0])
    return text, f"SELECT {function}({number.at('T1.')}) {join.source} WHERE {found[1]}"


def parents_with(scene: Scene, join: Join):
    """SELECT DISTINCT parent.name FROM child JOIN parent WHERE child..."""
    found, label = scene.condition(join.child, "T1."), join.parent.label
    if not found or not label:
        return None
    forms = ["which {p} have {q} {w}", "list the different {l} of the {p} that have {q} {w}"]
    words = {"p": join.parent.plural, "q": join.child.plural, "w": found.words, "l": label.plural}
    return scene.pick(forms, **words), f"SELECT DISTINCT {label.at(join.up)} {join.source} WHERE {found.sql}"


def children_with_parent(scene: Scene, join: Join):
    """SELECT child.c, parent.name FROM child JOIN parent, or the child's column for one parent"""
    column, label = scene.some("text", "number", "year", "date", of=join.child), join.parent.label
    if not column or not label:
        return None
    words = {"c": column.words, "s": join.child.singular, "p": join.child.plural, "l": label.words}
    if scene.random.random() < 0.5:
        forms = ["show the {c} of each {s} and the {l} of its {t}", "list the {c} of all {p} with the {l} of the {t}"]
        text = scene.pick(forms, t=join.parent.singular, **words)
        return text, f"SELECT {column.at('T1.')}, {label.at(join.up)} {join.source}"
    found = of_parent(scene, join)
    if not found:
        return None
    forms = ["list the {c} of all {p} of {x}", "what are the {c} of the {p} of {x}"]
    text = scene.pick(forms, **(words | {"c": column.plural, "x": found[0]}))
    return text, f"SELECT {column.at('T1.')} {join.source} WHERE {found[1]}"


def count_per_parent(scene: Scene, join: Join):
    """SELECT parent.name, COUNT(*) ... GROUP BY parent.name, or the one with the most"""
    assert join.parent.label  # find_join
    label = join.parent.label.at(join.up)
    words = {"p": join.child.plural, "s": join.parent.singular, "l": join.parent.label.words}
    if scene.random.random() < 0.5:
        text = scene.pick(["which {s} has the " + scene.random.choice(MOST) + " {p}"], **words)
        return text, f"SELECT {label} {join.source} GROUP BY {label} ORDER BY COUNT(*) DESC LIMIT 1"
    forms = [
        "how many {p} does each {s} have",
        "show the {l} of each {s} and its number of {p}",
        "number of {p} per {s}",
    ]
    return scene.pick(forms, **words), f"SELECT {label}, COUNT(*) {join.source} GROUP BY {label}"


def done_to(scene: Scene, join: Join):
    """SELECT SUM(child.quantity) or COUNT(*) FROM child JOIN parent WHERE parent...: how often it was lent or sold"""
    child, parent = join.child, join.parent
    if child.singular not in DONE:
        return None
    amount = next((column for column in child.columns if column.words in AMOUNTS), None)
    column = scene.random.choice([c for c in parent.columns if c.kind == "text"])
    value, done = scene.value(column), DONE[child.singular]
    where = f"WHERE {column.equals(value, join.up)}"
    if amount:
        things = plural(value.lower()) if column == parent.label else f"{value} {parent.plural}"
        text = scene.pick(["how many {x} were {d}", "how many {x} were {d} in all", "how many {x} have been {d}"],
                          x=things, d=done)  # fmt: skip
        return text, f"SELECT SUM({amount.at('T1.')}) {join.source} {where}"
    if column != parent.label:
        return None
    text = scene.pick(["how often was {x} {d}", "how many times was {x} {d}"], x=value, d=done)
    return text, f"SELECT COUNT(*) {join.source} {where}"
