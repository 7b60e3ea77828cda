"""Dates as a query and a schema write them: read from literals, and drawn around them."""

import re
from datetime import datetime, timedelta
from random import Random

DATE, TIME = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S"
# The shapes that are tried, in this order; %m before %d where both would do.
FORMATS = (DATE, TIME, "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y/%m/%d", "%m/%d/%Y",
           "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y%m%d", "%Y-%m", "%H:%M:%S", "%H:%M")  # fmt: skip
FUNCTIONS = {"DATE", "TIME", "DATETIME", "JULIANDAY", "UNIXEPOCH", "STRFTIME", "TIMEDIFF"}  # of SQLite
YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)")
PART = re.compile(r"(?<!\d)\d\d?(?!\d)")  # a month, a day, an hour
PARTLY = 4  # moments of such parts, for each year
STEPS = (0, 1, -1, 31, -31, 366, -366)  # days


def read_date(text: object) -> tuple[datetime, str] | None:
    """Return the moment that a literal stands for and its format; None where it is no date."""
    if not isinstance(text, str) or not text[:2].isdigit():
        return None
    for form in FORMATS:
        try:
            moment = datetime.strptime(text, form)
        except ValueError:
            continue
        if form != "%Y%m%d" or len(text) == 8:
            return moment, form
    return None


def is_date_like(value: object) -> bool:
    """Say whether a literal is a date, or the pattern of one: 2012%, %-03-%."""
    return isinstance(value, str) and (
        read_date(value) is not None or re.fullmatch(r"[%_\d:T /.-]+", value) is not None
    )


def write_date(moment: datetime, form: str) -> str:
    """Return a moment in a format, years with four digits."""
    return moment.strftime(form.replace("%Y", f"{moment.year:04d}"))


def random_date(random: Random, form: str) -> str:
    """Return a moment of a few years, so that years and months repeat."""
    moment = datetime(random.choice((2008, 2012, 2019, 2021)), random.randint(1, 12), random.randint(1, 28))
    return write_date(moment + timedelta(seconds=random.randrange(86_400)), form)


def date_neighbours(literals: tuple, random: Random, form: str) -> list[str]:
    """Return dates on, just before and just after each literal, in its years, and of every month."""
    moments = [datetime(2012, month, random.randint(1, 28), random.randrange(24), month) for month in range(1, 13)]
    parts = [int(part) for literal in literals for part in PART.findall(str(literal))]
    moments += [_of_parts(2012, parts, random) for _ in range(PARTLY if parts else 0)]
    for literal in literals:
        read = read_date(literal)
        if read:
            moments += [moved(read[0], days=days) for days in STEPS]
            moments += [moved(read[0], seconds=seconds) for seconds in (1, -1, 3600)]
        for year in YEAR.findall(str(literal)):
            for near in (int(year) - 1, int(year), int(year), int(year) + 1):
                moments += [datetime(near, 1, 1), datetime(near, 12, 31, 23, 59, 59)]
                moments += [datetime(near, random.randint(1, 12), random.randint(1, 28))]
                moments += [_of_parts(near, parts, random) for _ in range(PARTLY if parts else 0)]
    return [write_date(moment, form) for moment in moments]


def _of_parts(year: int, parts: list[int], random: Random) -> datetime:
    """Return a moment of a year, its month, day, hour and minute most of the time of the numbers given."""

    def draw(low: int, high: int) -> int:
        fitting = [part for part in parts if low <= part <= high]
        return random.choice(fitting) if fitting and random.random() < 0.7 else random.randint(low, high)

    return datetime(year, draw(1, 12), draw(1, 28), draw(0, 23), draw(0, 59), random.randrange(60))


def moved(moment: datetime, **step: float) -> datetime:
    """Return a moment so many days, hours and the like later; the same where no calendar goes so far."""
    try:
        return moment + timedelta(**step)
    except OverflowError:
        return moment
