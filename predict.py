"""Predict with a logged model: one result a line on stdout.

A text-to-SQL model takes --question with --context or --database, a classifier and a summarizer --text; all take
--input FILE, or lines on stdin: JSON objects with the model's columns, or plain questions or texts. A classifier
finds the clauses of a whole document with --split-sentences, a summarizer takes a document as one article. SQL is
run only with --execute, as a query that cannot write.
"""

import os
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

from finetune import InputError, console
from finetune.console import Parser
from finetune.databases.candidates import CANDIDATES
from finetune.databases.database import Database, open_database
from finetune.databases.roles import check_role
from finetune.logged_models.opening import LoggedModel, open_model
from finetune.logged_models.uris import name_last
from finetune.models.card import CARD, SqlCard
from finetune.models.documents import SUFFIXES as DOCUMENTS
from finetune.models.generation import BATCH_SIZE
from finetune.models.parameters import parse_parameters
from finetune.models.restoring import Loading
from finetune.models.sql_writer import SqlWriter
from finetune.models.trained import TrainedModel
from finetune.predicting import spark
from finetune.predicting.dialogue import Dialogue
from finetune.predicting.flags import add_loading_flags, check_database_flags, check_spark_flags, check_task_flags
from finetune.predicting.output_columns import Columns, look_through
from finetune.predicting.stdin_lines import STDIN, Lines
from finetune.predicting.streams import OUTPUT_SUFFIXES, Writer, as_json, check_output
from finetune.predicting.tasks import Task
from finetune.predicting.tasks.articles import Articles
from finetune.predicting.tasks.questions import Questions
from finetune.predicting.tasks.texts import Texts
from finetune.predicting.traces import Record, Step, Traces, step
from finetune.progress_line import Progress
from finetune.rows.files.columns import Names, parse_columns
from finetune.runs import tracking
from finetune.training.flags.database_flags import TABLES, TRUST_ROLE, VALUES

BATCHES_A_CHUNK = 16  # rows sorted by length together; one chunk is in memory at a time


def main(arguments: list[str] | None = None) -> None:
    """Open the model, read the rows, and answer them."""
    flags = parse(arguments)
    if not os.path.isfile(Path(flags.uri) / CARD):  # A checkpoint on this disk needs no store, and makes none.
        tracking.connect()
        flags.uri = name_last(flags.uri)
    database = open_database(flags.database, flags.tables) if flags.database else None
    if database and flags.execute:
        check_role(database, flags.trust_role)
    logged = open_model(flags.uri)
    if database and isinstance(logged.card, SqlCard):
        database.dialect = logged.card.dialect
        database.values = (logged.card.sample_values or 0) if flags.values is None else flags.values
    task = open_task(flags, logged, database)
    check_task_flags(flags, task)
    flags.names = name_columns(flags, logged, task)
    given = parse_parameters(flags.param, logged.parameters)
    if flags.engine == "spark":
        # Workers keep the recorded type: they need not all be fast at the same.
        computed = None if flags.compute_dtype == "auto" else flags.compute_dtype
        config = {"base_model": flags.base_model, "precision": flags.precision, "compute_dtype": computed}
        console.print_result(spark.predict(flags.uri, logged, task, flags.input, flags.output, given, config))
        return
    if "batch_size" in given:
        raise InputError(f"--param batch_size={given['batch_size']}: give it as --batch-size {given['batch_size']}.")
    parameters = {name: value for name, value in (logged.parameters | given).items() if name != "batch_size"}
    task.check(parameters)
    # Reads the input before the model is loaded: bad input fails at once. A dialogue waits for the model.
    rows, columns = look_ahead(task, flags)
    restored = (flags.base_model, flags.precision, flags.compute_dtype, not flags.no_adapter, flags.merge)
    model = logged.load(Loading(*restored, flags.long_texts))
    flags.traces = Traces(logged, flags.trace_rows, "predict.py") if is_traced(flags, logged) else None
    try:
        if database and (flags.execute or flags.interactive):
            hold_dialogue(flags, task, model, database, rows, parameters)
        else:
            answer_rows(flags, task, model, rows, columns, parameters)
    finally:
        if flags.traces:
            flags.traces.close()


def is_traced(flags, logged: LoggedModel) -> bool:
    """Say whether answers become traces: single ones of a model in MLflow, not batches, and not the base's."""
    is_single = flags.question is not None or flags.text is not None or flags.interactive
    return is_single and flags.trace and not flags.no_adapter and logged.model_id is not None


def open_task(flags, logged: LoggedModel, database: Database | None) -> Task:
    """Return what there is to do for the task of a model alone."""
    match task := logged.card.task:
        case "text-to-sql":
            return Questions(flags, logged, database)
        case "classification":
            return Texts(flags, logged)
        case "summarization":
            return Articles(flags, logged)
    raise AssertionError(f"no model card has the task {task}")


def name_columns(flags, logged: LoggedModel, task: Task) -> Names:
    """Return what the rows call the columns that the model reads."""
    read = task.needed if flags.database else (*task.needed, "context")
    given = {name: column for name, column in parse_columns(flags.column, task.columns).items() if name in read}
    is_document = given and flags.input is not None and flags.input.suffix.lower() in DOCUMENTS
    if given and (is_document or flags.text is not None or flags.question is not None):
        raise InputError("--column is for rows of --input or stdin, not for a document, --text or --question.")
    return Names(task.columns, task.needed, given, logged.card.columns)


def hold_dialogue(
    flags, task: Task, writer: SqlWriter, database: Database, rows: Iterator[dict], parameters: dict
) -> None:
    """Answer questions one after the other with SQL, and with its result where that was asked for."""
    layout = "json" if flags.json else "csv-safe" if flags.csv_safe else "csv" if flags.csv else "table"
    limits = (flags.max_rows, flags.timeout, flags.retries)
    keep = flags.traces.keep if flags.traces else None
    dialogue = Dialogue(database, flags.execute, flags.interactive, layout, *limits, keep)
    others = partial(write_others, writer, parameters, flags.candidates) if flags.candidates else None
    dialogue.hold(map(task.read, rows), partial(write_sql, writer, parameters), others)


def write_sql(writer: SqlWriter, parameters: dict, context: str, question: str) -> str:
    """Return the SQL for one question about one schema."""
    (answer,) = writer.answer(writer.encode([{"question": question, "context": context}]), **parameters)
    return answer["sql"]


def write_others(
    writer: SqlWriter, parameters: dict, count: int, context: str, question: str, first: str
) -> Iterator[str]:
    """Yield other SQL for a question than the first, the likeliest before the others."""
    (prompt,) = writer.encode([{"question": question, "context": context}])
    yield from (one.text for one in writer.others(prompt, count, first, **parameters))


def answer_rows(
    flags, task: Task, model: TrainedModel, rows: Iterator[dict], columns: Columns, parameters: dict
) -> None:
    """Answer rows chunk by chunk, as they come; print the answers, or write them beside their rows."""
    predicted, seen, is_one = task.predicted(model), 0, flags.question is not None or flags.text is not None
    with (
        Writer(flags.output, columns, predicted) as writer,
        Progress(task.words[0], flags.rows, task.words[1], quiet=is_one) as progress,
    ):
        for chunk in chunks(rows, flags, columns):
            read = [task.read(row) for row in chunk]
            steps: list[Step] = []
            with step(steps, "write") as written:
                encoded = model.encode(read)
                task.look_at(model, encoded, parameters)
                answers = model.answer(encoded, flags.batch_size, **parameters)
            if flags.traces:
                written.outputs = {name: answers[0][name] for name in predicted.names}
                flags.traces.keep(Record(read[0], written.outputs, steps))
            kept = task.keep(model, list(zip(chunk, answers, strict=True)))
            found = [columns.add(row, {name: answer[name] for name in predicted.names}) for row, answer in kept]
            writer.write(found, [show(row, answer, model, flags, columns) for row, answer in kept])
            seen += len(chunk)
            progress.update(seen)
    task.end(model, seen)


def show(row: dict, answer: dict, model: TrainedModel, flags, columns: Columns) -> str:
    """Return a row's answer as a line: of a document's sentence with its place and its text."""
    if flags.json:
        return as_json(columns.add(row, {n: v for n, v in answer.items() if flags.token_ids or n != "token_ids"}))
    line = model.line(answer)
    return f"{row['line']}:{row['start']}-{row['end']}\t{line}\t{row['text']}" if flags.split_sentences else line


def look_ahead(task: Task, flags) -> tuple[Iterator[dict], Columns]:
    """Return the rows, and their columns: of all rows of a file, of the first ones of what is not all there yet."""
    columns = Columns(output=flags.output)
    if task.document is not None:
        columns.look_at(task.document or [task.blank])
        return iter(task.document), columns
    if flags.input is not None:
        columns = look_through(task.rows, flags.input, flags.encoding, flags.output, list(task.blank))
        flags.rows = columns.seen
        return task.rows(), columns
    rows = task.rows()
    first = [] if flags.interactive else list(islice(rows, chunk_size(flags) if flags.output else 1))
    columns.look_at(first or [task.blank])
    return chain(first, rows), columns


def chunk_size(flags) -> int:
    """Return how many rows are sorted by length together, and in memory at a time."""
    return flags.batch_size * BATCHES_A_CHUNK


def chunks(rows: Iterator[dict], flags, columns: Columns) -> Iterator[list[dict]]:
    """Yield lists of rows: of those on stdin that are answered on stdout, what is there without waiting for more."""
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == chunk_size(flags) or not (flags.output or flags.lines.ready()):
            columns.look_at(chunk)
            yield chunk
            chunk = []
    if chunk:
        columns.look_at(chunk)
        yield chunk


def parse(arguments: list[str] | None):
    """Return the flags, checked against each other."""
    parser = Parser(usage="%(prog)s URI [flags]", description=__doc__)
    parser.add_argument("uri", help="runs:/<id|last>/model, models:/NAME@ALIAS, folder")
    given = parser.add_argument_group("what to answer")
    database = parser.add_argument_group("a database of your own")
    output = parser.add_argument_group("output")
    model = parser.add_argument_group("model")
    given.add_argument("--text", help="one text to classify or to summarise")
    given.add_argument("--split-sentences", action="store_true", help="search the document of --input, .txt or .html")
    output.add_argument("--report", type=Path, metavar="HTML", help="page to write, with --split-sentences")
    model.add_argument(
        "--long-texts", choices=("truncate", "window"), metavar="HOW", help="truncate or window; default: as trained"
    )
    given.add_argument("--question", metavar="Q", help="one question to answer with SQL")
    given.add_argument("--context", metavar="SQL", help="CREATE TABLE statements the question is about")
    database.add_argument("--database", metavar="URL", help="your own database: its URL or file")
    database.add_argument("--tables", nargs="+", metavar="T", help=TABLES)
    database.add_argument("--values", type=int, metavar="N", help=f"{VALUES}; default: as trained")
    database.add_argument("--execute", action="store_true", help="run the SQL on --database, as a query only")
    database.add_argument("--max-rows", type=int, default=100, metavar="N", help="rows of a result to fetch")
    database.add_argument("--timeout", type=float, default=10, metavar="S", help="seconds a query may take")
    database.add_argument(
        "--retries", type=int, default=0, metavar="N", help="how often to ask again, with the error, if SQL fails"
    )
    database.add_argument("--candidates", type=int, metavar="N", help=f"{CANDIDATES} [1]")
    given.add_argument("--interactive", action="store_true", help="keep the model loaded and ask for more questions")
    database.add_argument("--trust-role", action="store_true", help=TRUST_ROLE)
    output.add_argument("--csv", action="store_true", help="print results as CSV, and the SQL on stderr")
    output.add_argument("--csv-safe", action="store_true", help="CSV whose cells no spreadsheet takes for formulas")
    given.add_argument("--input", metavar="FILE", help="file of rows with the model's columns")
    given.add_argument(
        "--column", nargs="+", action="extend", metavar="NAME=COLUMN", help="what --input calls the model's columns"
    )
    given.add_argument("--encoding", default="utf-8", help="encoding of the file of --input")
    output.add_argument("--output", metavar="FILE", help=".jsonl, .csv or .parquet file for the answers")
    output.add_argument("--engine", choices=("spark",), help="read --input and write --output with Spark: s3://...")
    add_loading_flags(model)
    model.add_argument("--no-adapter", action="store_true", help="answer with the base alone, to compare")
    model.add_argument("--merge", action="store_true", help="merge adapter and base: faster, in more memory")
    model.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="such as max_new_tokens=64, or threshold=0.3"
    )
    model.add_argument("--batch-size", type=int, default=BATCH_SIZE, metavar="N", help="rows predicted together")
    output.add_argument("--json", action="store_true", help="print one JSON object a line")
    output.add_argument("--no-trace", dest="trace", action="store_false", help="keep no trace of a single answer")
    output.add_argument("--trace-rows", action="store_true", help="keep the rows of results in traces too")
    output.add_argument("--token-ids", action="store_true", help="with --json, add the token ids of each answer")
    flags = parser.parse_args(arguments)
    if flags.engine == "spark":
        check_spark_flags(flags)
        return flags
    flags.input, flags.output = (path and Path(path) for path in (flags.input, flags.output))
    if flags.merge and (flags.precision == "nf4" or flags.no_adapter):
        raise InputError("--merge makes plain weights with the adapter; leave out --precision nf4 and --no-adapter.")
    if flags.question is not None and flags.input is not None:
        raise InputError("give --question or --input, not both.")
    for name, least in (("batch_size", 1), ("max_rows", 1), ("retries", 0)):
        if getattr(flags, name) < least:
            raise InputError(f"--{name.replace('_', '-')} {getattr(flags, name)} must be at least {least}.")
    check_database_flags(flags)
    flags.lines, flags.told, flags.rows = Lines(flags.encoding), False, None
    is_stdin = flags.input is None and flags.question is None and flags.text is None
    source = flags.input or (STDIN if is_stdin else None)
    check_output("--output", flags.output, source, OUTPUT_SUFFIXES)
    check_output("--report", flags.report, source)
    if console.stdout_is_closed() and flags.output is None:
        raise InputError("stdout is closed, and the answers go there; give a file with --output.")
    return flags


if __name__ == "__main__":
    console.run(main)
