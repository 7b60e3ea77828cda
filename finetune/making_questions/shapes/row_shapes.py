"""Questions for rows of one table, and for how many there are."""

from finetune.making_questions.scenes import Scene
from finetune.making_questions.wordings import COUNTED, LOOKED_UP, PLACES, SORTS, compared


def count_all(scene: Scene):
    """SELECT COUNT(*) FROM t"""
    forms = ["how many {p} are there", "how many {p} do we have", "how many {p} are in the database",
             "what is the number of {p}", "how many {p} exist", "count all {p}", "what is the total number of {p}",
             "number of all {p}"]  # fmt: skip
    return scene.pick(forms, p=scene.table.plural), f"SELECT COUNT(*) FROM {scene.table.sql}"


def count_some(scene: Scene):
    """SELECT COUNT(*) FROM t WHERE ..."""
    found = scene.condition(scene.table)
    if not found:
        return None
    words, where, column, value = found
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
    elif column.words in SORTS and f" = {column.literal(value)}" in where:
        forms += ["how many {v} {p} are there", "how many {v} {p} do we have"]
    text = scene.pick(forms, p=scene.table.plural, w=words, x=words.removeprefix("that "), v=value)
    return text, f"SELECT COUNT(*) FROM {scene.table.sql} WHERE {where}"


def rows_where(scene: Scene):
    """SELECT name FROM t WHERE ..."""
    found, label = scene.condition(scene.table), scene.table.label
    if not found or not label or found.column == label:
        return None
    words, where, column, _ = found
    table = scene.table
    forms = ["what are the {l} of the {p} {w}", "list the {l} of all {p} {w}", "show the {l} of the {p} {w}",
             "which {p} are there {w}", "name all {p} {w}", "list all {p} {w}"]  # fmt: skip
    if words.startswith("that "):
        forms += ["which {p} {x}"] * 6
    elif column.words in PLACES or words.startswith(("in ", "of ", "from ")):
        forms += ["which {p} are {w}"] * 3
    text = scene.pick(forms, p=table.plural, l=label.plural, w=words, x=words.removeprefix("that "))
    return text, f"SELECT {label.at()} FROM {table.sql} WHERE {where}"


def column_where(scene: Scene):
    """SELECT c FROM t WHERE name = ..."""
    label, target = scene.table.label, scene.some("text", "number", "year", "date")
    if not label or not target or target == label:
        return None
    value, word = scene.value(label), target.words.split()[-1]
    subject = scene.random.choice([value, f"the {scene.table.singular} {value}", value])
    forms = ["what is the {c} of {x}", "what {c} does {x} have", "give the {c} of {x}", "show the {c} of {x}"]
    forms += LOOKED_UP.get(word, []) * 3
    where = f"WHERE {label.equals(value)}"
    return scene.pick(forms, c=target.words, x=subject), f"SELECT {target.at()} FROM {scene.table.sql} {where}"


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
    order = f"ORDER BY {column.at()}{' DESC' if downwards else ''} LIMIT {count}"
    return scene.pick(forms, **words), f"SELECT {label.at()} FROM {table.sql} {order}"
