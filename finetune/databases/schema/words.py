"""The words of questions and of names in a database, in one form, and which of a question's no name knows."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from metrics.sql_execution.ddl import is_bare_name
from metrics.sql_execution.schemas import quote

# They ask, and name nothing.
EMPTY = set(
    "a about all an and any are as at be been between by can count did do does each every find for from get give had"
    " has have how i in is it its list many me more most much name no not number of on one or per show tell than that"
    " the their them there these they this those to total was we were what when where which who whose why will with"
    " you your".split()
)
# They are asked with, too, and need not be the name of anything.
STOP = EMPTY | set(
    """above after again against ago along alphabetical alphabetically already also altogether am among another
    anything ascending average avg because before being below beneath best both but common compute contain
    contained containing contains could counts currently descending describe different display distinct doing done
    down during earliest either else equal equals even ever exact exactly exist exists fewer fewest first five
    four fully further gave given gives got greater greatest group grouped having he her here high higher highest
    him his id if included including into itself join just kind kinds know known largest last late later latest
    least less like listed long longer longest lot low lower lowest made make max maximum mean median min minimum
    must my need never new newest none nor now numbers off old older oldest once only onto order ordered other
    others our out over overall own part please possible put ratio recent recently respective respectively
    retrieve return same see select share she should since single small smaller smallest so some sort sorted still
    such sum take ten then third three through time times together top two under unique until up upon us use used
    using value values various very via want whatever whether while whom within without worst would average
    percent percentage proportion amount day days month months year years week weeks today yesterday date dates
    hour hours minute minutes second seconds twice half begin begins beginning start starts starting end ends
    ending true false null empty missing row rows table tables column columns record records entry entries data
    database query sql named names called exceed exceeds exceeding belong belongs belonging correspond
    corresponding associated related""".split()
)  # fmt: skip
# An apostrophe within a word opens none.
QUOTED = re.compile(r"""(?<!\w)(?:'[^'\n]+'|"[^"\n]+"|`[^`\n]+`|“[^”\n]+”|‘[^’\n]+’|«[^»\n]+»|„[^“”\n]+[“”])(?!\w)""")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
LETTERS = re.compile(r"[^\W\d_]+|\d+")
LEAST = 4  # letters by which words that are not the same can belong together


def written(name: str) -> str:
    """Return a name as SQL has it: in quotes where it would be read as something else."""
    return name if is_bare_name(name) else quote(name)


def words_of(text: str) -> list[str]:
    """Return the words of a name or a question, as `stem` has them, split at _ and CamelCase, and its numbers."""
    return [stem(word) for part in LETTERS.findall(folded(text)) for word in _humps(part)]


def words_of_name(name: str) -> list[str]:
    """Return the words of a table's or column's name, as `stem` has them; no numbers."""
    return [word for word in words_of(name) if not word.isdigit()]


def folded(text: str) -> str:
    """Return a text without accents."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def stem(word: str) -> str:
    """Return a word in small letters, without accents and, where it looks like an English plural, in the singular."""
    word = re.sub("['’]s?$", "", folded(word).casefold())
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "zes", "ches", "shes")):
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
    found = [word for word in _content(question) if not any(fits(stem(word), one) for one in known)]
    return list(dict.fromkeys(found))


def nearest(name: str, names: Iterable[str], count: int = 2) -> list[str]:
    """Return the names that are most like one, however that is spelled: FullName for full_names; there may be none."""
    spelled: dict[str, str] = {}
    for each in names:
        spelled.setdefault(_plain(each), each)
    return [spelled[found] for found in get_close_matches(_plain(name), spelled, count, 0.7)]


def _plain(name: str) -> str:
    return " ".join(words_of_name(name)) or name.lower()


def _content(question: str) -> list[str]:
    """Return the words of a question that are neither quoted nor stop words, and do not look like a value."""
    found = []
    text = QUOTED.sub(" , ", unicodedata.normalize("NFC", question))
    for match in WORD.finditer(text):
        word, before = match[0], text[: match.start()].rstrip()
        if not {word.lower(), stem(word)}.isdisjoint(STOP) or len(word) < 2:
            continue
        is_value = not word.islower() and before != "" and before[-1] not in ".?!:"
        if not is_value and not (len(word) > LEAST and word.endswith("est")):
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
