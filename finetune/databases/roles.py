"""What the role of a database URL may do beside reading: for SQL of a model the most is refused, the rest warned of."""

import logging
import re

from finetune import InputError
from finetune.databases.database import MAX_TABLES, Database
from finetune.databases.safety import backticks
from finetune.databases.urls import driver_engine, first_line
from metrics.sql_execution.schemas import quote

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)
FILE_ROLES = ("pg_write_server_files", "pg_execute_server_program", "pg_read_server_files")
MYSQL_POWERS = ("FILE", "SUPER", "ALL PRIVILEGES")
MYSQL_WRITES = {"INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "ALL PRIVILEGES"}
NAME = r"`(?:[^`]|``)*`|\*"
GRANT = re.compile(rf"GRANT (?P<privileges>.+?) ON (?P<schema>{NAME})\.(?P<table>{NAME}) TO ", re.IGNORECASE)


def check_role(database: Database, trusted: bool) -> None:
    """Look at the role that SQL of a model will run as; files of SQLite and DuckDB have none.

    Args:
        trusted: warn where it would be refused (--trust-role).

    Raises:
        InputError: a PostgreSQL superuser, or one who may read or write files of the server; a MySQL user with FILE,
            SUPER or ALL on everything; or the role cannot be looked at.
    """
    look = {"postgresql": _look_at_postgresql, "mysql": _look_at_mysql}.get(database.engine)
    if look is None:
        return
    try:
        engine = driver_engine(database.url)
        with engine.connect() as session:
            powers, writes, reader = look(database, session)
        engine.dispose()
    except SQLAlchemyError as error:
        reason = first_line(getattr(error, "orig", None) or error)
        if not trusted:
            raise InputError(
                f"the rights of the database role, as which SQL of a model would run, cannot be read ({reason});"
                " --trust-role goes on all the same."
            ) from error
        powers, writes, reader = f"has rights that cannot be read ({reason})", [], ""
    if powers and not trusted:
        raise InputError(
            f"the database role {powers}; SQL of a model is for a role that may only read, such as:"
            f" {reader}. --trust-role goes on all the same."
        )
    if powers:
        logger.warning(f"--trust-role: the database role {powers}.")
    elif writes:
        logger.warning(
            f"the database role may write to {', '.join(writes)}; safer is one that may only read: {reader}."
        )


def _look_at_postgresql(database: Database, session: sqlalchemy.Connection) -> tuple[str, list[str], str]:
    """Return what the role may that it must not, the tables it may write to, and the lines that make a reader."""
    # One that may become a superuser is a member of it.
    found = session.exec_driver_sql(
        "SELECT current_user, rolname, rolsuper, rolcreaterole FROM pg_roles"
        " WHERE (rolsuper OR rolcreaterole OR rolname = ANY(%s))"
        " AND pg_has_role(current_user, oid, 'MEMBER') ORDER BY rolname <> current_user, rolsuper DESC, rolname",
        (list(FILE_ROLES),),
    ).fetchall()
    powers = ""
    if found:
        role, power, is_super, makes_roles = found[0]
        # Before PostgreSQL 16 who may create roles may grant any of them.
        kind = "a superuser" if is_super else "one that may create roles" if makes_roles else "of the server's files"
        powers = f"{role} is {kind}" if role == power else f"{role} is a member of {power}, {kind}"
    tables = [(name, ".".join(map(quote, (*database.schema, name)))) for name in database.columns]
    writes = session.exec_driver_sql(
        "SELECT name FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS given (name, path, place)"
        " WHERE has_table_privilege(current_user, path, 'DELETE, TRUNCATE')"
        " OR has_any_column_privilege(current_user, path, 'INSERT, UPDATE') ORDER BY place",
        tuple(map(list, zip(*tables, strict=True))),
    ).scalars().all()  # fmt: skip
    named = ", ".join(full for _, full in tables)
    readable = named if len(tables) <= MAX_TABLES else f"ALL TABLES IN SCHEMA {quote(database.schema[0])}"
    reader = (
        f"CREATE ROLE reader LOGIN PASSWORD '...'; GRANT USAGE ON SCHEMA {quote(database.schema[0])} TO reader;"
        f" GRANT SELECT ON {readable} TO reader"
    )
    return powers, writes, reader


def _look_at_mysql(database: Database, session: sqlalchemy.Connection) -> tuple[str, list[str], str]:
    """The same for MySQL and MariaDB, from SHOW GRANTS."""
    query = "SHOW GRANTS"
    roles = session.exec_driver_sql("SELECT CURRENT_ROLE()").scalar()
    if roles and roles.upper() != "NONE" and not session.dialect.is_mariadb:
        query = f"SHOW GRANTS FOR CURRENT_USER() USING {roles}"  # MySQL's own text, quoted by it.
    user = session.exec_driver_sql("SELECT CURRENT_USER()").scalar()
    powers, writes = [], set()
    for (line,) in session.exec_driver_sql(query).fetchall():
        match = GRANT.match(line)
        if match is None:  # A role that is granted; what it may is listed too.
            continue
        privileges = {part.strip().upper() for part in re.sub(r"\(.*?\)", "", match["privileges"]).split(",")}
        if match["schema"] == "*":
            powers += [name for name in MYSQL_POWERS if name in privileges and name not in powers]
        if privileges & MYSQL_WRITES:
            target = (match["schema"], match["table"])
            writes |= {name for name in database.columns if _covers(*target, database.schema[0], name)}
    full = [f"{backticks(database.schema[0])}.{backticks(name)}" for name in database.columns]
    reader = "CREATE USER reader IDENTIFIED BY '...'; " + "; ".join(
        f"GRANT SELECT ON {name} TO reader" for name in full
    )
    return f"{user} has {', '.join(powers)} on *.*" if powers else "", sorted(writes), reader


def _covers(schemas: str, tables: str, schema: str, table: str) -> bool:
    """Say whether a grant on `shop`.* takes in a table; % and _ of a schema stand for any text."""
    if schemas == "*":
        return True
    pattern = re.sub(r"\\\\?([%_])|%|_", _as_pattern, re.escape(_bare(schemas)))
    return re.fullmatch(pattern, schema) is not None and (tables == "*" or _bare(tables) == table)


def _bare(name: str) -> str:
    return name[1:-1].replace("``", "`")


def _as_pattern(match: re.Match) -> str:
    return match[1] or {"%": ".*", "_": "."}[match[0]]
