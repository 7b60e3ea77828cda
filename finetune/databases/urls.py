"""Which database a reference names, and what it is opened with."""

import importlib.util
import os
from pathlib import Path

from finetune import InputError
from finetune.redaction import redact, shorten

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

DRIVERS = {"sqlite": "sqlite3", "postgresql": "psycopg", "mysql": "pymysql", "duckdb": "duckdb"}
DRIVER_OF = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
PACKAGES = {"psycopg": '"psycopg[binary]"', "pymysql": "pymysql", "duckdb": "duckdb"}


def parse_reference(reference: str) -> tuple[URL, str, str]:
    """Return the URL, the engine's name, and how messages show it: without its password.

    Args:
        reference: SQLAlchemy URL, or the path of an SQLite or DuckDB file.

    Raises:
        InputError: no such file, no URL, an engine that is not known, or no driver for it.
    """
    url = _url(reference)
    engine = {"mariadb": "mysql"}.get(url.get_backend_name(), url.get_backend_name())
    shown = redact(url.render_as_string(hide_password=True), reference)
    if engine not in DRIVERS:
        raise InputError(f"--database {shown}: {engine} is not supported; expected {', '.join(DRIVERS)}.")
    if importlib.util.find_spec(DRIVERS[engine]) is None:
        package = PACKAGES[DRIVERS[engine]]
        raise InputError(
            f"--database {shown} needs a driver: pip install -r requirements-databases.txt, or {package} alone."
        )
    if engine in ("sqlite", "duckdb") and not Path(url.database or "").is_file():
        raise InputError(f"--database {shorten(reference)}: there is no file {url.database or 'in this URL'}.")
    return url, engine, shown


def _url(reference: str) -> URL:
    if "://" in reference:
        try:
            url = make_url(reference)
        except (ArgumentError, ValueError):  # A port that is no number.
            url = None
        if url is None or "@" in (url.host or ""):
            raise InputError(
                f"--database {shorten(reference)} is no URL that can be read; expected for example sqlite:///shop.db or"
                " postgresql://USER@HOST/NAME, where an @ within a password is written %40."
            )
        return url
    path = Path(reference)
    if not os.path.isfile(path):
        raise InputError(
            f"--database {shorten(reference)}: there is no such file, and it is no URL such as sqlite:///shop.db."
        )
    try:
        with path.open("rb") as file:
            is_duckdb = file.read(12)[8:] == b"DUCK"
    except OSError as error:
        raise InputError(f"--database {reference} cannot be read: {error.strerror}.") from error
    return URL.create("duckdb" if is_duckdb else "sqlite", database=str(path))


def connect_arguments(url: URL) -> dict:
    """Return what a driver is connected with, the options of the URL as it wants them: numbers are numbers."""
    if url.get_backend_name() not in DRIVER_OF:
        return {}
    return url.set(drivername=DRIVER_OF[url.get_backend_name()]).get_dialect()().create_connect_args(url)[1]


def driver_engine(url: URL) -> sqlalchemy.Engine:
    """Return SQLAlchemy's engine for a server, with our driver and no endless wait for an answer."""
    url = url.set(drivername=DRIVER_OF[url.get_backend_name()])
    return sqlalchemy.create_engine(url, connect_args={} if "connect_timeout" in url.query else {"connect_timeout": 10})


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
