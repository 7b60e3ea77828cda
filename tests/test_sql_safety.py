"""Attacks on --execute: each is refused by the filter or stopped by the engine, and nothing is written."""

import hashlib
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

from finetune.databases import Database, QueryFailed, open_database
from finetune.sql_runner import run_job
from finetune.sql_safety import Refused

import pytest

SECRET = "pa55word"
SETUP = [
    "CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(40), age INTEGER)",
    "CREATE TABLE secrets (id INTEGER, password VARCHAR(40))",
    "INSERT INTO users VALUES " + ", ".join(f"({i}, 'name {i}', {i % 90})" for i in range(300)),
    f"INSERT INTO secrets VALUES (1, '{SECRET}')",
    "CREATE VIEW adults AS SELECT * FROM users WHERE age >= 18",
]
# Refused before anything is sent, whatever the engine.
REFUSED = [
    "DELETE FROM users",
    "UPDATE users SET age = 0",
    "INSERT INTO users VALUES (999, 'x', 1)",
    "INSERT INTO users SELECT * FROM users RETURNING id",
    "REPLACE INTO users VALUES (1, 'x', 1)",
    "DROP TABLE users",
    "ALTER TABLE users RENAME TO gone",
    "CREATE TABLE copied AS SELECT * FROM users",
    "CREATE VIEW v AS SELECT * FROM users",
    "CREATE TRIGGER t AFTER INSERT ON users BEGIN DELETE FROM users; END",
    "CREATE INDEX i ON users (age)",
    "TRUNCATE TABLE users",
    "VACUUM",
    "VACUUM INTO 'stolen.db'",
    "ATTACH 'other.db' AS other",
    "ATTACH DATABASE ':memory:' AS m",
    "DETACH DATABASE main",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version = 7",
    "PRAGMA table_info(users)",
    "REINDEX",
    "ANALYZE",
    "BEGIN; DELETE FROM users; COMMIT",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "EXPLAIN DELETE FROM users",
    "EXPLAIN ANALYZE DELETE FROM users",
    "SELECT 1; DELETE FROM users",
    "SELECT name FROM users; ATTACH 'x.db' AS x",
    "SELECT 1;;; DROP TABLE users --",
    "WITH gone AS (DELETE FROM users RETURNING *) SELECT * FROM gone",
    "WITH new AS (INSERT INTO users VALUES (999, 'x', 1) RETURNING id) SELECT id FROM new",
    "WITH u AS (UPDATE users SET age = 0 RETURNING id) SELECT COUNT(*) FROM u",
    "SELECT * INTO copied FROM users",
    "SELECT * FROM users INTO OUTFILE '/tmp/stolen'",
    "SELECT name INTO DUMPFILE '/tmp/stolen' FROM users",
    "COPY users TO '/tmp/stolen'",
    "COPY users TO PROGRAM 'touch /tmp/stolen'",
    "COPY (SELECT * FROM users) TO '/tmp/stolen' (FORMAT csv)",
    "EXPORT DATABASE '/tmp/stolen'",
    "SELECT load_extension('/tmp/evil.so')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('/tmp/stolen', name) FROM users",
    "SELECT edit(name, 'touch /tmp/stolen') FROM users",
    "SELECT fts3_tokenizer('x')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_sleep(1000)",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/stolen')",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT pg_terminate_backend(1)",
    "SELECT nextval('s')",
    "SELECT dblink('dbname=x', 'DELETE FROM users')",
    "SELECT sleep(1000)",
    "SELECT LOAD_FILE('/etc/passwd')",
    "SELECT benchmark(1000000000, 1)",
    "SELECT getenv('HOME')",
    "SELECT users.pg_sleep FROM users",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('users')",
    "SELECT * FROM json_each('[1]')",
    "SELECT * FROM generate_series(1, 1000000000000)",
    "SELECT value FROM dbstat",
    "SELECT sql FROM sqlite_master",
    "SELECT sql FROM sqlite_schema",
    "SELECT * FROM main.sqlite_master",
    "SELECT * FROM sqlite_temp_master",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_shadow",
    "SELECT usename FROM pg_shadow",
    "SELECT * FROM mysql.user",
    "SELECT * FROM main.users",
    "SELECT * FROM secrets",
    "SELECT name FROM users WHERE age = (SELECT password FROM secrets)",
    "SELECT name FROM users UNION SELECT password FROM secrets",
    "SELECT name FROM users WHERE EXISTS (SELECT 1 FROM (SELECT password FROM secrets) AS s)",
    "WITH users AS (SELECT * FROM secrets) SELECT * FROM users",
    "SELECT/**/password/**/FROM/**/secrets",
    "SELECT 1 /*! UNION SELECT password FROM secrets */; DROP TABLE users",
    "SELECT name FROM users -- \nUNION SELECT password FROM secrets",
    "SELECT 1 --\n; DELETE FROM users",
    "SELECT [password] FROM [secrets]",
    "SELECT `password` FROM `secrets`",
    'SELECT "password" FROM "secrets"',
    "SELECT @@version",
    "SELECT :parameter",
    "SELECT name FROM users FOR UPDATE",
    "SELECT name FROM users LOCK IN SHARE MODE",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n",
    "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x FROM n) SELECT x FROM n",
    "SELECT replace(hex(zeroblob(100000000)), '00', 'aaaaaaaaaaaaaaaa')",
    "SELECT randomblob(2000000000)",
    "SELECT printf('%2000000000d', 1)",
    "SELECT hex(name) FROM users",
    "SELECT COUNT(*) FROM users" + ", users" * 20,
    "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "SELECT name FROM users WHERE " + " OR ".join(["age = 1"] * 3000),
    "VALUES (1), (2)",
    "TABLE secrets",
    "CALL something()",
    "EXECUTE something",
    "PREPARE p AS DELETE FROM users",
    "DO $$ BEGIN DELETE FROM users; END $$",
    "SET transaction_read_only = off",
    "GRANT ALL ON users TO public",
    "LISTEN channel",
    "HANDLER users OPEN",
    "The users are all old enough.",
    "",
    "   ;  ",
]
# Allowed by the filter, and stopped by the limits.
RUNAWAY = [
    "SELECT COUNT(*) FROM " + ", ".join(f"users AS u{i}" for i in range(8)),
    "SELECT SUM(a.age) FROM users AS a JOIN users AS b ON a.id <> b.id JOIN users AS c ON b.id <> c.id"
    " JOIN users AS d ON c.age > -1 JOIN users AS e ON e.age > -1",
]
FINE = [
    ("SELECT COUNT(*) FROM users", [[300]]),
    ("select Name from USERS where ID = 3 -- a comment\n;", [["name 3"]]),
    ('SELECT u.name FROM users AS u WHERE u.name = "name 7"', [["name 7"]]),
    ("SELECT MAX(age), MIN(age) FROM adults", [[89, 18]]),
    ("SELECT t.n FROM (SELECT name AS n, id FROM users) AS t WHERE t.id = 5", [["name 5"]]),
    ("WITH old AS (SELECT id FROM users WHERE age > 88) SELECT COUNT(*) FROM old", [[3]]),
    ("SELECT age, COUNT(*) AS n FROM users GROUP BY age HAVING COUNT(*) > 3 ORDER BY n DESC, age LIMIT 2",
     [[0, 4], [1, 4]]),
    ("SELECT name FROM users WHERE id IN (SELECT id FROM users WHERE age BETWEEN 88 AND 89) AND name LIKE '%8'",
     [["name 88"], ["name 178"], ["name 268"]]),
    ("SELECT name FROM users WHERE id = 1 UNION SELECT name FROM users WHERE id = 1", [["name 1"]]),
    ("SELECT CASE WHEN age > 50 THEN 'old' ELSE 'young' END FROM users WHERE id = 80", [["old"]]),
    ("SELECT 'DROP TABLE users; --' FROM users WHERE id = 1", [["DROP TABLE users; --"]]),
]  # fmt: skip
# What each engine has to stop by its own settings, were the filter to let it through.
WRITES = [
    "DELETE FROM users",
    "UPDATE users SET age = 0",
    "INSERT INTO users VALUES (999, 'x', 1)",
    "DROP TABLE users",
    "CREATE TABLE copied AS SELECT * FROM users",
    "SELECT 1; DELETE FROM users",
]


def fingerprint(folder: Path) -> dict[str, str]:
    """Return every file below a folder with a digest of its bytes."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "app.db"
    with sqlite3.connect(path) as connection:
        for statement in SETUP:
            connection.execute(statement)
    connection.close()
    return path


@pytest.fixture(scope="module")
def duckdb_file(tmp_path_factory) -> Path:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path_factory.mktemp("duckdb") / "app.duckdb"
    with duckdb.connect(str(path)) as connection:
        for statement in SETUP:
            connection.execute(statement)
    return path


@pytest.fixture(scope="module")
def postgresql_url():
    """A PostgreSQL server of the tests' own on a Unix socket; skipped with a reason where there is none."""
    psycopg = pytest.importorskip("psycopg")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
        try:
            shutil.chown(folder, pwd.getpwnam("postgres").pw_name)
        except KeyError:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    pg_ctl, data = programs[-1].with_name("pg_ctl"), folder / "data"

    def server(*command) -> None:
        subprocess.run([*as_user, *map(str, command)], check=True, capture_output=True, cwd=folder)

    server(programs[-1], "-D", data, "-U", "postgres", "--auth=trust", "--no-sync")
    server(pg_ctl, "-D", data, "-w", "-o", f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off",
           "-l", folder / "log", "start")  # fmt: skip
    try:
        with psycopg.connect(host=str(folder), user="postgres", dbname="postgres") as connection:
            for statement in SETUP:
                connection.execute(statement)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server(pg_ctl, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def mysql_url():
    """A MariaDB server of the tests' own on a Unix socket; skipped with a reason where there is none."""
    pymysql = pytest.importorskip("pymysql")
    if shutil.which("mariadbd") is None or os.geteuid() != 0:
        pytest.skip("MariaDB is not installed (Debian: apt-get install mariadb-server), or this is not root")
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
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        connection = pymysql.connect(unix_socket=str(socket), user="root", autocommit=True)
        with connection.cursor() as cursor:
            for statement in ["CREATE DATABASE shop", "USE shop", *SETUP]:
                cursor.execute(statement)
        connection.close()
        yield f"mysql://root@/shop?unix_socket={socket}"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["sqlite", "duckdb", "postgresql", "mysql"])
def database(request) -> Database:
    """Each engine, its secrets left out of --tables."""
    names = {"sqlite": "sqlite_file", "duckdb": "duckdb_file"}
    return open_database(
        str(request.getfixturevalue(names.get(request.param, f"{request.param}_url"))), ["users", "adults"]
    )


def test_there_are_at_least_sixty_attacks():
    assert len(set(REFUSED)) >= 100


def test_every_attack_is_refused_before_anything_is_sent(database):
    def is_sent(attack: str) -> bool:
        try:
            return bool(database.safe(attack))
        except Refused:
            return False

    assert [attack for attack in REFUSED if is_sent(attack)] == []


@pytest.mark.parametrize(("sql", "rows"), FINE)
def test_ordinary_queries_are_answered(database, sql, rows):
    assert sorted(map(str, database.run(sql, 10, 10).rows)) == sorted(map(str, rows))


def test_what_is_sent_is_rendered_anew(database):
    sent = database.safe("select  Name from USERS /* a */ where ID=3 -- b")
    assert "/*" not in sent
    assert "--" not in sent
    assert sent.startswith("SELECT ")
    assert "users" in sent  # as the database spells it


def test_more_rows_than_asked_for_are_not_fetched(database):
    result = database.run("SELECT name FROM users", 7, 10)
    assert (len(result.rows), result.truncated) == (7, True)


@pytest.mark.parametrize("attack", RUNAWAY)
def test_a_query_without_end_is_stopped(database, attack):
    with pytest.raises(QueryFailed, match=r"stopped|cancel|[Mm]emory"):
        database.run(attack, 10, 1)
    if database.engine in ("sqlite", "duckdb"):  # Not a temporary file is left, or was made, beside the database.
        assert len(list(Path(database.url.database).parent.iterdir())) == 1


def test_an_error_of_the_engine_is_told(database):
    with pytest.raises(QueryFailed):
        database.run("SELECT COUNT(*) FROM users GROUP BY COUNT(*)", 10, 5)


def engine_alone(database: Database, sql: str) -> dict:
    """Run SQL as it stands, past the filter."""
    return run_job({
        "engine": database.engine, "sql": sql, "tables": list(database.columns), "max_rows": 10, "timeout": 1,
        "database": database.url.database, "connection": database._connection(),
    })  # fmt: skip


@pytest.mark.parametrize("attack", WRITES)
def test_the_engine_alone_writes_nothing(database, attack):
    engine_alone(database, attack)
    assert engine_alone(database, "SELECT COUNT(*), MAX(age) FROM users")["rows"] == [[300, 89]]
    assert "error" in engine_alone(database, "SELECT COUNT(*) FROM copied")


def test_sqlite_alone_stops_every_attack(sqlite_file, monkeypatch):
    """The read-only file, the authorizer and the limits hold without the filter; no file is touched."""
    monkeypatch.chdir(sqlite_file.parent)
    database = open_database(str(sqlite_file), ["users", "adults"])
    before = fingerprint(sqlite_file.parent)
    harmless = []
    for attack in [*REFUSED, *RUNAWAY]:
        found = engine_alone(database, attack)
        if "error" not in found:
            harmless.append(attack)
            assert SECRET not in str(found)
    assert fingerprint(sqlite_file.parent) == before
    assert not Path("/tmp/stolen").exists()
    # What SQLite itself runs reads the allowed tables or nothing at all; there is no index to REINDEX.
    assert {attack.strip(" ;").partition(" ")[0] for attack in harmless} <= {"", "SELECT", "VALUES", "REINDEX"}


def test_a_database_in_wal_mode_is_left_as_it_is(tmp_path):
    path = tmp_path / "wal.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(SETUP[0])
        connection.execute(SETUP[2])
    connection.close()
    before = fingerprint(tmp_path)
    assert open_database(str(path)).run("SELECT COUNT(*) FROM users", 1, 5).rows == [[300]]
    assert fingerprint(tmp_path) == before


def test_the_process_of_a_query_can_write_no_file_and_not_all_memory(sqlite_file):
    code = (
        "import sys; sys.path.insert(0, 'finetune'); from sql_runner import limit_process; limit_process(300, 5);"
        "import os, pathlib\n"
        "try: os.write(os.open('/tmp/stolen', os.O_WRONLY | os.O_CREAT), b'x')\n"
        "except OSError as error: print(error.errno)\n"
        "pathlib.Path('/tmp/stolen').unlink(missing_ok=True)\n"
        "try: bytearray(10**9)\n"
        "except MemoryError: print('memory')"
    )
    done = subprocess.run(
        ["python3", "-B", "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.split() == ["27", "memory"], done.stderr  # 27: EFBIG
