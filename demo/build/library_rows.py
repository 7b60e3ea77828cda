"""The rows of the library of demo/library.db; its people and books are invented."""

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

TODAY = date(2025, 9, 30)
BRANCHES = [
    ("Central Library", "12 Market Square", date(1968, 5, 4), 120),
    ("Riverside", "3 Bridge Street", date(1987, 9, 12), 45),
    ("St. Mary's", "41 Church Lane", date(1994, 2, 28), 30),
    ("Hilltop", "7 Quarry Road", date(2016, 10, 1), 24),
]
AUTHORS = [
    ("Nora", "O'Brien", "Ireland", date(1951, 3, 14)), ("Pierre", "d'Aubigny", "France", date(1938, 11, 2)),
    ("Grace", "Adeyemi", "Nigeria", date(1977, 6, 21)), ("Tomas", "Rivera", "Spain", date(1969, 1, 30)),
    ("Lena", "Brandt", "Germany", date(1964, 8, 17)), ("Samuel", "O'Connor", "Ireland", date(1980, 12, 5)),
    ("Yuki", "Tanaka", "Japan", date(1972, 4, 9)), ("Ingrid", "Solberg", "Norway", date(1945, 7, 23)),
    ("Peter", "Whitlock", "United Kingdom", date(1958, 2, 11)), ("Amina", "Haddad", "Morocco", date(1985, 10, 19)),
    ("Marco", "Bellini", "Italy", date(1949, 5, 27)), ("Clara", "Jensen", "Denmark", date(1990, 3, 3)),
    ("Hugh", "Fraser", "United Kingdom", date(1933, 9, 8)), ("Maria", "Kowalska", "Poland", date(1967, 11, 25)),
    ("Edith", "Marlow", "United Kingdom", None), ("Joao", "Pereira", "Portugal", None),
]  # fmt: skip
# Title, author (as in AUTHORS, from 1), genre, language, year, pages.
BOOKS = [
    ("The Salt Road", 1, "Novel", "English", 1984, 312), ("A Garden in Galway", 1, "Novel", "English", 1991, 276),
    ("The Lighthouse Keeper's Daughter", 1, "Novel", "English", 2003, 344),
    ("Les Heures Lentes", 2, "Poetry", "French", 1966, 96), ("L'Ombre du Fleuve", 2, "Novel", "French", 1979, 288),
    ("Harmattan", 3, "Novel", "English", 2011, 402), ("The Market at Ibadan", 3, "History", "English", 2018, 356),
    ("La Casa de Cal", 4, "Novel", "Spanish", 2001, 251), ("Night Train to Vigo", 4, "Crime", "English", 2009, 318),
    ("Das Stille Haus", 5, "Crime", "German", 1998, 297), ("Winter in Lübeck", 5, "Crime", "German", 2006, 333),
    ("The Dublin Ledger", 6, "Crime", "English", 2014, 289), ("The Second Ledger", 6, "Crime", "English", 2017, 305),
    ("Death at St. Stephen's", 6, "Crime", "English", 2021, 341),
    ("Paper Cranes", 7, "Children's", "English", 2005, 64),
    ("The Cat Who Kept Bees", 7, "Children's", "English", 2012, 48), ("Rain Garden", 7, "Poetry", "English", 2019, 88),
    ("Fjord", 8, "Novel", "Norwegian", 1974, 219), ("The Ice Year", 8, "History", "English", 1988, 364),
    ("Kings and Canals", 9, "History", "English", 1995, 512),
    ("A Short History of Bread", 9, "History", "English", 2008, 198),
    ("The Turnpike Age", 9, "History", "English", 2002, 447), ("Tangier by Night", 10, "Crime", "English", 2016, 274),
    ("The Orange Seller", 10, "Novel", "French", 2022, 263), ("Il Giardino Segreto", 11, "Novel", "Italian", 1982, 307),
    ("Stars over Siena", 11, "Science", "English", 1993, 229),
    ("The Clockmaker of Aarhus", 12, "Crime", "English", 2020, 322),
    ("My First Garden", 12, "Children's", "English", 2023, 36),
    ("Goodnight, Little Whale", 12, "Children's", "English", 2024, 32),
    ("The Highland Line", 13, "History", "English", 1972, 388),
    ("Birds of the Outer Isles", 13, "Science", "English", 1981, 416), ("Tides", 13, "Poetry", "English", 1969, 72),
    ("The Amber Coast", 14, "Novel", "English", 1999, 366), ("Chopin's Piano", 14, "History", "Polish", 2010, 241),
    ("What Stones Remember", 14, "Science", "English", 2015, 283),
    ("The Rook's Nest", 15, "Children's", "English", 1957, 128),
    ("Mrs. Pettigrew's Umbrella", 15, "Children's", "English", 1961, 112),
    ("Under the Apple Tree", 15, "Children's", "English", 1964, 96),
    ("O Mar Antigo", 16, "Poetry", "Portuguese", 1996, 104), ("How the Sea Works", 16, "Science", "English", 2013, 254),
]  # fmt: skip
# Title (as in BOOKS, from 1) by how often it is asked for.
WANTED = {14: 12, 29: 9, 27: 7, 13: 6, 6: 5, 16: 5}
MEMBERS = [
    ("Sean", "O'Neill"), ("Mary", "D'Souza"), ("Alice", "Carter"), ("Ben", "Ashby"), ("Chloe", "Warren"),
    ("Daniel", "Okafor"), ("Ellen", "Price"), ("Farah", "Aziz"), ("George", "Hall"), ("Hannah", "Lowe"),
    ("Ivan", "Petrov"), ("Julia", "Stone"), ("Kofi", "Mensah"), ("Lucy", "Barnes"), ("Martin", "Grey"),
    ("Nina", "Walsh"), ("Oscar", "Lindqvist"), ("Priya", "Nair"), ("Quentin", "Moss"), ("Rose", "Tailor"),
    ("Stefan", "Weber"), ("Tara", "O'Neill"), ("Ursula", "Finch"), ("Victor", "Lane"), ("Wendy", "Cole"),
    ("Xenia", "Marsh"), ("Yusuf", "Demir"), ("Zoe", "Carter"), ("Arthur", "Bishop"), ("Bella", "Rossi"),
]  # fmt: skip
CITIES = ["Ashford", "Ashford", "Ashford", "Milton", "Milton", "Kings Langley", "Bishop's Green"]
CONDITIONS = ["new", "good", "good", "good", "worn", "worn", "damaged"]
WITHOUT_LOANS = (9, 19, 24)


def rows() -> dict[str, list[dict]]:
    """Return the rows by table, those that others point to first; the same every time."""
    random = Random("library")
    copies = list(_copies(random))
    members = list(_members(random))
    found = {
        "Branch": [dict(zip(("Name", "Street", "OpenedOn", "Seats"), row, strict=True)) for row in BRANCHES],
        "Author": [dict(zip(("FirstName", "LastName", "Country", "BirthDate"), row, strict=True)) for row in AUTHORS],
        "Book": [
            dict(zip(("Title", "AuthorId", "Genre", "Language", "PublishedYear", "Pages"), row, strict=True))
            for row in BOOKS
        ],
        "BookCopy": copies,
        "Member": members,
        "Loan": sorted(_loans(random, copies, members), key=lambda loan: loan["LoanDate"]),
    }
    return {table: [{f"{table}Id": i} | row for i, row in enumerate(of, start=1)] for table, of in found.items()}


def _day(random: Random, first: date, last: date) -> date:
    return first + timedelta(days=random.randint(0, (last - first).days))


def _copies(random: Random) -> Iterator[dict]:
    """Yield one to four copies of each book, bought after it was published."""
    for book, (*_, year, pages) in enumerate(BOOKS, start=1):
        for _ in range(random.choice((1, 2, 2, 3)) + (book in WANTED)):
            bought = _day(random, date(max(year, 2004), 6, 1), date(2025, 3, 1))
            yield {
                "BookId": book, "BranchId": random.choice((1, 1, 1, 2, 2, 3, 4)), "AcquiredOn": bought,
                "Condition": "new" if bought.year > 2023 else random.choice(CONDITIONS[1:]),
                "Price": 6 + pages // 20 + random.randint(0, 9),
            }  # fmt: skip


def _members(random: Random) -> Iterator[dict]:
    """Yield the members; some gave no e-mail address."""
    for first, last in MEMBERS:
        email = f"{first}.{last}@example.org".lower().replace("'", "")
        born = _day(random, date(1938, 1, 1), date(2014, 12, 31))
        yield {
            "FirstName": first, "LastName": last, "City": random.choice(CITIES),
            "Email": email if random.random() < 0.8 else None,
            "BirthDate": born, "JoinedOn": _day(random, date(max(2015, born.year + 6), 1, 1), date(2025, 2, 28)),
        }  # fmt: skip


def _loans(random: Random, copies: list[dict], members: list[dict]) -> Iterator[dict]:
    """Yield loans of three weeks; a late one costs half a euro a day, the newest have not all come back."""
    weights = [WANTED.get(copy["BookId"], 1) for copy in copies]
    borrowers = [i for i in range(1, len(members) + 1) if i not in WITHOUT_LOANS]
    eager = [1 if i % 5 else 4 for i in borrowers]
    for _ in range(160):
        copy = random.choices(range(len(copies)), weights)[0]
        (member,) = random.choices(borrowers, eager)
        first = max(date(2023, 1, 2), copies[copy]["AcquiredOn"], members[member - 1]["JoinedOn"])
        lent = _day(random, first, TODAY)
        due, back = lent + timedelta(days=21), lent + timedelta(days=random.randint(2, 30))
        is_back = back <= TODAY and random.random() < 0.97
        late = (back - due).days if is_back else 0
        yield {
            "BookCopyId": copy + 1, "MemberId": member, "LoanDate": lent, "DueDate": due,
            "ReturnDate": back if is_back else None, "Fine": late / 2 if late > 0 else None,
        }  # fmt: skip
