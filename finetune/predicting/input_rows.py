"""Rows to predict from, of a flag, a file or stdin, checked for what the model needs before it is asked."""

import logging
import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator

from finetune import InputError
from finetune.models.prompts import Prompt
from finetune.predicting.stdin_lines import Lines
from finetune.rows.files.reading import read_object, stream_rows

logger = logging.getLogger(__name__)
HALF = re.compile("[\ud800-\udfff]")
SPECIAL_TOKENS = 8  # room for those that a tokenizer puts around a text


def read_questions(flags: Namespace, columns: list[str], check: Callable[[dict, str], None]) -> Iterator[dict]:
    """Yield the rows to answer, checked for the columns of the prompt.

    Args:
        check: raises InputError for a row, named by its second argument, that the model has no positions for.
    """
    what = str(flags.input or "stdin")
    source: Iterable[dict]
    if flags.question is not None:
        if flags.context is None and not flags.database:
            raise InputError("--question needs --context with the CREATE TABLE statements it is about, or --database.")
        source, what = [_about(flags, "question", flags.question)], "--question and --context"
    elif flags.input is not None:
        source = stream_rows(flags.input, flags.encoding, raw=True)
    else:
        source = _questions_on_stdin(flags)
    for number, row in enumerate(source, start=1):
        where = what if flags.question is not None else f"row {number} of {what}"
        try:
            question = asked(row, flags, where if number > 1 else f"the rows of {what}")
            schema = question["context"]
            if flags.database is not None and row.setdefault("context", schema) != schema and not flags.told:
                flags.told = True
                logger.warning(f"{where}: its context is not read, the schema is that of --database.")
            check_question(question, columns, where)
            check(question, where)
        except InputError as error:
            if not flags.interactive:
                raise
            logger.error(error)
            continue
        yield row


def asked(row: dict, flags: Namespace, what: str = "the rows") -> dict:
    """Return question and context of a row: the context of --database, the row's own, or --context."""
    found = flags.names.read(row, what)
    if flags.database:
        return found | {"context": flags.context_of(str(found.get("question") or ""))}
    return found if "context" in found else found | {"context": flags.context}


def check_question(row: dict, columns: list[str], where: str) -> None:
    """Raise InputError for a row without a text in each column of the prompt."""
    missing = [name for name in columns if not _is_text(row.get(name))]
    if missing:
        raise InputError(f"{where}: no text in {' and '.join(missing)}; expected a question about a schema.")


def check_length(tokenizer, limit: int | None, prompt: Prompt, row: dict, what: str) -> None:
    """Raise InputError for a row whose prompt the base has no positions for."""
    text = prompt.render(row)
    # A token is a byte at least: most prompts need no counting.
    if limit and len(text.encode()) + SPECIAL_TOKENS > limit and (tokens := len(tokenizer(text)["input_ids"])) > limit:
        raise InputError(
            f"{what}: its prompt takes {tokens} tokens, the base model has {limit} positions; shorten its question, or"
            " leave tables out of its schema that it is not about."
        )


def _questions_on_stdin(flags: Namespace) -> Iterator[dict]:
    for number, line in read_lines(flags.lines):
        if isinstance(line, str) and flags.context is None and not flags.database:
            raise InputError(
                f"stdin, line {number}: a plain question needs --context or --database; or send JSON objects."
            )
        question = flags.names.given.get("question", "question")
        yield _about(flags, question, line) if isinstance(line, str) else line


def _about(flags: Namespace, column: str, question: str) -> dict:
    """Return a row of a question, with the schema of --context; that of --database is put in for each question."""
    return {column: question} if flags.database else {column: question, "context": flags.context}


def read_texts(flags: Namespace, column: str) -> Iterator[dict]:
    """Yield the rows to classify or to summarise, checked for a text in the column that the model reads."""
    what = str(flags.input or "stdin")
    source: Iterable[dict]
    if flags.text is not None:
        source, what = [{column: flags.text}], "--text"
    elif flags.input is not None:
        source = stream_rows(flags.input, flags.encoding, raw=True)
    else:
        name = flags.names.given.get(column, column)
        source = ({name: line} if isinstance(line, str) else line for _, line in read_lines(flags.lines))
    for number, row in enumerate(source, start=1):
        where = f"row {number} of {what}"
        if not _is_text(flags.names.read(row, where if number > 1 else f"the rows of {what}")[column]):
            raise InputError(f"{where} has no text; expected one in the column {column}.")
        yield row


def _is_text(value) -> bool:
    """Say whether a value is a text with something in it, and whole: bytes that are none arrive as half characters."""
    return isinstance(value, str) and bool(value.strip()) and not HALF.search(value)


def read_lines(lines: Lines) -> Iterator[tuple[int, str | dict]]:
    """Yield (number, content) of the lines on stdin that are not empty: JSON objects parsed, others as text."""
    for number, line in lines:
        # A list of rows is no text either.
        is_json = line.lstrip().startswith(("{", "[{"))
        yield number, read_object(line, "stdin", number) if is_json else line.strip()


def check_schema_length(prompt_ids: list[int], limit: int | None, trained: int) -> None:
    """Raise InputError for a schema that the base has no positions for; warn of one longer than in training.

    Args:
        prompt_ids: of the prompt without a question.
        limit: positions of the base.
        trained: tokens of the longest row in training.
    """
    how = "name the tables that the question is about with --tables"
    if limit and len(prompt_ids) > limit:
        raise InputError(f"the schema takes {len(prompt_ids)} tokens, the base model has {limit} positions; {how}.")
    if len(prompt_ids) > trained:
        logger.warning(f"the schema takes {len(prompt_ids)} tokens, training saw at most {trained}; {how}.")
