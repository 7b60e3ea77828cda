"""Questions over live tables and the keys between them: over one key or two."""

from collections.abc import Callable

from finetune.databases.schema.words import written
from finetune.making_questions.live.scenes import LiveScene
from finetune.making_questions.schemas import FullName, Table
from finetune.making_questions.shapes import join_shapes
from finetune.making_questions.shapes.join_shapes import Join
from finetune.making_questions.wordings import DONE

# Children of which "how often was it ..." can be asked.
DONE_LIVE = DONE | {"reservation": "reserved", "checkout": "checked out", "purchase": "bought", "lending": "lent"}
# People and places: they are not what is borrowed or sold.
NO_THINGS = set(
    "member customer student employee person user patient guest client reader teacher author branch store shop city"
    " country office department library school warehouse supplier region place address".split()
)


def find_join(scene: LiveScene, named: bool = False) -> Join | None:
    """Draw a join over one key or two.

    Args:
        named: only to a parent whose rows are told from each other by their name.
    """
    tables = {table.name: table for table in scene.tables}
    child = scene.table if scene.table.points else scene.random.choice(scene.tables)
    found = [join for join in joins(child, tables) if join.parent.label and (join.parent.distinct or not named)]
    return scene.random.choice(found) if found else None


def joins(child: Table, tables: dict[str, Table]) -> list[Join]:
    """Return the joins from a table to what it points to, and from there to what that points to."""
    found = []
    for key, name in child.points:
        middle = tables[name]
        on = f"FROM {child.sql} AS T1 JOIN {middle.sql} AS T2 ON T1.{written(key)} = {middle.key.at('T2.')}"
        found.append(Join(child, middle, on, by=name))
        for further, other in middle.points:
            if other != child.name:
                top = tables[other]
                on_top = f"{on} JOIN {top.sql} AS T3 ON T2.{written(further)} = {top.key.at('T3.')}"
                found.append(Join(child, top, on_top, "T3.", name))
    return found


def over_join(shape: Callable, named: bool = False) -> Callable:
    """Return a shape of the demo, over one key or two."""

    def shape_over_join(scene: LiveScene):
        join = find_join(scene, named)
        return shape(scene, join) if join else None

    return shape_over_join


def done_to(scene: LiveScene, join: Join):
    """SELECT COUNT(*) FROM child JOIN parent WHERE parent.name = ...: how often it was borrowed"""
    label = join.parent.label
    is_thing = join.parent.singular.split()[-1] not in NO_THINGS and not isinstance(label, FullName)
    if join.child.singular not in DONE_LIVE or not is_thing or not label or not label.values:
        return None
    value = scene.value(label)
    forms = ["how often was {x} {d}", "how many times was {x} {d}", "how many times has {x} been {d}"]
    text = scene.pick(forms, x=value, d=DONE_LIVE[join.child.singular])
    return text, f"SELECT COUNT(*) {join.source} WHERE {label.equals(value, join.up)}"


def without_children(scene: LiveScene, join: Join):
    """SELECT parent.name FROM parent WHERE key NOT IN (SELECT key FROM child)"""
    key = next((column for column, name in join.child.points if name == join.parent.name), None)
    if join.up != "T2." or key is None or not join.parent.label:
        return None
    forms = ["which {p} have no {q}", "list the {l} of the {p} without any {q}", "which {p} have never had {a}",
             "what are the {l} of the {p} that have no {q}"]  # fmt: skip
    words = {"p": join.parent.plural, "q": join.child.plural, "l": join.parent.label.plural}
    text = scene.pick(forms, a=f"a {join.child.singular}", **words)
    inner = f"SELECT {written(key)} FROM {join.child.sql}"
    return text, f"SELECT {join.parent.label.at()} FROM {join.parent.sql} WHERE {join.parent.key.at()} NOT IN ({inner})"


def busy_parents(scene: LiveScene, join: Join):
    """SELECT parent.name FROM child JOIN parent GROUP BY parent.name HAVING COUNT(*) > n"""
    assert join.parent.label  # find_join
    label, number = join.parent.label.at(join.up), scene.random.choice((2, 2, 3, 4, 5, 8, 10, 20))
    forms = ["which {p} have more than {n} {q}", "list the {l} of the {p} with more than {n} {q}",
             "what are the {l} of all {p} that have more than {n} {q}"]  # fmt: skip
    words = {"p": join.parent.plural, "q": join.child.plural, "l": join.parent.label.plural, "n": number}
    return scene.pick(forms, **words), f"SELECT {label} {join.source} GROUP BY {label} HAVING COUNT(*) > {number}"


def through(scene: LiveScene):
    """SELECT DISTINCT other.name FROM child JOIN parent JOIN other WHERE parent...: over two keys of the child"""
    tables = {table.name: table for table in scene.tables}
    child = scene.table if scene.table.points else scene.random.choice(scene.tables)
    found = [join for join in joins(child, tables) if join.parent.label]
    one = scene.random.choice(found) if found else None
    others = [
        (key, tables[name]) for key, name in child.points if one and name not in one.source and tables[name].label
    ]
    if not one or not others or not one.parent.label:
        return None
    key, other = scene.random.choice(others)
    assert other.label
    found_rows = join_shapes.of_parent(scene, one)
    if not found_rows:
        return None
    forms = ["which {p} have {q} of {w}", "list the different {l} of the {p} with {q} of {w}",
             "what are the {l} of the {p} that have {q} of {w}"]  # fmt: skip
    text = scene.pick(forms, p=other.plural, l=other.label.plural, q=child.plural, w=found_rows[0])
    last = "T3" if one.up == "T2." else "T4"
    source = f"{one.source} JOIN {other.sql} AS {last} ON T1.{written(key)} = {other.key.at(f'{last}.')}"
    return text, f"SELECT DISTINCT {other.label.at(f'{last}.')} {source} WHERE {found_rows[1]}"


JOIN_SHAPES = {
    "count_children": over_join(join_shapes.count_children), "sum_of_children": over_join(join_shapes.sum_of_children),
    "parents_with": over_join(join_shapes.parents_with),
    "children_with_parent": over_join(join_shapes.children_with_parent),
    "count_per_parent": over_join(join_shapes.count_per_parent, named=True), "done_to": over_join(done_to),
    "without_children": over_join(without_children), "busy_parents": over_join(busy_parents, named=True),
    "through": through,
}  # fmt: skip
