"""Rows of a chat, of a prompt with its completion, or of an instruction, taken apart for text-to-SQL.

What holds CREATE TABLE statements gives the context, what stands beside it the question, the answer is the SQL:

- chat rows (`messages` with role and content, `conversations` with from and value): one question of the user, one
  answer of the assistant; the tables are in the user's or in the system's message;
- `prompt` and `completion` (also `response`), of text or of messages: the tables and the question are in the prompt;
- `instruction`, `input` and `output` (also `response`): one of instruction and input is the tables, the other the
  question; or one holds both and the other is empty.
"""

import json
import re

from finetune import InputError

ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
CREATE = re.compile(r"\bCREATE\s+(?:\w+\s+)*?(?:TABLE|VIEW)\b", re.IGNORECASE)
# Lines and beginnings that say what follows, and are no part of a question.
LABEL = re.compile(
    r"^[\W_]*(?:```\w*|(?:(?:database|table|sql|user|the)\s+)?(?:questions?|schemas?|tables?|context|input|instruction|sql|answer"
    r"|response|query|q|a))?[\W_]*$",
    re.IGNORECASE,
)
BEGINNING = re.compile(r"^[#\-*\s]*(?:question|query|q)\s*:\s*", re.IGNORECASE)
# What ends a statement, and what it may stand in without doing so: texts, names and comments.
MARKS = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|[();]", re.DOTALL)
SELECTED = re.compile(r"\s+\S+\s+AS\s.*?(?:;|\n\s*\n|\Z)", re.IGNORECASE | re.DOTALL)
OPTIONS = re.compile(
    r"(?:\s*(?:ENGINE|DEFAULT|CHARSET|COLLATE|AUTO_INCREMENT|COMMENT|ROW_FORMAT|WITHOUT\s+ROWID|STRICT|PARTITION\s+BY"
    r"|CLUSTERED\s+BY|ON\s+\[?PRIMARY\]?|WITH\s*\()[^\n;]*)?\s*;?",
    re.IGNORECASE,
)
FENCE = re.compile(r"^\s*```\w*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)


def shape_of(present: list[str]) -> str | None:
    """Return what rows with these columns are: messages, prompt or instruction; None for other rows."""
    if {"messages", "conversations"} & set(present):
        return "messages"
    answered = {"output", "response", "completion"} & set(present)
    return next((name for name in ("prompt", "instruction") if name in present and answered), None)


def as_questions(rows: list[dict], shape: str, what: str) -> list[dict]:
    """Return rows with `question`, `context` and `answer`, and their other columns.

    Raises:
        InputError: a row that cannot be taken apart, by its number.
    """
    read = {"messages": _of_chat, "prompt": _of_prompt, "instruction": _of_instruction}[shape]
    return [_kept(row) | read(row, f"row {number} of {what}") for number, row in enumerate(rows, start=1)]


def _kept(row: dict) -> dict:
    parts = ("messages", "conversations", "prompt", "completion", "instruction", "input", "output", "response")
    return {name: value for name, value in row.items() if name not in parts}


def _of_chat(row: dict, where: str) -> dict:
    return _of_messages(row.get("messages") or row.get("conversations"), where)


def _of_messages(messages, where: str) -> dict:
    texts: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    for role, text in _read_messages(messages, where):
        if role not in texts:
            raise InputError(f"{where} has a message of {role}; expected system, user and assistant.")
        texts[role].append(text)
    if len(texts["user"]) != 1 or len(texts["assistant"]) != 1 or len(texts["system"]) > 1:
        counts = ", ".join(f"{len(found)} of {role}" for role, found in texts.items())
        raise InputError(f"{where} has messages {counts}; expected one question and one answer, and one turn a row.")
    (user,), (assistant,), system = texts["user"], texts["assistant"], "".join(texts["system"])
    if CREATE.search(system) and CREATE.search(user):
        raise InputError(f"{where} has CREATE TABLE statements in two messages; expected them in one.")
    if CREATE.search(system):
        return _row(_take_apart(system, where)[0], user, assistant, where)
    return _row(*_take_apart(user, where), assistant, where)


def _read_messages(messages, where: str) -> list[tuple[str, str]]:
    """Return role and text of each message."""
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except ValueError:
            messages = None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise InputError(f"{where}: messages must be a list of objects with role and content.")
    found = []
    for message in messages:
        role = str(message.get("role") or message.get("from")).lower()
        text = message.get("content", message.get("value"))
        if isinstance(text, list):  # Parts: {"type": "text", "text": ...}
            parts: list = [part.get("text") if isinstance(part, dict) else None for part in text]
            text = "\n".join(parts) if all(isinstance(part, str) for part in parts) else None
        if not isinstance(text, str):
            raise InputError(f"{where}: the message of {role} has no text.")
        found.append((ROLES.get(role, role), text))
    return found


def _of_prompt(row: dict, where: str) -> dict:
    prompt, completion = row.get("prompt"), row.get("completion", row.get("response", row.get("output")))
    if isinstance(prompt, list):
        return _of_messages([*prompt, *(completion if isinstance(completion, list) else [])], where)
    return _row(*_take_apart(_text(prompt, "prompt", where), where), _text(completion, "completion", where), where)


def _of_instruction(row: dict, where: str) -> dict:
    instruction, given = (_text(row.get(name) or "", name, where) for name in ("instruction", "input"))
    answer = _text(row.get("output", row.get("response", row.get("completion"))), "output", where)
    if not given.strip() or not instruction.strip():
        return _row(*_take_apart(instruction or given, where), answer, where)
    tables, question = (given, instruction) if CREATE.search(given) else (instruction, given)
    context, rest = _take_apart(tables, where)
    if CREATE.search(question) or rest:
        raise InputError(
            f"{where}: expected the CREATE TABLE statements alone in one of instruction and input, and the question in"
            f" the other; found besides: {(rest or question)[:80]!r}. Give columns question, context and answer."
        )
    return _row(context, question, answer, where)


def _text(value, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: {name} is {str(value)[:80]!r}; expected a text.")
    return value


def _row(context: str, question: str, answer: str, where: str) -> dict:
    question = BEGINNING.sub("", question.strip())
    if not question:
        raise InputError(f"{where} has CREATE TABLE statements and no question beside them.")
    fenced = FENCE.match(answer)
    return {"question": question, "context": context, "answer": (fenced[1] if fenced else answer).strip()}


def _take_apart(text: str, where: str) -> tuple[str, str]:
    """Return the CREATE TABLE statements of a text, and what else it says, without headings such as `### Question`."""
    start = CREATE.search(text)
    if not start:
        raise InputError(f"{where} has no CREATE TABLE statements; expected the tables that the question is about.")
    end = _end_of_tables(text, start.start())
    rest = [text[: start.start()], text[end:]]
    lines = [line.strip().lstrip("-#").strip() for part in rest for line in part.splitlines()]
    return text[start.start() : end].strip(), "\n".join(line for line in lines if line and not LABEL.match(line))


def _end_of_tables(text: str, start: int) -> int:
    """Return where the last statement ends: behind its closing parenthesis, its options and its semicolon."""
    end = start
    for match in CREATE.finditer(text, start):
        if match.start() < end:  # Inside of the one before, in a text or a comment.
            continue
        if selects := SELECTED.match(text, match.end()):
            end = selects.end()
            continue
        depth = 0
        for mark in MARKS.finditer(text, match.end()):
            depth += {"(": 1, ")": -1}.get(mark[0], 0)
            if depth <= 0 and mark[0] in ");":
                options = OPTIONS.match(text, mark.end()) if mark[0] == ")" else None
                end = (options or mark).end()
                break
    return max(end, start)
