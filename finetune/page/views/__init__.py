"""What the page does for one task alone: what it shows, asks and takes as a correction."""

from collections.abc import Callable
from typing import Any, Protocol

from finetune import InputError
from finetune.predicting.traces import Record

from transformers import TextStreamer

LONGEST = 200_000  # characters of a text or a document
Emit = Callable[..., None]


class View(Protocol):
    """One task's side of the page, for one model."""

    model: Any

    def describe(self) -> dict:
        """Return what the page needs to know before anything is asked."""

    def ask(self, given: dict, emit: Emit) -> Record:
        """Answer, and tell the answer's parts by `side`; return what the trained model answered."""

    def ask_base(self, record: Record, emit: Emit) -> None:
        """Let the base answer the same, where there is one."""

    def expected(self, record: Record, given: object) -> dict:
        """Return a corrected answer by its column in rows of training."""

    def try_out(self, given: object) -> dict:
        """Return what a corrected answer does, as an answer's part has it."""


class Streamed(TextStreamer):
    """Tells the words of an answer as they come."""

    def __init__(self, tokenizer, emit: Emit, side: str):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.emit, self.side = emit, side

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Tell what is new."""
        self.emit(side=self.side, text=text)


def streamed(model, parameters: dict, emit: Emit, side: str, prompts: int = 1) -> dict:
    """Return generation parameters with which words are told as they come, where beams and pieces allow that."""
    if prompts != 1 or parameters.get("num_beams", 1) != 1:
        return parameters
    return parameters | {"streamer": Streamed(model.tokenizer, emit, side)}


def text_of(given: dict, name: str) -> str:
    """Return a text that the page sent; raise InputError for none, or for one that is too long."""
    text = given.get(name)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"there is no {name}; write one.")
    if len(text) > LONGEST:
        raise InputError(f"the {name} has {len(text):,} characters; at most {LONGEST:,} are read.")
    return text
