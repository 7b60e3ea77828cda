"""Further questions about rows of one live table: one function a shape of query.

As the shapes of the demo they take a scene and return question and SQL, or None; `two_conditions` returns queries
too whose rows must be others.
"""

from finetune.making_questions.live import dates
from finetune.making_questions.live.scenes import LiveScene
from finetune.making_questions.shapes import row_shapes, summary_shapes
from finetune.making_questions.wordings import COUNTED


def column_of_one(scene: LiveScene):
    """SELECT c FROM t WHERE name = ...: of a row that its name tells from the others"""
    table, label = scene.table, scene.table.label
    if not label or not table.distinct or not label.values:
        return None
    column = scene.some("date", "year")
    asked = dates.asked(column, table) if column else []
    if not column or not asked or scene.random.random() < 0.6:
        return row_shapes.column_where(scene)
    value = scene.value(label)
    if column.kind == "year":
        asked = [*asked, asked[0].replace("when", "in which year")]
    text = scene.pick(asked, x=scene.random.choice([value, f"the {table.singular} {value}"]))
    return text, f"SELECT {column.at()} FROM {table.sql} WHERE {label.equals(value)}"


def columns_where(scene: LiveScene):
    """SELECT name, c FROM t WHERE ..."""
    table, label = scene.table, scene.table.label
    found, other = scene.condition(table), scene.some("text", "number", "year", "date")
    if not label or not found or not other or repeated(label, other) or repeated(label, found.column):
        return None
    forms = ["list the {l} and the {o} of the {p} {w}", "show {l} and {o} of all {p} {w}",
             "what are the {l} and the {o} of the {p} {w}", "give me the {l} and the {o} of the {p} {w}"]  # fmt: skip
    text = scene.pick(forms, l=label.words, o=other.words, p=table.plural, w=found.words)
    return text, f"SELECT {label.at()}, {other.at()} FROM {table.sql} WHERE {found.sql}"


def repeated(label, column) -> bool:
    """Say whether a column is the name of the row, or a part of it."""
    return column == label or column.at() in label.at().split(", ")


def two_conditions(scene: LiveScene):
    """SELECT COUNT(*) or name FROM t WHERE ... AND ..."""
    table, label = scene.table, scene.table.label
    first, second = scene.condition(table), scene.condition(table)
    if not first or not second or first.column == second.column:
        return None
    counts = label is None or scene.random.random() < 0.5
    if label and not counts and (repeated(label, first.column) or repeated(label, second.column)):
        return None
    forms = ["how many {p} are there {w}", "count the {p} {w}", "how many {p} do we have {w}"]
    if label and not counts:
        forms = ["which {p} are there {w}", "what are the {l} of the {p} {w}", "list the {l} of all {p} {w}"]
    text = scene.pick(forms, p=table.plural, l=label.plural if label else "", w=f"{first.words} and {second.words}")
    select = f"SELECT {'COUNT(*)' if counts or not label else label.at()} FROM {table.sql} WHERE "
    return text, f"{select}{first.sql} AND {second.sql}", [select + first.sql, select + second.sql]


def missing(scene: LiveScene):
    """SELECT COUNT(*) or name FROM t WHERE c IS [NOT] NULL"""
    table, label = scene.table, scene.table.label
    gaps = [column for column in table.columns if column.gaps and column.kind not in ("id", "key", "other")]
    if not gaps:
        return None
    found = scene.gap(scene.random.choice(gaps), table)
    that = found.words.removeprefix("that ")
    if label is None or scene.random.random() < 0.5:
        forms = ["how many {p} are there {w}", "count the {p} {w}"] + ["how many {p} {x}"] * (that != found.words)
        return scene.pick(
            forms, p=table.plural, w=found.words, x=that
        ), f"SELECT COUNT(*) FROM {table.sql} WHERE {found.sql}"
    forms = ["which {p} are there {w}", "list the {l} of all {p} {w}"] + ["which {p} {x}"] * (that != found.words)
    text = scene.pick(forms, p=table.plural, l=label.plural, w=found.words, x=that)
    return text, f"SELECT {label.at()} FROM {table.sql} WHERE {found.sql}"


def above_average(scene: LiveScene):
    """SELECT name or COUNT(*) FROM t WHERE c > (SELECT AVG(c) FROM t)"""
    table, label, column = scene.table, scene.table.label, scene.some("number")
    if not column:
        return None
    above = scene.random.random() < 0.6
    is_counted = column.words.split()[-1] in COUNTED.split()
    that = f"have {'more' if above else 'fewer'} {column.words} than the average" if is_counted else (
        f"have {dates.an(column.words)} {'above' if above else 'below'} the average")  # fmt: skip
    where = f"FROM {table.sql} WHERE {column.at()} {'>' if above else '<'} (SELECT AVG({column.at()}) FROM {table.sql})"
    if label is None or scene.random.random() < 0.35:
        return scene.pick(
            ["how many {p} {x}", "count the {p} that {x}"], p=table.plural, x=that
        ), f"SELECT COUNT(*) {where}"
    forms = ["which {p} {x}", "list the {l} of the {p} that {x}", "what are the {l} of all {p} that {x}"]
    return scene.pick(forms, p=table.plural, x=that, l=label.plural), f"SELECT {label.at()} {where}"


def per_year(scene: LiveScene):
    """SELECT strftime('%Y', d), COUNT(*) FROM t GROUP BY strftime('%Y', d)"""
    table, column = scene.table, scene.some("date", "time")
    if not column or column.gaps:
        return None
    verb = dates.happened(column, table)
    forms = ["how many {p} are there for each year of the {c}", "count the {p} by the year of the {c}",
             "show the number of {p} per year of the {c}"]  # fmt: skip
    if verb:
        forms += [
            "how many {p} {v} in each year",
            "how many {p} {v} per year",
            "show for every year how many {p} {v}",
        ] * 2
    year = dates.year_of(column)
    text = scene.pick(forms, p=table.plural, c=column.words, v=verb)
    return text, f"SELECT {year}, COUNT(*) FROM {table.sql} GROUP BY {year}"


def latest(scene: LiveScene):
    """SELECT name or c FROM t ORDER BY d [DESC] LIMIT n"""
    table, label, column = scene.table, scene.table.label, scene.some("date", "time")
    if not column or not label:
        return None
    last, verb = scene.random.random() < 0.6 or column.gaps, dates.happened(column, table)
    number = scene.random.choice((1, 1, 1, 2, 3, 5))
    word, first = ("latest" if last else "earliest"), ("last" if last else "first")
    forms = ["which {s} has the {w} {c}", "what is the {l} of the {s} with the {w} {c}"]
    if number > 1:
        forms = ["which {n} {p} have the {w} {c}", "list the {l} of the {n} {p} with the {w} {c}"]
    if verb == "were born":
        age = "youngest" if last else "oldest"
        forms = [f"who is the {age} {{s}}", f"what is the {{l}} of the {age} {{s}}"]
        forms = [f"who are the {{n}} {age} {{p}}", f"name the {{n}} {age} {{p}}"] if number > 1 else forms
    elif verb:
        was = verb.replace("were", "was") if number == 1 else verb
        forms += [f"which {{s}} {was} {first}"] if number == 1 else [f"which {{n}} {{p}} {was} {first}"]
    words = {"s": table.singular, "p": table.plural, "c": column.words, "l": label.words, "w": word, "n": number}
    order = f"ORDER BY {column.at()}{' DESC' if last else ''} LIMIT {number}"
    return scene.pick(forms, **words), f"SELECT {label.at()} FROM {table.sql} {order}"


def large_groups(scene: LiveScene):
    """SELECT g FROM t GROUP BY g HAVING COUNT(*) > n"""
    group = scene.some("text", "year", repeats=True)
    if not group or group == scene.table.label or group.gaps:
        return None
    number = scene.random.choice((2, 2, 3, 4, 5, 8, 10, 20))
    forms = ["which {cs} have more than {n} {p}", "list the {cs} with more than {n} {p}",
             "which {cs} are shared by more than {n} {p}"]  # fmt: skip
    text = scene.pick(forms, cs=group.plural, n=number, p=scene.table.plural)
    at = group.at()
    return text, f"SELECT {at} FROM {scene.table.sql} GROUP BY {at} HAVING COUNT(*) > {number}"


def most(scene: LiveScene):
    """SELECT name FROM t ORDER BY c [DESC] LIMIT n: the least only where nothing is missing, as NULL is the least"""
    found = row_shapes.most(scene)
    gaps = {f"ORDER BY {column.at()} LIMIT" for column in scene.table.columns if column.gaps}
    return None if found and any(order in found[1] for order in gaps) else found


ROW_SHAPES = {
    "count_all": row_shapes.count_all, "count_some": row_shapes.count_some, "rows_where": row_shapes.rows_where,
    "column_of_one": column_of_one, "columns_where": columns_where, "two_conditions": two_conditions,
    "missing": missing, "most": most, "latest": latest, "aggregate": summary_shapes.aggregate,
    "above_average": above_average, "grouped": summary_shapes.grouped, "per_year": per_year,
    "large_groups": large_groups, "listed": summary_shapes.listed,
}  # fmt: skip
