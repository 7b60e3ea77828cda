"""Rebuild demo/summaries.jsonl: short reports and their summaries. Run: python demo/build/build_summaries.py

Every report is made from the facts of an event (who, what, where, when) in an order and in words drawn at
random, among sentences that a summary leaves out. The summary is one sentence with the facts that matter.
"""

import json
from pathlib import Path
from random import Random

FILE = Path(__file__).parents[1] / "summaries.jsonl"
PARTS = {"train": 400, "validation": 50, "test": 50}
FIRST = (
    "Anna Ben Carla David Elena Frank Grace Hugo Ida Jonas Karin Leo Maria Nils Olga Paul Rosa Sam Tina Viktor".split()
)
LAST = """
Adler Berg Castell Dorn Eklund Falk Grant Holm Ivers Jansen Keller Lund Moreau Nolan Olsen Parker Quist Rossi Stern
Tanner Ulrich Vance Weber York Zeller
""".split()
TOWNS = """
Alden Brookhaven Carrow Dunmore Eastvale Fenwick Glenmoor Harwick Ilford Kelso Larkhill Marlow Northam Oakridge
Penrose Quarry Redcliff Stonebridge Thornbury Upton Verdale Westbrook Yarrow
""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
BUILDINGS = ["library", "swimming pool", "bridge", "museum", "school", "market hall", "theatre", "bus station"]
ROLES = ["mayor", "governor", "minister", "director"]
SPORTS = ["football", "handball", "hockey", "basketball", "volleyball"]
DAMAGE = ["storm", "flood", "fire", "landslide", "snowfall"]
ANIMALS = ["horse", "fox", "wolf", "seal", "parrot", "tortoise", "goat"]
PRIZES = ["novel", "painting", "film", "song", "recipe", "photograph"]
FILLERS = [
    "The weather was {sky} all day.", "Many people came to watch.", "A second report is expected next month.",
    "The local paper wrote about it first.", "Coffee and cake were sold nearby.", "Nobody had expected it so soon.",
    "The police closed two roads.", "Children from the school sang a song.", "It had been planned for {n} years.",
    "About {n} people live in the area.", "Some residents were not pleased.", "The costs are not known yet.",
    "A video of it was seen {n} times.", "Trains ran late that day.",
]  # fmt: skip


def facts(random: Random) -> dict:
    """Return the names and numbers of one event."""
    return {
        "person": f"{random.choice(FIRST)} {random.choice(LAST)}",
        "other": random.choice(LAST),
        "town": random.choice(TOWNS),
        "day": random.choice(DAYS),
        "building": random.choice(BUILDINGS),
        "role": random.choice(ROLES),
        "sport": random.choice(SPORTS),
        "damage": random.choice(DAMAGE),
        "animal": random.choice(ANIMALS),
        "work": random.choice(PRIZES),
        "n": random.randint(2, 90),
        "sky": random.choice(["sunny", "cloudy", "cold", "warm", "windy"]),
    }


# Sentences that carry the facts, in any order, each in one of several wordings; then the summary.
EVENTS = [
    (
        [
            ["There is a new {building} in {town}.", "The people of {town} have got a new {building}.",
             "{town} has waited long for its new {building}."],
            ["It was opened by {person}, the {role}.", "The {role}, {person}, cut the ribbon.",
             "{person} opened it as {role}."],
            ["The ceremony was held on {day}.", "On {day} the doors stood open for everyone."],
            ["It cost {n} million crowns.", "Work on it took {n} months."],
        ],
        "{person} opened a new {building} in {town} on {day}.",
    ),
    (
        [
            ["A {damage} has hit {town}.", "{town} was struck by a {damage}."],
            ["It came on {day} in the early morning.", "The alarm was raised on {day}."],
            ["{n} houses were damaged.", "Damage was done to {n} houses.", "In all, {n} houses were hit."],
            ["{person} led the rescue team.", "The fire brigade under {person} helped all night."],
        ],
        "A {damage} damaged {n} houses in {town} on {day}.",
    ),
    (
        [
            ["The {sport} team of {town} has won the cup.", "The cup in {sport} goes to {town}."],
            ["{person} scored the last goal.", "The winning goal was scored by {person}."],
            ["The final was played on {day}.", "On {day} the stadium was full."],
            ["{n} fans had come by train.", "The coach, {other}, was in tears."],
        ],
        "{town} won the {sport} cup on {day} with a goal by {person}.",
    ),
    (
        [
            ["A {animal} ran away from the zoo in {town}.", "The zoo in {town} was missing a {animal}."],
            ["It was found by {person}.", "{person} saw it in the garden and called for help."],
            ["That was on {day}.", "On {day} it was brought back."],
            ["The keeper, {other}, thanked everyone.", "It had been away for {n} hours."],
        ],
        "{person} found a {animal} that had escaped from the zoo in {town}.",
    ),
    (
        [
            ["{person} has won a prize for a {work}.", "A prize for the best {work} went to {person}."],
            ["The jury met in {town}.", "The prize was given in {town}."],
            ["It was handed over on {day}.", "The winner heard of it on {day}."],
            ["There were {n} entries.", "The second prize went to {other}."],
        ],
        "{person} won a prize for a {work} in {town}.",
    ),
]  # fmt: skip


def report(random: Random) -> dict:
    """Return one row: `article` and `summary`."""
    known, (sentences, summary) = facts(random), random.choice(EVENTS)
    told = [random.choice(wordings) for wordings in sentences]
    # The first sentence says what it is about; the others, and what does not matter, follow in any order.
    rest = told[1:] + random.sample(FILLERS, random.randint(2, 4))
    random.shuffle(rest)
    numbers = {"n": known["n"]}
    article = [
        line.format(**known | ({"n": random.randint(2, 90)} if line in FILLERS else numbers))
        for line in (told[0], *rest)
    ]
    return {"article": " ".join(article), "summary": summary.format(**known)}


def main() -> None:
    """Write the rows of all parts, no report twice."""
    random, seen, rows = Random(0), set(), []
    for part, count in PARTS.items():
        while count:
            row = report(random)
            if row["summary"] not in seen:
                seen.add(row["summary"])
                rows.append(row | {"split": part})
                count -= 1
    FILE.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} rows -> {FILE}")


if __name__ == "__main__":
    main()
