"""The words of questions and of names in a database, in one form, and which of a question's no name knows."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

STOP = set(
    """a about above after again against ago all along alphabetical alphabetically already also altogether am among an
    and another any anything are as ascending at average avg be because been before being below beneath best between
    both but by can common compute contain contained containing contains could count counts currently descending
    describe did different display distinct do does doing done down during each earliest either else equal equals even
    ever every exact exactly exist exists fewer fewest find first five for four from fully further gave get give given
    gives got greater greatest group grouped had has have having he her here high higher highest him his how i id if in
    included including into is it its itself join just kind kinds know known largest last late later latest least less
    like list listed long longer longest lot low lower lowest made make many max maximum me mean median min minimum
    more most much must my need never new newest no none nor not now number numbers of off old older oldest on once one
    only onto or order ordered other others our out over overall own part per please possible put ratio recent recently
    respective respectively retrieve return same see select share she should show since single small smaller smallest
    so some sort sorted still such sum take tell ten than that the their them then there these they third this those
    three through time times to together top total two under unique until up upon us use used using value values
    various very via want was we were what whatever when where whether which while who whom whose why will with within
    without worst would you your average percent percentage proportion amount day days month months year years week
    weeks today yesterday date dates hour hours minute minutes second seconds twice half begin begins beginning
    start starts starting end ends ending true false null empty missing row rows table tables column columns record
    records entry entries data database query sql name named names called exceed exceeds exceeding belong belongs
    belonging correspond corresponding associated related""".split()
)  # fmt: skip
# An apostrophe within a word opens none.
QUOTED = re.compile(r"""(?<!\w)(?:'[^'\n]+'|"[^"\n]+"|`[^`\n]+`|“[^”\n]+”|‘[^’\n]+’|«[^»\n]+»|„[^“”\n]+[“”])(?!\w)""")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
LEAST = 4  # letters by which words that are not the same can belong together


def words_of_name(name: str) -> list[str]:
    """Return the words of a table's or column's name, split at _ and CamelCase, as `stem` has them; no digits."""
    return [stem(word) for part in re.findall(r"[^\W\d_]+", name) for word in _humps(part)]


def words_of_question(question: str) -> list[str]:
    """Return the words that say what a question is about, as `stem` has them: no stop words, numbers, quoted values."""
    return [stem(word) for word in _content(question)]


def stem(word: str) -> str:
    """Return a word in small letters and, where it looks like an English plural, in the singular."""
    word = re.sub("['’]s?$", "", word.lower())
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def fits(word: str, other: str) -> bool:
    """Say whether two words, as `stem` has them, may mean the same: borrowed and borrower, birth and birthdate."""
    short, long = sorted((word, other), key=len)
    if short == long or (len(short) >= LEAST and short in long):
        return True
    alike = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return alike >= max(LEAST, len(short) - 2)


def unknown_words(question: str, tables: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the words of a question, as it spells them, that fit no name of a database.

    Words with a capital letter within a sentence are values, and superlatives are about an order: they are left out.

    Args:
        tables: the columns of each table.
    """
    names = (name for table, columns in tables.items() for name in (table, *columns))
    known = {word for name in names for word in words_of_name(name)}
    found = [word for word in _content(question, values=False) if not any(fits(stem(word), one) for one in known)]
    return list(dict.fromkeys(found))


def nearest(name: str, names: Iterable[str], count: int = 2) -> list[str]:
    """Return the names that are most like one, however that is spelled: FullName for full_names; there may be none."""
    spelled: dict[str, str] = {}
    for each in names:
        spelled.setdefault(_plain(each), each)
    return [spelled[found] for found in get_close_matches(_plain(name), spelled, count, 0.7)]


def _plain(name: str) -> str:
    return " ".join(words_of_name(name)) or name.lower()


def _content(question: str, values: bool = True) -> list[str]:
    """Return the words of a question that are neither quoted nor stop words; `values`: also what looks like a value."""
    found = []
    text = QUOTED.sub(" , ", question)
    for match in WORD.finditer(text):
        word, before = match[0], text[: match.start()].rstrip()
        if not {word.lower(), stem(word)}.isdisjoint(STOP) or len(word) < 2:
            continue
        is_value = not word.islower() and before != "" and before[-1] not in ".?!:"
        if values or not (is_value or (len(word) > LEAST and word.endswith("est"))):
            found.append(word)
    return found


def _humps(part: str) -> list[str]:
    """Return the words of a part in CamelCase; capitals in a row are one: HTTPServer is HTTP, Server."""
    words = [""]
    for place, letter in enumerate(part):
        before, after = part[place - 1 : place], part[place + 1 : place + 2]
        if letter.isupper() and (before.islower() or (before.isupper() and after.islower())):
            words.append("")
        words[-1] += letter
    return words
