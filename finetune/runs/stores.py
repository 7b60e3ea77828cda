"""The tracking store is reached before anything starts: within seconds, by one process at a time, or in a sentence."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from finetune import InputError
from finetune.logged_models.refusals import is_refused
from finetune.models.files.schemas import reason
from finetune.redaction import redact, shorten

import mlflow
import requests
import sqlalchemy
from mlflow import environment_variables
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

VARIABLE = "MLFLOW_TRACKING_URI"
LONGEST_WAIT = 8  # seconds for a database to answer; a server of MLflow gets as many
# Held until the connection closes.
LOCKS = {"postgresql": "SELECT pg_advisory_lock(7301)", "mysql": "SELECT GET_LOCK('mlflow-store', 300)"}
PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": '"psycopg[binary]"', "MySQLdb": "mysqlclient"}


def given_uri(default: str) -> str:
    """Return MLFLOW_TRACKING_URI without spaces around it and with its scheme in lower case, or the default.

    Raises:
        InputError: a server's URI with a user, password or token in it.
    """
    uri = os.environ.get(VARIABLE, "").strip() or default
    scheme, colon, rest = uri.partition(":")
    uri = f"{scheme.lower()}{colon}{rest}"
    if not is_server(uri):
        return uri
    if not rest.startswith("//"):
        raise InputError(f"{VARIABLE} {shorten(uri)} is no address; expected one such as http://HOST:PORT.")
    if redact(uri) != uri or "@" in uri.partition("://")[2].partition("/")[0]:
        raise InputError(
            f"{VARIABLE} {shorten(uri)} has a user, a password or a token in it, which would be logged; give them as"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or as MLFLOW_TRACKING_TOKEN."
        )
    return uri


def check_variables() -> None:
    """Raise InputError for a variable of MLflow that it could not read, in the middle of the work."""
    for known in vars(environment_variables).values():
        if isinstance(known, type(environment_variables.MLFLOW_TRACKING_URI)):
            try:
                known.get()
            except ValueError as error:
                raise InputError(f"the variable {known.name} cannot be read: {reason(error)}.") from error


def is_server(uri: str) -> bool:
    """Say whether a URI is that of an MLflow server."""
    return uri.partition(":")[0] in ("http", "https")


def reach_server(uri: str, offline_ok: bool) -> bool:
    """Return whether a server answers; where it need not (offline_ok), False.

    Raises:
        InputError: it does not answer within 10 seconds, or does not let us in.
    """
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=LONGEST_WAIT)
        mlflow.MlflowClient(uri).search_experiments(max_results=1)
    except requests.RequestException as error:
        if offline_ok:
            return False
        raise InputError(
            f"the MLflow tracking server {uri} does not answer ({type(error).__name__}); start it, or correct"
            f" or unset {VARIABLE}. A training script goes on without it with --offline-ok."
        ) from error
    except MlflowException as error:
        hint = "look at MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" if is_refused(error) else (
            f"is it one of MLflow? Correct or unset {VARIABLE} otherwise"
        )  # fmt: skip
        raise InputError(f"the MLflow tracking server {uri} refuses ({reason(error)}); {hint}.") from error
    return True


def answers(uri: str, timeout: float) -> bool:
    """Say whether a server, or a database, answers within so many seconds and can be written to now."""
    if is_server(uri):
        try:
            return requests.get(f"{uri.rstrip('/')}/health", timeout=timeout).status_code < 500
        except requests.RequestException:
            return False
    if uri.partition(":")[0].partition("+")[0] not in DATABASE_ENGINES:
        return True
    try:
        url = make_url(uri)
        is_gone = url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file()  # None is made here.
        return not is_gone and _try(_engine(uri), timeout, _look) == [None]
    except (ArgumentError, InputError, ValueError):
        return False


def open_store(uri: str) -> None:
    """Reach a store that is no server; where a database has no tables yet, MLflow makes them, once.

    Raises:
        InputError: a database that does not answer within 10 seconds or whose driver is missing, or no store that
            MLflow can use.
    """
    scheme, _, rest = uri.partition(":")
    is_database = scheme.partition("+")[0] in DATABASE_ENGINES
    if not is_database and not scheme.startswith("databricks"):
        hint = "; folders no longer are" if scheme == "file" or uri[:1] in "./~" else ""
        hint = f"; write http://{uri}" if rest.partition("/")[0].isdecimal() else hint
        hint = "; write postgresql://" if scheme == "postgres" else hint
        raise InputError(
            f"{VARIABLE} {shorten(uri)} is not the address of an MLflow server, such as http://HOST:PORT, or of a"
            f" database, such as sqlite:///mlflow.db{hint}."
        )
    try:
        with _alone(_reach(uri)) if is_database else nullcontext():
            mlflow.MlflowClient(uri).search_experiments(max_results=1)
    except InputError:
        raise
    except Exception as error:  # Of MLflow, its migrations, or a driver.
        raise InputError(
            f"{VARIABLE} {shorten(uri)} cannot be used ({_reason(error, uri)}); expected the address of an MLflow"
            " server, or a database such as sqlite:///mlflow.db."
        ) from error


def _reason(error: Exception, uri: str) -> str:
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    return redact(text, uri)[:200].rstrip(".")


def _reach(uri: str) -> sqlalchemy.Engine:
    """Connect to a database once, where MLflow would try for minutes."""
    engine = _engine(uri)
    found = _try(engine, LONGEST_WAIT, lambda engine: sqlalchemy.inspect(engine).get_table_names())
    if found == [None]:
        return engine
    reason = _reason(found[0], uri) if found else f"no answer within {LONGEST_WAIT} seconds"
    raise InputError(
        f"the database of {VARIABLE} {shorten(uri)} cannot be reached ({reason}); start it, or correct or unset"
        f" {VARIABLE}."
    )


def _engine(uri: str) -> sqlalchemy.Engine:
    shown = shorten(uri)
    try:
        url = make_url(uri)
        if "@" in (url.host or ""):
            raise ArgumentError("an @ within the password is written %40")
        if url.get_backend_name() == "sqlite":
            if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
                raise ArgumentError("it is kept in memory and gone at the end; give a file, as sqlite:///mlflow.db")
            if url.database.startswith("file:"):
                raise ArgumentError("give the file by its path, as sqlite:///mlflow.db")
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        return sqlalchemy.create_engine(url)
    except (ArgumentError, ValueError) as error:
        raise InputError(f"{VARIABLE} {shown} is no database URL that can be read ({_reason(error, uri)}).") from error
    except ImportError as error:
        package = PACKAGES.get(error.name or "", error.name)
        raise InputError(f"{VARIABLE} {shown} needs a driver: pip install {package}.") from error


def _try(engine: sqlalchemy.Engine, seconds: float, use: Callable[[sqlalchemy.Engine], object]) -> list:
    """Return [None] where a database could be used within some seconds, [what was raised], or [] after them."""
    found: list = []

    def run() -> None:
        try:
            use(engine)
            found.append(None)
        except Exception as error:  # Of whichever driver.
            found.append(error)
        engine.dispose()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[:]


def _look(engine: sqlalchemy.Engine) -> None:
    """Look whether MLflow's tables are there, and can be written: another process may hold a file of SQLite."""
    with engine.connect() as connection:
        if engine.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("SELECT version_num FROM alembic_version").all()
        connection.rollback()


@contextmanager
def _alone(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Hold a lock on a store: of two processes that make its tables at once both fail, and it stays broken.

    SQLite's is on a file beside its own; a server's is its own, and holds for all machines.
    """
    name, path = engine.url.get_backend_name(), engine.url.database
    with ExitStack() as held:
        if name == "sqlite" and path:
            with suppress(OSError):  # Who may not write here makes no tables; or a file system without locks.
                fcntl.flock(held.enter_context(Path(f"{path}.lock").open("a")), fcntl.LOCK_EX)
        elif name in LOCKS:
            held.callback(engine.dispose)
            held.enter_context(engine.connect()).exec_driver_sql(LOCKS[name])
        yield
