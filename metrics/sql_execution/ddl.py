"""CREATE TABLE statements of any dialect that sqlglot tokenizes: told apart, and written for SQLite.

Read by tokens, not by sqlglot's parser: what the data needs of a table is its names, which columns are
numbers, and its keys; of types, options and clauses each dialect has some that no parser takes.
"""

import re
import sqlite3
from dataclasses import dataclass, field
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase

import sqlglot
from sqlglot import exp
from sqlglot.tokens import Token, TokenType

SQLITE = "sqlite"
NUMBER = re.compile(
    r"U?(TINY|SMALL|MEDIUM|BIG|HUGE)?INT(EGER|\d+)?$|(?!ENUM).*(SERIAL|REAL|FLOAT|DOUBLE|NUM|DEC|BOOL|YEAR|MONEY)|BIT$",
    re.IGNORECASE,
)
LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
PLAIN_NAME = re.compile(r"[^\W\d]\w*")
CONSTRAINTS = {"PRIMARY", "UNIQUE", "FOREIGN", "CONSTRAINT", "CHECK", "EXCLUDE"}
ALSO_NAMES = {"KEY", "INDEX", "FULLTEXT", "SPATIAL", "PERIOD", "LIKE"}  # of columns too, where a type follows
# Statements of dumps and migrations that create no table.
OTHERS = set(
    "ALTER ANALYZE BEGIN COMMENT COMMIT DELETE DROP END EXEC GO GRANT INSERT LOCK PRAGMA PRINT REVOKE ROLLBACK SELECT"
    " SET START TRUNCATE UNLOCK UPDATE USE".split()
)
FOLLOWED_BY = {"DROP": {"TABLE", "VIEW"}, "ALTER": {"TABLE"}, "INSERT": {"INTO"}, "COMMENT": {"ON"}}


@dataclass
class Statement:
    """One statement as it stands in the text, and its tokens."""

    text: str
    tokens: list[Token]
    offset: int  # of the text in the whole: tokens count from there
    words: list[str] = field(init=False)  # in upper case; "" for what is quoted

    def __post_init__(self):
        quoted = (TokenType.IDENTIFIER, TokenType.STRING)
        self.words = [
            "" if token.token_type in quoted else " ".join(token.text.upper().split()) for token in self.tokens
        ]

    @property
    def kind(self) -> str:
        """What it creates: TABLE, VIEW, INDEX and the like; "" for another statement."""
        found = next((w for w in self.words[1:6] if w in ("TABLE", "VIEW", "INDEX", "TYPE", "TRIGGER")), "OTHER")
        return found if self.words[0] == "CREATE" else ""

    def raw(self, first: int, last: int) -> str:
        """Return the text from one token to another, both included, quotes and all."""
        return self.text[self.tokens[first].start - self.offset : self.tokens[last].end + 1 - self.offset]

    @property
    def name(self) -> tuple[int, int]:
        """The numbers of the first and the last token of the name of what it creates, its schema included."""
        start = self.words.index(self.kind) + 1
        while self.words[start : start + 1] and self.words[start] in ("IF", "NOT", "EXISTS"):
            start += 1
        end = start
        while "." in self.words[end + 1 : end + 2] and end + 2 < len(self.tokens):
            end += 2
        return start, end

    @property
    def definitions(self) -> list[range]:
        """The numbers of the tokens of each column and constraint."""
        found, depth, start, angles = [], 0, 0, 0
        for number, word in enumerate(self.words):
            depth += {"(": 1, ")": -1}.get(word, 0)
            if word == "<" and (angles or self.words[number - 1] in ("STRUCT", "ARRAY", "MAP")):
                angles += 1
            angles = max(0, angles - (word.count(">") if set(word) == {">"} else 0))
            if angles:
                continue
            if word == "(" and depth == 1:
                start = number + 1
            elif (word == "," and depth == 1) or (word == ")" and depth == 0):
                found.append(range(start, number))
                start = number + 1
                if word == ")":
                    break
        return [part for part in found if part]

    def is_column(self, part: range) -> bool:
        """Say whether a definition is of a column."""
        first = self.words[part[0]]
        if first in ALSO_NAMES and len(part) > 1:
            return self.tokens[part[1]].token_type in sqlglot.Parser.TYPE_TOKENS and self.words[part[1]] != ""
        return first.partition(" ")[0] not in CONSTRAINTS | ALSO_NAMES


def statements(text: str, dialect: str = SQLITE) -> list[Statement]:
    """Return the statements of a text, which may stand apart by nothing but a new line.

    Raises:
        ValueError: the text has quotes or brackets without an end.
    """
    if dialect == "tsql":  # The word between batches: of a client, not of the language.
        text = re.sub(r"(?im)^[ \t]*GO[ \t]*\d*[ \t]*;?[ \t]*$", lambda match: ";".ljust(len(match[0])), text)
    try:
        tokens = sqlglot.tokenize(text, read=dialect)
    except Exception as error:  # sqlglot's TokenError, and what a broken text makes of its tokenizer.
        raise ValueError(f"text that cannot be read as {dialect}: {str(error).splitlines()[0]}") from error
    groups: list[list[Token]] = [[]]
    depth = 0
    for number, token in enumerate(tokens):
        word = "" if token.token_type in (TokenType.IDENTIFIER, TokenType.STRING) else token.text.upper()
        depth += {"(": 1, ")": -1}.get(word, 0)
        following = tokens[number + 1].text.upper() if number + 1 < len(tokens) else ""
        if depth == 0 and (word == "CREATE" or following in FOLLOWED_BY.get(word, ())):
            groups.append([])
        if word == ";" and depth <= 0:
            groups.append([])
        else:
            groups[-1].append(token)
    return [Statement(text[g[0].start : g[-1].end + 1], g, g[0].start) for g in groups if g]


def tables(text: str, dialect: str) -> list[tuple[Statement, str]]:
    """Return the statements that create a table or a view, each with a CREATE TABLE statement for SQLite.

    Kept are names without their schemas, whether a column is a number, and keys. A view is a table of its
    columns. Statements that create no table are left out.

    Raises:
        ValueError: with the first statement that is none of a schema.
    """
    found: list[tuple[Statement, str]] = []
    known: dict[str, dict[str, str]] = {}  # columns by table, with their types
    qualified: dict[str, str] = {}
    for statement in statements(text, dialect):
        if statement.kind not in ("TABLE", "VIEW"):
            if statement.words[0].partition(" ")[0] not in OTHERS | {"CREATE"}:
                raise ValueError(f"{statement.text[:40]!r} is no statement of a schema")
            continue
        first, last = statement.name
        if last >= len(statement.tokens):
            raise ValueError(f"{statement.text[:40]!r} creates nothing with a name")
        name, full = _name(statement.tokens[last], dialect), statement.raw(first, last).lower()
        if qualified.setdefault(name.lower(), full) != full:
            raise ValueError(f"two tables are called {name}, which SQLite, without schemas, cannot tell apart")
        if "EXISTS" in statement.words[:first] and name.lower() in known:
            continue
        columns, keys = _read_columns(statement, dialect, known)
        if not columns:
            raise ValueError(f"{statement.text[:60]!r} names no columns")
        known[name.lower()] = {column.lower(): kind for column, kind in columns}
        parts = [f"{_quote(column)} {kind}" for column, kind in columns] + keys
        found.append((statement, f"CREATE TABLE {_quote(name)} ({', '.join(parts)})"))
    return found


def fold(name: str) -> str:
    """Return a name as SQLite compares it: the letters A to Z, and no others, in lower case."""
    return name.translate(LOWER)


@lru_cache(maxsize=65536)
def is_bare_name(name: str) -> bool:
    """Say whether SQLite takes a name without quotes for a column, and not for a keyword."""
    if not PLAIN_NAME.fullmatch(name):
        return False
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"CREATE TABLE t ({name} TEXT)")
    except sqlite3.Error:
        return False
    finally:
        connection.close()
    return True


def _name(token: Token, dialect: str) -> str:
    # BigQuery: one pair of quotes may hold project, data set and table.
    return token.text.rpartition(".")[2] if dialect == "bigquery" else token.text


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _read_columns(statement: Statement, dialect: str, known: dict) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (name, type) of each column, and the keys as SQL."""
    if statement.kind == "VIEW" or not any(map(statement.is_column, statement.definitions)) or _is_query(statement):
        return _columns_of_query(statement, dialect, known), []
    columns, keys = [], []
    for part in statement.definitions:
        tokens, words = statement.tokens[part.start : part.stop], statement.words[part.start : part.stop]
        inline = None
        if statement.is_column(part):
            inline = tokens[0].text
            is_list = "[" in words[1:3] or "ARRAY" in words[1:2]
            number = len(words) > 1 and NUMBER.match(tokens[1].text) and not is_list
            columns.append((inline, "NUMERIC" if number else "TEXT"))
        keys += _keys(tokens, words, inline, dialect)
    return columns, keys


def _keys(tokens: list[Token], words: list[str], inline: str | None, dialect: str) -> list[str]:
    """Return the keys that a definition declares: of itself, or of the columns in its parentheses."""
    keys, listed = [], _listed(tokens, words, 0)
    own = [inline] if inline else listed
    for word, key in (("PRIMARY KEY", "PRIMARY KEY"), ("UNIQUE", "UNIQUE"), ("FOREIGN KEY", ""), ("REFERENCES", "")):
        if word not in words:
            continue
        if key and own:
            keys.append(f"{key} ({', '.join(map(_quote, own))})")
        elif word == "REFERENCES" and own:
            at = words.index(word) + 1
            while "." in words[at + 1 : at + 2]:
                at += 2
            others = _listed(tokens, words, at)
            if at < len(tokens) and len(others) == len(own):
                there = f"{_quote(_name(tokens[at], dialect))} ({', '.join(map(_quote, others))})"
                keys.append(f"FOREIGN KEY ({', '.join(map(_quote, own))}) REFERENCES {there}")
    return keys


def _listed(tokens: list[Token], words: list[str], start: int) -> list[str]:
    """Return the first word of each entry of the first parentheses from a place on."""
    if "(" not in words[start:]:
        return []
    found, fresh = [], True
    for token, word in zip(tokens[words.index("(", start) + 1 :], words[words.index("(", start) + 1 :], strict=True):
        if word == ")":
            break
        if fresh:
            found.append(token.text)
        fresh = word == ","
    return found


def _is_query(statement: Statement) -> bool:
    return "SELECT" in statement.words and "AS" in statement.words[: statement.words.index("SELECT")]


def _columns_of_query(statement: Statement, dialect: str, known: dict) -> list[tuple[str, str]]:
    """Return the columns that a view, or a table made by a query, has."""
    try:
        tree = sqlglot.parse_one(statement.text, read=dialect)
    except Exception as error:  # ParseError, RecursionError, ...
        raise ValueError(f"{statement.text[:60]!r} cannot be read as {dialect}") from error
    query = tree.expression if isinstance(tree, exp.Create) else None
    if not isinstance(query, exp.Query):
        return []
    types: dict[str, str] = {}
    for table in query.find_all(exp.Table):
        types |= known.get(table.name.lower(), {})
    names = [column.name for column in tree.this.expressions] if isinstance(tree.this, exp.Schema) else []
    if not names:
        for projection in query.selects:
            names += list(types) if projection.is_star else [projection.alias_or_name]
    return [(name, types.get(name.lower(), "TEXT")) for name in dict.fromkeys(names) if name]
