"""A user's own database: what the model is told of it, what is refused, and the retry after an error."""

import sqlite3

import predict
from finetune.asking import Dialogue
from finetune.console import InputError
from finetune.databases import open_database

import pytest
from conftest import call

URI = "runs:/0123abc/model"  # never loaded: the database is looked at first


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "my shop.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            'CREATE TABLE Product (id INTEGER PRIMARY KEY, name VARCHAR(30), "unit price" NUMERIC(8, 2));'
            "CREATE TABLE sale (product_id INTEGER REFERENCES Product, day DATE);"
            'CREATE VIEW dear AS SELECT name FROM Product WHERE "unit price" > 5;'
            "INSERT INTO Product VALUES (1, 'kettle', 20), (2, 'pan', 5), (3, NULL, 7)"
        )
    connection.close()
    return path


def refused(*arguments) -> str:
    error = call(predict.main, URI, "--question", "q", *arguments)
    assert error is not None
    assert "\n" not in error
    return error


def test_the_schema_is_told_as_training_data_has_it(shop):
    product = 'CREATE TABLE Product (id INTEGER, name VARCHAR, "unit price" NUMERIC)'
    sale = "CREATE TABLE sale (product_id INTEGER, day DATE)"
    for reference in (str(shop), f"sqlite:///{shop}"):
        assert open_database(reference, ["product", "SALE"]).statements == f"{product}; {sale}"
    assert "CREATE TABLE dear (name VARCHAR)" in open_database(str(shop)).statements


def test_names_and_views_are_found_in_the_databases_spelling(shop):
    database = open_database(str(shop))
    assert database.safe('select PRODUCT."unit price" from product') == 'SELECT "Product"."unit price" FROM "Product"'
    assert database.run("SELECT name FROM dear ORDER BY name", 9, 5).rows == [[None], ["kettle"]]
    assert open_database(str(shop), ["dear"]).run("SELECT COUNT(*) FROM dear", 9, 5).rows == [[2]]


def test_databases_that_cannot_be_used(shop, tmp_path):
    assert "there is no such file" in refused("--database", tmp_path / "absent.db")
    assert "there is no file" in refused("--database", f"sqlite:///{tmp_path}/absent.db")
    assert not (tmp_path / "absent.db").exists()
    (tmp_path / "text.db").write_text("this is no database, only text\n" * 40)
    assert "cannot be read: file is not a database" in refused("--database", tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").execute("PRAGMA user_version = 1")
    assert "has no tables" in refused("--database", tmp_path / "empty.db")
    assert "there is no customer; the database has Product, dear, sale" in refused(
        "--database", shop, "--tables", "customer"
    )
    assert "oracle is not supported" in refused("--database", "oracle://u:topsecret@host/x", "--execute")
    assert "mssql is not supported" in refused("--database", "mssql://host/x", "--execute")
    assert "cannot be read" in refused("--database", "postgresql://u:topsecret@127.0.0.1:9/x")
    assert "topsecret" not in refused("--database", "postgresql://u:topsecret@127.0.0.1:9/x")
    assert "pip install" in refused("--database", "mysql://host/x") or "cannot be read" in refused(
        "--database", "mysql://127.0.0.1:9/x"
    )


def test_a_database_of_many_tables_says_how_to_narrow(tmp_path):
    with sqlite3.connect(tmp_path / "big.db") as connection:
        for number in range(500):
            connection.execute(f"CREATE TABLE t{number:03} (a INTEGER)")
    error = refused("--database", tmp_path / "big.db")
    assert "has 500 tables" in error
    assert "--tables t000 t001 t002" in error
    assert open_database(str(tmp_path / "big.db"), ["t499"]).statements == "CREATE TABLE t499 (a INTEGER)"


def test_flags_that_do_not_go_together(shop):
    assert "--execute needs --database" in refused("--context", "c", "--execute")
    assert "--context or --database" in refused("--context", "c", "--database", shop)
    assert "not --input or --output" in refused("--database", shop, "--execute", "--output", "x.csv")
    assert "it needs --execute" in refused("--database", shop, "--csv")
    assert "--timeout 0 must" in refused("--database", shop, "--timeout", 0)
    assert "--max-rows 0 must" in refused("--database", shop, "--max-rows", 0)


def test_a_failed_query_is_tried_again_with_the_error_in_mind(shop, capsys):
    asked = []

    def write_sql(question: str) -> str:
        asked.append(question)
        return "SELECT nmae FROM Product" if len(asked) == 1 else "SELECT name FROM Product WHERE id = 1"

    database = open_database(str(shop))
    answer = Dialogue(database, execute=True, retries=1).answer("Which product?", write_sql)
    assert (answer.error, answer.retries, answer.result.rows) == ("", 1, [["kettle"]])
    assert asked[1].startswith(
        "Which product? (Not SELECT nmae FROM Product, which fails: not executed: no such column"
    )
    assert capsys.readouterr().out.splitlines() == ["SELECT nmae FROM Product", "SELECT name FROM Product WHERE id = 1"]
    asked.clear()
    once = Dialogue(database, execute=True).answer("Which product?", write_sql)
    assert (once.retries, once.result) == (0, None)
    same = Dialogue(database, execute=True, retries=3).answer("Which?", lambda question: "SELECT nmae FROM Product")
    assert (same.retries, same.record["error"]) == (1, "not executed: no such column: nmae")


def test_a_refused_query_ends_with_a_sentence_and_a_dialogue_goes_on(shop, capsys):
    rows = [{"question": "drop", "context": ""}, {"question": "count", "context": ""}]
    queries = {"drop": "DROP TABLE Product", "count": "SELECT COUNT(*) FROM Product"}
    database = open_database(str(shop))
    with pytest.raises(InputError, match="not executed: not one readable query: not a query"):
        Dialogue(database, execute=True).hold(rows, lambda context, question: queries[question])
    assert capsys.readouterr().out == "DROP TABLE Product\n"
    Dialogue(database, execute=True, interactive=True).hold(rows, lambda context, question: queries[question])
    assert capsys.readouterr().out.splitlines()[-1].strip() == "3"


def test_results_as_table_csv_and_json(shop, capsys):
    database, rows = open_database(str(shop)), [{"question": "q", "context": ""}]
    shown = {}
    for layout in ("table", "csv", "json"):
        dialogue = Dialogue(database, execute=True, layout=layout, max_rows=2)
        dialogue.hold(rows, lambda context, question: "SELECT id, name FROM Product ORDER BY id DESC")
        shown[layout] = capsys.readouterr().out
    assert [line.split() for line in shown["table"].splitlines()[1:]] == [["id", "name"], ["3", "NULL"], ["2", "pan"]]
    assert shown["csv"] == "id,name\n3,\n2,pan\n"
    assert '"rows": [[3, null], [2, "pan"]], "truncated": true' in shown["json"]
