"""Lines on stdin as they come: those that are there can be had without waiting for more."""

import codecs
import io
import os
import select
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from finetune import InputError
from finetune.rows.files.reading import text_encoding

BYTES_AT_A_TIME = 2**16
STDIN = Path("-")


class Lines:
    """The lines on stdin that are not empty, with their numbers, for one iteration.

    They are read from the file descriptor: sys.stdin would hide in its buffers which of them are there.

    Args:
        encoding: of the text.
    """

    def __init__(self, encoding: str = "utf-8"):
        self.encoding, self.number = encoding, 0
        self.rest: list[str] = []
        self.waiting: deque[tuple[int, str]] = deque()
        self.descriptor, self.ended = -1, True  # of what nobody has asked for yet

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield (number, line), waiting for each.

        Raises:
            InputError: stdin is closed, or is no text of this encoding.
        """
        self._open()
        while self.waiting or not self.ended:
            if not self.waiting:
                self._read()
            while self.waiting:
                yield self.waiting.popleft()

    def ready(self) -> bool:
        """Say whether the next line, or the end, can be had without waiting."""
        while not self.waiting and not self.ended and select.select([self.descriptor], [], [], 0)[0]:
            self._read()
        return bool(self.waiting) or self.ended

    def _open(self) -> None:
        if sys.stdin is None:
            raise InputError("stdin is closed; give rows on it, or a file of them with --input.")
        self.decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(text_encoding(self.encoding))(), True)
        try:
            self.descriptor, self.ended = sys.stdin.fileno(), False
        except io.UnsupportedOperation:  # no file, as where another program has put its own in this place
            self._take(sys.stdin.read() + "\n")

    def _read(self) -> None:
        """Take what is there; wait where nothing is."""
        select.select([self.descriptor], [], [])  # stdin may be one that does not wait by itself
        try:
            data = os.read(self.descriptor, BYTES_AT_A_TIME)
            self.ended = not data
            self._take(self.decoder.decode(data, final=self.ended) + "\n" * self.ended)
        except UnicodeDecodeError as error:
            raise InputError(
                f"stdin, after line {self.number}: not {self.encoding} text ({error.reason}); name its encoding with"
                " --encoding."
            ) from error

    def _take(self, text: str) -> None:
        first, *others = text.split("\n")
        self.rest.append(first)
        for other in others:
            line, self.rest = "".join(self.rest), [other]
            self.number += 1
            if line.strip():
                self.waiting.append((self.number, line))
