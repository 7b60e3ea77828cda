"""Queries written anew: of closed lists alone, and with the rows of the query as it stood."""

import json
import re
import sqlite3
import time
from contextlib import closing
from random import Random

from finetune.databases.database import open_database
from finetune.databases.safe_sql import Refused
from finetune.databases.safe_sql.vocabulary import ENGINES, WORDS
from finetune.databases.safety import Statement, make_safe, write_query
from metrics.sql_execution.queries import parse, resolve
from metrics.sql_execution.schemas import Table, quote, read_schema

import duckdb
import psycopg
import pytest
from conftest import ROOT, demo_rows
from random_sql import COLUMNS, HOSTILE_NAMES, HOSTILE_TEXTS, Queries
from sql_attacks import FINE, REFUSED, RUNAWAY, attacks
from sqlglot import exp

SCHEMAS = {"sqlite": ("main",), "postgresql": ("public",), "mysql": ("shop",), "duckdb": ("app", "main")}
NAMES = {*COLUMNS, *(column for columns in COLUMNS.values() for column in columns)}
TOKEN = re.compile(
    r'"(?P<double>(?:[^"]|"")*)"|`(?P<back>(?:[^`]|``)*)`|(?P<empty>\'\')|(?P<placeholder>[?$][0-9]+|\?)'
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)|(?P<word>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\|\||<>|<=|>=|[()<>=.,*+/%&|-])|(?P<space> )",
    re.ASCII,
)
ALIAS = re.compile(r"[tcw][0-9]+", re.ASCII)


def unknown_tokens(statement: Statement, schema: tuple[str, ...], names: set[str] = NAMES) -> list[str]:
    """Return what a statement has beside words of the list, names, generated aliases, placeholders and numbers."""
    found, end = [], 0
    for match in TOKEN.finditer(statement.sql):
        kind, text = match.lastgroup, match[match.lastgroup]
        is_known = {
            "double": text in names or text in schema, "back": text in names or text in schema,
            "word": text in WORDS or ALIAS.fullmatch(text) is not None, "sign": text in WORDS, "empty": "''" in WORDS,
        }.get(kind, True)  # fmt: skip
        found += [] if is_known and match.start() == end else [statement.sql[end : match.end()]]
        end = match.end()
    found += re.findall(r"--|/\*|#", re.sub(r'"[^"]*"|`[^`]*`', "", statement.sql))  # comments
    return found + ([statement.sql[end:]] if end < len(statement.sql) else [])


def written(sql: str, engine: str) -> Statement | None:
    """Return a query over the planted database as it is sent, None where it is refused."""
    try:
        return make_safe(sql, COLUMNS, SCHEMAS[engine], engine)
    except Refused:
        return None


def test_the_check_of_tokens_sees_what_is_foreign():
    for sql in (
        "SELECT x",
        'SELECT "secrets"',
        "SELECT 1; SELECT 2",
        "SELECT 'a'",
        "SELECT pg_sleep(1)",
        "SELECT 1 --",
    ):
        assert unknown_tokens(Statement(sql, [], []), ("main",)), sql


def test_what_is_sent_is_of_closed_lists_whatever_the_model_writes():
    """The attacks, ordinary queries, and 5,000 random ones."""
    random = Random(16)
    texts = [row["sql"] for row in attacks()] + REFUSED + RUNAWAY + [sql for sql, _ in FINE]
    texts += [Queries(random, hostile=0.04).query() for _ in range(5000)]
    sent = dict.fromkeys(ENGINES, 0)
    for number, text in enumerate(texts):
        for engine in ENGINES if number < len(texts) - 5000 else [ENGINES[number % 4]]:
            statement = written(text, engine)
            if statement is not None:
                sent[engine] += 1
                assert unknown_tokens(statement, SCHEMAS[engine]) == [], text
    assert min(sent.values()) > 200  # The test says nothing of queries that are refused.


def test_trees_that_no_parser_makes_are_refused_or_written_of_closed_lists():
    """Arguments of nodes are exchanged for hostile ones, whether they can come of a text or not."""
    random, sent = Random(61), 0
    hostile = [
        *HOSTILE_NAMES, *HOSTILE_TEXTS, exp.Var(this="DAY FROM joined); --"), exp.to_identifier("secrets"),
        exp.Literal.number("1; DROP"), exp.Literal.string("'"), exp.Anonymous(this="pg_sleep"), exp.table_("secrets"),
        exp.column("password"), True, ["x"], exp.DataType(this="x); --"), exp.Command(this="DROP", expression="users"),
    ]  # fmt: skip
    for number in range(2000):
        text = Queries(random, hostile=0).query()
        if written(text, "sqlite") is None:
            continue
        tree, engine = parse(text), ENGINES[number % 4]
        node = random.choice([node for node in tree.walk() if node.arg_types])
        key = random.choice([*node.arg_types])
        value = random.choice(hostile)
        node.set(key, value.copy() if isinstance(value, exp.Expression) else value)
        try:
            statement = write_query(tree, COLUMNS, SCHEMAS[engine], engine)
        except (Refused, KeyError, AttributeError, TypeError, ValueError):
            continue  # All but the first are for trees that cannot come of a text.
        sent += 1
        assert unknown_tokens(statement, SCHEMAS[engine]) == [], (key, value, text)
    assert sent > 100


@pytest.mark.parametrize("engine", ENGINES)
def test_every_text_is_bound_and_equal_texts_of_one_place_are_one_parameter(engine):
    sql = "SELECT CASE WHEN name = 'a''b' THEN 'x' END AS k FROM users WHERE name = 'a''b' GROUP BY k"
    statement = written(sql, engine)
    assert "'" not in statement.sql
    assert sorted(set(statement.parameters)) == ["a'b", "x"]
    repeated = written("SELECT name FROM users ORDER BY LENGTH(name || 'x'), UPPER(name || 'x')", engine)
    assert len(repeated.parameters) == (2 if engine == "mysql" else 1)  # MySQL's placeholders have no numbers.
    if engine != "mysql":  # Each has the type of its column.
        assert written("SELECT 1 FROM users WHERE (id, name) = ('5', '5')", engine).parameters == ["5", "5"]
    grouped = written("SELECT UPPER(name || 'x') FROM users GROUP BY UPPER(name || 'x')", engine).sql
    assert grouped.endswith("GROUP BY c2")  # Not every engine knows the expression by its parameters.


def test_numbers_are_written_anew():
    sql = "SELECT 007, .5, 5., 1E+3, 1.50 FROM users"
    assert written(sql, "sqlite").sql.startswith("SELECT 7 AS c2, 0.5 AS c3, 5.0 AS c4, 1.0e3 AS c5, 1.50 AS c6")
    for number in ("9" * 50, "1e999", "1_000e", "1e-400"):
        assert written(f"SELECT age + {number} FROM users WHERE 1 = {number}", "sqlite") is None, number


def test_headings_are_the_aliases_or_the_expressions_of_the_query():
    sql = 'select Name, age as "how old", COUNT( * ), users.* from users'
    assert written(sql, "sqlite").headings == ["name", "how old", "COUNT(*)", "id", "name", "age", "joined"]
    assert written("SELECT * FROM (SELECT MAX(age), id FROM users) AS t", "duckdb").headings == ["MAX(age)", "id"]


def test_a_generated_alias_is_no_name_of_the_database():
    statement = make_safe(
        "SELECT c2, t1 AS x FROM t1 WHERE C3 = 1 ORDER BY x", {"t1": ["c2", "c3", "t1"]}, ("main",), "sqlite"
    )
    assert statement.sql.endswith('FROM "main"."t1" AS t_1 WHERE (t_1."c3" = 1) ORDER BY c_3')


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT 1 FROM secrets", "the table secrets is not one of users, orders, adults"),
        ("SELECT nmae FROM users", r"no such column: nmae; did you mean name\?$"),
        ("SELECT u.Ages FROM users AS u", r"no such column: u.Ages; did you mean age\?$"),
        ("SELECT JOIN_ED FROM users", r"no such column: JOIN_ED; did you mean joined\?$"),
        ("SELECT total FROM users", "no such column: total; total is a column of orders, which stands in no FROM$"),
        ("SELECT zebra FROM users", "no such column: zebra$"),
        ("SELECT 1 FROM User", r"the table User is not one of users, orders, adults; did you mean users\?$"),
        ("SELECT id FROM users JOIN orders ON 1 = 1", "the column id is ambiguous: users.id or orders.id$"),
        ("SELECT pg_sleep(1)", "the function pg_sleep is not allowed"),
        ("SELECT CAST(id AS regclass) FROM users", "the type regclass is not allowed"),
        ("SELECT CAST(name AS CHAR(10485760)) FROM users", "the parameters of the type"),
        ("SELECT EXTRACT(\"day FROM x), (SELECT 1\" FROM joined) FROM users", "the unit DAY FROM X"),
        ("SELECT STRFTIME('%W', joined) FROM users", "the format %W of STRFTIME is not allowed"),
        ("SELECT 1 FROM users OUTER JOIN orders", "the join OUTER is not allowed"),
        ("SELECT name FROM users ORDER BY 2", "ORDER BY 2: the result has 1 columns"),
        ("SELECT name FROM users WINDOW w AS ()", "the syntax select with windows is not allowed"),
        ("WITH RECURSIVE a AS (SELECT 1) SELECT * FROM a", "the syntax with with recursive is not allowed"),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", "the table a is not one of"),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", "the table b is not one of"),
        ("SELECT name FROM users FETCH FIRST 2 ROWS ONLY", "is not allowed|takes a whole number"),
        ("SELECT 'x' AS a\u200bb FROM users", "an invisible character stands in 'a\\\\u200bb'"),
        ("SELECT CAST('1' AS \"char\") FROM users", "the type char is not allowed"),
        ("SELECT " + "(" * 60 + "1" + ")" * 60, "more than 12 parentheses"),
        ("SELECT 1" + " STRAIGHT_JOIN users" * 40, "more than 10 joins"),
        ("SELECT 1 FROM users" + ", users" * 20, "reads more than 12 tables"),
        ("SELECT " + "DATE(" * 13 + "name" + ")" * 13 + " FROM users", "more than 12 parentheses"),
        ('SELECT COUNT("" => 1) FROM users', "not one readable query"),
        ("SELECT age = id IN (1, 2) FROM users", "a comparison of a comparison needs parentheses"),
        ("SELECT 1 - NOT age FROM users", "a comparison of a comparison needs parentheses"),
        ("SELECT (SELECT (SELECT (SELECT (SELECT (SELECT (SELECT 1))))))", "nested more than 6 deep"),
    ],
)  # fmt: skip
def test_a_refusal_says_why(sql, reason):
    with pytest.raises(Refused, match=reason):
        make_safe(sql, COLUMNS, SCHEMAS["postgresql"], "postgresql")


def chain(levels: int, body: str) -> str:
    """Return a WITH of so many entries, each of which reads the one before it."""
    entries = [f"a{n} AS ({body.format(f'a{n - 1}')})" for n in range(1, levels)]
    return f"WITH a0 AS (SELECT name AS s FROM users), {', '.join(entries)} SELECT s FROM a{levels - 1}"


def nested(levels: int, body: str) -> str:
    """Return subqueries in each other."""
    sql = "SELECT name AS s FROM users"
    for n in range(1, levels):
        sql = body.format(f"({sql}) AS a{n}")
    return sql


@pytest.mark.parametrize(
    "sql",
    [
        chain(22, "SELECT CONCAT(s, s) AS s FROM {}"),
        chain(22, "SELECT s || s AS s FROM {}"),
        chain(12, "SELECT x.s FROM {0} AS x, {0} AS y"),
        chain(3, "SELECT GROUP_CONCAT(s) AS s FROM {}"),
        chain(20, "SELECT CASE WHEN s = s THEN s ELSE s END AS s FROM {}"),
        "SELECT " + ", ".join(["GROUP_CONCAT(CAST(name AS CHAR(1000)))"] * 3) + " FROM users",
        nested(6, "SELECT CONCAT(s, s, s, s, s, s, s, s) AS s FROM {}"),
        f"SELECT {'+'.join(['ROW_NUMBER() OVER ()'] * 60)} AS a FROM users WHERE EXISTS (SELECT {'+'.join(['a'] * 60)}"
        f" AS b FROM users WHERE EXISTS (SELECT {'+'.join(['b'] * 60)} FROM users))",
        f"SELECT INSTR(GROUP_CONCAT(name), 'b{'a' * 900}') FROM users",
        f"SELECT name FROM users WHERE CAST({' * '.join(['1e300'] * 100)} AS TEXT) LIKE CONCAT(name, name)",
        "SELECT GROUP_CONCAT(a.name) LIKE '%az%' FROM users AS a, orders AS b",
        f"SELECT name FROM users WHERE CONCAT({', '.join(['name'] * 45)}) LIKE '%{'a' * 9000}z%'",
        "SELECT GROUP_CONCAT(a.name), GROUP_CONCAT(b.id), GROUP_CONCAT(b.total) FROM users AS a, orders AS b",
    ],
)
def test_a_short_query_that_grows_is_refused_before_a_planner_sees_it(sql):
    with pytest.raises(
        Refused, match=r"grow too large|too long|long texts|more than (12|24) tables|nested more|GROUP_CONCAT"
    ):
        make_safe(sql, COLUMNS, SCHEMAS["postgresql"], "postgresql")


def test_a_chain_that_does_not_grow_is_sent():
    assert written(chain(9, "SELECT s FROM {}"), "mysql") is not None


SCOPES = [
    "SELECT u.name FROM users AS u WHERE EXISTS (SELECT 1 FROM orders WHERE user_id = u.id AND total > 590)",
    "SELECT name FROM users WHERE age > (SELECT AVG(age) FROM users AS x WHERE x.joined = users.joined) AND id < 40",
    "WITH users AS (SELECT id AS k, name FROM users WHERE id < 3) SELECT k, name FROM users ORDER BY k DESC",
    "WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT a.x, b.x FROM a, b",
    "SELECT * FROM (WITH t AS (SELECT 7 AS orders) SELECT orders FROM t) AS q",
    "SELECT * FROM users JOIN (SELECT id, total FROM orders WHERE id < 5) AS o USING (id) ORDER BY id",
    "SELECT * FROM users NATURAL JOIN adults WHERE id < 25",
    "SELECT id, o.total FROM users LEFT JOIN (SELECT id, total FROM orders WHERE id = 2) AS o USING (id) WHERE id < 4",
    "SELECT age AS a, COUNT(*) AS n FROM users GROUP BY a HAVING n > 3 ORDER BY n DESC, a LIMIT 5",
    "SELECT age % 3 AS age, COUNT(*) FROM users GROUP BY age ORDER BY age, 2",
    "SELECT name AS id FROM users ORDER BY id LIMIT 3",
    "SELECT DISTINCT age FROM users WHERE age < 5 ORDER BY age DESC",
    "SELECT name FROM users WHERE id < 2 UNION SELECT name FROM users WHERE id < 4 EXCEPT SELECT 'name 1' ORDER BY 1",
    "SELECT id FROM users WHERE id < 9 EXCEPT SELECT id FROM users WHERE id < 4 INTERSECT SELECT id FROM orders"
    " WHERE id > 5",
    "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM orders GROUP BY user_id) AS t",
    "SELECT (SELECT COUNT(*) FROM orders WHERE orders.user_id = users.id), id FROM users WHERE id < 3",
    "SELECT u.*, 1 AS one FROM users AS u(k, l, m, n) WHERE k = 5",
    "SELECT id, RANK() OVER (PARTITION BY age ORDER BY id DESC) AS r FROM users WHERE id < 200 ORDER BY id LIMIT 4",
    "SELECT SUM(total) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM orders ORDER BY id LIMIT 4",
    "SELECT name FROM users WHERE (id, age) IN (SELECT id, age FROM adults WHERE id < 20)",
    "SELECT COUNT(*) FROM (users AS u JOIN orders AS o ON u.id = o.user_id) WHERE u.age = 4",
    "SELECT name FROM users WHERE name LIKE 'name 1!%' ESCAPE '!' OR name LIKE '%99'",
    "SELECT CASE WHEN age < 30 THEN 'young' WHEN age < 60 THEN 'mid' ELSE 'old' END AS g, COUNT(*) FROM users"
    " GROUP BY CASE WHEN age < 30 THEN 'young' WHEN age < 60 THEN 'mid' ELSE 'old' END ORDER BY g",
    "SELECT COUNT(*) FROM users WHERE joined = '2024-01-02' AND age = '5' AND name <> 'x' AND name <> '5'",
    "SELECT name || ' is ' || age FROM users WHERE id = 7",
    "SELECT COALESCE(NULL, 'none'), NULLIF(name, 'name 1') FROM users WHERE id = 1",
    "SELECT COUNT(DISTINCT age), MIN(name), ROUND(AVG(age), 1) FROM users",
    "SELECT id FROM users WHERE NOT (age > 2 OR id > 3) ORDER BY age, id LIMIT 3 OFFSET 1",
    "SELECT id / 2, id % 2, -id, - -id FROM users WHERE id = 7",
    "SELECT 'a' FROM users WHERE id = 1 UNION ALL SELECT name FROM users WHERE id = 2",
    "SELECT SUBSTR(name, 1, 4), UPPER(name), LENGTH(name), INSTR(name, ' '), TRIM(name) FROM users WHERE id = 9",
    "SELECT YEAR(joined), STRFTIME('%Y-%m', joined), CAST(age AS TEXT), CAST('12' AS INTEGER) FROM users WHERE id = 5",
    "SELECT GROUP_CONCAT(name, '; ') FROM users WHERE id IN (1, 2)",
    "SELECT GROUP_CONCAT(DISTINCT age) FROM users WHERE id = 3",
    "SELECT DISTINCT CASE WHEN age < 30 THEN 'young' ELSE 'old' END FROM users",
    "SELECT COALESCE(NULLIF(name, 'name 1'), 'a text that is longer than the column''s forty characters') AS g,"
    " COUNT(*) FROM users WHERE id < 4 GROUP BY g",
    "SELECT NULLIF(age, 1) FROM users WHERE id < 4 ORDER BY 1 NULLS LAST",
    "SELECT NULLIF(age, 1) AS a FROM users WHERE id < 4 ORDER BY a DESC NULLS FIRST",
    "SELECT STRFTIME('%Y-%m-%dT%H:%M', joined), STRFTIME('day %d', joined) FROM users WHERE id = 5",
    "SELECT STRFTIME('%Y', 'now') > '2020', DATE('now') > '2020-01-01' FROM users WHERE id = 1",
    "SELECT age % 0, age / 0 FROM users WHERE id = 5",
    "SELECT COUNT(*) FROM users WHERE (id, name) = (5, 'name 5')",
    "SELECT CAST(name AS CHAR) FROM users WHERE id = 12",
    "SELECT age & 3, age | 8 FROM users WHERE id = 6",
    "SELECT IIF(age > 50, 'old', 'young') FROM users WHERE id IN (10, 80) ORDER BY id",
]


@pytest.fixture(scope="module")
def expected_rows(sqlite_database) -> dict[str, list[str]]:
    """What SQLite answers to SCOPES."""
    database = open_database(sqlite_database)
    return {sql: as_text(database.run(sql, 500, 10).rows, "ORDER BY" in sql) for sql in SCOPES}


@pytest.mark.parametrize("engine", ["duckdb", "postgresql", "mysql"])
def test_the_other_engines_answer_as_sqlite_does(engine, expected_rows, request):
    database = open_database(request.getfixturevalue(f"{engine}_database"), [*COLUMNS])
    found = {sql: as_text(database.run(sql, 500, 10).rows, "ORDER BY" in sql) for sql in SCOPES}
    # 7 / 2 is 3 in SQLite and PostgreSQL, 3.5 elsewhere: the engine's own.
    different = {sql: (rows, found[sql]) for sql, rows in expected_rows.items() if found[sql] != rows}
    assert {sql: rows for sql, rows in different.items() if "id / 2" not in sql} == {}


def as_text(rows: list, in_order: bool = False) -> list[str]:
    """Return rows as text in which 5, 5.0 and '5.00' are one; sorted, where their order does not count."""

    def value(cell):
        try:
            return f"{float(cell):.6g}"
        except (TypeError, ValueError):
            return str(cell)

    texts = [str([value(cell) for cell in row]) for row in rows]
    return texts if in_order else sorted(texts)


@pytest.mark.parametrize("sql", SCOPES)
def test_names_mean_what_they_mean_in_sqlite(sql, sqlite_database, expected_rows):
    raw = sql.replace("users AS u(k, l, m, n)", "(SELECT id AS k, name AS l, age AS m, joined AS n FROM users) AS u")
    raw = raw.replace("YEAR(joined)", "2024").replace(
        "name FROM users WHERE id < 3) SELECT k", "name FROM main.users WHERE id < 3) SELECT k"
    )
    with closing(sqlite3.connect(sqlite_database)) as connection:
        assert expected_rows[sql] == as_text(connection.execute(raw).fetchall(), "ORDER BY" in sql)


def test_operators_bind_as_in_sqlite_or_need_parentheses():
    """Chains of operators without parentheses, run as they stand and as they are written anew."""
    random, same = Random(7), 0
    operators = [
        "+", "-", "*", "/", "%", "||", "&", "|", "=", "<>", "<", ">=", "AND", "OR", "==", "LIKE", "IS NOT NULL AND",
        "IN (1, 2) OR", "BETWEEN 1 AND", "IS NULL <",
    ]  # fmt: skip
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE users (id, name, age)")
        connection.execute("INSERT INTO users VALUES (7, '3x', 2)")
        for _ in range(3000):
            values = [
                random.choice(["", "", "", "-", "NOT "]) + random.choice(["id", "name", "age", "1", "'5'", "NULL"])
            ]
            for _ in range(random.randint(1, 4)):
                values += [
                    random.choice(operators),
                    random.choice(["", "", "", "-"]) + random.choice(["id", "name", "2"]),
                ]
            sql = f"SELECT {' '.join(values)} FROM users"
            statement = written(sql, "sqlite")
            try:
                expected = connection.execute(sql).fetchall()
            except sqlite3.Error:
                continue
            if statement is None:
                continue
            same += 1
            assert connection.execute(statement.sql, statement.parameters).fetchall() == expected, sql
    assert same > 1000


def test_ordinary_random_queries_return_what_they_return_as_they_stand(sqlite_database):
    random, same = Random(8), 0
    with closing(sqlite3.connect(sqlite_database)) as connection:
        for _ in range(2000):
            sql = Queries(random, hostile=0).query()
            statement = written(sql, "sqlite")
            # A cast to a date is a date here, and the number of the year in SQLite.
            if statement is None or "AS DATE" in sql or "LIMIT" in sql:
                continue
            deadline = time.monotonic() + 0.2
            connection.set_progress_handler(lambda deadline=deadline: time.monotonic() > deadline, 10_000)
            try:
                expected = connection.execute(sql).fetchall()
            except (sqlite3.Error, UnicodeEncodeError):  # It has no EXTRACT and no YEAR; or the query is too long.
                continue
            connection.set_progress_handler(None, 0)
            found = connection.execute(statement.sql, statement.parameters).fetchall()
            same += 1
            assert sorted(map(str, found)) == sorted(map(str, expected)), sql
    assert same > 300


@pytest.mark.parametrize(
    ("engine", "expected"), [("mysql", "COUNT(*) > 5"), ("duckdb", "COUNT(*) > 5"), ("sqlite", '"total" > 5')]
)
def test_an_alias_in_having_means_what_it_means_in_the_engine(engine, expected):
    sql = "SELECT user_id, COUNT(*) AS total FROM orders GROUP BY user_id HAVING total > 5 AND SUM(total) > 3"
    statement = written(sql, engine).sql
    assert f"{expected}) AND (SUM(" in statement


def gold_queries(number: int) -> list[tuple[str, str]]:
    """Return (schema, query) of the demo's rows, and of real data where it lies beside the checkout."""
    rows = demo_rows("train")[:400]
    for name in ("sql_create_context", "spider_dev"):
        path = ROOT.parent / "shared" / "data" / name / "rows.jsonl"
        if path.is_file():
            rows += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["context"], row["answer"]) for row in Random(3).sample(rows, min(number, len(rows)))]


def reference(sql: str, schema: dict[str, Table], dialect: str) -> str:
    """Return a query as sqlglot writes it for an engine, its double-quoted texts made texts."""
    tree = parse(sql)
    resolve(tree, schema)
    tree = tree.transform(lambda n: exp.to_identifier(n.name.lower()) if isinstance(n, exp.Identifier) else n)
    return tree.sql(dialect=dialect, identify=True, comments=False)


def fill(schema: dict[str, Table], sql: str, random: Random) -> list[tuple[str, list]]:
    """Return INSERT statements with rows in which the query's own values are frequent."""
    texts = [text for pair in re.findall(r"'([^']*)'|\"([^\"]*)\"", sql) for text in pair if text] + ["a", "B", "1"]
    numbers = [int(number) for number in re.findall(r"\b[0-9]{1,6}\b", sql)] + [0, 1, 2]
    statements = []
    for table in schema.values():
        for _ in range(20):
            row = [random.choice(numbers if is_number else texts) for is_number in table.columns.values()]
            statements.append((table.name, [None if random.random() < 0.05 else value for value in row]))
    return statements


@pytest.fixture
def empty(request):
    """A connection of an engine to no tables, and the schema in which it makes them."""
    if request.param == "sqlite":
        connection, schema = sqlite3.connect(":memory:", isolation_level=None), ("main",)
    elif request.param == "duckdb":
        connection, schema = duckdb.connect(":memory:"), ("memory", "main")
    else:
        host = request.getfixturevalue("postgresql_database").partition("host=")[2]
        connection, schema = (
            psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True),
            ("pg_temp",),
        )
    with closing(connection):
        yield request.param, connection, schema


@pytest.mark.parametrize("empty", ["sqlite", "duckdb", "postgresql"], indirect=True)
def test_gold_queries_return_the_rows_they_returned(empty):
    """A thousand queries, each on tables of its own, against sqlglot's rendering of the same tree."""
    engine, connection, place = empty
    run = psycopg.RawCursor(connection).execute if engine == "postgresql" else connection.cursor().execute
    compared, refused, different = 0, [], []
    for number, (context, sql) in enumerate(gold_queries(1000)):
        try:
            schema = read_schema(context)
            raw = reference(sql, schema, {"postgresql": "postgres"}.get(engine, engine))
        except ValueError:
            continue
        run("BEGIN")
        for table in schema.values():
            columns = ", ".join(f"{quote(c)} {'INTEGER' if n else 'VARCHAR'}" for c, n in table.columns.items())
            run(f"CREATE {'TEMP' if engine == 'postgresql' else ''} TABLE {quote(table.name)} ({columns})")
        for name, row in fill(schema, sql, Random(number)):
            places = ", ".join(f"${i}" if engine == "postgresql" else "?" for i in range(1, len(row) + 1))
            run(f"INSERT INTO {quote(name)} VALUES ({places})", row)
        try:
            expected = run(raw).fetchall()
        except (sqlite3.Error, duckdb.Error, psycopg.Error):  # It compares a text with a number: not in this engine.
            run("ROLLBACK")
            continue
        compared += 1
        try:
            statement = make_safe(sql, {t.name: list(t.columns) for t in schema.values()}, place, engine)
            found = run(statement.sql, statement.parameters).fetchall()
            if sorted(map(str, found)) != sorted(map(str, expected)):
                different.append((sql, statement.sql, expected[:3], found[:3]))
            names = {*place, *schema, *(column for table in schema.values() for column in table.columns)}
            assert unknown_tokens(statement, place, names) == []
        except Refused as reason:
            refused.append((sql, str(reason)))
        run("ROLLBACK")
    assert compared >= (300 if engine == "sqlite" else 200)
    assert different == []
    assert refused == []
