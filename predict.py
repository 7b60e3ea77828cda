"""Answer questions with a logged model: SQL on stdout, one a line.

Give --question with --context or --database, or --input FILE, or lines on stdin: JSON objects with the
columns of the prompt, or plain questions about the tables of --context or --database. SQL is run only
with --execute, and then only as a query that cannot write.
"""

import json
import logging
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

from finetune import console, tracking
from finetune.asking import Dialogue
from finetune.console import InputError, Parser
from finetune.data import SUFFIXES, check_columns, check_writable, read_rows
from finetune.databases import open_database
from finetune.generation import Generation, generate_all
from finetune.logged_models import load_model, open_model
from finetune.prompts import Prompt

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

logger = logging.getLogger(__name__)
BATCHES_A_CHUNK = 16  # rows sorted by length together; one chunk is in memory at a time


def main(arguments: list[str] | None = None) -> None:
    """Load the model, answer, print or write."""
    flags = parse(arguments)
    tracking.connect()
    database = open_database(flags.database, flags.tables) if flags.database else None
    flags.context = database.statements if database else flags.context
    logged = open_model(flags.uri)
    prompt = Prompt(logged.card["prompt"])
    parameters = logged.parameters | parse_parameters(flags.param, logged.parameters)
    rows = read_input(flags, prompt.variables)
    # Reads the input before the model is loaded: bad input fails at once. A dialogue waits for the model.
    first = [] if flags.interactive else list(islice(rows, 1))
    model, tokenizer = load_model(logged, flags.base_model, flags.precision, not flags.no_adapter)
    if database:
        check_schema_length(
            tokenizer(prompt.render({"question": "", "context": flags.context}))["input_ids"], model, logged
        )
    if flags.execute or flags.interactive:
        layout = "json" if flags.json else "csv" if flags.csv else "table"
        limits = (flags.max_rows, flags.timeout, flags.retries)
        dialogue = Dialogue(database, flags.execute, flags.interactive, layout, *limits)
        dialogue.hold(chain(first, rows), partial(write_sql, model, tokenizer, prompt, parameters))
        return
    size = flags.batch_size * BATCHES_A_CHUNK
    with Writer(flags) as writer, tqdm(unit=" rows", disable=flags.question is not None) as progress:
        while chunk := first + list(islice(rows, size - len(first))):
            first = []
            prompts = [tokenizer(prompt.render(row))["input_ids"] for row in chunk]
            warn_of_long_prompts(prompts, model, parameters["max_new_tokens"])
            answers = generate_all(model, tokenizer, prompts, batch_size=flags.batch_size, **parameters)
            writer.write(chunk, answers)
            progress.update(len(chunk))


def parse(arguments: list[str] | None):
    """Return the flags, checked against each other."""
    parser = Parser(description=__doc__)
    parser.add_argument("uri", help="runs:/<run id>/model, models:/NAME@ALIAS, or a checkpoint folder")
    parser.add_argument("--question", help="one question")
    parser.add_argument("--context", help="CREATE TABLE statements the question is about")
    parser.add_argument("--database", help="URL or file of your own database, whose tables the question is about")
    parser.add_argument("--tables", nargs="+", help="with --database, the tables to tell the model of")
    parser.add_argument("--execute", action="store_true", help="run the SQL on --database, as a query only")
    parser.add_argument("--max-rows", type=int, default=100, help="rows of a result to fetch")
    parser.add_argument("--timeout", type=float, default=10, help="seconds a query may take")
    parser.add_argument("--retries", type=int, default=0, help="ask again so often, with the error, where SQL fails")
    parser.add_argument("--interactive", action="store_true", help="keep the model loaded and ask for more questions")
    parser.add_argument("--csv", action="store_true", help="print results as CSV, and the SQL on stderr")
    parser.add_argument("--input", type=Path, help=".jsonl, .json, .csv or .parquet file with the prompt's columns")
    parser.add_argument("--output", type=Path, help="write the rows with their answers here (.jsonl, .csv, .parquet)")
    parser.add_argument("--base-model", help="folder of the base model, where it has moved since training")
    parser.add_argument("--precision", choices=("nf4", "bf16", "fp32"), help="of the base; default: as it was trained")
    parser.add_argument("--no-adapter", action="store_true", help="answer with the base alone, to compare")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a generation parameter")
    parser.add_argument("--batch-size", type=int, default=16, help="prompts generated together")
    parser.add_argument("--json", action="store_true", help="print objects instead of lines of SQL")
    parser.add_argument("--token-ids", action="store_true", help="with --json, add the token ids of each answer")
    flags = parser.parse_args(arguments)
    if flags.question is not None and flags.input is not None:
        raise InputError("give --question or --input, not both.")
    for name, least in (("batch_size", 1), ("max_rows", 1), ("retries", 0)):
        if getattr(flags, name) < least:
            raise InputError(f"--{name.replace('_', '-')} {getattr(flags, name)} must be at least {least}.")
    check_database_flags(flags)
    if flags.output is not None:
        if flags.output.suffix not in (".jsonl", ".csv", ".parquet"):
            raise InputError(f"--output {flags.output}: expected a name that ends in .jsonl, .csv or .parquet.")
        if not flags.output.parent.is_dir():
            raise InputError(f"--output {flags.output}: there is no folder {flags.output.parent}.")
        check_writable(str(flags.output.parent))
    return flags


def check_database_flags(flags) -> None:
    """Raise InputError for flags of --database that do not go together."""
    if flags.database is None:
        given = [name for name in ("tables", "execute", "interactive", "csv") if getattr(flags, name)]
        if given:
            raise InputError(f"--{given[0]} needs --database with the URL or file of a database.")
    elif flags.context is not None:
        raise InputError("give --context or --database, not both: the database brings its schema.")
    if (flags.execute or flags.interactive) and (flags.input or flags.output):
        raise InputError("--execute and --interactive take --question or questions on stdin, not --input or --output.")
    if flags.csv and not flags.execute:
        raise InputError("--csv is for the rows of a result; it needs --execute.")
    if not 0 < flags.timeout <= 3600:
        raise InputError(f"--timeout {flags.timeout:g} must lie between 0 and 3600 seconds.")


def parse_parameters(given: list[str], known: dict) -> dict:
    """Return `name=value` generation parameters with the types of the signature's defaults."""
    parsed = {}
    for item in given:
        name, _, text = item.partition("=")
        if name not in known:
            raise InputError(f"--param {item}: the model has no parameter {name}; it has {', '.join(known)}.")
        kind = type(known[name])
        try:
            parsed[name] = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            raise InputError(f"--param {item}: {name} must be {kind.__name__}, like {known[name]}.") from None
    return parsed


def read_input(flags, columns: list[str]) -> Iterator[dict]:
    """Yield the rows to answer, checked for the columns of the prompt."""
    if flags.question is not None:
        if flags.context is None:
            raise InputError("--question needs --context with the CREATE TABLE statements it is about, or --database.")
        yield {"question": flags.question, "context": flags.context}
        return
    source = _read_lines(flags.context) if flags.input is None else _stream_file(flags.input)
    what = f"the rows of {flags.input or 'stdin'}"
    for number, row in enumerate(source, start=1):
        if flags.database is not None:
            row["context"] = flags.context
        missing = [name for name in columns if not isinstance(row.get(name), str)]
        if missing and number == 1:
            check_columns([row], tuple(columns), what)
        if missing:
            raise InputError(f"row {number} of {flags.input or 'stdin'} has no text in {', '.join(missing)}.")
        yield row


def _stream_file(path: Path) -> Iterator[dict]:
    if not path.is_file() or path.suffix not in SUFFIXES or path.suffix in (".jsonl", ".json"):
        yield from read_rows(path)
    elif path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches(1024):
            yield from batch.to_pylist()
    else:
        for frame in pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=1024):
            yield from frame.to_dict("records")


def _read_lines(context: str | None) -> Iterator[dict]:
    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        if line.lstrip().startswith("{"):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"stdin, line {number}: not valid JSON ({error.msg}).") from error
        elif context is None:
            raise InputError(
                f"stdin, line {number}: a plain question needs --context or --database; or send JSON objects."
            )
        else:
            yield {"question": line.strip(), "context": context}


def check_schema_length(prompt_ids: list[int], model, logged) -> None:
    """Raise InputError for a schema that the base has no positions for; warn of one longer than in training."""
    limit, trained = getattr(model.config, "max_position_embeddings", None), logged.card["max_length"]
    how = "name the tables that the question is about with --tables"
    if limit and len(prompt_ids) > limit:
        raise InputError(f"the schema takes {len(prompt_ids)} tokens, the base model has {limit} positions; {how}.")
    if len(prompt_ids) > trained:
        logger.warning(f"the schema takes {len(prompt_ids)} tokens, training saw at most {trained}; {how}.")


def write_sql(model, tokenizer, prompt: Prompt, parameters: dict, context: str, question: str) -> str:
    """Return the SQL for one question about one schema."""
    ids = tokenizer(prompt.render({"question": question, "context": context}))["input_ids"]
    return generate_all(model, tokenizer, [ids], **parameters)[0].text


def warn_of_long_prompts(prompts: list[list[int]], model, max_new_tokens: int) -> None:
    """Warn where prompt and answer together exceed the positions that the base knows."""
    limit = getattr(model.config, "max_position_embeddings", None)
    too_long = sum(len(ids) + max_new_tokens > limit for ids in prompts) if limit else 0
    if too_long:
        logger.warning(f"{too_long} prompts with {max_new_tokens} new tokens exceed the base's {limit} positions.")


class Writer:
    """Writes answers to stdout, or with their rows to a file that appears under its name when it is whole."""

    def __init__(self, flags):
        self.flags, self.parquet, self.started = flags, None, False
        self.part = flags.output.with_name(flags.output.name + ".part") if flags.output else None
        if self.part:
            self.part.write_text("")

    def write(self, rows: list[dict], answers: list[Generation]) -> None:
        """Write one chunk."""
        if self.part is None:
            for row, answer in zip(rows, answers, strict=True):
                console.print_result(self.format(row, answer))
            return
        frame = pd.DataFrame(rows).assign(sql=[a.text for a in answers], ended=[a.ended for a in answers])
        if self.flags.output.suffix == ".parquet":
            table = pa.Table.from_pandas(frame, preserve_index=False)
            self.parquet = self.parquet or pq.ParquetWriter(self.part, table.schema)
            self.parquet.write_table(table)
        elif self.flags.output.suffix == ".csv":
            frame.to_csv(self.part, mode="a", header=not self.started, index=False)
        else:
            with self.part.open("a", encoding="utf-8") as file:
                frame.to_json(file, orient="records", lines=True, force_ascii=False)
        self.started = True

    def format(self, row: dict, answer: Generation) -> str:
        """Return one answer as a line."""
        if not self.flags.json:
            return " ".join(answer.text.split())
        result = row | {"sql": answer.text, "ended": answer.ended}
        return json.dumps(result | ({"token_ids": answer.token_ids} if self.flags.token_ids else {}))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind, *_) -> None:
        """Give the file its name; drop it after bad input; after any other error leave what is written as .part."""
        if self.part is None:
            return
        if self.parquet:
            self.parquet.close()
        if kind is None:
            self.part.rename(self.flags.output)
            console.print_result(str(self.flags.output))
        elif issubclass(kind, InputError):
            self.part.unlink()


if __name__ == "__main__":
    console.run(main)
