"""Questions for numbers over the rows of one table, for its groups and its lists."""

from finetune.making_questions.scenes import Scene
from finetune.making_questions.wordings import AVERAGE_OF, COUNTED, MOST


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
    sql = f"SELECT {function}({column.at()}) FROM {table.sql}"
    found = scene.condition(table) if scene.random.random() < 0.45 and text.endswith(table.plural) else None
    if found and found.column != column:
        return f"{text} {found.words}", f"{sql} WHERE {found.sql}"
    return text, sql


def grouped(scene: Scene):
    """SELECT g, AGG FROM t GROUP BY g"""
    group = scene.some("text", "year", repeats=True)
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
        return text, f"SELECT {group.at()} FROM {table.sql} GROUP BY {group.at()} ORDER BY COUNT(*) DESC LIMIT 1"
    if draw < 0.7 or not number:
        forms = ["how many {p} are there in each {g}", "how many {p} are there for each {g}", "number of {p} per {g}",
                 "how many {p} does each {g} have", "show the number of {p} for each {g}",
                 "how many {p} are there by {g}", "count the {p} in each {g}"]  # fmt: skip
        return scene.pick(forms, **words), f"SELECT {group.at()}, COUNT(*) FROM {table.sql} GROUP BY {group.at()}"
    function = scene.random.choice(("AVG", "AVG", "SUM", "MAX", "MIN"))
    word = {"AVG": "average", "SUM": "total", "MAX": "highest", "MIN": "lowest"}[function]
    forms = ["what is the {w} {c} of the {p} in each {g}", "what is the {w} {c} for each {g}",
             "{w} {c} of the {p} per {g}", "show the {w} {c} of the {p} by {g}"]  # fmt: skip
    select = f"SELECT {group.at()}, {function}({number.at()})"
    return scene.pick(forms, w=word, **words), f"{select} FROM {table.sql} GROUP BY {group.at()}"


def listed(scene: Scene):
    """SELECT [DISTINCT] c[, d] FROM t [ORDER BY]"""
    column, other = scene.some("text", "year"), scene.some("text", "number", "year", "date")
    label, table = scene.table.label, scene.table
    if not column or not other or not label:
        return None
    draw = scene.random.random()
    words = {
        "p": table.plural,
        "c": column.words,
        "cs": column.plural,
        "l": label.plural,
        "o": other.words,
    }
    if draw < 0.3 and column != label:
        forms = ["which different {cs} are there among the {p}", "list all {cs} of the {p} without repeats",
                 "what {cs} do the {p} have, each once", "show the different {cs} of the {p}"]  # fmt: skip
        return scene.pick(forms, **words), f"SELECT DISTINCT {column.at()} FROM {table.sql}"
    if draw < 0.45 and column != label:
        forms = ["how many different {cs} are there among the {p}", "how many different {cs} do the {p} have"]
        return scene.pick(forms, **words), f"SELECT COUNT(DISTINCT {column.at()}) FROM {table.sql}"
    if draw < 0.6 or other == label:
        forms = ["list the {l} of all {p}", "what are the {l} of all {p}", "show all {l} of the {p}"]
        return scene.pick(forms, **words), f"SELECT {label.at()} FROM {table.sql}"
    if draw < 0.8 or other.kind == "text":
        forms = [
            "show {l} and {o} of all {p}",
            "list the {l} of all {p} with their {o}",
            "what are the {l} and the {o} of the {p}",
        ]
        return scene.pick(forms, **words), f"SELECT {label.at()}, {other.at()} FROM {table.sql}"
    down = scene.random.random() < 0.5
    form = "list the {l} of all {p} by {o}, " + ("highest first" if down else "lowest first")
    if other.kind in ("year", "date"):
        form = "list the {l} of all {p} by {o}, " + ("latest first" if down else "earliest first")
    return form.format(**words), f"SELECT {label.at()} FROM {table.sql} ORDER BY {other.at()}{' DESC' if down else ''}"
