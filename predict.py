"""Predict with a logged model: one result a line on stdout.

A text-to-SQL model takes --question with --context or --database, a classifier and a summarizer --text; all take
--input FILE, or lines on stdin: JSON objects with the model's columns, or plain questions or texts. A classifier
finds the clauses of a whole document with --split-sentences, a summarizer takes a document as one article. SQL is
run only with --execute, as a query that cannot write.
"""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from pathlib import Path

from finetune import InputError, console
from finetune.console import Parser
from finetune.logged_models.opening import LoggedModel, load_model, load_tokenizer_of, open_model
from finetune.logged_models.uris import name_last
from finetune.models.bases.quantization import PREDICTION_DTYPES
from finetune.models.card import CARD, CLASSIFICATION, SUMMARIZATION
from finetune.models.classifier.classifier import check_threshold, load_classifier
from finetune.models.classifier.scoring import warn_of_long_texts
from finetune.models.documents import SUFFIXES as DOCUMENTS
from finetune.models.documents import Sentence, read_document, split_sentences
from finetune.models.generation import BATCH_SIZE, Generation, generate_all
from finetune.models.parameters import parse_parameters
from finetune.models.prompts import Prompt
from finetune.models.summarizer.articles import warn_of_long_articles
from finetune.models.summarizer.summarizer import load_summarizer
from finetune.predicting import spark
from finetune.predicting.clause_report import clause_report
from finetune.predicting.databases.database import open_database
from finetune.predicting.databases.dialogue import Dialogue
from finetune.predicting.databases.roles import check_role
from finetune.predicting.flags import check_database_flags, check_spark_flags, check_task_flags
from finetune.predicting.input_rows import asked, check_length, check_schema_length, read_questions, read_texts
from finetune.predicting.output_columns import Columns, look_through
from finetune.predicting.stdin_lines import STDIN, Lines
from finetune.predicting.streams import OUTPUT_SUFFIXES, Writer, as_json, check_output
from finetune.progress_line import Progress
from finetune.rows.files.columns import QUESTIONS, SUMMARIES, TEXTS, Names, parse_columns
from finetune.runs import tracking

import pyarrow as pa

logger = logging.getLogger(__name__)
BATCHES_A_CHUNK = 16  # rows sorted by length together; one chunk is in memory at a time


def main(arguments: list[str] | None = None) -> None:
    """Open the model and do what it was trained for."""
    flags = parse(arguments)
    if not os.path.isfile(Path(flags.uri) / CARD):  # A checkpoint on this disk needs no store, and makes none.
        tracking.connect()
        flags.uri = name_last(flags.uri)
    database = open_database(flags.database, flags.tables) if flags.database else None
    if database and flags.execute:
        check_role(database, flags.trust_role)
    logged = open_model(flags.uri)
    if database:
        database.dialect = logged.card.get("dialect", "sqlite")
    task = logged.card["task"]
    check_task_flags(flags, task)
    flags.names = name_columns(flags, logged)
    given = parse_parameters(flags.param, logged.parameters)
    if "batch_size" in given and flags.engine is None:
        raise InputError(f"--param batch_size={given['batch_size']}: give it as --batch-size {given['batch_size']}.")
    parameters = logged.parameters | given
    if flags.engine == "spark":
        # Workers keep the recorded type: they need not all be fast at the same.
        computed = None if flags.compute_dtype == "auto" else flags.compute_dtype
        config = {"base_model": flags.base_model, "precision": flags.precision, "compute_dtype": computed}
        console.print_result(spark.predict(flags.uri, logged, flags.input, flags.output, given, config))
    elif task == CLASSIFICATION:
        classify(flags, logged, parameters)
    elif task == SUMMARIZATION:
        summarize(flags, logged, parameters)
    else:
        write_queries(flags, logged, parameters, database)


def name_columns(flags, logged: LoggedModel) -> Names:
    """Return what the rows call the columns that the model reads."""
    required = {CLASSIFICATION: TEXTS, SUMMARIZATION: SUMMARIES}.get(logged.card["task"], QUESTIONS)
    has_schema = flags.database or flags.context is not None
    needed = {TEXTS: TEXTS, SUMMARIES: ("article",)}.get(required, ("question",) if has_schema else QUESTIONS[:2])
    read = (*needed, "context") if not flags.database else needed
    given = {name: column for name, column in parse_columns(flags.column, required).items() if name in read}
    is_document = given and flags.input is not None and flags.input.suffix.lower() in DOCUMENTS
    if given and (is_document or flags.text is not None or flags.question is not None):
        raise InputError("--column is for rows of --input or stdin, not for a document, --text or --question.")
    return Names(required, needed, given, logged.card.get("columns"))


def write_queries(flags, logged: LoggedModel, parameters: dict, database) -> None:
    """Answer questions with SQL, and run it where that was asked for."""
    flags.context = database.statements if database else flags.context
    prompt = Prompt(logged.card["prompt"])
    tokenizer, limit = load_tokenizer_of(logged, flags.base_model)
    if database:
        schema = prompt.render({"question": "", "context": flags.context})
        check_schema_length(tokenizer(schema)["input_ids"], limit, logged.card["max_length"])
    check = partial(check_length, tokenizer, limit, prompt)
    # Reads the input before the model is loaded: bad input fails at once. A dialogue waits for the model.
    rows, columns = look_ahead(lambda: read_questions(flags, prompt.variables, check), flags, prompt.variables)
    options = (flags.base_model, flags.precision, not flags.no_adapter, flags.merge, flags.compute_dtype)
    model, tokenizer = load_model(logged, *options)
    if flags.execute or flags.interactive:
        layout = "json" if flags.json else "csv-safe" if flags.csv_safe else "csv" if flags.csv else "table"
        limits = (flags.max_rows, flags.timeout, flags.retries)
        dialogue = Dialogue(database, flags.execute, flags.interactive, layout, *limits)
        dialogue.hold((asked(row, flags) for row in rows), partial(write_sql, model, tokenizer, prompt, parameters))
        return
    predicted, seen = pa.schema({"sql": pa.string(), "ended": pa.bool_()}), 0
    with (
        Writer(flags.output, columns, predicted) as writer,
        Progress("questions", flags.rows, "answered", quiet=flags.question is not None) as progress,
    ):
        for chunk in chunks(rows, flags, columns):
            prompts = [tokenizer(prompt.render(asked(row, flags)))["input_ids"] for row in chunk]
            warn_of_long_prompts(prompts, model, parameters["max_new_tokens"])
            answers = generate_all(model, tokenizer, prompts, batch_size=flags.batch_size, **parameters)
            found = [columns.add(row, {"sql": a.text, "ended": a.ended}) for row, a in zip(chunk, answers, strict=True)]
            lines = [format_answer(row, a, flags, columns) for row, a in zip(found, answers, strict=True)]
            writer.write(found, lines)
            seen += len(chunk)
            progress.update(seen)


def classify(flags, logged: LoggedModel, parameters: dict) -> None:
    """Find the labels of texts, or the clauses of a document that have one."""
    document = read_document(flags.input) if flags.split_sentences else None
    check_threshold(logged.card, parameters["threshold"])
    if document:
        sentences = [asdict(sentence) for sentence in split_sentences(document)]
        rows, columns = iter(sentences), Columns(output=flags.output)
        columns.look_at(sentences or [asdict(Sentence("", 0, 0, 1))])
    else:
        rows, columns = look_ahead(lambda: read_texts(flags, "text"), flags, ["text"])
    classifier = load_classifier(logged.adapter, flags.base_model, flags.precision, flags.compute_dtype)
    classifier.card |= {"long_texts": flags.long_texts} if flags.long_texts else {}
    scores_type = pa.struct([(name, pa.float64()) for name in classifier.labels.scored])
    predicted = pa.schema({"labels": pa.list_(pa.string()), "scores": scores_type})
    seen, flagged, long_texts = 0, [], 0
    with (
        Writer(flags.output, columns, predicted) as writer,
        Progress("texts", flags.rows, "read", quiet=flags.text is not None) as progress,
    ):
        for chunk in chunks(rows, flags, columns):
            encoded = classifier.encode([flags.names.read(row)["text"] for row in chunk])
            scores = classifier.score(encoded, flags.batch_size)
            decided = classifier.decide(scores, parameters["threshold"])
            found = list(zip(chunk, classifier.name(scores, decided), strict=True))
            if document:
                found = [pair for pair, on in zip(found, decided.any(axis=1), strict=True) if on]
                flagged += [row | named for row, named in found]
            shown = [as_json(columns.add(*pair)) if flags.json else format_labels(*pair, document) for pair in found]
            writer.write([columns.add(*pair) for pair in found], shown)
            seen, long_texts = seen + len(chunk), long_texts + encoded.long_texts
            progress.update(seen)
    card = classifier.card
    warn_of_long_texts(long_texts, seen, card["max_length"], card["long_texts"] == "window", "texts")
    if document:
        logger.info(f"{len(flagged)} of {seen} sentences flagged")
    if document and flags.report:
        flags.report.write_text(clause_report(document, flagged, seen, flags.input.name, flags.uri), encoding="utf-8")
        logger.info(f"the report is {flags.report}")


def summarize(flags, logged: LoggedModel, parameters: dict) -> None:
    """Write a summary of each article."""
    is_document = flags.input is not None and flags.input.suffix.lower() in DOCUMENTS
    if is_document:
        document = [{"article": read_document(flags.input)}]
        rows, columns = iter(document), Columns(output=flags.output)
        columns.look_at(document)
    else:
        rows, columns = look_ahead(lambda: read_texts(flags, "article"), flags, ["article"])
    options = (flags.base_model, flags.precision, not flags.no_adapter, flags.compute_dtype)
    summarizer = load_summarizer(logged.adapter, *options)
    summarizer.card |= {"long_texts": flags.long_texts} if flags.long_texts else {}
    parameters.pop("batch_size", None)
    predicted = pa.schema({"summary": pa.string(), "ended": pa.bool_()})
    seen, long_articles = 0, 0
    with (
        Writer(flags.output, columns, predicted) as writer,
        Progress("articles", flags.rows, "summarised", quiet=flags.text is not None) as progress,
    ):
        for chunk in chunks(rows, flags, columns):
            articles = summarizer.encode([flags.names.read(row)["article"] for row in chunk])
            summaries = summarizer.summarize(articles, flags.batch_size, **parameters)
            pairs = list(zip(chunk, summaries, strict=True))
            found = [columns.add(row, {"summary": s.text, "ended": s.ended}) for row, s in pairs]
            lines = [format_answer(row, s, flags, columns) for row, s in zip(found, summaries, strict=True)]
            writer.write(found, lines)
            seen, long_articles = seen + len(chunk), long_articles + articles.long_articles
            progress.update(seen)
    card = summarizer.card
    warn_of_long_articles(long_articles, seen, card["max_length"], card["long_texts"] == "window", "articles")


def look_ahead(read: Callable[[], Iterator[dict]], flags, needed: list[str]) -> tuple[Iterator[dict], Columns]:
    """Return the rows, and their columns: of all rows of a file, of the first ones of what is not all there yet."""
    if flags.input is not None:
        columns = look_through(read, flags.input, flags.encoding, flags.output, needed)
        flags.rows = columns.seen
        return read(), columns
    rows, columns = read(), Columns(output=flags.output)
    first = [] if flags.interactive else list(islice(rows, chunk_size(flags) if flags.output else 1))
    columns.look_at(first or [dict.fromkeys(needed, "")])
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
    database.add_argument("--tables", nargs="+", metavar="T", help="tables of --database to tell the model of")
    database.add_argument("--execute", action="store_true", help="run the SQL on --database, as a query only")
    database.add_argument("--max-rows", type=int, default=100, metavar="N", help="rows of a result to fetch")
    database.add_argument("--timeout", type=float, default=10, metavar="S", help="seconds a query may take")
    database.add_argument(
        "--retries", type=int, default=0, metavar="N", help="how often to ask again, with the error, if SQL fails"
    )
    given.add_argument("--interactive", action="store_true", help="keep the model loaded and ask for more questions")
    database.add_argument(
        "--trust-role", action="store_true", help="run the SQL although the database role may do harm"
    )
    output.add_argument("--csv", action="store_true", help="print results as CSV, and the SQL on stderr")
    output.add_argument("--csv-safe", action="store_true", help="CSV whose cells no spreadsheet takes for formulas")
    given.add_argument("--input", metavar="FILE", help="file of rows with the model's columns")
    given.add_argument(
        "--column", nargs="+", action="extend", metavar="NAME=COLUMN", help="what --input calls the model's columns"
    )
    given.add_argument("--encoding", default="utf-8", help="encoding of the file of --input")
    output.add_argument("--output", metavar="FILE", help=".jsonl, .csv or .parquet file for the answers")
    output.add_argument("--engine", choices=("spark",), help="read --input and write --output with Spark: s3://...")
    model.add_argument("--base-model", metavar="FOLDER", help="folder of the base model, where it has moved")
    model.add_argument(
        "--precision",
        choices=("nf4", "bf16", "fp32"),
        metavar="TYPE",
        help="weights: nf4, bf16, fp32; default: as trained",
    )
    model.add_argument(
        "--compute-dtype",
        choices=PREDICTION_DTYPES,
        default="auto",
        metavar="TYPE",
        help="bf16, fp16, fp32; recorded: as trained",
    )
    model.add_argument("--no-adapter", action="store_true", help="answer with the base alone, to compare")
    model.add_argument("--merge", action="store_true", help="merge adapter and base: faster, in more memory")
    model.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="such as max_new_tokens=64, or threshold=0.3"
    )
    model.add_argument("--batch-size", type=int, default=BATCH_SIZE, metavar="N", help="rows predicted together")
    output.add_argument("--json", action="store_true", help="print one JSON object a line")
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


def format_answer(row: dict, answer: Generation, flags, columns: Columns) -> str:
    """Return an answer as a line."""
    if not flags.json:
        return " ".join(answer.text.split())
    return as_json(columns.add(row, {"token_ids": answer.token_ids}) if flags.token_ids else row)


def format_labels(row: dict, named: dict, document: str | None) -> str:
    """Return the labels of a text as a line, of a document's sentence with its line and characters."""
    scores = named["scores"]
    shown = [f"{name} {scores[name]:.2f}" if name in scores else name for name in named["labels"]]
    labels = ", ".join(shown) or "none"
    return f"{row['line']}:{row['start']}-{row['end']}\t{labels}\t{row['text']}" if document else labels


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


if __name__ == "__main__":
    console.run(main)
