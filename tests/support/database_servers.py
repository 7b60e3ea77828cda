"""Databases with a planted secret, in four engines: files, and servers of the tests' own on Unix sockets."""

import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

SECRET = "pa55word"
TABLES = ["users", "orders", "adults"]  # what --tables allows
SETUP = [
    "CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(40), age INTEGER, joined DATE)",
    "CREATE TABLE orders (id INTEGER, user_id INTEGER, total NUMERIC(10,2))",
    "CREATE TABLE secrets (id INTEGER, password VARCHAR(40), name VARCHAR(40), age INTEGER)",
    "CREATE TABLE tokens (token VARCHAR(40))",
    "INSERT INTO users VALUES " + ", ".join(f"({i}, 'name {i}', {i % 90}, '2024-01-02')" for i in range(300)),
    "INSERT INTO orders VALUES " + ", ".join(f"({i}, {i % 300}, {i})" for i in range(600)),
    f"INSERT INTO secrets VALUES (1, '{SECRET}', '{SECRET}', 4242)",
    f"INSERT INTO tokens VALUES ('{SECRET}')",
    "CREATE VIEW adults AS SELECT * FROM users WHERE age >= 18",
]
OTHER_SCHEMA = [
    "CREATE SCHEMA other",
    "CREATE TABLE other.users (id INTEGER, name VARCHAR(40))",
    f"INSERT INTO other.users VALUES (1, '{SECRET}')",
]
READER_OF_POSTGRESQL = [
    "CREATE ROLE reader LOGIN",
    "GRANT USAGE ON SCHEMA public TO reader",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
]
READER_OF_MYSQL = ["CREATE USER reader@localhost", "GRANT SELECT ON shop.* TO reader@localhost"]


def sqlite_file(path: Path) -> str:
    """Make the SQLite file and return its path."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in SETUP:
            connection.execute(statement)
    return str(path)


def duckdb_file(path: Path) -> str:
    """Make the DuckDB file and return its path."""
    import duckdb

    with duckdb.connect(str(path)) as connection:
        for statement in [*SETUP, *OTHER_SCHEMA]:
            connection.execute(statement)
    return str(path)


def missing(what: str) -> None:
    """Skip with a reason; fail where the servers were promised, as by CI."""
    if os.environ.get("DATABASE_SERVERS") == "required":
        pytest.fail(what)
    pytest.skip(f"{what} (`make servers` installs it on Debian)")


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL server and yield the URL of its superuser; there is a role `reader` beside it."""
    import psycopg

    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        missing("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
        shutil.chown(folder, pwd.getpwnam("postgres").pw_name)
        as_user = ["runuser", "-u", "postgres", "--"]
    pg_ctl, data = programs[-1].with_name("pg_ctl"), folder / "data"

    def server(*command) -> None:
        subprocess.run([*as_user, *map(str, command)], check=True, capture_output=True, cwd=folder)

    server(programs[-1], "-D", data, "-U", "postgres", "--auth=trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    server(pg_ctl, "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
    try:
        with psycopg.connect(host=str(folder), user="postgres", dbname="postgres") as connection:
            for statement in [*SETUP, *OTHER_SCHEMA, *READER_OF_POSTGRESQL]:
                connection.execute(statement)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server(pg_ctl, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@contextmanager
def mariadb() -> Iterator[str]:
    """Start a MariaDB server and yield the URL of its root; there is a user `reader` beside it."""
    import pymysql

    if shutil.which("mariadbd") is None or os.geteuid() != 0:
        missing("MariaDB is not installed, or this is not root")
    folder = Path(tempfile.mkdtemp(prefix="my"))
    shutil.chown(folder, "mysql")
    data, socket = folder / "data", folder / "socket"
    install = ["mariadb-install-db", f"--datadir={data}", "--user=mysql", "--auth-root-authentication-method=normal"]
    subprocess.run(install, check=True, capture_output=True)
    server = subprocess.Popen(
        ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking", "--user=mysql"],
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 900
        while not socket.exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        with closing(pymysql.connect(unix_socket=str(socket), user="root", autocommit=True)) as connection:
            for statement in ["CREATE DATABASE shop", "USE shop", *SETUP, *READER_OF_MYSQL]:
                connection.cursor().execute(statement)
        yield f"mysql://root@/shop?unix_socket={socket}"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def servers_library(engine: str, request) -> str:
    """Make a database of its own for the library on a server of the tests and return its URL."""
    if engine == "postgresql":
        import psycopg

        host = request.getfixturevalue("postgresql_database").partition("host=")[2]
        with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS library")
            connection.execute("CREATE DATABASE library")
        return f"postgresql://postgres@/library?host={host}"
    import pymysql

    socket = request.getfixturevalue("mysql_database").partition("unix_socket=")[2]
    with closing(pymysql.connect(unix_socket=socket, user="root", autocommit=True)) as connection:
        connection.cursor().execute("DROP DATABASE IF EXISTS library")
        connection.cursor().execute("CREATE DATABASE library")
    return f"mysql://root@/library?unix_socket={socket}"
