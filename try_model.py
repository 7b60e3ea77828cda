"""Try a model on a page of your own browser: ask it, see base and adapter side by side, judge and correct it.

The page is served on 127.0.0.1 alone. Without a model it lists those of the tracking store. Questions go to a database
with --database, and their SQL is run with --execute, as a query that cannot write; neither can be changed on the page.
Answers, and what you say of them, are kept as traces in MLflow; corrected ones are rows for training:
--dataset mlflow:EXPERIMENT.
"""

import logging
import webbrowser
from threading import Timer

from finetune import InputError, console
from finetune.console import Parser
from finetune.databases.candidates import CANDIDATES, check_candidates
from finetune.databases.database import open_database
from finetune.databases.roles import check_role
from finetune.databases.schema.samples import check_values
from finetune.logged_models.uris import name_last
from finetune.page.server import HOSTS, make_app, make_server, open_socket
from finetune.page.tried import Tried
from finetune.predicting.flags import add_loading_flags
from finetune.predicting.traces import save_corrections
from finetune.runs import tracking
from finetune.training.flags.database_flags import TABLES, TRUST_ROLE, VALUES

logger = logging.getLogger(__name__)
PORT = 8765


def main(arguments: list[str] | None = None) -> None:
    """Open database and model, print the page's address, and serve it until Ctrl-C."""
    flags = parse(arguments)
    tracking.connect()
    tried = open_tried(flags)
    listening = open_port(flags.port)
    port = listening.getsockname()[1]
    address = f"http://{HOSTS[0]}:{port}/"
    console.print_result(address)
    logger.info("Ctrl-C ends it.")
    if flags.open:
        Timer(0.5, webbrowser.open, [address]).start()
    try:
        make_server(make_app(tried, port)).run([listening])
    except KeyboardInterrupt:  # How it is meant to end.
        pass
    finally:
        close(tried)


def open_tried(flags) -> Tried:
    """Return what the page is about, its weights not loaded yet.

    Raises:
        InputError: no such model or database, or one that does not go with the flags.
    """
    database = open_database(flags.database, flags.tables) if flags.database else None
    if database and flags.execute:
        check_role(database, flags.trust_role)
    tried = Tried(flags, database)
    if flags.uri is not None:
        tried.open(name_last(flags.uri))
    return tried


def open_port(port: int | None):
    """Return the socket of a port; of the usual one, or any other where that is taken, for None."""
    if port is not None:
        return open_socket(port)
    try:
        return open_socket(PORT)
    except InputError:
        return open_socket(0)


def close(tried: Tried) -> None:
    """Wait a little for what MLflow has not got yet, and write corrections that it cannot take into a file."""
    if tried.traces:
        save_corrections(tried.traces.close())


def parse(arguments: list[str] | None):
    """Return the flags, checked against each other."""
    parser = Parser(usage="%(prog)s [URI] [flags]", description=__doc__)
    parser.add_argument("uri", nargs="?", help="runs:/<id|last>/model, models:/NAME@ALIAS, folder; default: choose one")
    page = parser.add_argument_group("the page")
    database = parser.add_argument_group("a database of your own")
    model = parser.add_argument_group("model")
    page.add_argument("--port", type=int, metavar="N", help=f"of 127.0.0.1; default: {PORT}, or a free one")
    page.add_argument("--open", action="store_true", help="open the page in a browser")
    page.add_argument("--no-trace", dest="trace", action="store_false", help="keep no answers; none can be judged then")
    page.add_argument("--trace-rows", action="store_true", help="keep the rows of results too, not their number alone")
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
    database.add_argument("--trust-role", action="store_true", help=TRUST_ROLE)
    add_loading_flags(model)
    model.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="such as max_new_tokens=64, or threshold=0.3"
    )
    flags = parser.parse_args(arguments)
    check(flags)
    return flags


def check(flags) -> None:
    """Raise InputError for a flag that cannot be, or does not go with the others."""
    check_values(flags.values)
    check_candidates(flags.candidates)
    names = ("tables", "values", "execute", "trust_role", "candidates")
    if flags.database is None and (given := [name for name in names if getattr(flags, name)]):
        raise InputError(f"--{given[0].replace('_', '-')} needs --database with the URL or file of a database.")
    if flags.trust_role and not flags.execute:
        raise InputError("--trust-role is for the role that SQL runs as; it needs --execute.")
    if flags.candidates and not flags.execute:
        raise InputError("--candidates are tried on the database; that needs --execute.")
    for name, least in (("max_rows", 1), ("retries", 0)):
        if getattr(flags, name) < least:
            raise InputError(f"--{name.replace('_', '-')} {getattr(flags, name)} must be at least {least}.")
    if not 0 < flags.timeout <= 3600:
        raise InputError(f"--timeout {flags.timeout:g} must lie between 0 and 3600 seconds.")
    if flags.port is not None and not 0 <= flags.port < 2**16:
        raise InputError(f"--port {flags.port} must lie between 0 (any that is free) and {2**16 - 1}.")


if __name__ == "__main__":
    console.run(main)
