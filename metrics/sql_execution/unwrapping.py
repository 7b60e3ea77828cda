"""What models put around their SQL, taken off where that is asked for."""

import re

FENCE = re.compile(r"```[ \t]*\w*[ \t]*\r?\n?(.*?)(?:```|\Z)", re.DOTALL)
# Some words and a colon, on one line, before the query's first word.
PREFIX = re.compile(r"\A\s*[^\n;()'\"]{0,80}?:\s*(?=(?:SELECT|WITH|VALUES)\b)", re.IGNORECASE)
BARE = re.compile(r"\A\s*sql(?:ite)?\s+(?=(?:SELECT|WITH)\b)", re.IGNORECASE)


def unwrap(text: str) -> str:
    """Return the SQL in an answer: of its first fence, without `SQL:`, `Here is the query:` and the like."""
    if not isinstance(text, str):
        return text
    fenced = FENCE.search(text)
    text = fenced[1].strip() if fenced else text
    return BARE.sub("", PREFIX.sub("", text))
