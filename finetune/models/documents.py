"""Whole documents as sentences, each with its place: plain text and HTML."""

import re
from dataclasses import dataclass
from pathlib import Path

from finetune import InputError

import nupunkt
from bs4 import BeautifulSoup, NavigableString

SUFFIXES = (".txt", ".md", ".html", ".htm")
# What ends a paragraph in HTML; text on both sides of any other tag is one sentence.
BLOCKS = (
    "address article aside blockquote br dd div dl dt fieldset figcaption footer form h1 h2 h3 h4 h5 h6 header hr li"
    " main nav ol p pre section table td th title tr ul"
).split()


@dataclass(frozen=True)
class Sentence:
    """A sentence of a document.

    Attributes:
        text: in one line, runs of white space as one space.
        start, end: characters of the document's text that it takes, `document[start:end]`.
        line: line of the document's text it begins in, from 1.
    """

    text: str
    start: int
    end: int
    line: int


def read_document(path: Path) -> str:
    """Return the text of a document; of HTML, what a reader sees, a paragraph a block.

    Raises:
        InputError: missing, not UTF-8, of another kind, or without text.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--split-sentences takes a document ({', '.join(SUFFIXES)}), not {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({type(error).__name__}).") from error
    if path.suffix.lower() in (".html", ".htm"):
        text = visible_text(text)
    if not text.strip():
        raise InputError(f"{path} has no text.")
    return text


def visible_text(html: str) -> str:
    """Return what a reader sees of a page, a paragraph a block."""
    soup = BeautifulSoup(html, "html.parser")
    for hidden in soup(["script", "style", "noscript", "template", "head"]):
        hidden.decompose()
    for text in soup.find_all(string=True):  # Line breaks of the source mean nothing.
        if type(text) is NavigableString:  # not a comment or a doctype
            text.replace_with(re.sub(r"\s+", " ", text))
    for block in soup(BLOCKS):
        block.insert_before("\n\n")
        block.insert_after("\n\n")
    lines = (line.strip() for line in soup.get_text().split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def split_sentences(document: str) -> list[Sentence]:
    """Return the sentences of a document, by Punkt as trained on legal text (nupunkt).

    A blank line ends a sentence, a single line break does not: many documents are wrapped.
    """
    found = []
    for paragraph in re.finditer(r"\S(?:.|\n(?!\s*\n))*", document):
        for start, end in nupunkt.sent_spans(paragraph.group()):
            piece = paragraph.group()[start:end]
            start += paragraph.start() + len(piece) - len(piece.lstrip())
            text = " ".join(piece.split())
            if re.search(r"\w", text):
                end = start + len(piece.strip())
                found.append(Sentence(text, start, end, document.count("\n", 0, start) + 1))
    return found
