"""Questions without a schema, about a database: it brings the CREATE TABLE statements."""

from finetune.databases.database import Database


def fill_contexts(rows: list[dict], database: Database) -> list[dict]:
    """Return the rows, those without a `context` with the tables of the database: the text that predict.py gives."""
    statements = database.statements
    return [row if str(row.get("context") or "").strip() else row | {"context": statements} for row in rows]
