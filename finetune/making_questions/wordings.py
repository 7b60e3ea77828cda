"""How people speak of columns and of what is done to things: by the words of the names."""

from finetune.making_questions.schemas import Column

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
