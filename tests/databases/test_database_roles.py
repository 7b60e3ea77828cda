"""What --execute says of the role that a model's SQL would run as."""

import csv
import logging
from pathlib import Path

import evaluate_model
import predict
import train_sql_generator
from finetune import InputError
from finetune.databases.database import open_database
from finetune.databases.roles import _covers, check_role

import psycopg
import pymysql
import pytest
from conftest import DEMO_BASE, byte_level_tokenizer, call, make_base
from database_servers import TABLES
from made_runs import make_checkpoint
from spools import make_card


@pytest.fixture(scope="module")
def postgresql_roles(postgresql_database):
    """URL of a PostgreSQL with roles of several rights; {} stands for the role."""
    host = postgresql_database.partition("host=")[2]
    with psycopg.connect(host=host, user="postgres", dbname="postgres") as connection:
        for statement in (
            "CREATE ROLE writer LOGIN", "GRANT SELECT, UPDATE ON users TO writer", "GRANT SELECT ON orders TO writer",
            "CREATE ROLE files", "GRANT pg_read_server_files TO files", "CREATE ROLE clerk LOGIN",
            "GRANT files TO clerk",
            "CREATE ROLE heir LOGIN NOINHERIT", "GRANT postgres TO heir",
            "CREATE ROLE keeper LOGIN CREATEROLE", "CREATE ROLE editor LOGIN",
            "GRANT SELECT, UPDATE (age) ON users TO editor", "GRANT SELECT ON orders TO editor",
            "CREATE ROLE programs LOGIN", "GRANT pg_execute_server_program TO programs",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk, heir, programs, keeper",
        ):  # fmt: skip
            connection.execute(statement)
    return postgresql_database.replace("postgres@", "{}@")


@pytest.fixture(scope="module")
def mysql_roles(mysql_database):
    """URL of a MariaDB with users of several rights; {} stands for the user."""
    with pymysql.connect(
        unix_socket=mysql_database.partition("socket=")[2], user="root", autocommit=True
    ) as connection:
        for statement in (
            "CREATE USER writer@localhost", "GRANT SELECT, INSERT ON shop.users TO writer@localhost",
            "GRANT SELECT ON shop.orders TO writer@localhost",
            "CREATE USER owner@localhost", "GRANT ALL PRIVILEGES ON `sh_p`.* TO owner@localhost",
            "CREATE USER clerk@localhost", "GRANT FILE, SELECT ON *.* TO clerk@localhost",
            "CREATE ROLE powers", "GRANT SUPER ON *.* TO powers", "CREATE USER heir@localhost",
            "GRANT SELECT ON shop.* TO heir@localhost", "GRANT powers TO heir@localhost",
            "SET DEFAULT ROLE powers FOR heir@localhost",
        ):  # fmt: skip
            connection.cursor().execute(statement)
    return mysql_database.replace("root@", "{}@")


def said(url: str, caplog, trusted: bool = False, tables=("users", "orders")) -> str:
    """Return the refusal, or the warning, of a role."""
    caplog.clear()
    try:
        with caplog.at_level(logging.WARNING):
            check_role(open_database(url, list(tables)), trusted)
    except InputError as error:
        return f"refused: {error}"
    return caplog.text


def test_a_reader_is_taken_in_silence(postgresql_roles, mysql_roles, caplog):
    for url in (postgresql_roles, mysql_roles):
        assert said(url.format("reader"), caplog, tables=TABLES) == ""


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("postgres", "the database role postgres is a superuser"),
        ("heir", "the database role heir is a member of postgres, a superuser"),
        ("clerk", "the database role clerk is a member of pg_read_server_files, of the server's files"),
        ("keeper", "the database role keeper is one that may create roles"),
        ("programs", "the database role programs is a member of pg_execute_server_program"),
    ],
)
def test_a_mighty_role_of_postgresql_is_refused_with_the_lines_that_make_a_reader(
    postgresql_roles, caplog, role, reason
):
    refusal = said(postgresql_roles.format(role), caplog)
    assert refusal.startswith(f"refused: {reason}")
    assert 'GRANT USAGE ON SCHEMA "public" TO reader; GRANT SELECT ON "public"."users", "public"."orders"' in refusal
    assert "\n" not in refusal
    assert f"--trust-role: {reason}" in said(postgresql_roles.format(role), caplog, trusted=True)


@pytest.mark.parametrize(
    ("user", "reason"),
    [("root", "has ALL PRIVILEGES on *.*"), ("clerk", "has FILE on *.*"), ("heir", "has SUPER on *.*")],
)
def test_a_mighty_user_of_mysql_is_refused(mysql_roles, caplog, user, reason):
    refusal = said(mysql_roles.format(user), caplog)
    assert refusal.startswith(f"refused: the database role {user}@localhost {reason}")
    assert "GRANT SELECT ON `shop`.`users` TO reader" in refusal
    assert reason in said(mysql_roles.format(user), caplog, trusted=True)


def test_a_role_that_may_write_to_the_tables_is_warned_of(postgresql_roles, mysql_roles, caplog):
    for url in (postgresql_roles, mysql_roles):
        assert "may write to users; safer is one that may only read: CREATE" in said(url.format("writer"), caplog)
    assert "may write to users; safer" in said(postgresql_roles.format("editor"), caplog)
    assert "may write to orders, users" in said(mysql_roles.format("owner"), caplog)


def test_a_grants_target_covers_tables_by_its_pattern():
    assert _covers("*", "*", "shop", "users")
    assert _covers("`shop`", "*", "shop", "users")
    assert _covers("`shop`", "`users`", "shop", "users")
    assert _covers("`sh%`", "*", "shop", "users")
    assert not _covers("`shop`", "`orders`", "shop", "users")
    assert not _covers(r"`sh\_p`", "*", "shop", "users")
    assert _covers(r"`sh\_p`", "*", "sh_p", "users")


def test_execute_refuses_the_superuser_before_a_model_is_loaded(postgresql_database):
    arguments = ["runs:/0123abc/model", "--question", "q", "--database", postgresql_database, "--tables", *TABLES]
    assert "is a superuser" in call(predict.main, *arguments, "--execute")
    for further in (["--execute", "--trust-role"], []):  # The next thing that is wrong is the model.
        assert "superuser" not in call(predict.main, *arguments, *further)
    assert "--trust-role is for the role" in call(predict.main, *arguments, "--trust-role")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    with path.open("w", newline="") as file:
        rows = [(f"What is the name of user {n}?", f"SELECT name FROM users WHERE id = {n}") for n in (1, 2)]
        csv.writer(file).writerows([("question", "answer"), *rows])
    return path


def test_training_refuses_the_superuser_before_a_base_is_loaded(postgresql_roles, pairs, caplog):
    """Before training and at its end, answers of a model are run."""
    arguments = ["--base-model", DEMO_BASE, "--dataset", pairs, "--tables", *TABLES]
    for role, further, shown in (
        ("postgres", [], "the database role postgres is a superuser"), ("reader", [], "have the same shape"),
        ("postgres", ["--trust-role"], "have the same shape"),
    ):  # fmt: skip
        assert shown in call(
            train_sql_generator.main, *arguments, "--database", postgresql_roles.format(role), *further
        )
    assert "--trust-role: the database role postgres is a superuser" in caplog.text
    without = call(train_sql_generator.main, "--base-model", DEMO_BASE, "--dataset", pairs, "--trust-role")
    assert without == "--trust-role needs --database with the URL or file of a database."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_checkpoint(folder / "checkpoint-1", make_base(folder / "base", byte_level_tokenizer()))
    return folder / "checkpoint-1"


def test_evaluation_refuses_the_superuser_before_a_model_is_loaded(postgresql_roles, pairs, checkpoint, caplog):
    arguments = [checkpoint, "--dataset", pairs, "--no-log", "--tables", *TABLES, "--base-model", checkpoint / "none"]
    for role, further, shown in (
        ("postgres", [], "the database role postgres is a superuser"), ("reader", [], "checkpoint-1/none"),
        ("postgres", ["--trust-role"], "checkpoint-1/none"),
    ):  # fmt: skip
        assert shown in call(evaluate_model.main, *arguments, "--database", postgresql_roles.format(role), *further)
    assert "--trust-role: the database role postgres is a superuser" in caplog.text


@pytest.mark.parametrize("flags", [("--tables", "users"), ("--values", 2), ("--trust-role",), ("--no-rows",)])
def test_flags_about_a_database_need_one_and_text_to_sql(checkpoint, few_rows, tmp_path, flags):
    needs = f"{flags[0]} needs --database with the URL or file of a database."
    assert call(evaluate_model.main, checkpoint, "--dataset", few_rows, "--no-log", "--split", "train", *flags) == needs
    assert call(train_sql_generator.main, "--base-model", DEMO_BASE, "--dataset", few_rows, *flags) == needs
    other = make_card(tmp_path / "checkpoint-1", "0" * 32)
    (tmp_path / "texts.jsonl").write_text('{"text": "a", "label": 1}\n')
    refused = call(evaluate_model.main, other, "--dataset", tmp_path / "texts.jsonl", "--no-log", *flags)
    assert refused == f"{flags[0]} is for text-to-SQL only, and this model is not for that."
