"""Data in another dialect than SQLite's, and schemas as people bring them: right, or refused with a reason."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import train_sql_generator
from finetune import InputError
from finetune.databases.database import open_database
from finetune.models.generation import Generation
from finetune.reports import sql_scorecard
from finetune.reports.sql_scorecard import Answers, Scorecard, check_gold
from finetune.reports.sql_trainer import check_scores
from finetune.rows.loading import Rows
from finetune.rows.sql.cleaning import check_dialect, clean_parts, clean_rows
from finetune.rows.sql.distractors import distract
from metrics.sql_execution import judge
from metrics.sql_execution.schemas import read_schema

import evaluate
import pytest
from conftest import ROOT, call

SHIPS = (
    "CREATE TABLE public.ships (id SERIAL PRIMARY KEY, made TIMESTAMPTZ NOT NULL DEFAULT now(), state TEXT,"
    " tons numeric(10,2) CHECK (tons > 0))"
)
MONTHS = "SELECT DATE_TRUNC('month', made), COUNT(*) FROM public.ships WHERE state ILIKE '%0%' GROUP BY 1"
MYSQL = (
    "DROP TABLE IF EXISTS `a`; LOCK TABLES `a` WRITE; CREATE TABLE `a` (`id` int(11) unsigned NOT NULL AUTO_INCREMENT,"
    " `n` varchar(20) DEFAULT NULL COMMENT 'na, me', `e` ENUM('x','y'), `key` int, `d` datetime, PRIMARY KEY (`id`),"
    " KEY `k` (`n`), UNIQUE KEY u (n, e), CONSTRAINT f FOREIGN KEY (`id`) REFERENCES `b` (`id`)) ENGINE=InnoDB;"
)
TSQL = (
    "SET ANSI_NULLS ON\nGO\nCREATE TABLE [dbo].[Order Details] ([Order ID] INT IDENTITY(1,1) NOT NULL,"
    " [Price] MONEY NULL UNIQUE REFERENCES b(id), [N] NVARCHAR(MAX), d DATETIME2 DEFAULT GETDATE(),"
    " CONSTRAINT [PK] PRIMARY KEY CLUSTERED ([Order ID] ASC)) ON [PRIMARY]\nGO\nCREATE TABLE [dbo].[b] (id int)\ngo"
)
BIGQUERY = (
    "CREATE TABLE `p-1.ds.t` (id INT64 NOT NULL OPTIONS(description='x'), s STRING, a ARRAY<STRING>,"
    " st STRUCT<x INT64, y STRING>, ts TIMESTAMP) PARTITION BY DATE(ts) OPTIONS(description='z')"
)


def row(answer: str, context: str, question: str = "Who?") -> dict:
    return {"question": question, "context": context, "answer": answer}


@pytest.mark.parametrize(
    ("dialect", "context", "columns"),
    [
        ("sqlite", "CREATE TABLE a (x INT)\nCREATE TABLE b (y TEXT)", {"a": "x", "b": "y"}),
        ("sqlite", "CREATE TABLE [Order Details] ([Order ID] INT)\n\nCREATE TEMP TABLE b (y) -- CREATE\n",
         {"order details": "order id", "b": "y"}),
        ("sqlite", "PRAGMA foreign_keys=OFF; DROP TABLE IF EXISTS a; CREATE TABLE a (x INT); CREATE INDEX i ON a (x)",
         {"a": "x"}),
        ("sqlite", "CREATE TABLE a (x INT, y TEXT); CREATE VIEW v AS SELECT *, x AS z FROM a",
         {"a": "x y", "v": "x y z"}),
        ("postgres", SHIPS, {"ships": "id made state tons"}),
        ("postgres", "CREATE TYPE mood AS ENUM ('a'); CREATE TABLE a (m mood, l text[]); COMMENT ON TABLE a IS ';';"
         " CREATE VIEW v (p) AS SELECT m FROM a; ALTER TABLE ONLY a ADD CONSTRAINT k PRIMARY KEY (m)",
         {"a": "m l", "v": "p"}),
        ("mysql", MYSQL, {"a": "id n e key d"}),
        ("tsql", TSQL, {"order details": "order id price n d", "b": "id"}),
        ("bigquery", BIGQUERY, {"t": "id s a st ts"}),
        ("oracle", "CREATE TABLE hr.emp (id NUMBER(10), n VARCHAR2(20 CHAR)) TABLESPACE users", {"emp": "id n"}),
        ("snowflake", "CREATE OR REPLACE TABLE d.s.t (v VARIANT, ts TIMESTAMP_NTZ(9)) CLUSTER BY (v)", {"t": "v ts"}),
        ("duckdb", "CREATE TABLE t (i HUGEINT, l INTEGER[], s STRUCT(a INT))", {"t": "i l s"}),
    ],
)  # fmt: skip
def test_schemas_of_each_dialect_are_read(dialect, context, columns):
    tables = read_schema(context, dialect)
    assert {name: " ".join(table.columns) for name, table in tables.items()} == columns


def test_keys_and_numbers_of_a_schema_are_read():
    table = read_schema(MYSQL, "mysql")["a"]
    assert table.columns == {"id": True, "n": False, "e": False, "key": True, "d": False}
    assert (table.unique, table.references) == ([("id",), ("n", "e")], {"id": ("b", "id")})
    table = read_schema(TSQL, "tsql")["order details"]
    assert (table.unique, table.references) == ([("order id",), ("price",)], {"price": ("b", "id")})


@pytest.mark.parametrize(
    ("dialect", "context", "reason"),
    [
        ("sqlite", SHIPS, "SQLite: unknown database public"),
        ("sqlite", "CREATE TABLE a (x INT)\nCREATE TABLE b (order INT)", 'SQLite: near "order": syntax error'),
        ("sqlite", "hello there", "SQLite: near"),
        ("postgres", "hello there", "'hello there' is no statement of a schema"),
        ("postgres", "CREATE TABLE a.t (x int); CREATE TABLE b.t (y int)", "two tables are called t"),
        ("postgres", "CREATE TABLE t (LIKE a)", "names no columns"),
        ("postgres", "CREATE TABLE t (x int, X int)", "SQLite: duplicate column name"),
        ("postgres", "CREATE TABLE t ('x", "cannot be read as postgres"),
        ("postgres", "CREATE TABLE", "creates nothing with a name"),
        ("postgres", "", "the schema creates no table"),
    ],
)
def test_a_schema_that_cannot_be_read_says_why(dialect, context, reason):
    with pytest.raises(ValueError, match=reason.replace("(", r"\(")):
        read_schema(context, dialect)


QUERIES = [
    ("postgres", SHIPS, MONTHS),
    ("postgres", SHIPS, "SELECT public.ships.state FROM public.ships WHERE made::date = DATE '2020-01-01'"
     " + interval '2 weeks' OR EXTRACT(YEAR FROM made) > 2000 OR tons::text = '1' OR state IS DISTINCT FROM 'x'"),
    ("postgres", SHIPS, "SELECT DISTINCT ON (state) state, to_char(made, 'YYYY-MM'), LEFT(state, 2) FROM ships"
     " ORDER BY state"),
    ("postgres", SHIPS, "SELECT COUNT(*) FILTER (WHERE state = 'x'), MAX(CONCAT(state, ' ', tons)) FROM ships"),
    ("postgres", SHIPS, "SELECT state FROM ships WHERE tons = ANY (SELECT MAX(tons) FROM ships)"),
    ("tsql", TSQL, "SELECT EOMONTH(d), CONCAT(N, '!') FROM [dbo].[Order Details]"),
    ("bigquery", BIGQUERY, "SELECT id FROM `p-1.ds.t` WHERE STARTS_WITH(s, 'x')"),
    ("mysql", MYSQL, "SELECT DATE_FORMAT(d, '%Y-%m'), YEAR(d), QUARTER(d), IF(id > 1, 2, 3) FROM a"
     " WHERE n = \"x\" LIMIT 2, 3"),
    ("mysql", MYSQL, "SELECT CONCAT(n, 'a') FROM `a` WHERE d > DATE_SUB(CURDATE(), INTERVAL 3 MONTH) OR `key` > 3"),
    ("tsql", TSQL, "SELECT TOP 3 [Order ID], N + ' ' + N, DATEPART(month, d) FROM [dbo].[Order Details]"
     " WHERE YEAR(d) = 2020 OR LEN(N) > 3 OR N = N'x' ORDER BY [Price] DESC"),
    ("bigquery", BIGQUERY, "SELECT `p-1.ds.t`.s, COUNTIF(id > 2) FROM `p-1.ds.t` WHERE s = \"x\" OR id > 3 GROUP BY s"),
    ("bigquery", BIGQUERY, "SELECT TIMESTAMP_TRUNC(ts, QUARTER), SAFE_DIVIDE(id, 2) FROM `p-1`.ds.t"),
    ("mysql", "CREATE TABLE t (nothing INT, plan VARCHAR(3))", "SELECT nothing FROM t WHERE plan = 'x'"),
    ("snowflake", "CREATE TABLE d.s.t (x INT, y TIMESTAMP_NTZ)",
     "SELECT x FROM d.s.t QUALIFY ROW_NUMBER() OVER (PARTITION BY x ORDER BY y) = 1"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "context", "gold"), QUERIES)
def test_rows_of_each_dialect_are_kept_as_they_stand(dialect, context, gold):
    cleaning = clean_rows([row(gold, context)], dialect)
    assert cleaning.dropped == []
    (kept,) = cleaning.rows
    assert kept["context"] == context
    assert kept["answer"].replace("'x'", '"x"') == gold.replace("'x'", '"x"')


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("SELECT age(made) FROM ships", "gold does not run on its schema: SQLite: no such function: AGE"),
        ("SELECT cost FROM ships", "gold does not run on its schema: SQLite: no such column: cost"),
        ("SELECT (ARRAY[tons])[1] FROM ships", "gold does not run on its schema: SQLite: there are no arrays"),
        ("SELECT FROM WHERE", "gold is not one query"),
        ("SELECT state FROM ships WHERE state = 68 - 67 - 65 = 200", "arithmetic in place of a literal"),
    ],
)
def test_what_sqlite_cannot_run_is_counted_with_the_reason(gold, reason):
    (dropped,) = clean_rows([row(gold, SHIPS)], "postgres").dropped
    assert dropped["reason"].startswith(reason)


def test_literals_are_rewritten_in_the_dialects_own_way():
    question = "Is it O'Neil or Ohio?"
    gold = """SELECT n FROM a WHERE n = "ohio" OR n = 'a\\'b' OR n = "o'neil" """
    (kept,) = clean_rows([row(gold, MYSQL, question)], "mysql").rows
    assert kept["answer"] == """SELECT n FROM a WHERE n = 'Ohio' OR n = 'a\\'b' OR n = 'O''Neil' """
    gold = """SELECT s FROM ds.t WHERE s = "o'neil" OR s = "ohio" """  # BigQuery does not know '' in a text.
    (kept,) = clean_rows([row(gold, BIGQUERY, question)], "bigquery").rows
    assert kept["answer"] == """SELECT s FROM ds.t WHERE s = "o'neil" OR s = 'Ohio' """


TIMES = "CREATE TABLE t (name VARCHAR, minutes INTEGER, score VARCHAR, year VARCHAR)"


@pytest.mark.parametrize(
    "condition",
    ["minutes > 60 * 24", "minutes = 60 * 24", "minutes + 2 * 3 > 5", "minutes / (60 * 24) > 1", "minutes = 24 - 4",
     "year > 2024 - 5", "minutes BETWEEN 10 - 1 AND 60 * 24", "ABS(minutes - (7 + 1)) > 2",
     "minutes IN (60 * 2, 60 * 4)"],
)  # fmt: skip
def test_arithmetic_that_is_meant_is_not_corrupt(condition):
    assert clean_rows([row(f"SELECT name FROM t WHERE {condition}", TIMES)]).dropped == []


@pytest.mark.parametrize(
    "condition", ["score = 68 - 67 - 65 = 200", "score = 66 - 73 - 70", "score = (3 - 1)", "score IN (6 - 3, 7 - 5)"]
)
def test_a_score_read_as_arithmetic_is_corrupt(condition):
    (dropped,) = clean_rows([row(f"SELECT name FROM t WHERE {condition}", TIMES)]).dropped
    assert dropped["reason"] == "arithmetic in place of a literal"


def test_no_more_real_rows_are_dropped_than_before():
    path = ROOT.parent / "shared" / "data" / "sql_create_context" / "rows.jsonl"
    if not path.is_file():
        pytest.skip("the real rows are not here")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(clean_rows(rows).dropped) <= 248


def test_nothing_left_names_the_commonest_reason_with_an_example_and_the_flag():
    rows = Rows([row(MONTHS, SHIPS), row(MONTHS, SHIPS), row("x", "CREATE TABLE t (x INT)")], [], "", "")
    with pytest.raises(InputError) as refusal:
        clean_parts(rows)
    message = str(refusal.value)
    assert "2 of 3: schema cannot be read: SQLite: unknown database public, in 'CREATE TABLE public.ships" in message
    assert "--dialect sqlite" in message
    assert "--no-clean" in message


def test_many_rows_left_out_are_a_warning(caplog):
    rows = [row("SELECT x FROM t", "CREATE TABLE t (x INT)")] * 4
    clean_parts(Rows([*rows, row(MONTHS, SHIPS)], rows, "", ""))
    assert "left out 1 of 5 train rows" in caplog.text
    assert "--dialect" in caplog.text


@pytest.mark.parametrize(
    ("name", "meant"), [("postgresql", "postgres"), ("mssql", "tsql"), ("MySQL", "mysql"), ("", "")]
)
def test_an_unknown_dialect_is_refused_in_one_sentence(name, meant, tmp_path):
    with pytest.raises(InputError, match=f"--dialect {name} is none of .*{meant and f'did you mean {meant}'}"):
        check_dialect(name)
    arguments = "--base-model", "none", f"--dialect={name}", "--output-dir", tmp_path
    assert f"--dialect {name} is none of" in call(train_sql_generator.main, *arguments)


def test_answers_are_read_in_the_dialect():
    assert judge(MONTHS.replace("public.", ""), MONTHS, SHIPS, dialect="postgres").right
    assert judge("SELECT name::text FROM ships", MONTHS, SHIPS, dialect="postgres").reason.startswith("invalid")
    wrong = judge(MONTHS.replace("ILIKE", "NOT ILIKE"), MONTHS, SHIPS, dialect="postgres")
    assert wrong.usable
    assert not wrong.right
    metric = evaluate.load(str(Path(ROOT) / "metrics" / "sql_execution"))
    scores = metric.compute(predictions=[MONTHS], references=[MONTHS], schemas=[SHIPS], dialect="postgres")
    assert (scores["exec_accuracy"], scores["coverage"]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="none of sqlglot's"):
        metric.compute(predictions=["x"], references=["x"], schemas=["x"], dialect="nosuch")


def test_a_scorecard_without_usable_gold_says_so_and_draws_nothing(monkeypatch, caplog):
    answers = Answers([Generation("SELECT 1", [1], True)], [judge("SELECT 1", MONTHS, SHIPS)], 1.0)
    card = Scorecard([row(MONTHS, SHIPS)], answers, answers)
    assert "nothing is scored: gold is unusable: SQLite: unknown database public" in card.format("validation")
    logged = []
    monkeypatch.setattr(sql_scorecard.tracking, "log_metrics", lambda metrics, *_: logged.append(metrics))
    monkeypatch.setattr(sql_scorecard.figures, "log_table", lambda *_: logged.append("table"))
    monkeypatch.setattr(sql_scorecard.figures, "log_figure", lambda *_: logged.append("figure"))
    sql_scorecard.log_scorecard(card, "validation", "run", 1, None)
    assert logged[0]["validation_coverage"] == 0
    assert logged[1:] == ["table"]
    check_gold(card.rows, "sqlite", is_needed=False)
    assert "training goes on unscored" in caplog.text
    with pytest.raises(InputError, match="exec_accuracy goes by the score"):
        check_gold(card.rows, "sqlite", is_needed=True)
    check_gold(card.rows, "postgres", is_needed=True)


def test_a_learning_curve_without_a_row_to_score_is_refused_beforehand(caplog, tmp_path):
    def check(for_curve: bool = True, **given) -> None:
        rows = [row(MONTHS, SHIPS)]
        trainer = {"score_rows": rows, "database": None, "card": SimpleNamespace(dialect="sqlite")}
        args = SimpleNamespace(metric_for_best_model="eval_loss")
        check_scores(SimpleNamespace(args=args, **trainer | given), for_curve)

    with pytest.raises(InputError, match=r"can be scored .*read as --dialect sqlite.*--learning-curve is drawn of"):
        check()
    check(card=SimpleNamespace(dialect="postgres"))
    assert "unscored" not in caplog.text
    check(for_curve=False)
    assert "training goes on unscored" in caplog.text
    # On a database the rows can be scored though nothing can be generated for them.
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("CREATE TABLE a (b TEXT)")
    database = open_database(str(tmp_path / "a.db"))
    given = {"database": database, "card": SimpleNamespace(dialect="postgres")}
    with pytest.raises(InputError, match="--learning-curve is drawn of"):
        check(score_rows=[row("SELECT `c` FROM a", database.statements)], **given)
    check(score_rows=[row("SELECT `b` FROM a", database.statements)], **given)


def test_a_distracted_row_keeps_its_names_and_can_be_scored():
    rows = [row(gold, context) for dialect, context, gold in QUERIES if dialect == "tsql"]
    rows += [row("SELECT [Log-Id] FROM [log]", "CREATE TABLE [log] ([Log-Id] INT, [order] INT)")]
    *_, first, second = distract(rows, 2, 1, dialect="tsql")
    assert "CREATE TABLE [dbo].[Order Details] (" in first["context"]
    assert "[Order ID] VARCHAR" in first["context"]
    assert "[order] VARCHAR" in second["context"]
    assert clean_rows([first, second], "tsql").dropped == []
