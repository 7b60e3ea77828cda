"""A page that shows a document with the clauses that a classifier found in it."""

from collections import Counter
from html import escape
from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.6 Georgia, serif; color: #1d2129; background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1, nav, .label { font-family: system-ui, sans-serif; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
nav { border: 1px solid #d5d9e0; border-radius: 6px; padding: .8rem 1rem; margin-bottom: 2rem; font-size: .9rem; }
nav ul { list-style: none; margin: .4rem 0 0; padding: 0; columns: 16rem; }
.document { white-space: pre-wrap; overflow-wrap: anywhere; }
mark { padding: .1em .15em; border-radius: 3px; color: inherit; }
mark:target { outline: 3px solid #1d2129; }
.label { font-size: .72rem; font-weight: 600; margin-left: .4em; padding: .1em .45em; border-radius: 3px; color: #fff;
  white-space: nowrap; }
a { color: inherit; }
$colors
</style>
</head>
<body>
<h1>$title</h1>
<nav><b>$flagged</b> of $sentences sentences flagged by <code>$model</code>
<ul>
$contents
</ul></nav>
<div class="document">$document</div>
</body>
</html>
""")


def clause_report(document: str, clauses: list[dict], sentences: int, title: str, model: str) -> str:
    """Return the page: the whole document, the flagged clauses marked, and links to them by label.

    Args:
        clauses: with `start` and `end` in the document, `labels`, and `scores` by name, in order.
        sentences: how many sentences the document has.
    """
    names = sorted({name for clause in clauses for name in clause["labels"]})
    hues = {name: round(360 * index / max(1, len(names))) for index, name in enumerate(names)}
    colors = [f".label.l{i} {{ background: hsl({hue} 60% 32%); }} mark.l{i} {{ background: hsl({hue} 90% 88%); }}"
              for i, hue in enumerate(hues.values())]  # fmt: skip
    marked, position = [], 0
    for number, clause in enumerate(clauses):
        marked.append(escape(document[position : clause["start"]]))
        first = names.index(clause["labels"][0])
        tags = "".join(_tag(name, clause["scores"], names.index(name)) for name in clause["labels"])
        text = escape(document[clause["start"] : clause["end"]])
        marked.append(f'<mark id="clause-{number}" class="l{first}">{text}</mark>{tags}')
        position = clause["end"]
    counts = Counter(name for clause in clauses for name in clause["labels"])
    contents = [_entry(name, counts[name], clauses) for name in names]
    return PAGE.substitute(
        title=escape(title),
        model=escape(model),
        colors="\n".join(colors),
        flagged=len(clauses),
        sentences=sentences,
        contents="\n".join(contents),
        document="".join(marked) + escape(document[position:]),
    )


def _tag(name: str, scores: dict[str, float], number: int) -> str:
    score = f" {scores[name]:.2f}" if name in scores else ""
    return f'<span class="label l{number}">{escape(name)}{score}</span>'


def _entry(name: str, count: int, clauses: list[dict]) -> str:
    places = [(number, clause["line"]) for number, clause in enumerate(clauses) if name in clause["labels"]]
    links = ", ".join(f'<a href="#clause-{number}">line {line}</a>' for number, line in places)
    return f"<li>{escape(name)} ({count}): {links}</li>"
