"""Names and values for generated tables: an open vocabulary, half real words and half invented.

A small model that reads only names from a fixed list learns the list, not how to copy. So half of
the words are built from syllables, and no list contains them.

Every word belongs to one of two parts by its own hash: the held-out part is used for the test rows
alone, never for pretraining text or training rows.
"""

import zlib
from dataclasses import dataclass
from random import Random

NOUNS = """
account actor address age agency agent aircraft airline airport album amount animal apartment area
arena arrival artist athlete attendance author average award bank base basin battery battle beach
bed bike bill bird block board boat body bonus book borough branch brand bridge broadcast brother
budget builder building bus camera campus capacity captain car card career cargo case castle
category catalog cause census center century chair champion channel chapter charge chart chemist
church circuit city claim class client climate club coach coast code college colony color comment
company complex component composer concert condition conference contact contest contract copy cost
council country county course court cover crew crime crop crowd culture cup currency customer
cyclist damage date day dealer debut decade decision degree delivery density depth desert design
device diameter director discount disease distance district division doctor document dog draft draw
driver duration edition editor effect election elevation employee energy engine entrant entry
episode event exhibition exit expense export factory family farm faculty festival field film final
finish fleet flight floor flower food forest formula founder frequency friend fruit fuel game garage
gate gender genre goal grade grant grid group growth guard guest harbor head headquarters heat
height highway hill holder home horse hospital host hotel hour house income incumbent index industry
injury instructor instrument invoice island item journal judge key kit label lake landing language
lap launch lawyer leader league lecture lender length lesson level library license line link list
location loss machine mail maker manager manufacturer margin market match material mayor meal medal
meeting member message method mill mine minister model money month motor mountain movie museum
musician name nation network nickname note novel nurse object office officer opponent orchestra
order origin outcome owner package page painter park part partner party passenger patient payment
peak penalty percentage period person phone photo phase pick piece pilot place plan planet plant
player plot poem point pole police pool population port position post power premiere president price
prize problem process producer product professor profit program project proposal province publisher
pupil quality quantity quarter race radio rank rate rating reason rebound receipt record region
release rent reporter republic reservoir resident resort restaurant result revenue review rider
river road role roof room round route row runner salary sale sample satellite school score screen
season seat section sector seed segment seller senator series server service session share ship shop
show side signal silver singer site size skill soldier song source speaker species speed sport
stadium staff stage standing station status stock store story street strength student studio style
subject suburb success supplier surface surname symbol system tank target tax teacher team
temperature tenant term theater theme ticket time title tonnage total tour tower town track trade
trail train transfer treaty trip trophy truck tunnel turnover type unit university valley value
vehicle vendor venue version vessel victory video village visitor voltage volume vote wage warehouse
water wave week weight winner window wing writer yard year zone
""".split()
ADJECTIVES = """
actual annual basic best big common current daily early eastern final first foreign free full
general gross high home initial last late local long low main major maximum mean medium minimum
minor monthly native net new northern official old open original outer overall past previous primary
private public rapid regional regular second senior short small southern special third top upper
weekly western winning yearly young
""".split()
COUNTABLE = """
points goals games wins losses draws laps rounds matches seats votes pages floors employees students
members visitors sales tries assists yards years hours days tracks copies medals caps runs events
races crew rooms units overs podiums tackles flights stations
""".split()
MONTHS = """
january february march april may june july august september october november december
""".split()
ONSETS = """
b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gl gr kl kr ph pl pr sc sh sk sl sm sn
sp st sw th tr tw qu b c d f g h j k l m n p r s t v w z b d f g k l m n p r s t v
""".split()
VOWELS = """
a e i o u a e i o u ai au ea ee ia ie io oa oo ou y
""".split()
CODAS = "b c d g k l m n p r s t x ck ct ff ld ll lm ln lt mp nd ng nk nt rd rk rm rn rt sh ss st th"
CODAS = [""] * 26 + CODAS.split()


def is_held_out(word: str) -> bool:
    """Say whether a word is kept for the test rows (one word in eight, by its hash)."""
    return zlib.crc32(word.lower().encode()) % 8 == 0


@dataclass(frozen=True)
class Column:
    """A column: its identifier, the words people call it by, the kind of its values, its SQL type."""

    name: str
    phrase: str
    kind: str  # text, number, year or date
    sql_type: str


@dataclass(frozen=True)
class Table:
    """A table: its identifier, what people call its rows, and its columns."""

    name: str
    plural: str
    columns: tuple[Column, ...]

    def create_statement(self, separator: str = ", ", opening: str = "(", closing: str = ")") -> str:
        """Return the CREATE TABLE statement."""
        columns = separator.join(f"{column.name} {column.sql_type}" for column in self.columns)
        return f"CREATE TABLE {self.name} {opening}{columns}{closing}"


class Vocabulary:
    """Draws words, tables and values of one part (held out or not) from a random generator.

    With `blends`, a third of the listed words are replaced by ones that begin as a listed word does and
    go on otherwise. Without them a model completes a familiar beginning instead of copying: it read
    `league` and wrote `leagie`, which another word had taught it.
    """

    def __init__(self, random: Random, held_out: bool = False, blends: bool = False):
        self.random = random
        self.held_out = held_out
        self.blends = blends
        self._lists = {
            id(words): [word for word in words if is_held_out(word) == held_out]
            for words in (NOUNS, ADJECTIVES, COUNTABLE)
        }

    def pick(self, words: list[str]) -> str:
        """Return one word of a list, or a blend of two, from this part only."""
        own = self._lists[id(words)]
        while self.blends and self.random.random() < 0.35:
            first, second = self.random.choice(own), self.random.choice(own)
            ending = self.random.choice([second[len(second) // 2 :], self.random.choice(ONSETS) + "e", "ie", "ar", "s"])
            word = first[: self.random.randint(2, len(first))] + ending
            if is_held_out(word) == self.held_out:
                return word
        return self.random.choice(own)

    def invented(self, syllables: int = 0) -> str:
        """Return a new pronounceable word of this part."""
        choice = self.random.choice
        while True:
            count = syllables or choice((1, 2, 2, 2, 2, 3, 3))
            word = "".join(choice(ONSETS) + choice(VOWELS) + choice(CODAS) for _ in range(count))
            if len(word) > 2 and is_held_out(word) == self.held_out:
                return word

    def noun(self) -> str:
        """Return a noun, invented half of the time."""
        return self.pick(NOUNS) if self.random.random() < 0.5 else self.invented()

    def column_words(self, kind: str) -> list[str]:
        """Return the one to three words a column is called by."""
        draw = self.random.random()
        if kind == "number" and draw < 0.3:
            return [self.pick(COUNTABLE)]
        if draw < 0.55:
            return [self.noun()]
        if draw < 0.75:
            return [self.pick(ADJECTIVES), self.noun()]
        if draw < 0.95:
            return [self.noun(), self.noun()]
        return [self.noun(), self.noun(), self.noun()]

    def column(self, kind: str, typed: bool = True, loose: bool = False) -> Column:
        """Return a column; `loose` adds the odd identifiers that scraped tables have."""
        words = self.column_words(kind)
        name, phrase = "_".join(words), " ".join(words)
        if loose and self.random.random() < 0.12:
            number = str(self.random.randint(1, 12))
            name, phrase = self.random.choice(
                [
                    (f"{name}_{number}", f"{phrase} {number}"),
                    (f"{name}__{words[0]}_", f"{phrase} ({words[0]})"),
                    (f"{name}__number", f"{phrase} #"),
                    (f"{name}__percentage", f"{phrase} %"),
                    (f"no_in_{name}", f"no. in {phrase}"),
                    (f"{name}__{words[-1]}", f"{phrase} / {words[-1]}"),
                ]
            )
        elif loose and self.random.random() < 0.12:
            name = self.random.choice([name.title(), name.upper(), name.capitalize()])
        types = {"text": "VARCHAR", "number": "INTEGER", "year": "INTEGER", "date": "DATE"}
        sql_type = types[kind] if typed else self.random.choice(("VARCHAR", "VARCHAR", "INTEGER"))
        if typed and not loose:
            sql_type = {"VARCHAR": "TEXT"}.get(sql_type, sql_type)
        return Column(name, phrase, kind, sql_type)

    def columns(self, count: int, typed: bool = True, loose: bool = False) -> list[Column]:
        """Return columns with distinct names, at least one of text and, from two up, one number."""
        kinds = ["text", "number", "text", "number", "year", "date"]
        if count == 1:
            self.random.shuffle(kinds)
        chosen: list[Column] = []
        while len(chosen) < count:
            kind = kinds[len(chosen)] if len(chosen) < 2 else self.random.choice(kinds)
            column = self.column(kind, typed, loose)
            taken = {word for other in chosen for word in other.phrase.lower().split()}
            if not taken & set(column.phrase.lower().split()):
                chosen.append(column)
        self.random.shuffle(chosen)
        return chosen

    def table_name(self, avoid: set[str], loose: bool = False) -> tuple[str, str]:
        """Return a table identifier and the plural its rows are called by."""
        if loose and self.random.random() < 0.5:
            first, second = self.random.randint(1, 29999999), self.random.randint(1, 60)
            name = self.random.choice([f"table_name_{second}", f"table_{first}_{second}"])
            return name, "rows"
        while True:
            words = [self.noun()]
            if self.random.random() < 0.3:
                words.insert(0, self.noun())
            if not avoid & set(words):
                break
        plural = " ".join([*words[:-1], _plural(words[-1])])
        name = "_".join(words) if self.random.random() < 0.7 else plural.replace(" ", "_")
        return (name.title() if loose and self.random.random() < 0.15 else name), plural

    def proper_name(self) -> str:
        """Return a name of one to three words, as a person, a place or a team has."""
        draw, random = self.random.random(), self.random
        words = [self.noun() for _ in range(random.choice((1, 1, 2, 2, 3)))]
        if draw < 0.08:
            words[0] = words[0][0] + "."
        elif draw < 0.12:
            words[-1] = random.choice(("mc", "o'", "st. ", "de ")) + words[-1]
        elif draw < 0.16:
            words.append(random.choice(("fc", "jr.", "ii", "(r)", "usa", "& co", "u21")))
        elif draw < 0.20:
            words[-1] = f"({words[-1]})"
        elif draw < 0.24:
            words[0] += random.choice((",", " -", " /", ":", " of the", " and")) + " " + self.noun()
        return " ".join(words)

    def code(self) -> str:
        """Return a short technical value: a model number, a score, a time, a ratio."""
        random = self.random
        a, b, c = random.randint(0, 120), random.randint(0, 99), random.randint(1, 9)
        letters = self.invented(1)
        return random.choice(
            [
                f"{letters[:2]}-{a}", f"{a}{letters[:1]}", f"{a}-{b}", f"{a}–{b}", f"{a}-{b}-{c}",
                f"{c}-{b % 10}, {b % 7}-{c}", f"w {a}-{b}", f"{a}.{b}%", f"+{c}.{b} sec", f"{c}:{b:02}.{a}",
                f"{a} {letters[:2]}", f"{c}th", f"{c}/{b}", f"t{b}", f"{b} km", f"{a}°{b}′n", f"${a},{b}00",
                f"{a} ({b})", f"{c}x{a}", f"{letters} {c}", f"{letters}{b}",
            ]
        )  # fmt: skip

    def date(self) -> str:
        """Return a date in one of the usual spellings."""
        random = self.random
        day, month, year = random.randint(1, 28), random.choice(MONTHS), random.randint(1900, 2024)
        number = MONTHS.index(month) + 1
        return random.choice(
            [f"{month} {day}, {year}", f"{day} {month} {year}", f"{month} {day}", f"{month} {year}",
             f"{year}-{number:02}-{day:02}"]
        )  # fmt: skip

    def value(self, kind: str) -> str:
        """Return a value of a kind as it stands in a question."""
        random = self.random
        if kind == "year":
            return str(random.randint(1900, 2024))
        if kind == "number":
            top = random.choice((9, 99, 99, 999, 9999, 99999))
            return f"{random.uniform(0, 99):.1f}" if random.random() < 0.1 else str(random.randint(0, top))
        if kind == "date":
            return self.date()
        draw = random.random()
        value = self.proper_name() if draw < 0.75 else self.code() if draw < 0.9 else self.date()
        return value.title() if random.random() < 0.6 else value


def _plural(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh", "z")):
        return word if word in COUNTABLE or word.endswith("s") else word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"
